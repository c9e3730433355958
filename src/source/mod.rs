//! The first stage: from a repository and a revision to a tree of files, with its commit and signer.
//!
//! The only stage that talks to Git. A directory that is not in Git is read as it is. What Git ignores is not read.

mod git;
mod remote;
mod signature;
mod spec;
#[cfg(test)]
mod tests;
mod tree;
mod view;

use camino::{Utf8Path, Utf8PathBuf};

pub use crate::source::git::{Commit, Dirty};
pub use crate::source::signature::Signature;
pub use crate::source::spec::{Place, Spec};
pub use crate::source::tree::{Files, Tree};

use crate::base::error::{Error, Kind, Result};
use crate::source::git::Local;

/// Reads the tree that `spec` names; repositories behind a URL are kept below the directory `cache`.
///
/// Fails with [`Kind::Usage`] if there is no such directory, repository or revision, [`Kind::Unreachable`] if a remote does
/// not answer, [`Kind::HostKey`] and [`Kind::Auth`] as [`crate::host::transport::Connection::connect`] does,
/// [`Kind::Locked`] if another process works in the cache for long, and [`Kind::Config`] if the tree is too large or has
/// a name that is not UTF-8. Symbolic links that lead nowhere or outside are problems of the tree, not errors.
pub fn open(spec: &Spec, cache: &Utf8Path) -> Result<Tree> {
    match (&spec.place, &spec.revision) {
        (Place::Directory(directory), None) => git::work_tree(directory),
        (Place::Directory(directory), Some(revision)) => Local::open(directory)?.at(revision, &spec.to_string()),
        (Place::Url(url), revision) => remote::open(url, revision.as_deref(), cache)?.tree(&spec.to_string()),
    }
}

/// The trees of both ends of `range`, written `A..B`; an end that is left out is `HEAD`. Any revision in `spec` is passed
/// over. Fails as [`open`] does.
pub fn revision_pair(spec: &Spec, range: &str, cache: &Utf8Path) -> Result<(Tree, Tree)> {
    let wrong = || {
        Error::new(Kind::Usage, format!("`{range}` is no range of revisions"))
            .hint("write two of them as A..B, such as HEAD~1..HEAD")
    };
    let (from, to) = range.split_once("..").filter(|(_, to)| !to.starts_with('.')).ok_or_else(wrong)?;
    let side = |revision: &str| {
        // An end left out is the working copy's HEAD, or the default branch of a remote.
        let revision = match (&spec.place, revision) {
            (Place::Url(_), "" | "HEAD") => None,
            (Place::Directory(_), "") => Some("HEAD".to_string()),
            (_, revision) => Some(revision.to_string()),
        };
        open(&Spec { place: spec.place.clone(), revision }, cache)
    };
    Ok((side(from)?, side(to)?))
}

/// The nearest directory, `start` or above it, that has `stacks/` and `hosts/`. `start` should be absolute.
pub fn find_root(start: &Utf8Path) -> Option<Utf8PathBuf> {
    let is_root = |directory: &&Utf8Path| ["stacks", "hosts"].iter().all(|name| directory.join(name).is_dir());
    start.ancestors().find(is_root).map(Utf8Path::to_path_buf)
}

/// Where repositories behind a URL are kept: `$XDG_CACHE_HOME/reconcile/git`, or the same below `~/.cache`.
pub fn default_cache() -> Utf8PathBuf {
    let home = || Utf8PathBuf::from(std::env::var("HOME").unwrap_or_else(|_| "/".into())).join(".cache");
    let base = std::env::var("XDG_CACHE_HOME").ok().filter(|path| path.starts_with('/'));
    base.map_or_else(home, Utf8PathBuf::from).join("reconcile/git")
}
