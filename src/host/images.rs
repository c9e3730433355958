//! The images that a host's Docker Engine has, as `observe.sh` tells of them.

use std::collections::BTreeSet;

/// What an Engine has, and for which machine it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImagesSeen {
    /// The Engine's own platform, such as `linux/amd64`.
    pub platform: String,
    /// How many bytes are free where it keeps images, where that could be told.
    pub free: Option<u64>,
    /// The digests of all images, as `NAME@DIGEST`.
    pub digests: BTreeSet<String>,
    /// Images by their tags, the newest first.
    pub tagged: Vec<Tagged>,
    /// Each image's layers, from the lowest: the digests of what is in them; and whether it came from a registry, so that
    /// the Engine knows its layers by how they travel.
    pub layers: Vec<(Vec<String>, bool)>,
}

/// An image under one of its tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged {
    /// `NAME:TAG`.
    pub name: String,
    /// Its id.
    pub id: String,
    /// How much room it takes.
    pub bytes: u64,
}

impl ImagesSeen {
    /// Whether an image is there, by `NAME@DIGEST` or `NAME:TAG`.
    pub fn has(&self, image: &str) -> bool {
        self.digests.contains(image) || self.tagged(image).is_some()
    }

    /// The image with a tag, by `NAME:TAG`.
    pub fn tagged(&self, image: &str) -> Option<&Tagged> {
        self.tagged.iter().find(|tagged| tagged.name == image)
    }

    /// How many of an image's layers need not travel, and whether that is certain. Engines know a layer by all that lies
    /// below it; those that keep images as registries do may save more.
    pub fn shared(&self, layers: &[&str]) -> (usize, bool) {
        let common = |there: &[String]| there.iter().zip(layers).take_while(|(there, layer)| there == *layer).count();
        let pulled = self.layers.iter().filter(|(_, pulled)| *pulled).map(|(there, _)| common(there));
        let shared = pulled.max().unwrap_or(0);
        let known = |layer: &&&str| self.layers.iter().any(|(there, _)| there.iter().any(|other| other == **layer));
        (shared, !layers[shared..].iter().any(|layer| known(&layer)))
    }

    /// Takes in one line.
    pub(super) fn line(&mut self, line: &str) {
        match line.split_once(' ') {
            Some(("platform", words)) => self.platform = platform(words),
            Some(("free", kib)) => self.free = kib.trim().parse::<u64>().ok().map(|kib| kib * 1024),
            Some(("i", rest)) => {
                let fields: Vec<&str> = rest.split('\t').collect();
                let [digests, layers, tags, id, size] = fields[..] else { return };
                let list = |text: &str| serde_json::from_str::<Vec<String>>(text).unwrap_or_default();
                let digests = list(digests);
                self.layers.push((list(layers), !digests.is_empty()));
                self.digests.extend(digests);
                let bytes = size.parse().unwrap_or(0);
                for name in list(tags) {
                    // One with several tags is told of as often.
                    if self.tagged(&name).is_none() {
                        self.tagged.push(Tagged { name, id: id.into(), bytes });
                    }
                }
            }
            _ => {}
        }
    }
}

/// `linux/x86_64`, as the kernel says it, in the words of registries.
fn platform(words: &str) -> String {
    let (os, machine) = words.split_once('/').unwrap_or(("linux", words));
    let machine = match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i686" => "386",
        "armv7l" => "arm/v7",
        "armv6l" => "arm/v6",
        other => other,
    };
    format!("{os}/{machine}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_says_is_read() {
        let mut seen = ImagesSeen::default();
        for line in [
            "platform linux/x86_64",
            "free 1000",
            "i [\"a@sha256:1\"]\t[\"x\",\"y\"]\t[]\tsha256:5\t10",
            "i null\t[\"z\"]\t[\"b:1\",\"b:2\"]\tsha256:6\t20",
            "odd",
        ] {
            seen.line(line);
        }
        assert_eq!((seen.platform.as_str(), seen.free), ("linux/amd64", Some(1_024_000)));
        assert!(seen.has("a@sha256:1") && !seen.has("a@sha256:2") && seen.has("b:2") && !seen.has("b:3"));
        assert_eq!(seen.tagged("b:1"), Some(&Tagged { name: "b:1".into(), id: "sha256:6".into(), bytes: 20 }));
        assert_eq!(seen.shared(&["x", "y", "w"]), (2, true));
        assert_eq!(seen.shared(&["x", "w"]), (1, true));
        assert_eq!(seen.shared(&["y", "x"]), (0, false));
        assert_eq!(seen.shared(&["z"]), (0, false));
        assert_eq!(seen.shared(&["w"]), (0, true));
    }
}
