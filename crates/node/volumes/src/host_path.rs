//! hostPath: a file or directory of the node, of the type the pod asks for.
use crate::error::SetUpError;
use k8s_openapi::api::core::v1::HostPathVolumeSource;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

/// The path, once it is of the type asked for. The `..OrCreate` types make what is missing.
pub fn set_up(source: &HostPathVolumeSource) -> Result<PathBuf, SetUpError> {
    let path = Path::new(&source.path);
    if path.components().any(|component| component == Component::ParentDir) {
        return Err(SetUpError::Refused(format!("invalid HostPath `{}`: must not contain '..'", source.path)));
    }
    let kind = source.type_.as_deref().unwrap_or_default();
    let found = match fs::metadata(path) {
        Ok(metadata) => Some(metadata.file_type()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(SetUpError::io("reading", path)(error)),
    };
    let (right, wanted) = match (kind, found) {
        ("", _) => return Ok(path.into()),
        ("DirectoryOrCreate", None) => {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(SetUpError::io("creating", path))?;
            return Ok(path.into());
        }
        ("FileOrCreate", None) => {
            // The directory is not made: upstream's rule.
            fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(path).map_err(SetUpError::io("creating", path))?;
            return Ok(path.into());
        }
        ("DirectoryOrCreate" | "Directory", found) => (found.is_some_and(|f| f.is_dir()), "a directory"),
        ("FileOrCreate" | "File", found) => (found.is_some_and(|f| f.is_file()), "a file"),
        ("Socket", found) => (found.is_some_and(|f| f.is_socket()), "a socket file"),
        ("CharDevice", found) => (found.is_some_and(|f| f.is_char_device()), "a character device"),
        ("BlockDevice", found) => (found.is_some_and(|f| f.is_block_device()), "a block device"),
        _ => return Err(SetUpError::Refused(format!("{kind} is an invalid volume type"))),
    };
    if right { Ok(path.into()) } else { Err(SetUpError::Refused(format!("hostPath type check failed: {} is not {wanted}", source.path))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &Path, kind: &str) -> Result<PathBuf, String> {
        set_up(&HostPathVolumeSource { path: path.to_str().unwrap().into(), type_: Some(kind.into()) }).map_err(|e| e.to_string())
    }

    #[test]
    fn each_type_is_checked_and_or_create_makes_it() {
        let root = tempfile::tempdir().unwrap();
        let (missing, file) = (root.path().join("a/b"), root.path().join("f"));
        assert_eq!(check(&missing, "Directory").unwrap_err(), format!("hostPath type check failed: {} is not a directory", missing.display()));
        assert!(check(&missing, "DirectoryOrCreate").unwrap().is_dir());
        assert!(check(&file, "FileOrCreate").unwrap().is_file());
        assert!(check(&file, "File").is_ok());
        assert_eq!(check(&file, "DirectoryOrCreate").unwrap_err(), format!("hostPath type check failed: {} is not a directory", file.display()));
        assert_eq!(check(&file, "Socket").unwrap_err(), format!("hostPath type check failed: {} is not a socket file", file.display()));
        assert!(check(Path::new("/dev/null"), "CharDevice").is_ok());
        assert!(check(Path::new("/dev/null"), "BlockDevice").is_err());
        assert_eq!(check(&file, "Odd").unwrap_err(), "Odd is an invalid volume type");
        assert!(check(&root.path().join("none"), "").is_ok());
        assert_eq!(check(Path::new("/a/../b"), "").unwrap_err(), "invalid HostPath `/a/../b`: must not contain '..'");
    }
}
