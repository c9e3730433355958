//! What happens at a path, as a reader wants to see it: in a few words, and line by line.

use camino::Utf8Path;
use similar::{ChangeTag, TextDiff};

use crate::base::secret::MASK;
use crate::host::observation::{PathSeen, Seen, Thing};
use crate::plan::PathChange;
use crate::resource::state::{Content, Owner, PathState};

/// Lines of context around each difference.
const CONTEXT: usize = 3;

/// The permission of everybody to read.
const EVERYBODY: u32 = 0o004;

/// How the content of a path changes, as far as it may be shown.
#[derive(Debug, PartialEq, Eq)]
pub enum Difference<'a> {
    /// Its content stays, or it has none.
    None,
    /// A secret goes into it.
    Secret,
    /// Text that can be compared. An absent file is an empty text.
    Text {
        /// What was there.
        before: &'a str,
        /// What will be there.
        after: &'a str,
    },
    /// What was there is not for everybody on the host to read, so it is not shown here either: it may hold a secret
    /// that we know nothing of, or one that is no longer wanted.
    Private,
    /// Not text, or not known: only sizes can be told.
    Sizes {
        /// The size that was, where there was a file.
        before: Option<u64>,
        /// The size that will be, where there will be one.
        after: Option<u64>,
    },
}

/// How the content of a path changes.
pub fn difference(change: &PathChange) -> Difference<'_> {
    let seen = file_seen(change);
    let content = content_after(change);
    if content.is_some_and(|content| content.secret) {
        return if seen.and_then(PathSeen::digest) == content.map(|content| content.digest) {
            Difference::None
        } else {
            Difference::Secret
        };
    }
    if seen.is_none() && content.is_none() {
        return Difference::None;
    }
    if let (Some(seen), Some(content)) = (seen, content)
        && seen.digest() == Some(content.digest)
    {
        return Difference::None;
    }
    if seen.is_some_and(is_private) {
        return Difference::Private;
    }
    let before = match (seen, &change.before_content) {
        (None, _) => Some(""),
        (Some(_), Some(bytes)) => text(bytes),
        (Some(_), None) => None,
    };
    let after = content.map_or(Some(""), |content| text(&content.bytes));
    match (before, after) {
        (Some(before), Some(after)) => Difference::Text { before, after },
        _ => Difference::Sizes {
            before: seen.map(|seen| seen.size),
            after: content.map(|content| content.bytes.len() as u64),
        },
    }
}

/// Whether not everybody on the host may read it. What comes from the repository is for its readers anyway.
fn is_private(seen: &PathSeen) -> bool {
    seen.raw_type != NOT_SEEN && seen.mode & EVERYBODY == 0
}

/// The type of a path that was not seen on a host.
const NOT_SEEN: u32 = 0;

/// The change of a path from one state in the repository to another.
pub fn between(path: &Utf8Path, before: Option<&PathState>, after: Option<&PathState>) -> PathChange {
    let before_content = match before {
        Some(PathState::File { content, .. }) if !content.secret => Some(content.bytes.to_vec()),
        _ => None,
    };
    let before = before.map_or(Seen::Absent, |before| Seen::Present(as_if_seen(before)));
    PathChange { path: path.to_owned(), before, after: after.cloned(), before_content, implied: false }
}

fn as_if_seen(state: &PathState) -> PathSeen {
    let (thing, mode, owner, size) = match state {
        PathState::File { content, mode, owner } => {
            (Thing::File(Some(content.digest)), *mode, owner.clone(), content.bytes.len())
        }
        PathState::Directory { mode, owner } => (Thing::Directory, *mode, owner.clone(), 0),
        PathState::Link { target } => (Thing::Link(target.clone()), 0o777, Owner::root(), 0),
    };
    PathSeen { thing, raw_type: NOT_SEEN, mode, ids: (u32::MAX, u32::MAX), owner, size: size as u64 }
}

/// The bytes as text, unless they are something else.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

/// The file that was seen at a path.
fn file_seen(change: &PathChange) -> Option<&PathSeen> {
    match &change.before {
        Seen::Present(seen) if matches!(seen.thing, Thing::File(_)) => Some(seen),
        _ => None,
    }
}

/// Whether a path was there and stays.
pub fn is_edit(change: &PathChange) -> bool {
    matches!(change.before, Seen::Present(_)) && change.after.is_some()
}

/// How the file of a service differs from that of the place it leaves: `api-green.service` from `api-blue.service`.
pub fn turned<'a>(all: &'a [PathChange], change: &'a PathChange) -> Option<(&'a str, &'a str)> {
    let name = change.path.as_str();
    let swap = |from: &str, to: &str| name.contains(from).then(|| name.replacen(from, to, 1));
    let former = swap("-blue.", "-green.").or_else(|| swap("-green.", "-blue."))?;
    let former = all.iter().find(|other| other.path == former && other.after.is_none())?;
    match (difference(former), difference(change)) {
        (Difference::Text { before, .. }, Difference::Text { before: "", after }) => Some((before, after)),
        _ => None,
    }
}

/// The content a path is to have.
pub fn content_after(change: &PathChange) -> Option<&Content> {
    match &change.after {
        Some(PathState::File { content, .. }) => Some(content),
        _ => None,
    }
}

/// How many lines of a text differ: those that come and those that go.
pub fn changed_lines(before: &str, after: &str) -> usize {
    let diff = TextDiff::from_lines(before, after);
    diff.iter_all_changes().filter(|change| change.tag() != ChangeTag::Equal).count()
}

