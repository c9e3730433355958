//! The files of a transaction: where they wait, and the steps by which they get to their places.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use crate::apply::script::{Script, Writer, line, listed};
use crate::apply::tree::Tree;
use crate::base::error::Result;
use crate::host::observation::{Observation, Seen, Thing};
use crate::plan::PathChange;
use crate::resource::state::{Owner, PathState};

/// How many paths go into one step.
pub(super) const BATCH: usize = 500;

/// The bits that `chown` takes from a file: it runs as its owner, or as its group.
pub(super) const SPECIAL: u32 = 0o6000;

impl Writer<'_> {
    /// Stages all new files, grouped by the directory they are for. Where packages are installed first, what was not
    /// there may be there `later`.
    pub(super) fn files(&mut self, changes: &[&PathChange], later: bool) -> Vec<Group> {
        let mut groups = self.groups(changes);
        if later {
            groups.iter_mut().for_each(Group::expect_more);
        }
        for group in groups.iter().filter(|group| !group.replaced.is_empty() || !group.came.is_empty()) {
            self.archive.directory(&group.kept, 0o700);
        }
        groups
    }

    fn groups(&mut self, changes: &[&PathChange]) -> Vec<Group> {
        let gone: BTreeSet<&Utf8Path> =
            changes.iter().filter(|change| change.after.is_none()).map(|change| change.path.as_path()).collect();
        let mut groups: BTreeMap<Utf8PathBuf, Group> = BTreeMap::new();
        for change in changes {
            // Directories are made and removed by steps of their own.
            let was_directory = matches!(&change.before, Seen::Present(seen) if seen.thing == Thing::Directory);
            if matches!(change.after, Some(PathState::Directory { .. })) || (change.after.is_none() && was_directory) {
                continue;
            }
            let Some(parent) = change.path.parent() else { continue };
            if !groups.contains_key(parent) {
                let group = self.group(parent, &gone);
                groups.insert(parent.to_owned(), group);
            }
            let Some(group) = groups.get_mut(parent) else { continue };
            let name = change.path.file_name().unwrap_or_default().to_string();
            if let (Seen::Present(seen), false) = (&change.before, was_directory) {
                group.replaced.push(name.clone());
                if let Thing::File(Some(_)) = seen.thing {
                    group.replaced_files.push(name.clone());
                }
            }
            let staged = group.staging.join(&name);
            match &change.after {
                Some(PathState::File { content, mode, owner }) => {
                    self.archive.file(&staged, *mode, &content.bytes);
                    if self.with_owner && *owner != Owner::root() {
                        let owner = format!("{}:{}", owner.user, owner.group);
                        group.owners.entry(owner).or_default().push(name.clone());
                        if mode & SPECIAL != 0 {
                            group.special.entry(*mode).or_default().push(name.clone());
                        }
                    }
                    group.files.push(name.clone());
                }
                Some(PathState::Link { target }) => self.archive.link(&staged, target),
                _ => {
                    group.removed.push(name);
                    continue;
                }
            }
            group.staged.push(name);
        }
        groups.into_values().collect()
    }

    /// Files wait in the nearest directory that is there and stays.
    fn group(&mut self, parent: &Utf8Path, gone: &BTreeSet<&Utf8Path>) -> Group {
        let stays = |above: &Utf8Path| is_there(self.seen, above) && !gone.contains(above);
        let anchor = parent.ancestors().find(|above| *above == "/" || stays(above));
        let (stage, number) = self.new_stage(&self.place.real(anchor.unwrap_or(Utf8Path::new("/"))));
        let staging = stage.join(number.to_string());
        self.archive.directory(&staging, 0o700);
        Group {
            directory: self.place.real(parent),
            kept: stage.join(format!("{number}.old")),
            stage,
            staging,
            ..Group::default()
        }
    }

    /// A numbered place in the staging directory of this one.
    pub(super) fn new_stage(&mut self, directory: &Utf8Path) -> (Utf8PathBuf, usize) {
        let stage = directory.join(format!(".reconcile-{}", self.run));
        let number = *self.stage;
        *self.stage += 1;
        self.archive.directory(&stage, 0o700);
        (stage, number)
    }

    /// The steps that put every path in its place.
    pub(super) fn switch(
        &self,
        script: &mut Script,
        changes: &[&PathChange],
        groups: &[Group],
        trees: &[Tree],
    ) -> Result<()> {
        script.stages.extend(groups.iter().map(|group| group.stage.clone()));
        script.stages.extend(trees.iter().map(|tree| tree.stage.clone()));
        let of_groups =
            groups.iter().flat_map(|group| group.owners.iter().map(|(owner, names)| (owner, group.in_staging(names))));
        let of_trees = trees.iter().flat_map(|tree| &tree.owners).map(|(owner, paths)| (owner, paths.clone()));
        let owners: Vec<_> = of_groups.chain(of_trees).collect();
        for (owner, paths) in &owners {
            for batch in paths.chunks(BATCH) {
                script.steps.push(listed(&["chown", owner], batch)?);
            }
        }
        let staged = groups.iter().flat_map(|group| group.in_staging(&group.files));
        let staged: Vec<String> = staged.chain(trees.iter().flat_map(|tree| tree.staged.iter().cloned())).collect();
        // To give a file away takes these bits from it.
        let of_groups =
            groups.iter().flat_map(|group| group.special.iter().map(|(mode, of)| (mode, group.in_staging(of))));
        let of_trees = trees.iter().flat_map(|tree| &tree.special).map(|(mode, paths)| (mode, paths.clone()));
        for (mode, paths) in of_groups.chain(of_trees) {
            for batch in paths.chunks(BATCH) {
                script.steps.push(listed(&["chmod", &format!("{mode:o}")], batch)?);
            }
        }
        let owned = !owners.is_empty();
        // One call for all, unless their owners are still to be set, or there are too many for one.
        if owned || staged.len() > BATCH {
            for batch in staged.chunks(BATCH) {
                script.steps.push(listed(&["sync"], batch)?);
            }
        } else {
            script.durable.extend(staged);
        }
        let mut kept = Vec::new();
        for group in groups {
            if !group.replaced.is_empty() {
                let paths = group.in_place(&group.replaced);
                script.steps.push(listed(&["keep", group.kept.as_str()], &paths)?);
                kept.extend(group.replaced_files.iter().map(|name| group.kept.join(name).to_string()));
            }
            if !group.came.is_empty() {
                script.steps.push(listed(&["came", group.kept.as_str()], &group.in_place(&group.came))?);
            }
            if !group.replaced.is_empty() || !group.came.is_empty() {
                kept.push(group.kept.to_string());
            }
        }
        // What was there is safe before its place is another's.
        for batch in kept.chunks(BATCH) {
            script.steps.push(listed(&["sync"], batch)?);
        }
        self.make_directories(script, changes)?;
        for tree in trees {
            tree.switch(script)?;
        }
        for group in groups {
            let (directory, kept) = (group.directory.as_str(), group.kept.as_str());
            for batch in group.in_staging(&group.staged).chunks(BATCH) {
                script.steps.push(listed(&["move", directory, kept], batch)?);
            }
            if !group.removed.is_empty() {
                script.steps.push(listed(&["remove"], &group.in_place(&group.removed))?);
            }
        }
        let touched = groups.iter().map(|group| group.directory.to_string());
        let touched: BTreeSet<String> = touched.chain(trees.iter().map(Tree::above)).collect();
        if !touched.is_empty() {
            script.steps.push(listed(&["sync"], &touched.into_iter().collect::<Vec<_>>())?);
        }
        let gone = changes.iter().filter(|change| {
            change.after.is_none() && matches!(&change.before, Seen::Present(seen) if seen.thing == Thing::Directory)
        });
        let gone = gone.map(|change| line(&[self.place.real(&change.path).as_str()]));
        script.emptied.extend(gone.collect::<Result<Vec<_>>>()?);
        Ok(())
    }

    /// Directories that are wanted, and those above new files that are not there yet; from the top down.
    fn make_directories(&self, script: &mut Script, changes: &[&PathChange]) -> Result<()> {
        let mut wanted: BTreeMap<Utf8PathBuf, (&str, u32, Option<Owner>)> = BTreeMap::new();
        for change in changes.iter().filter(|change| change.after.is_some()) {
            for above in change.path.ancestors().skip(1).filter(|above| *above != "/") {
                if !is_there(self.seen, above) {
                    wanted.entry(above.to_owned()).or_insert(("above", 0o755, None));
                }
            }
        }
        for change in changes {
            if let Some(PathState::Directory { mode, owner }) = &change.after {
                let verb = if change.implied { "above" } else { "mkdir" };
                wanted.insert(change.path.clone(), (verb, *mode, self.with_owner.then(|| owner.clone())));
            }
        }
        // Those made alike, one right after the other, are made together.
        let mut made: Vec<([String; 4], Vec<String>)> = Vec::new();
        let mut metas = Vec::new();
        for (path, (verb, mode, owner)) in wanted {
            let (user, group) = owner.map_or(("-".into(), "-".into()), |owner| (owner.user, owner.group));
            // One that nobody describes is what its place makes of it.
            let bits = if verb == "mkdir" { all_bits(mode) } else { format!("{mode:o}") };
            let like = [verb.to_string(), bits, user, group];
            let real = self.place.real(&path);
            match self.seen.paths.get(&path) {
                Some(Seen::Present(seen)) if seen.thing == Thing::Directory => {
                    let (old_mode, (old_user, old_group)) = (all_bits(seen.mode), seen.ids);
                    let old = [old_mode, old_user.to_string(), old_group.to_string()];
                    let [_, mode, user, group] = &like;
                    metas.push(line(&["meta", mode, user, group, real.as_str(), &old[0], &old[1], &old[2]])?);
                }
                _ => match made.last_mut() {
                    Some((last, paths)) if *last == like && paths.len() < BATCH => paths.push(real.to_string()),
                    _ => made.push((like, vec![real.to_string()])),
                },
            }
        }
        script.steps.extend(metas);
        for (head, paths) in made {
            script.steps.push(listed(&head.each_ref().map(String::as_str), &paths)?);
        }
        Ok(())
    }
}

