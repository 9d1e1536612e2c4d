//! Image names: the full form of what users write (`busybox` is `docker.io/library/busybox:latest`).
use std::fmt;

/// A parsed image reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageName {
    /// Registry host, with its port if it has one.
    pub registry: String,
    /// Path within the registry.
    pub repository: String,
    pub tag: Option<String>,
    /// `algorithm:hex`.
    pub digest: Option<String>,
}

/// The text is no image reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageNameError {
    #[error("invalid reference format")]
    Format,
    #[error("repository name must be lowercase")]
    UpperCase,
}

impl ImageName {
    /// Parses a reference as docker and containerd do. The tag is `latest` where neither tag nor digest is given.
    pub fn parse(text: &str) -> Result<Self, ImageNameError> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) if is_digest(digest) => (rest, Some(digest.to_owned())),
            Some(_) => return Err(ImageNameError::Format),
            None => (text, None),
        };
        // A colon after the last slash starts a tag; before it, a port.
        let name_start = rest.rfind('/').map_or(0, |i| i + 1);
        let (name, tag) = match rest[name_start..].split_once(':') {
            Some((name, tag)) if is_tag(tag) => (&rest[..name_start + name.len()], Some(tag.to_owned())),
            Some(_) => return Err(ImageNameError::Format),
            None => (rest, None),
        };
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase()) => {
                (first.to_owned(), rest.to_owned())
            }
            Some(_) => ("docker.io".to_owned(), name.to_owned()),
            None => ("docker.io".to_owned(), format!("library/{name}")),
        };
        let (registry, repository) = match registry.as_str() {
            "index.docker.io" => ("docker.io".to_owned(), if repository.contains('/') { repository } else { format!("library/{repository}") }),
            "docker.io" if !repository.contains('/') => (registry, format!("library/{repository}")),
            _ => (registry, repository),
        };
        if repository.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ImageNameError::UpperCase);
        }
        if !is_registry(&registry) || !repository.split('/').all(is_path_part) || registry.len() + repository.len() > 254 {
            return Err(ImageNameError::Format);
        }
        let tag = if tag.is_none() && digest.is_none() { Some("latest".to_owned()) } else { tag };
        Ok(Self { registry, repository, tag, digest })
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty()
            && algorithm.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'.' | b'_' | b'-'))
            && hex.len() >= 32
            && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

fn is_tag(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=128).contains(&bytes.len())
        && (bytes[0].is_ascii_alphanumeric() || bytes[0] == b'_')
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn is_registry(text: &str) -> bool {
    let (host, port) = text.rsplit_once(':').filter(|(host, _)| !host.ends_with(':')).unwrap_or((text, "1"));
    let host_is_good = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).is_some_and(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok())
        || host.split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !label.starts_with('-') && !label.ends_with('-')
        });
    host_is_good && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// Runs of lower case letters and digits, joined by one `.`, one or two `_`, or any number of `-`.
fn is_path_part(part: &str) -> bool {
    let bytes = part.as_bytes();
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !alphanumeric(first) || !alphanumeric(last) {
        return false;
    }
    bytes.split(alphanumeric).filter(|separator| !separator.is_empty()).all(|s| matches!(s, b"." | b"_" | b"__") || s.iter().all(|b| *b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_completed_as_docker_does() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, want) in [
            ("busybox", "docker.io/library/busybox:latest".to_owned()),
            ("busybox:1.36", "docker.io/library/busybox:1.36".to_owned()),
            ("bitnami/nginx", "docker.io/bitnami/nginx:latest".to_owned()),
            ("docker.io/nginx", "docker.io/library/nginx:latest".to_owned()),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest".to_owned()),
            ("localhost/a/b", "localhost/a/b:latest".to_owned()),
            ("localhost:5000/a", "localhost:5000/a:latest".to_owned()),
            ("127.0.0.1:5000/team/app:v1", "127.0.0.1:5000/team/app:v1".to_owned()),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10".to_owned()),
            (&format!("busybox@{digest}"), format!("docker.io/library/busybox@{digest}")),
            (&format!("busybox:1@{digest}"), format!("docker.io/library/busybox:1@{digest}")),
        ] {
            assert_eq!(ImageName::parse(text).map(|n| n.to_string()), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for bad in ["", ":", "a:", "a b", "-a", "a//b", "a:b:c", "a@sha256:short", "a..b", "host:port/a", "a/"] {
            assert_eq!(ImageName::parse(bad), Err(ImageNameError::Format), "{bad}");
        }
        assert_eq!(ImageName::parse("docker.io/Busybox"), Err(ImageNameError::UpperCase));
        assert_eq!(ImageName::parse("BusyBox"), Err(ImageNameError::UpperCase));
    }
}
