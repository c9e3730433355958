//! A transaction as the steps that `apply.sh` carries out, and the staged files that go with them.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use crate::apply::checks::watched;
use crate::apply::commands::{Command, commands, undo, unmake};
use crate::apply::expected::Expected;
use crate::apply::files::Group;
use crate::apply::handover::Parts;
use crate::base::error::{Error, Kind, Result};
use crate::base::id::ResourceId;
use crate::host::archive::Archive;
use crate::host::observation::Observation;
use crate::observe::Place;
use crate::observe::inspect::Candidate;
use crate::plan::debts::Owing;
use crate::plan::effect::{Deed, Effect, Phase};
use crate::plan::{PathChange, Transaction};

/// The unit whose reload is looked after.
const NGINX: &str = "nginx.service";

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
    /// What is staged, and must be on the disk before anything changes.
    pub(super) durable: Vec<String>,
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
    /// Whether this transaction is the first one of its run on the host.
    pub first: bool,
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
        // What is done before the switch may make directories, and so may an earlier transaction.
        let whole = self.first && !later && of(Phase::Before).next().is_none();
        let (trees, first) = if whole { self.trees(&parts.first) } else { (Vec::new(), parts.first.clone()) };
        script.expected.paths.extend(trees.iter().map(|tree| tree.top.to_string()));
        let (files, turned) = (self.files(&first, later), self.files(&parts.turned, later));
        if later {
            self.judge_after_installing(&mut script, transaction, files.iter().chain(&turned))?;
        }
        self.deeds(&mut script, transaction, of(Phase::Before))?;
        if !script.steps.is_empty() {
            self.look_again(&mut script, transaction)?;
        }
        owe(&mut script, transaction)?;
        self.switch(&mut script, &first, &files, &trees)?;
        self.deeds(&mut script, transaction, parts.before.iter().copied())?;
        if !parts.turning.is_empty() {
            self.turn(&mut script, transaction, &parts)?;
            self.switch(&mut script, &parts.turned, &turned, &[])?;
            self.deeds(&mut script, transaction, parts.after.iter().copied())?;
        }
        self.checks(&mut script, transaction, |id| !parts.turning.contains(id))?;
        self.parting(&mut script, transaction)?;
        script.undo_before = way_back(of(Phase::Before))?;
        script.undo = way_back(transaction.effects.iter().filter(|effect| !parts.tells(effect)))?;
        if !script.durable.is_empty() {
            script.steps.insert(0, listed(&["durable"], &script.durable)?);
        }
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
            if let Some(owing) = Owing::of(&effect.deed) {
                script.steps.push(listed(&[owing.done()], &owing.debtors)?);
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

/// Notes what will run with older files between the switch and its restart.
fn owe(script: &mut Script, transaction: &Transaction) -> Result<()> {
    for effect in &transaction.effects {
        if let Some(owing) = Owing::of(&effect.deed) {
            script.steps.push(owes(&owing, effect.causes.first())?);
        }
    }
    for debt in &transaction.debts {
        script.steps.push(line(&["owe", &debt.verb, &debt.id.to_string(), &debt.unit])?);
    }
    Ok(())
}

pub(super) fn owes(owing: &Owing, cause: Option<&ResourceId>) -> Result<String> {
    listed(&["owe", &owing.verb, &cause.map_or("-".into(), ToString::to_string)], &owing.debtors)
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
/// asks for it once links have changed), then what runs, in the order of the plan, and last what comes to rest again. What
/// does not come back runs with files that are no longer there: that is owed.
fn way_back<'a>(effects: impl Iterator<Item = &'a Effect>) -> Result<Vec<String>> {
    let mut lines: Vec<(u8, String)> = Vec::new();
    for effect in effects {
        let (commands, owing) = (undo(&effect.deed), Owing::of(&effect.deed));
        if !commands.is_empty() && !effect.deed.units().is_empty() {
            lines.push((2, listed(&["calm"], effect.deed.units())?));
        }
        if let Some(owing) = &owing {
            lines.push((2, owes(owing, effect.causes.first())?));
        }
        for command in commands {
            let words = |word: &str| command.words.iter().any(|each| each == word);
            let order = if words("--no-reload") { 0 } else { 1 + u8::from(!words("daemon-reload")) };
            lines.push((order, run_line(&command)?));
        }
        if let Some(owing) = &owing {
            lines.push((2, listed(&[owing.done()], &owing.debtors)?));
        }
        if let Deed::ComposeUp { rested, .. } = &effect.deed {
            for (verb, ids) in [("stop", &rested.stopped), ("pause", &rested.paused)] {
                lines
                    .extend((!ids.is_empty()).then(|| listed(&["rest", verb], ids)).transpose()?.map(|line| (3, line)));
            }
        }
    }
    lines.sort_by_key(|(order, _)| *order);
    Ok(lines.into_iter().map(|(_, line)| line).collect())
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
