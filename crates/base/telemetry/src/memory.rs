//! Memory: pages of the program that only its start needed.
use nix::libc;
use std::fs;
use std::io;

/// Unmaps the program's own code and constants, which come back page by page as they are used: from the kernel's cache while
/// it has room, else from the file. Most of what a start runs through is never run again. Returns the bytes that were asked about.
///
/// # Errors
/// `/proc` can't be read, or the kernel refuses.
pub fn forget_start() -> io::Result<usize> {
    let program = fs::read_link("/proc/self/exe")?;
    let mappings = fs::read_to_string("/proc/self/smaps")?;
    let mut told = 0;
    for (from, to) in unchanged(&mappings, &program.to_string_lossy()) {
        // SAFETY: the mapping is the program's file, can't be written to and never was, so what is read next is what was there before.
        if unsafe { libc::madvise(from as *mut libc::c_void, to - from, libc::MADV_DONTNEED) } != 0 {
            return Err(io::Error::last_os_error());
        }
        told += to - from;
    }
    Ok(told)
}

/// The ranges in which all pages are still the file's. Constants that were relocated can't be written to any more either, but are not.
fn unchanged(smaps: &str, program: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        if let Some(range) = range(line) {
            let read_only = line.split(' ').nth(1).is_some_and(|access| access == "r-xp" || access == "r--p");
            current = (read_only && line.ends_with(program)).then_some(range);
        } else if line.strip_prefix("Anonymous:").is_some_and(|size| size.trim() == "0 kB") {
            found.extend(current.take());
        }
    }
    found
}

/// The range that a mapping's first line begins with.
fn range(line: &str) -> Option<(usize, usize)> {
    let (from, to) = line.split(' ').next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some((address(from)?, address(to)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_still_the_files_is_forgotten() {
        let mapping = |head: &str, anonymous: &str| format!("{head}\nSize:  8 kB\nRss:  8 kB\nAnonymous:  {anonymous} kB\nVmFlags: rd ex mr\n");
        let smaps = [
            mapping("1000-3000 r-xp 00001000 fe:00 7   /usr/bin/k8shost", "0"),
            mapping("3000-4000 r--p 00003000 fe:00 7   /usr/bin/k8shost", "4"),
            mapping("4000-5000 rw-p 00004000 fe:00 7   /usr/bin/k8shost", "0"),
            mapping("5000-6000 r-xp 00000000 fe:00 8   /lib/libc.so.6", "0"),
            mapping("6000-7000 rw-p 00000000 00:00 0", "4"),
            mapping("7000-8000 r--p 00000000 fe:00 7   /usr/bin/k8shost", "0"),
        ];
        assert_eq!(unchanged(&smaps.concat(), "/usr/bin/k8shost"), [(0x1000, 0x3000), (0x7000, 0x8000)]);
    }

    #[test]
    fn the_program_goes_on() {
        assert!(forget_start().unwrap() > 0);
    }
}
