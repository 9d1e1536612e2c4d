//! Access modes and volume modes of Kubernetes as capabilities of CSI.
use crate::v1::VolumeCapability;
use crate::v1::volume_capability::access_mode::Mode;
use crate::v1::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};

/// The capability that a PersistentVolume's users need, as upstream's kubelet and sidecars work it out.
///
/// `single_writer` says that the driver tells the single-node modes apart (SINGLE_NODE_MULTI_WRITER).
pub fn capability(access_modes: &[String], block: bool, fs_type: &str, mount_options: &[String], single_writer: bool) -> VolumeCapability {
    let access_type = if block {
        AccessType::Block(BlockVolume {})
    } else {
        AccessType::Mount(MountVolume { fs_type: fs_type.to_owned(), mount_flags: mount_options.to_vec(), volume_mount_group: String::new() })
    };
    VolumeCapability { access_type: Some(access_type), access_mode: Some(AccessMode { mode: mode(access_modes, single_writer) as i32 }) }
}

/// The one mode that stands for all access modes of a volume.
pub fn mode(access_modes: &[String], single_writer: bool) -> Mode {
    let has = |wanted: &str| access_modes.iter().any(|mode| mode == wanted);
    match () {
        () if has("ReadWriteMany") => Mode::MultiNodeMultiWriter,
        () if has("ReadOnlyMany") && has("ReadWriteOnce") => Mode::MultiNodeSingleWriter,
        () if has("ReadOnlyMany") => Mode::MultiNodeReaderOnly,
        () if has("ReadWriteOncePod") && single_writer => Mode::SingleNodeSingleWriter,
        () if has("ReadWriteOnce") && single_writer => Mode::SingleNodeMultiWriter,
        () => Mode::SingleNodeWriter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mode_stands_for_all() {
        let of = |modes: &[&str], single: bool| mode(&modes.iter().map(|m| (*m).to_owned()).collect::<Vec<_>>(), single);
        assert_eq!(of(&["ReadWriteOnce"], false), Mode::SingleNodeWriter);
        assert_eq!(of(&["ReadWriteOnce"], true), Mode::SingleNodeMultiWriter);
        assert_eq!(of(&["ReadWriteOncePod"], true), Mode::SingleNodeSingleWriter);
        assert_eq!(of(&["ReadOnlyMany"], true), Mode::MultiNodeReaderOnly);
        assert_eq!(of(&["ReadWriteOnce", "ReadWriteMany"], true), Mode::MultiNodeMultiWriter);
    }
}
