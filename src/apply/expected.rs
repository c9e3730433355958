//! What a transaction was planned against, as the programs of the host compare it.

use camino::Utf8Path;

use crate::base::digest::Digest;
use crate::host::observation::{Seen, Thing};
use crate::observe::Place;
use crate::plan::PathChange;
use crate::resource::state::PathState;

/// What must still be so when the transaction begins, and again right before paths are switched.
#[derive(Debug, Default)]
pub struct Expected {
    /// The paths it was planned against.
    pub paths: Vec<String>,
    /// What `stat` says of those that are there.
    pub stat: Vec<String>,
    /// What `sha256sum` says of the files among them.
    pub sums: Vec<String>,
    /// The symbolic links among them, each followed by its target.
    pub links: Vec<String>,
}

impl Expected {
    /// What is expected of the paths of some changes.
    pub fn of(changes: &[&PathChange], place: &Place) -> Self {
        let mut expected = Expected::default();
        for change in changes {
            // A new directory may be made by another transaction of the same run: whoever comes second finds it.
            if change.before == Seen::Absent && matches!(change.after, Some(PathState::Directory { .. })) {
                continue;
            }
            let real = place.real(&change.path);
            expected.paths.push(real.to_string());
            if let Seen::Present(seen) = &change.before {
                expected.stat.push(seen.stat_line(&real));
                match &seen.thing {
                    Thing::File(Some(digest)) => expected.sums.push(checksum(digest, &real)),
                    Thing::Link(target) if !target.is_empty() => {
                        expected.links.extend([real.to_string(), target.clone()]);
                    }
                    _ => {}
                }
            }
        }
        expected
    }
}

/// What `sha256sum` says of a file. It marks names that hold a backslash.
pub fn checksum(digest: &Digest, path: &Utf8Path) -> String {
    let escaped = path.as_str().replace('\\', "\\\\");
    let mark = if escaped.len() == path.as_str().len() { "" } else { "\\" };
    format!("{mark}{digest}  {escaped}")
}
