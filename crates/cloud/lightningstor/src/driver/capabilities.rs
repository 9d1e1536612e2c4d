//! Capabilities: what users of a volume may ask of it.
use crate::{Error, FilesystemKind};
use csi::v1::VolumeCapability;
use csi::v1::volume_capability::AccessType;
use csi::v1::volume_capability::access_mode::Mode;

/// A capability that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    /// None: the raw device.
    pub mount: Option<Mount>,
    pub read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub kind: FilesystemKind,
    pub options: Vec<String>,
}

/// # Errors
/// What of it this driver does not have, or is missing.
pub fn check(capability: Option<&VolumeCapability>) -> Result<Capability, Error> {
    let capability = capability.ok_or_else(|| Error::Invalid("the volume capability is missing".into()))?;
    let read_only = match capability.access_mode.map(|mode| mode.mode()) {
        None | Some(Mode::Unknown) => return Err(Error::Invalid("the access mode is missing".into())),
        Some(Mode::SingleNodeWriter | Mode::SingleNodeSingleWriter | Mode::SingleNodeMultiWriter) => false,
        // A volume is seen from one node alone, so that all the nodes that may read it are that one.
        Some(Mode::SingleNodeReaderOnly | Mode::MultiNodeReaderOnly) => true,
        Some(mode @ (Mode::MultiNodeSingleWriter | Mode::MultiNodeMultiWriter)) => {
            return Err(Error::Invalid(format!("access mode {} is not possible: a volume lies on the disk of one node", mode.as_str_name())));
        }
    };
    let mount = match &capability.access_type {
        None => return Err(Error::Invalid("the access type is missing".into())),
        Some(AccessType::Block(_)) => None,
        Some(AccessType::Mount(mount)) => Some(Mount { kind: FilesystemKind::parse(&mount.fs_type)?, options: mount.mount_flags.clone() }),
    };
    Ok(Capability { mount, read_only })
}

/// # Errors
/// When there are none, or one is not possible.
pub fn check_all(capabilities: &[VolumeCapability]) -> Result<(), Error> {
    if capabilities.is_empty() {
        return Err(Error::Invalid("the volume capabilities are missing".into()));
    }
    capabilities.iter().try_for_each(|capability| check(Some(capability)).map(drop))
}
