//! New directories with all that is in them: they are made whole where files wait, and come to their place by one
//! rename, however many there are. A process for each directory is what a first apply would spend its time with.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use crate::apply::files::{BATCH, SPECIAL};
use crate::apply::script::{Script, Writer, listed};
use crate::base::error::Result;
use crate::host::observation::{Observation, Seen, Thing};
use crate::plan::PathChange;
use crate::resource::state::{Owner, PathState};

/// A directory that is not there yet, and all below it.
pub(super) struct Tree {
    /// The staging directory, which the run removes in the end.
    pub stage: Utf8PathBuf,
    /// What waits there, below [`Tree::top`] of the same name.
    pub staged: Vec<String>,
    /// Who is to own some of it, and where that waits.
    pub owners: BTreeMap<String, Vec<String>>,
    /// Those files of them that have [`SPECIAL`] modes.
    pub special: BTreeMap<u32, Vec<String>>,
    /// Where it waits.
    waiting: Utf8PathBuf,
    /// Where it goes.
    pub top: Utf8PathBuf,
    /// Directories from the top down, and everything else, in their places.
    directories: Vec<String>,
    files: Vec<String>,
}

impl Writer<'_> {
    /// Stages what lies in new directories, and gives back the changes that remain. Among those is what lies in a
    /// directory that may be made otherwise: by what comes earlier in the run, or for the run's own folder.
    pub(super) fn trees<'c>(&mut self, changes: &[&'c PathChange]) -> (Vec<Tree>, Vec<&'c PathChange>) {
        // A directory that one may not write to cannot be moved, unless one is root.
        let stuck = |after: &PathState| matches!(after, PathState::Directory { mode, .. } if mode & 0o200 == 0);
        let bars = |change: &&&PathChange| change.after.as_ref().is_none_or(stuck);
        let barred: BTreeSet<&Utf8Path> = changes.iter().filter(bars).map(|change| change.path.as_path()).collect();
        let mut below: BTreeMap<&Utf8Path, Vec<&'c PathChange>> = BTreeMap::new();
        let mut rest = Vec::new();
        for change in changes {
            let is_ours = |top: &&Utf8Path| {
                !barred.contains(*top)
                    && top.parent().is_some_and(|above| !barred.contains(above))
                    && !self.folder.starts_with(self.place.real(top))
            };
            match top(self.seen, change).filter(is_ours) {
                Some(top) => below.entry(top).or_default().push(change),
                None => rest.push(*change),
            }
        }
        let trees = below.into_iter().map(|(top, changes)| self.tree(top, &changes)).collect();
        (trees, rest)
    }

    fn tree(&mut self, top: &Utf8Path, changes: &[&PathChange]) -> Tree {
        let above = top.parent().unwrap_or(Utf8Path::new("/"));
        let (stage, number) = self.new_stage(&self.place.real(above));
        let stand_in = stage.join(number.to_string());
        self.archive.directory(&stand_in, 0o700);
        let waits = |path: &Utf8Path| stand_in.join(path.strip_prefix(above).unwrap_or(path));
        let mut tree = Tree {
            waiting: waits(top),
            top: self.place.real(top),
            stage,
            staged: Vec::new(),
            owners: BTreeMap::new(),
            special: BTreeMap::new(),
            directories: Vec::new(),
            files: Vec::new(),
        };
        for (path, (mode, owner)) in directories(top, changes) {
            self.archive.directory(&waits(path), mode);
            tree.directories.push(self.place.real(path).to_string());
            tree.add(&waits(path), owner.filter(|_| self.with_owner));
        }
        for change in changes {
            let staged = waits(&change.path);
            let owner = match &change.after {
                Some(PathState::File { content, mode, owner }) => {
                    self.archive.file(&staged, *mode, &content.bytes);
                    Some(owner).filter(|_| self.with_owner)
                }
                Some(PathState::Link { target }) => {
                    self.archive.link(&staged, target);
                    None
                }
                _ => continue,
            };
            tree.files.push(self.place.real(&change.path).to_string());
            // To write a link to the disk would be to write what it leads to.
            if let Some(PathState::File { mode, .. }) = &change.after {
                tree.add(&staged, owner);
                if mode & SPECIAL != 0 && owner.is_some_and(|owner| *owner != Owner::root()) {
                    tree.special.entry(*mode).or_default().push(staged.to_string());
                }
            }
        }
        tree
    }
}

impl Tree {
    fn add(&mut self, staged: &Utf8Path, owner: Option<&Owner>) {
        if let Some(owner) = owner.filter(|owner| **owner != Owner::root()) {
            self.owners.entry(format!("{}:{}", owner.user, owner.group)).or_default().push(staged.to_string());
        }
        self.staged.push(staged.to_string());
    }

    /// The directory whose entry for it must be on the disk in the end.
    pub(super) fn above(&self) -> String {
        self.top.parent().unwrap_or(Utf8Path::new("/")).to_string()
    }

    /// The steps that put it in its place. What is in it stands in steps of its own, for the way back.
    pub(super) fn switch(&self, script: &mut Script) -> Result<()> {
        for (verb, paths) in [("tree", &self.directories), ("within", &self.files)] {
            for batch in paths.chunks(BATCH) {
                script.steps.push(listed(&[verb, self.waiting.as_str(), self.top.as_str()], batch)?);
            }
        }
        Ok(())
    }
}

/// The highest directory above a new path, or itself, that is known not to be there. What is above that must be plain
/// directories: a link would give it two names, and what lies in a directory that gives its group away gets that group
/// only when it is made there.
fn top<'c>(seen: &Observation, change: &'c PathChange) -> Option<&'c Utf8Path> {
    let is_absent = |path: &Utf8Path| matches!(seen.paths.get(path), Some(Seen::Absent));
    let is_directory = matches!(change.after.as_ref()?, PathState::Directory { .. });
    let above = change.path.ancestors().skip(usize::from(!is_directory));
    let top = above.take_while(|path| is_absent(path)).last()?;
    let is_plain = |path: &Utf8Path| match seen.paths.get(path) {
        Some(Seen::Present(seen)) => seen.thing == Thing::Directory && seen.mode & 0o2000 == 0,
        _ => path == "/",
    };
    top.ancestors().skip(1).all(is_plain).then_some(top)
}

/// All directories of a tree, from the top down, with their modes, and owners where they were asked for.
fn directories<'c>(top: &'c Utf8Path, changes: &[&'c PathChange]) -> BTreeMap<&'c Utf8Path, (u32, Option<&'c Owner>)> {
    let mut found = BTreeMap::new();
    for change in changes {
        for above in change.path.ancestors().skip(1).take_while(|above| above.starts_with(top)) {
            found.entry(above).or_insert((0o755, None));
        }
        if let Some(PathState::Directory { mode, owner }) = &change.after {
            found.insert(change.path.as_path(), (*mode, Some(owner)));
        }
    }
    found
}
