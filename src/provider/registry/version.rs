//! Tags that are versions.

use semver::{Version, VersionReq};

/// The newest tag that `range` has, of those written like `like`: with the same ending, such as `-alpine`, and none
/// where `like` has none.
pub fn newest(tags: &[String], range: &VersionReq, like: &str) -> Option<String> {
    let ending = parts(like).map_or("", |(_, ending)| ending);
    let versions = tags.iter().filter_map(|tag| {
        let (version, own) = parts(tag)?;
        let fits = own == ending && range.matches(&version);
        // Of `1.4` and `1.4.0` the longer one says more.
        fits.then_some((version, tag.len(), tag))
    });
    versions.max().map(|(.., tag)| tag.clone())
}

/// `v1.4-alpine` as the version 1.4.0 and `-alpine`.
fn parts(tag: &str) -> Option<(Version, &str)> {
    let bare = tag.strip_prefix('v').unwrap_or(tag);
    let end = bare.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(bare.len());
    let (numbers, ending) = bare.split_at(end);
    let numbers: Option<Vec<u64>> = numbers.split('.').map(|number| number.parse().ok()).collect();
    match numbers?[..] {
        [major] => Some((Version::new(major, 0, 0), ending)),
        [major, minor] => Some((Version::new(major, minor, 0), ending)),
        [major, minor, patch] => Some((Version::new(major, minor, patch), ending)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_range_is_found() {
        let tags: Vec<String> =
            ["latest", "1.4", "1.4.0", "v1.10.2", "1.9.9", "2.0.0", "1.11.0-rc1", "1.12-alpine", "1.3.1-alpine", "7"]
                .map(String::from)
                .into();
        for (range, like, found) in [
            ("^1.4", "1.4", Some("v1.10.2")),
            ("~1.4", "latest", Some("1.4.0")),
            ("^1", "1.3-alpine", Some("1.12-alpine")),
            (">=2", "1", Some("7")),
            ("^3", "1", None),
        ] {
            let range = VersionReq::parse(range).expect("a range");
            assert_eq!(newest(&tags, &range, like).as_deref(), found, "{range} like {like}");
        }
    }
}
