//! subPath: a part of a volume for one mount, resolved so that no symlink leads out of the volume.
//!
//! The part is opened below the volume by the kernel itself (`RESOLVE_BENEATH`) and bind-mounted to a
//! place the pod can't write to, so that swapping symlinks later changes nothing.
use crate::error::SetUpError;
use crate::mount_table::is_same_mount_source;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, mkdirat};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path};

/// Bind-mounts `volume/sub_path` at `target`. A missing `sub_path` becomes a directory with the volume's own mode.
pub fn bind(volume: &Path, sub_path: &str, target: &Path) -> Result<(), SetUpError> {
    let source = open(volume, sub_path)?;
    let status = fstat(&source).map_err(|errno| SetUpError::io("reading", volume.join(sub_path))(errno.into()))?;
    let parent = target.parent().expect("a subPath's target lies in the pod's directory");
    fs::DirBuilder::new().recursive(true).mode(0o750).create(parent).map_err(SetUpError::io("creating", parent))?;
    if target.exists() {
        if is_same_mount_source(target, &status).map_err(SetUpError::io("reading", target))? {
            return Ok(());
        }
        // Another file lies there now, such as a newer version of a ConfigMap: a new container gets the new one.
        match umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Err(errno) if errno != Errno::EINVAL => return Err(SetUpError::io("unmounting", target)(errno.into())),
            _ => {}
        }
        if target.is_dir() { fs::remove_dir(target) } else { fs::remove_file(target) }.map_err(SetUpError::io("removing", target))?;
    }
    if status.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits() {
        fs::create_dir(target).map_err(SetUpError::io("creating", target))?;
    } else {
        fs::File::create(target).map_err(SetUpError::io("creating", target))?;
    }
    let opened = format!("/proc/self/fd/{}", source.as_raw_fd());
    mount(Some(opened.as_str()), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .map_err(|errno| SetUpError::io("binding a subPath at", target)(errno.into()))
}

/// Opens (as a path only) what lies at `sub_path` in the volume, making missing directories.
pub fn open(volume: &Path, sub_path: &str) -> Result<OwnedFd, SetUpError> {
    let refuse = |reason: String| SetUpError::Refused(reason);
    let relative = Path::new(sub_path);
    if relative.is_absolute() || relative.components().any(|c| c == Component::ParentDir) {
        return Err(refuse(format!("subPath \"{sub_path}\" must be a relative path without \"..\"")));
    }
    let at = |path: &Path, action: &'static str| SetUpError::io(action, volume.join(path));
    let root: OwnedFd = fs::OpenOptions::new().read(true).open(volume).map_err(SetUpError::io("opening", volume))?.into();
    let beneath = |path: &Path| {
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        openat2(root.as_fd(), path, how)
    };
    let escaped = || SetUpError::Refused(format!("subpath \"{}\" not within volume path \"{}\"", volume.join(relative).display(), volume.display()));
    match beneath(relative) {
        Ok(found) => return Ok(found),
        Err(Errno::ENOENT) => {}
        Err(Errno::EXDEV | Errno::ELOOP) => return Err(escaped()),
        Err(errno) => return Err(at(relative, "opening")(errno.into())),
    }
    let mode = Mode::from_bits_truncate(fstat(&root).map_err(|errno| at(Path::new(""), "reading")(errno.into()))?.st_mode & 0o7777);
    let mut done = std::path::PathBuf::new();
    let mut directory = beneath(&done).map_err(|errno| at(&done, "opening")(errno.into()))?;
    for name in relative.components().filter_map(|c| if let Component::Normal(name) = c { Some(name) } else { None }) {
        done.push(name);
        directory = match beneath(&done) {
            Ok(found) => found,
            Err(Errno::ENOENT) => {
                match mkdirat(&directory, name, mode) {
                    // A symlink that leads nowhere also "exists": opening it fails again below.
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(at(&done, "creating")(errno.into())),
                }
                let how =
                    OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_BENEATH);
                let made = openat2(directory.as_fd(), Path::new(name), how).map_err(|errno| at(&done, "opening")(errno.into()))?;
                // Whatever the umask made of it.
                fchmod(&made, mode).map_err(|errno| at(&done, "setting the mode of")(errno.into()))?;
                made
            }
            Err(Errno::EXDEV | Errno::ELOOP) => return Err(escaped()),
            Err(errno) => return Err(at(&done, "opening")(io::Error::from(errno))),
        };
    }
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount_table::unmount_below;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn symlinks_can_not_leave_the_volume() {
        let root = tempfile::tempdir().unwrap();
        let volume = root.path().join("volume");
        fs::create_dir_all(volume.join("inside")).unwrap();
        fs::write(root.path().join("secret"), "").unwrap();
        symlink("../secret", volume.join("up")).unwrap();
        symlink("/etc", volume.join("etc")).unwrap();
        symlink("inside", volume.join("link")).unwrap();
        for bad in ["up", "etc", "etc/passwd"] {
            let message = open(&volume, bad).unwrap_err().to_string();
            assert!(message.contains("not within volume path"), "{bad}: {message}");
        }
        for bad in ["../secret", "/etc", "inside/../../secret"] {
            assert!(open(&volume, bad).is_err(), "{bad}");
        }
        assert!(open(&volume, "link").is_ok());
        assert!(open(&volume, "etc/new").is_err());
    }

    #[test]
    fn missing_directories_get_the_volumes_mode() {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o2771)).unwrap();
        open(root.path(), "a/b").unwrap();
        assert_eq!(fs::metadata(root.path().join("a/b")).unwrap().permissions().mode() & 0o7777, 0o2771);
    }

    #[test]
    fn a_bound_file_stays_when_symlinks_change_and_follows_at_the_next_bind() {
        let root = tempfile::tempdir().unwrap();
        let (volume, target) = (root.path().join("volume"), root.path().join("bound/c/0"));
        fs::create_dir(&volume).unwrap();
        fs::write(volume.join("one"), "1").unwrap();
        fs::write(volume.join("two"), "2").unwrap();
        symlink("one", volume.join("key")).unwrap();
        bind(&volume, "key", &target).unwrap();
        bind(&volume, "key", &target).unwrap();
        fs::remove_file(volume.join("key")).unwrap();
        symlink("two", volume.join("key")).unwrap();
        let before = fs::read_to_string(&target).unwrap();
        bind(&volume, "key", &target).unwrap();
        let after = fs::read_to_string(&target).unwrap();
        unmount_below(root.path()).unwrap();
        assert_eq!((before.as_str(), after.as_str()), ("1", "2"));
        assert_eq!(fs::read_to_string(&target).unwrap(), "");
    }
}
