//! A transaction as the steps that `apply.sh` carries out, and the staged files that go with them.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use crate::apply::checks::watched;
use crate::apply::commands::{Command, commands, undo, unmake};
use crate::apply::expected::Expected;
use crate::apply::handover::Parts;
use crate::base::error::{Error, Kind, Result};
use crate::host::archive::Archive;
use crate::host::observation::{Observation, Seen, Thing};
use crate::observe::Place;
use crate::observe::inspect::Candidate;
use crate::plan::effect::{Deed, Effect, Phase};
use crate::plan::{PathChange, Transaction};
use crate::resource::state::{Owner, PathState};

/// The unit whose reload is looked after.
const NGINX: &str = "nginx.service";

/// How many paths go into one step.
const BATCH: usize = 500;

/// Everything `apply.sh` needs for one transaction.
#[derive(Debug, Default)]
pub struct Script {
    /// `T/steps`.
    pub steps: Vec<String>,
    /// What each numbered step is, in words, for reports and progress.
    pub words: BTreeMap<usize, String>,
    /// `T/unmake`.
    pub unmake: Vec<String>,
    /// `T/undo`.
    pub undo: Vec<String>,
    /// `T/unturn`.
    pub unturn: Vec<String>,
    /// `T/parting`.
    pub parting: Vec<String>,
    /// `T/undo.before`.
    pub undo_before: Vec<String>,
    /// `T/paths`, `T/stat`, `T/sums`, `T/links`.
    pub expected: Expected,
    /// `T/durable`.
    pub durable: Vec<String>,
    /// `T/emptied`.
    pub emptied: Vec<String>,
    /// Staging directories.
    pub stages: BTreeSet<Utf8PathBuf>,
    /// `T/preflight` and `T/staged`, where the candidate could not be judged at plan time.
    pub preflight: Option<(String, String)>,
}

/// Writes the script of one transaction, and its files into the archive.
pub struct Writer<'a> {
    /// The run's id.
    pub run: &'a str,
    /// Where paths really are.
    pub place: &'a Place,
    /// The host as it was seen.
    pub seen: &'a Observation,
    /// Whether owners are set.
    pub with_owner: bool,
    /// Numbers the steps of the whole run.
    pub next: &'a mut usize,
    /// The archive.
    pub archive: &'a mut Archive,
    /// The transaction's folder on the host.
    pub folder: &'a Utf8Path,
    /// Numbers staging folders of the whole run.
    pub stage: &'a mut usize,
}

