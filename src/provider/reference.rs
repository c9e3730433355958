//! The name of an image, as people write it and as registries want it.

use std::fmt;

/// An image: `nginx`, `ghcr.io/acme/api:1.4`, `registry.example.org:5000/api@sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The registry's host and port; `docker.io` where none is written.
    pub registry: String,
    /// The repository in the registry: `acme/api`, `library/nginx`.
    pub repository: String,
    /// The tag, where one is written.
    pub tag: Option<String>,
    /// The digest, where one is written.
    pub digest: Option<String>,
}

/// The registry of names that name none.
const HUB: &str = "docker.io";

impl Reference {
    /// Reads a name. `None` where it cannot be one.
    pub fn parse(text: &str) -> Option<Reference> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) if is_digest(digest) => (name, Some(digest.to_string())),
            Some(_) => return None,
            None => (text, None),
        };
        let (path, tag) = match name.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag.to_string())),
            _ => (name, None),
        };
        let (registry, repository) = match path.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest.to_string()),
            Some(_) => (HUB, path.to_string()),
            None => (HUB, format!("library/{path}")),
        };
        let registry = if registry == "index.docker.io" { HUB } else { registry };
        let sound = is_host(registry) && is_repository(&repository) && tag.as_deref().is_none_or(is_tag);
        sound.then(|| Reference { registry: registry.into(), repository, tag, digest })
    }

    /// The name without tag and digest, as people write it: `nginx`, `ghcr.io/acme/api`.
    pub fn name(&self) -> String {
        match (self.registry.as_str(), self.repository.strip_prefix("library/")) {
            (HUB, Some(official)) => official.into(),
            (HUB, None) => self.repository.clone(),
            (registry, _) => format!("{registry}/{}", self.repository),
        }
    }

    /// The tag that is meant.
    pub fn tag(&self) -> &str {
        self.tag.as_deref().unwrap_or("latest")
    }

    /// Where the registry's interface is: host and port.
    pub fn authority(&self) -> &str {
        if self.registry == HUB { "registry-1.docker.io" } else { &self.registry }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        match (&self.digest, &self.tag) {
            (Some(digest), _) => write!(f, "@{digest}"),
            (None, Some(tag)) => write!(f, ":{tag}"),
            (None, None) => Ok(()),
        }
    }
}

/// Whether `text` is a digest such as registries give.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c)))
}

fn is_host(text: &str) -> bool {
    let (name, port) = text.rsplit_once(':').filter(|(_, port)| !port.contains(']')).unwrap_or((text, "0"));
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let clean = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
    let sound = address
        .map_or(name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(clean), |address| {
            address.chars().all(|c| c.is_ascii_hexdigit() || c == ':')
        });
    sound && port.parse::<u16>().is_ok()
}

fn is_repository(text: &str) -> bool {
    let clean = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let part = |part: &str| part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(clean);
    text.len() <= 255 && text.split('/').all(part)
}

fn is_tag(text: &str) -> bool {
    let clean = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !text.is_empty() && text.len() <= 128 && !text.starts_with(['.', '-']) && text.chars().all(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_docker_reads_them() {
        let digest = format!("sha256:{}", "a1".repeat(32));
        let pinned = format!("ghcr.io/acme/api:1@{digest}");
        let cases = [
            ("nginx", "docker.io", "library/nginx", None, "nginx"),
            ("acme/api:1.4", "docker.io", "acme/api", Some("1.4"), "acme/api:1.4"),
            ("docker.io/library/nginx:1", "docker.io", "library/nginx", Some("1"), "nginx:1"),
            ("localhost/x", "localhost", "x", None, "localhost/x"),
            ("r.example:5000/a/b", "r.example:5000", "a/b", None, "r.example:5000/a/b"),
            ("[::1]:5000/a", "[::1]:5000", "a", None, "[::1]:5000/a"),
            (&pinned, "ghcr.io", "acme/api", Some("1"), &format!("ghcr.io/acme/api@{digest}")),
        ];
        for (text, registry, repository, tag, shown) in cases {
            let read = Reference::parse(text).expect(text);
            assert_eq!((read.registry.as_str(), read.repository.as_str()), (registry, repository), "{text}");
            assert_eq!((read.tag.as_deref(), read.to_string().as_str()), (tag, shown), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", "a:b:c/d", "Upper/case", "a//b", "../etc", "a@sha256:12", "a:b c", "a:\n", "a/b?x=1", "-a"] {
            assert_eq!(Reference::parse(text), None, "{text}");
        }
    }
}
