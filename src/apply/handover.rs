//! The part of a script in which a service goes from one place to the other: what comes first, what turns with it, and
//! what goes once nothing goes back any more.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

use crate::apply::commands::{Command, commands};
use crate::apply::script::{Script, Writer, line, listed, owes, run_line};
use crate::base::error::Result;
use crate::base::id::ResourceId;
use crate::plan::debts::Owing;
use crate::plan::effect::{Deed, Effect, Phase};
use crate::plan::{PathChange, Transaction};
use crate::resource::{Check, Probe};

/// What nginx reads. It turns as a whole, so that it never names what is not there.
const NGINX_FILES: &str = "/etc/nginx";

/// The parts of a transaction around a turn. Where there is none, all of it comes first.
pub(super) struct Parts<'a> {
    /// The paths that are switched first.
    pub first: Vec<&'a PathChange>,
    /// Those that are switched with the turn.
    pub turned: Vec<&'a PathChange>,
    /// The effects before the turn.
    pub before: Vec<&'a Effect>,
    /// The turn, and what comes after it.
    pub after: Vec<&'a Effect>,
    /// The resources that turn. They must be healthy before.
    pub turning: BTreeSet<&'a ResourceId>,
}

impl<'a> Parts<'a> {
    pub(super) fn of(transaction: &'a Transaction, changes: Vec<&'a PathChange>) -> Self {
        let effects: Vec<&Effect> =
            transaction.effects.iter().filter(|effect| effect.deed.phase() == Phase::After).collect();
        let turns = |effect: &&Effect| matches!(effect.deed, Deed::Turn { .. });
        let turn = effects.iter().position(turns);
        let (before, after) = effects.split_at(turn.unwrap_or(effects.len()));
        let retired: BTreeSet<&Utf8Path> = transaction.effects.iter().flat_map(retired).collect();
        let stays = changes.into_iter().filter(|change| !retired.contains(change.path.as_path()));
        let with_nginx = |change: &&PathChange| turn.is_some() && change.path.starts_with(NGINX_FILES);
        let (turned, first) = stays.partition(with_nginx);
        let turning = after.iter().copied().filter(|effect| turns(effect)).flat_map(|effect| &effect.causes).collect();
        Parts { first, turned, before: before.to_vec(), after: after.to_vec(), turning }
    }
}

impl Parts<'_> {
    /// Whether nginx is told of the turn by this effect: it is told again with the way back from that.
    pub(super) fn tells(&self, effect: &Effect) -> bool {
        matches!(effect.deed, Deed::Reload { .. }) && self.after.iter().any(|after| std::ptr::eq(*after, effect))
    }
}

/// The files that go with what is retired.
fn retired(effect: &Effect) -> impl Iterator<Item = &Utf8Path> {
    let files = match &effect.deed {
        Deed::Retire { files, .. } => files.as_slice(),
        _ => &[],
    };
    files.iter().map(Utf8PathBuf::as_path)
}

impl Writer<'_> {
    /// The new place is healthy, and stays so a moment longer; then its turn has come.
    pub(super) fn turn(&mut self, script: &mut Script, transaction: &Transaction, parts: &Parts<'_>) -> Result<()> {
        self.checks(script, transaction, |id| parts.turning.contains(id))?;
        let is_unit = |(id, check): &(ResourceId, Check)| {
            parts.turning.contains(id) && matches!(check.probe, Probe::Active { .. })
        };
        if transaction.checks.iter().any(is_unit) {
            let stays = Command::of(10, vec!["stay".into()]);
            self.numbered(script, "check that what is new stays active".into(), "check", &stays)?;
        }
        script.steps.push(line(&["turn"])?);
        // The way back: nginx is told first, and what the new place has begun is brought to its end.
        let nginx = Deed::Reload { units: vec!["nginx.service".into()] };
        if let Some(owing) = Owing::of(&nginx) {
            let told = parts.after.iter().find(|effect| parts.tells(effect));
            script.unturn.push(owes(&owing, told.and_then(|effect| effect.causes.first()))?);
            for command in commands(&nginx) {
                script.unturn.push(run_line(&command)?);
            }
            script.unturn.push(listed(&[owing.done()], &owing.debtors)?);
        }
        let drains = parts.after.iter().filter_map(|effect| match &effect.deed {
            Deed::Turn { from: Some(_), drain, .. } => Some(*drain),
            _ => None,
        });
        let drain = drains.max().unwrap_or_default();
        script.unturn.extend(pause(drain).as_ref().map(run_line).transpose()?);
        Ok(())
    }

    /// What goes in the end.
    pub(super) fn parting(&mut self, script: &mut Script, transaction: &Transaction) -> Result<()> {
        let begin = script.steps.len();
        for effect in transaction.effects.iter().filter(|effect| effect.deed.phase() == Phase::Parting) {
            let Deed::Retire { units, services, drain, .. } = &effect.deed else { continue };
            if let Some(pause) = pause(*drain) {
                let all: Vec<&str> = units.iter().chain(services).map(String::as_str).collect();
                self.numbered(script, format!("drain {} for {drain} s", all.join(", ")), "run", &pause)?;
            }
            for command in commands(&effect.deed) {
                self.numbered(script, format!("remove {}", services.join(", ")), "run", &command)?;
            }
            let files: Vec<String> = retired(effect).map(|path| self.place.real(path).to_string()).collect();
            let loaded =
                units.iter().filter(|unit| self.seen.units.get(*unit).is_some_and(|seen| seen.load == "loaded"));
            let loaded: Vec<String> = loaded.cloned().collect();
            if !loaded.is_empty() {
                for verb in ["disable", "stop"] {
                    let command = Command::to_units(verb, &loaded);
                    self.numbered(script, format!("{verb} {}", loaded.join(", ")), "run", &command)?;
                }
                script.steps.push(listed(&["calm"], &loaded)?);
            }
            if !files.is_empty() {
                script.steps.push(listed(&["remove"], &files)?);
                let folders: BTreeSet<String> = retired(effect)
                    .filter_map(Utf8Path::parent)
                    .map(|path| self.place.real(path).to_string())
                    .collect();
                script.steps.push(listed(&["sync"], &folders.into_iter().collect::<Vec<_>>())?);
            }
            for command in commands(&Deed::DaemonReload).iter().filter(|_| !units.is_empty()) {
                self.numbered(script, Deed::DaemonReload.words(), "run", command)?;
            }
            if !units.is_empty() {
                script.steps.push(listed(&["paid"], units)?);
            }
        }
        script.parting = script.steps.split_off(begin);
        Ok(())
    }
}

/// Waits for so many seconds.
fn pause(seconds: u64) -> Option<Command> {
    let deadline = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_add(30);
    (seconds > 0).then(|| Command::of(deadline, vec!["sleep".into(), seconds.to_string()]))
}