impl Writer<'_> {
    /// The script of a transaction.
    pub fn script(mut self, transaction: &Transaction) -> Result<Script> {
        let changes: Vec<&PathChange> = transaction.changes.iter().flat_map(|change| &change.paths).collect();
        let mut script = Script { expected: Expected::of(&changes, self.place), ..Script::default() };
        let of = |phase: Phase| transaction.effects.iter().filter(move |effect| effect.deed.phase() == phase);
        self.deeds(&mut script, transaction, of(Phase::Prepare))?;
        let parts = Parts::of(transaction, changes);
        let later = of(Phase::Prepare).next().is_some();
        let (files, turned) = (self.files(&parts.first, later), self.files(&parts.turned, later));
        if later {
            self.judge_after_installing(&mut script, transaction, files.iter().chain(&turned))?;
        }
        self.deeds(&mut script, transaction, of(Phase::Before))?;
        if !script.steps.is_empty() {
            self.look_again(&mut script, transaction)?;
        }
        owe(&mut script, transaction)?;
        self.switch(&mut script, &parts.first, &files)?;
        self.deeds(&mut script, transaction, parts.before.iter().copied())?;
        if !parts.turning.is_empty() {
            self.turn(&mut script, transaction, &parts)?;
            self.switch(&mut script, &parts.turned, &turned)?;
            self.deeds(&mut script, transaction, parts.after.iter().copied())?;
        }
        self.checks(&mut script, transaction, |id| !parts.turning.contains(id))?;
        self.parting(&mut script, transaction)?;
        script.undo_before = way_back(of(Phase::Before))?;
        script.undo = way_back(transaction.effects.iter().filter(|effect| !parts.tells(effect)))?;
        Ok(script)
    }

    /// Right before the switch, where commands come before it: somebody may have edited what is to be replaced since.
    fn look_again(&mut self, script: &mut Script, transaction: &Transaction) -> Result<()> {
        let number = self.number(script, "look again at what is to be replaced".into());
        // With a package, there may come what was not there.
        let later = transaction.effects.iter().any(|effect| effect.deed.phase() == Phase::Prepare);
        script.steps.push(line(&["unmoved", &number, "later"][..if later { 3 } else { 2 }])?);
        Ok(())
    }

    fn deeds<'e>(
        &mut self,
        script: &mut Script,
        transaction: &Transaction,
        effects: impl Iterator<Item = &'e Effect>,
    ) -> Result<()> {
        for effect in effects {
            if let Deed::Start { units } | Deed::Restart { units } | Deed::Bring { units } = &effect.deed {
                // What has failed, and what was started more often than systemd allows, must not be refused now.
                let again = matches!(effect.deed, Deed::Restart { .. });
                let failed = |unit: &String| self.seen.units.get(unit).is_some_and(|seen| seen.active == "failed");
                let calm: Vec<String> = units.iter().filter(|unit| again || failed(unit)).cloned().collect();
                if !calm.is_empty() {
                    script.steps.push(listed(&["calm"], &calm)?);
                }
            }
            let (nginx, deed) = without_nginx(&effect.deed);
            if nginx {
                self.reload_nginx(script, &effect.deed)?;
            }
            for command in deed.iter().flat_map(commands) {
                match watched(transaction, &effect.deed).filter(|_| command.starts) {
                    Some(head) => {
                        let watch = Command::of(command.seconds, [head, command.words].concat());
                        self.numbered(script, effect.deed.words(), "watch", &watch)?;
                    }
                    None => self.numbered(script, effect.deed.words(), "run", &command)?,
                }
            }
            if let Deed::Restart { units } | Deed::Reload { units } = &effect.deed {
                script.steps.push(listed(&["paid"], units)?);
            }
            for command in unmake(&effect.deed).iter().rev() {
                script.unmake.insert(0, run_line(command)?);
            }
        }
        Ok(())
    }

    /// nginx takes a reload without a word, and stays with its old configuration where the new one cannot work.
    fn reload_nginx(&mut self, script: &mut Script, deed: &Deed) -> Result<()> {
        script.steps.push(line(&["workers"])?);
        let number = self.number(script, deed.words());
        script.steps.push(line(&["nginx", &number])?);
        let check = Command::of(10, vec!["reloaded".into()]);
        self.numbered(script, "check that nginx took its new configuration".into(), "check", &check)
    }

    pub(super) fn numbered(&mut self, script: &mut Script, words: String, verb: &str, command: &Command) -> Result<()> {
        let head = [verb.to_string(), self.number(script, words), command.seconds.to_string()];
        let fields: Vec<&str> = head.iter().chain(&command.words).map(String::as_str).collect();
        script.steps.push(line(&fields)?);
        Ok(())
    }

    /// The number of a step that is told of, in words.
    fn number(&mut self, script: &mut Script, words: String) -> String {
        let number = *self.next;
        *self.next += 1;
        script.words.insert(number, words);
        number.to_string()
    }

    /// Stages all new files, grouped by the directory they are for. Where packages are installed first, what was not
    /// there may be there `later`.
    fn files(&mut self, changes: &[&PathChange], later: bool) -> Vec<Group> {
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
            if matches!(&change.before, Seen::Present(_)) && !was_directory {
                group.replaced.push(name.clone());
            }
            let staged = group.staging.join(&name);
            match &change.after {
                Some(PathState::File { content, mode, owner }) => {
                    self.archive.file(&staged, *mode, &content.bytes);
                    if self.with_owner && *owner != Owner::root() {
                        let owner = format!("{}:{}", owner.user, owner.group);
                        group.owners.entry(owner).or_default().push(name.clone());
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
        let stage = self.place.real(anchor.unwrap_or(Utf8Path::new("/"))).join(format!(".reconcile-{}", self.run));
        let number = *self.stage;
        *self.stage += 1;
        self.archive.directory(&stage, 0o700);
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

    /// The steps that put every path in its place.
    fn switch(&self, script: &mut Script, changes: &[&PathChange], groups: &[Group]) -> Result<()> {
        for group in groups {
            script.stages.insert(group.stage.clone());
            for (owner, names) in &group.owners {
                script.steps.push(listed(&["chown", owner], &group.in_staging(names))?);
            }
        }
        let staged: Vec<String> = groups.iter().flat_map(|group| group.in_staging(&group.files)).collect();
        let owned = groups.iter().any(|group| !group.owners.is_empty());
        // One call for all, unless their owners are still to be set, or there are too many for one.
        if owned || staged.len() > BATCH {
            for batch in staged.chunks(BATCH) {
                script.steps.push(listed(&["sync"], batch)?);
            }
        } else {
            let durable = staged.iter().map(|path| line(&[path.as_str()]));
            script.durable.extend(durable.collect::<Result<Vec<_>>>()?);
        }
        for group in groups {
            if !group.replaced.is_empty() {
                let paths = group.in_place(&group.replaced);
                script.steps.push(listed(&["keep", group.kept.as_str()], &paths)?);
            }
            if !group.came.is_empty() {
                script.steps.push(listed(&["came", group.kept.as_str()], &group.in_place(&group.came))?);
            }
        }
        self.make_directories(script, changes)?;
        for group in groups {
            let (directory, kept) = (group.directory.as_str(), group.kept.as_str());
            for batch in group.in_staging(&group.staged).chunks(BATCH) {
                script.steps.push(listed(&["move", directory, kept], batch)?);
            }
            if !group.removed.is_empty() {
                script.steps.push(listed(&["remove"], &group.in_place(&group.removed))?);
            }
        }
        let touched: BTreeSet<String> = groups.iter().map(|group| group.directory.to_string()).collect();
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
        let mut wanted: BTreeMap<Utf8PathBuf, (u32, Option<Owner>)> = BTreeMap::new();
        for change in changes.iter().filter(|change| change.after.is_some()) {
            for above in change.path.ancestors().skip(1).filter(|above| *above != "/") {
                if !is_there(self.seen, above) {
                    wanted.entry(above.to_owned()).or_insert((0o755, None));
                }
            }
        }
        for change in changes {
            if let Some(PathState::Directory { mode, owner }) = &change.after {
                wanted.insert(change.path.clone(), (*mode, self.with_owner.then(|| owner.clone())));
            }
        }
        // Those made alike, one right after the other, are made together.
        let mut made: Vec<([String; 3], Vec<String>)> = Vec::new();
        let mut metas = Vec::new();
        for (path, (mode, owner)) in wanted {
            let (user, group) = owner.map_or(("-".into(), "-".into()), |owner| (owner.user, owner.group));
            let like = [format!("{mode:o}"), user, group];
            let real = self.place.real(&path);
            match self.seen.paths.get(&path) {
                Some(Seen::Present(seen)) if seen.thing == Thing::Directory => {
                    let (old_mode, (old_user, old_group)) = (format!("{:o}", seen.mode), seen.ids);
                    let old = [old_mode, old_user.to_string(), old_group.to_string()];
                    let [mode, user, group] = &like;
                    metas.push(line(&["meta", mode, user, group, real.as_str(), &old[0], &old[1], &old[2]])?);
                }
                _ => match made.last_mut() {
                    Some((last, paths)) if *last == like && paths.len() < BATCH => paths.push(real.to_string()),
                    _ => made.push((like, vec![real.to_string()])),
                },
            }
        }
        script.steps.extend(metas);
        for ([mode, user, group], paths) in made {
            script.steps.push(listed(&["mkdir", &mode, &user, &group], &paths)?);
        }
        Ok(())
    }

    /// Validators that are only installed by this very transaction judge its files before they are switched.
    fn judge_after_installing<'g>(
        &self,
        script: &mut Script,
        transaction: &Transaction,
        groups: impl Iterator<Item = &'g Group>,
    ) -> Result<()> {
        let mut candidate = Candidate::default();
        for change in transaction.changes.iter().flat_map(|change| &change.paths) {
            match &change.after {
                Some(after) => {
                    candidate.paths.insert(change.path.clone(), after.clone());
                }
                None => {
                    candidate.removed.insert(change.path.clone());
                }
            }
        }
        candidate.nginx = candidate.paths.keys().any(|path| path.starts_with("/etc/nginx"));
        if !candidate.nginx || self.place.root.is_some() {
            return Ok(());
        }
        let staged: String = groups
            .filter(|group| !group.staged.is_empty())
            .map(|group| format!("{}\t{}\n", group.staging, group.directory))
            .collect();
        script.preflight = Some((format!("{}tar\n", candidate.to_lines()), staged));
        script.steps.push(line(&["preflight", self.folder.as_str()])?);
        Ok(())
    }
}

/// The files of one directory.
#[derive(Debug, Default)]
struct Group {
    /// Where they go.
    directory: Utf8PathBuf,
    /// The staging directory, which the run removes in the end.
    stage: Utf8PathBuf,
    /// Where the new ones wait.
    staging: Utf8PathBuf,
    /// Where the former ones are kept.
    kept: Utf8PathBuf,
    staged: Vec<String>,
    files: Vec<String>,
    replaced: Vec<String>,
    /// What was not there when it was planned, and may have come with a package.
    came: Vec<String>,
    removed: Vec<String>,
    owners: BTreeMap<String, Vec<String>>,
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

/// Notes which units will run with older files between the switch and their restart.
fn owe(script: &mut Script, transaction: &Transaction) -> Result<()> {
    for effect in &transaction.effects {
        let (units, verb) = match &effect.deed {
            Deed::Restart { units } => (units, "restart"),
            Deed::Reload { units } => (units, "reload"),
            _ => continue,
        };
        let why = effect.causes.first().map(ToString::to_string).unwrap_or_default();
        script.steps.push(listed(&["owe", verb, &why], units)?);
    }
    for debt in &transaction.debts {
        script.steps.push(line(&["owe", debt.verb, &debt.id.to_string(), &debt.unit])?);
    }
    Ok(())
}

/// Whether nginx is to be reloaded, which has a step of its own, and what else is.
fn without_nginx(deed: &Deed) -> (bool, Option<Deed>) {
    match deed {
        Deed::Reload { units } if units.iter().any(|unit| unit == NGINX) => {
            let units: Vec<String> = units.iter().filter(|unit| *unit != NGINX).cloned().collect();
            (true, (!units.is_empty()).then_some(Deed::Reload { units }))
        }
        deed => (false, Some(deed.clone())),
    }
}

/// What brings back what effects changed, once the former files are there: first links, then what systemd reads (which
/// asks for it once links have changed), then what runs, in the order of the plan.
fn way_back<'a>(effects: impl Iterator<Item = &'a Effect>) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for effect in effects {
        let commands = undo(&effect.deed);
        if !commands.is_empty() && !effect.deed.units().is_empty() {
            lines.push(listed(&["calm"], effect.deed.units())?);
        }
        for command in commands {
            lines.push(run_line(&command)?);
        }
    }
    lines.sort_by_key(|line| match line {
        line if line.contains("\t--no-reload\t") => 0,
        line if line.contains("daemon-reload") => 1,
        _ => 2,
    });
    Ok(lines)
}

fn is_there(seen: &Observation, path: &Utf8Path) -> bool {
    matches!(seen.paths.get(path), Some(Seen::Present(_)))
}

pub(super) fn run_line(command: &Command) -> Result<String> {
    let seconds = command.seconds.to_string();
    let fields: Vec<&str> =
        ["run", "0", &seconds].into_iter().chain(command.words.iter().map(String::as_str)).collect();
    line(&fields)
}

pub(super) fn listed(head: &[&str], names: &[String]) -> Result<String> {
    let fields: Vec<&str> = head.iter().copied().chain(names.iter().map(String::as_str)).collect();
    line(&fields)
}

/// One step: fields separated by tabs. The host splits at tabs and newlines, so a field can hold neither, nor be empty.
pub(super) fn line(fields: &[&str]) -> Result<String> {
    let odd = fields.iter().find(|field| field.is_empty() || field.contains(['\t', '\n', '\r', '\0']));
    match odd {
        Some(field) => {
            let what = format!(
                "`{}` cannot be sent to a host: it is empty or holds a control character",
                field.escape_debug()
            );
            Err(Error::new(Kind::Config, what))
        }
        None => Ok(fields.join("\t")),
    }
}