/// The files of one directory.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Where they go.
    pub directory: Utf8PathBuf,
    /// The staging directory, which the run removes in the end.
    stage: Utf8PathBuf,
    /// Where the new ones wait.
    pub staging: Utf8PathBuf,
    /// Where the former ones are kept.
    kept: Utf8PathBuf,
    pub staged: Vec<String>,
    files: Vec<String>,
    replaced: Vec<String>,
    /// Those of them that are files we may read.
    replaced_files: Vec<String>,
    /// What was not there when it was planned, and may have come with a package.
    came: Vec<String>,
    removed: Vec<String>,
    owners: BTreeMap<String, Vec<String>>,
    /// Those of [`SPECIAL`] modes, where they are given away.
    special: BTreeMap<u32, Vec<String>>,
}

impl Group {
    fn in_staging(&self, names: &[String]) -> Vec<String> {
        names.iter().map(|name| self.staging.join(name).to_string()).collect()
    }

    fn expect_more(&mut self) {
        self.came = self.staged.iter().filter(|name| !self.replaced.contains(name)).cloned().collect();
    }

    fn in_place(&self, names: &[String]) -> Vec<String> {
        names.iter().map(|name| self.directory.join(name).to_string()).collect()
    }
}

/// The mode of a directory so that `chmod` takes away what it does not have: with fewer than five digits, GNU's leaves
/// setuid and setgid bits as they are.
fn all_bits(mode: u32) -> String {
    format!("{mode:05o}")
}

fn is_there(seen: &Observation, path: &Utf8Path) -> bool {
    matches!(seen.paths.get(path), Some(Seen::Present(_)))
}