/// What a line of a unified diff is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// Where a hunk begins.
    Hunk,
    /// The same in both.
    Same,
    /// It comes.
    Added,
    /// It goes.
    Removed,
    /// Says that the last line has no end.
    NoNewline,
}

impl Tag {
    /// The sign at the beginning of such a line.
    pub fn sign(self) -> &'static str {
        match self {
            Tag::Hunk | Tag::NoNewline => "",
            Tag::Same => " ",
            Tag::Added => "+",
            Tag::Removed => "-",
        }
    }
}

/// A unified diff, line by line, without ends of lines.
pub fn unified(before: &str, after: &str) -> Vec<(Tag, String)> {
    let diff = TextDiff::from_lines(before, after);
    let mut lines = Vec::new();
    for hunk in diff.unified_diff().context_radius(CONTEXT).iter_hunks() {
        lines.push((Tag::Hunk, hunk.header().to_string().trim_end().to_string()));
        for change in hunk.iter_changes() {
            let tag = match change.tag() {
                ChangeTag::Equal => Tag::Same,
                ChangeTag::Insert => Tag::Added,
                ChangeTag::Delete => Tag::Removed,
            };
            lines.push((tag, change.value().trim_end_matches('\n').to_string()));
            if change.missing_newline() {
                lines.push((Tag::NoNewline, "\\ No newline at end of file".into()));
            }
        }
    }
    lines
}

/// What changes at a path, in a few words: `2 lines`, `mode 0644 → 0600`, `24 lines, 0644 root:root`.
pub fn words(change: &PathChange) -> String {
    let what = match (&change.before, &change.after) {
        (Seen::Unknown(why), _) => vec![format!("cannot be seen: {why}")],
        (Seen::Absent, Some(after)) => born(after),
        (Seen::Present(seen), None) => vec![gone(change, seen)],
        (Seen::Present(seen), Some(after)) if thing_seen(seen) == thing(after) => kept(change, seen, after),
        (Seen::Present(seen), Some(after)) => {
            let mut words = vec![format!("{} → {}", thing_seen(seen), thing(after))];
            words.extend(born(after));
            words
        }
        (Seen::Absent, None) => Vec::new(),
    };
    what.join(", ")
}

/// A path that comes into being.
fn born(after: &PathState) -> Vec<String> {
    match after {
        PathState::File { content, mode, owner } => vec![amount(content), access(*mode, owner)],
        PathState::Directory { mode, owner } => vec!["directory".into(), access(*mode, owner)],
        PathState::Link { target } => vec![format!("→ {target}")],
    }
}

/// How much a content is.
pub fn amount(content: &Content) -> String {
    match text(&content.bytes) {
        _ if content.secret => MASK.into(),
        Some(text) => super::page::count(text.lines().count(), "line"),
        None => format!("binary, {}", size(content.bytes.len() as u64)),
    }
}

/// A path that goes.
fn gone(change: &PathChange, seen: &PathSeen) -> String {
    let private = is_private(seen);
    match (&seen.thing, change.before_content.as_deref().and_then(text)) {
        (Thing::File(_), Some(text)) if !private => super::page::count(text.lines().count(), "line"),
        (Thing::File(_), _) => size(seen.size),
        (Thing::Link(target), _) => format!("→ {target}"),
        _ => thing_seen(seen).into(),
    }
}

/// A path that stays what it is.
fn kept(change: &PathChange, seen: &PathSeen, after: &PathState) -> Vec<String> {
    let mut words = Vec::new();
    match difference(change) {
        Difference::None => {}
        Difference::Secret => words.push("‹secret changed›".into()),
        Difference::Private => words.push("‹private content changed›".into()),
        Difference::Text { before, after } => words.push(super::page::count(changed_lines(before, after), "line")),
        Difference::Sizes { before, after } => {
            words.push(format!("{} → {}", size(before.unwrap_or(0)), size(after.unwrap_or(0))));
        }
    }
    match after {
        PathState::Link { target } => {
            let Thing::Link(was) = &seen.thing else { return words };
            words.push(format!("→ {was} becomes → {target}"));
        }
        PathState::File { mode, owner, .. } | PathState::Directory { mode, owner } => {
            if *mode != seen.mode {
                words.push(format!("mode {:04o} → {mode:04o}", seen.mode));
            }
            if !is_owner(owner, seen) {
                words.push(format!("owner {} → {}", owner_words(&seen.owner), owner_words(owner)));
            }
        }
    }
    words
}

fn is_owner(owner: &Owner, seen: &PathSeen) -> bool {
    let is = |wanted: &str, name: &str, number: u32| wanted == name || wanted == number.to_string();
    is(&owner.user, &seen.owner.user, seen.ids.0) && is(&owner.group, &seen.owner.group, seen.ids.1)
}

/// `0644 root:root`.
pub fn access(mode: u32, owner: &Owner) -> String {
    format!("{mode:04o} {}", owner_words(owner))
}

/// `root:root`.
pub fn owner_words(owner: &Owner) -> String {
    format!("{}:{}", owner.user, owner.group)
}

/// What kind of thing was seen.
pub fn thing_seen(seen: &PathSeen) -> &'static str {
    match seen.thing {
        Thing::File(_) => "file",
        Thing::Directory => "directory",
        Thing::Link(_) => "link",
        Thing::Other => "device or socket",
    }
}

/// What kind of thing will be there.
pub fn thing(state: &PathState) -> &'static str {
    match state {
        PathState::File { .. } => "file",
        PathState::Directory { .. } => "directory",
        PathState::Link { .. } => "link",
    }
}

/// A size in bytes, as people read it.
#[allow(clippy::cast_precision_loss)] // Three digits are shown.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
