//! Plan: what a request for a volume comes to, decided over values.
use crate::settings::VOLUME_TYPES;
use crate::{Capacity, Error, NewVolume, Snapshot, Volume};
use sha2::{Digest, Sha256};

/// File systems need some room for themselves.
pub const SMALLEST: u64 = 16 << 20;
/// What a volume is made when nobody says how large.
pub const USUAL: u64 = 1 << 30;
/// Devices are made of whole sectors of this size.
const SECTOR: u64 = 4096;
/// Of an id, which names a directory.
const LONGEST: usize = 200;

/// The id that a volume of this name gets: the same at every attempt.
///
/// The name `{cluster}_{volume}` of a virtual cluster's volume is its id: so it can be seen whose it is.
pub fn volume_id(name: &str) -> String {
    id("vol", name)
}

/// The same for a snapshot's name.
pub fn snapshot_id(name: &str) -> String {
    id("snap", name)
}

fn id(kind: &str, name: &str) -> String {
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte));
    let owned = name.len() <= LONGEST && name.split_once('_').is_some_and(|(cluster, rest)| plain(cluster) && plain(rest));
    if owned && !name.starts_with(['.', '-']) { name.to_owned() } else { format!("{kind}-{}", digest(name)) }
}

fn digest(name: &str) -> String {
    Sha256::digest(name.as_bytes()).iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

/// Whether it is what ids of volumes and snapshots look like.
pub fn is_id(id: &str) -> bool {
    let digits = id.strip_prefix("vol-").or(id.strip_prefix("snap-")).unwrap_or_default();
    volume_id(id) == id || (digits.len() == 24 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The size a new volume gets.
///
/// # Errors
/// When no size lies within what is asked for.
pub fn size(required: u64, limit: u64) -> Result<u64, Error> {
    if limit > 0 && required > limit {
        return Err(Error::Invalid(format!("the size asked for, {required} bytes, is beyond its own limit of {limit} bytes")));
    }
    let wanted = if required > 0 {
        required
    } else if limit > 0 {
        limit.min(USUAL)
    } else {
        USUAL
    };
    let size = wanted.max(SMALLEST).next_multiple_of(SECTOR);
    if limit > 0 && size > limit {
        return Err(Error::OutOfRange(format!("no volume is smaller than {SMALLEST} bytes, or made of other than whole sectors of {SECTOR} bytes")));
    }
    i64::try_from(size).map_err(|_| Error::OutOfRange(format!("{size} bytes are more than a volume can have")))?;
    Ok(size)
}

/// What can be said of a request without looking at the disk.
pub fn check(new: &NewVolume) -> Result<(), Error> {
    if new.name.is_empty() {
        return Err(Error::Invalid("a volume needs a name".into()));
    }
    if !VOLUME_TYPES.contains(&new.volume_type.as_str()) {
        return Err(Error::Invalid(format!("volume type {:?} is none of {}", new.volume_type, VOLUME_TYPES.join(", "))));
    }
    if new.replication != 1 {
        return Err(Error::Invalid(format!(
            "replication {} is not possible: the engine of this cluster keeps 1 copy of a volume, on one node",
            new.replication
        )));
    }
    Ok(())
}

/// Whether a volume is what is asked for again.
pub fn same(volume: &Volume, new: &NewVolume) -> Result<(), Error> {
    let differs = |what: &str| Err(Error::AlreadyExists(format!("volume {:?} exists with another {what}", new.name)));
    match () {
        () if new.size_bytes > volume.size_bytes || (new.limit_bytes > 0 && volume.size_bytes > new.limit_bytes) => differs("size"),
        () if new.volume_type != volume.volume_type => differs("type"),
        () if new.source != volume.source => differs("source"),
        () => Ok(()),
    }
}

/// Whether there is room for this many bytes more. Volumes are thin, so only what they were promised last must fit now.
pub fn fits(more: u64, capacity: Capacity, volume_type: &str) -> Result<(), Error> {
    if more <= capacity.available {
        return Ok(());
    }
    Err(Error::ResourceExhausted(format!("{more} bytes of {volume_type} are asked for, {} are left", capacity.available)))
}

/// A page of a list, and the token of the next one. A token is the id of the last entry before the page.
pub fn page<T: Clone>(all: &[T], id: impl Fn(&T) -> &str, token: &str, most: usize) -> (Vec<T>, String) {
    let rest: Vec<&T> = all.iter().filter(|entry| token.is_empty() || id(entry) > token).collect();
    let most = if most == 0 { rest.len() } else { most };
    let page: Vec<T> = rest.iter().take(most).map(|entry| (*entry).clone()).collect();
    let next = if rest.len() > most { page.last().map(|entry| id(entry).to_owned()).unwrap_or_default() } else { String::new() };
    (page, next)
}

/// What a copy must begin with: as large as its source at least.
pub fn of_source(size: u64, limit: u64, source: u64) -> Result<u64, Error> {
    let size = size.max(source);
    if limit > 0 && size > limit {
        return Err(Error::OutOfRange(format!("the source has {source} bytes, more than the limit of {limit} bytes")));
    }
    Ok(size)
}

/// Whether a snapshot is what is asked for again.
pub fn same_snapshot(snapshot: &Snapshot, volume_id: &str) -> Result<(), Error> {
    if snapshot.volume_id == volume_id {
        return Ok(());
    }
    Err(Error::AlreadyExists(format!("snapshot {:?} exists, of volume {:?}", snapshot.name, snapshot.volume_id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_lie_within_what_is_asked_for() {
        assert_eq!(size(0, 0).unwrap(), USUAL);
        assert_eq!(size(1 << 30, 0).unwrap(), 1 << 30);
        assert_eq!(size(1, 0).unwrap(), SMALLEST);
        assert_eq!(size((1 << 30) + 1, 0).unwrap(), (1 << 30) + 4096);
        assert!(matches!(size(2, 1), Err(Error::Invalid(_))));
        assert!(matches!(size(1, 2), Err(Error::OutOfRange(_))));
        assert!(matches!(size(u64::MAX / 2, 0), Err(Error::OutOfRange(_))));
    }

    #[test]
    fn more_copies_than_one_are_refused_with_the_reason() {
        let with = |volume_type: &str, replication| check(&NewVolume { name: "a".into(), volume_type: volume_type.into(), replication, ..Default::default() });
        assert!(with("ssd", 1).is_ok());
        assert_eq!(with("ssd", 3).unwrap_err().to_string(), "replication 3 is not possible: the engine of this cluster keeps 1 copy of a volume, on one node");
        assert_eq!(with("tape", 1).unwrap_err().to_string(), "volume type \"tape\" is none of ssd, hdd");
    }

    #[test]
    fn ids_stay_and_lead_nowhere_else() {
        assert_eq!(volume_id("pvc-1"), volume_id("pvc-1"));
        assert_eq!(volume_id("team.apps_pvc-1"), "team.apps_pvc-1");
        for odd in ["../x_y", "..", "a/b_c", "a_b_c", "_", "A_b", ".a_b"] {
            assert!(volume_id(odd).starts_with("vol-"), "{odd}");
        }
        assert!(is_id(&volume_id("pvc-1")) && is_id(&snapshot_id("a")) && is_id("team.apps_pvc-1"));
        assert!(!is_id("vol-../../../../../../etc") && !is_id(""));
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_repeat() {
        let all: Vec<String> = ["a", "b", "c", "d", "e"].map(str::to_owned).into();
        let (first, next) = page(&all, |id| id, "", 2);
        assert_eq!((first, next.as_str()), (vec!["a".to_owned(), "b".into()], "b"));
        let (rest, next) = page(&all, |id| id, &next, 3);
        assert_eq!((rest.len(), next.as_str()), (3, ""));
        assert_eq!(page(&all, |id| id, "", 0).0.len(), 5);
    }
}
