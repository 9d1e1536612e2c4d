//! Tools: programs of the system that work on devices, and end when this process does.
use crate::Error;
use nix::libc;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program, also where administrators' directories are not in the path, as for many services.
pub fn tool(name: &str) -> Command {
    let places = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(|place| Path::new(place).join(name));
    Command::new(places.iter().find(|place| place.exists()).map_or(Path::new(name), PathBuf::as_path))
}

/// Runs it to its end; the largest exit code that means success is `most`.
///
/// INVARIANT: none outlives this process, so that whoever comes next meets no device that somebody still writes to.
pub fn run(name: &'static str, command: &mut Command, most: i32) -> Result<(), Error> {
    let parent = std::process::id();
    // SAFETY: between fork and exec only calls that are safe in a signal handler are made, and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // Who died before that was asked for sends no signal any more.
            if libc::getppid().unsigned_abs() == parent { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
        });
    }
    let output = command.output().map_err(|cause| Error::Tool { tool: name, output: cause.to_string() })?;
    if output.status.code().is_some_and(|code| code <= most) {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    // Another process may have a device open for a moment.
    if text.contains("in use by the system") || text.contains("Device or resource busy") {
        return Err(Error::Busy(format!("{name}: {}", text.trim())));
    }
    Err(Error::Tool { tool: name, output: format!("{}: {}", output.status, text.trim()) })
}
