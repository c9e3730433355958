//! Manifests, of OCI and of Docker, as far as they matter here.

use serde::Deserialize;

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its size as it travels, in bytes.
    pub size: u64,
    /// The digest of what is in it, by which an Engine knows it.
    pub diff_id: String,
}

/// What stands under a digest.
pub(super) enum Entry {
    /// Images for several platforms: the platform and the digest of each.
    Index(Vec<(String, String)>),
    /// One image: the digest of its configuration, and the sizes of its layers.
    Image { config: String, sizes: Vec<u64> },
}

#[derive(Deserialize)]
struct Raw {
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(default)]
    size: u64,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(flatten)]
    platform: Platform,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

impl Platform {
    fn words(&self) -> String {
        let variant = self.variant.iter().map(|variant| format!("/{variant}")).collect::<String>();
        format!("{}/{}{variant}", self.os, self.architecture)
    }
}

/// Reads a manifest.
pub(super) fn read(text: &[u8]) -> Option<Entry> {
    let raw: Raw = serde_json::from_slice(text).ok()?;
    if let Some(manifests) = raw.manifests {
        let entries = manifests.into_iter().filter_map(|entry| Some((entry.platform?.words(), entry.digest)));
        // Attestations travel as images for an unknown platform.
        return Some(Entry::Index(entries.filter(|(platform, _)| !platform.starts_with("unknown/")).collect()));
    }
    let sizes = raw.layers?.iter().map(|layer| layer.size).collect();
    Some(Entry::Image { config: raw.config?.digest, sizes })
}

/// The platform that an image is for, and what its layers are.
pub(super) fn config(text: &[u8]) -> Option<(String, Vec<String>)> {
    let config: Config = serde_json::from_slice(text).ok()?;
    Some((config.platform.words(), config.rootfs.diff_ids))
}

/// The tags of a list.
pub(super) fn tags(text: &[u8]) -> Option<Vec<String>> {
    let tags: Tags = serde_json::from_slice(text).ok()?;
    Some(tags.tags.unwrap_or_default())
}

/// The entry for a platform.
pub(super) fn fitting<'a>(entries: &'a [(String, String)], platform: &str) -> Option<&'a str> {
    let exact = entries.iter().find(|(is_for, _)| is_for == platform);
    let near = || entries.iter().find(|(is_for, _)| fits(is_for, platform));
    exact.or_else(near).map(|(_, digest)| digest.as_str())
}

/// Whether what is for one platform runs on another: the same system and machine, where both say a variant also that.
pub(super) fn fits(is_for: &str, platform: &str) -> bool {
    let mut wanted = platform.split('/');
    let mut given = is_for.split('/');
    let same = wanted.next() == given.next() && wanted.next() == given.next();
    same && match (wanted.next(), given.next()) {
        (Some(wanted), Some(given)) => wanted == given,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_fit_or_not() {
        for (is_for, platform, fit) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/arm/v7", "linux/arm/v6", false),
            ("linux/arm64", "linux/amd64", false),
            ("windows/amd64", "linux/amd64", false),
        ] {
            assert_eq!(fits(is_for, platform), fit, "{is_for} on {platform}");
        }
    }

    #[test]
    fn attestations_are_no_images() {
        let text = br#"{"manifests":[{"digest":"sha256:a","platform":{"os":"linux","architecture":"amd64"}},
            {"digest":"sha256:b","platform":{"os":"unknown","architecture":"unknown"}}]}"#;
        let Some(Entry::Index(entries)) = read(text) else { panic!("an index") };
        assert_eq!(entries, [("linux/amd64".to_string(), "sha256:a".to_string())]);
    }
}
