//! `reconcile rollback RUN`: plans and applies the state before a run, by its commit.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::error::{Error, Kind, Result};
use crate::base::id::{HostName, StackName};
use crate::cli::apply::{self, bounds, carry_out};
use crate::cli::args::{Common, Rollback};
use crate::cli::plan::Planning;
use crate::cli::wire::{Parts, Repository};
use crate::cli::{Call, history, wire};
use crate::load::{Config, Secrets};
use crate::source::{self, Spec};
use crate::store::{self, Before, Part, Run, Store};

/// Runs the command.
pub fn run(call: &Call, options: &Rollback) -> Result<u8> {
    let store = Store::open(&store::default_directory())?;
    let run = store.find(&options.run, history::here(call.common, &store)?.as_deref())?;
    let agreed = apply::is_agreed(call, &options.apply)?;
    let touched = touched(call.common, &run)?;
    let (commit, before) = one_commit(&store, &run, &touched)?;
    let repository = at(call.common, &run, &commit)?;
    let parts = parts(&repository.config, &touched, &before)?;
    wire::block_on(async {
        let planning = Planning::of(call, repository, parts, bounds(&options.apply)).await?;
        carry_out(call, &options.apply, planning, agreed).await
    })
}

/// What a run may have changed, as far as it is chosen.
fn touched<'a>(common: &Common, run: &'a Run) -> Result<Vec<&'a Part>> {
    let id = &run.beginning.id;
    if !common.tags.is_empty() {
        let error = Error::new(Kind::Usage, "a rollback is not narrowed by --tag");
        return Err(error.hint("tags may have been others then: give --host and --stack"));
    }
    if run.ending == store::Ending::AtWork {
        return Err(Error::new(Kind::Locked, format!("run {id} is at work")).hint("wait for it to end"));
    }
    let touched: Vec<&Part> = run.parts.iter().filter(|part| part.is_touched()).collect();
    if touched.is_empty() {
        let error = Error::new(Kind::Usage, format!("run {id} changed nothing: there is nothing to go back from"));
        return Err(error.hint("`reconcile history` tells which runs did"));
    }
    let is_chosen = |part: &&Part| {
        (common.hosts.is_empty() || common.hosts.contains(&part.host))
            && (common.stacks.is_empty() || common.stacks.contains(&part.stack))
    };
    let chosen: Vec<&Part> = touched.iter().copied().filter(is_chosen).collect();
    if chosen.is_empty() {
        let all: Vec<String> = touched.iter().map(|part| place(part)).collect();
        let error = Error::new(Kind::Usage, format!("run {id} changed nothing of what --host and --stack choose"));
        return Err(error.hint(format!("it changed {}", all.join(", "))));
    }
    Ok(chosen)
}

/// The one commit that was last applied before a run to all that it touched.
fn one_commit(store: &Store, run: &Run, touched: &[&Part]) -> Result<(String, Before)> {
    let id = &run.beginning.id;
    let refused = |what: String, hint: &str| Err(Error::new(Kind::Refused, what).hint(hint));
    let mut commits: BTreeMap<String, (Before, Vec<String>)> = BTreeMap::new();
    for part in touched {
        let Some(before) = store.before(run, part)? else {
            return refused(
                format!("no run before {id} that went well is recorded for {}", place(part)),
                "to remove what it made, take it out of the repository and apply; to go back otherwise, revert the \
                 commit and apply",
            );
        };
        let commit = match &before.commit {
            Some(commit) if before.dirty == 0 => commit.clone(),
            lost => {
                let why = if lost.is_some() { "files that were in no commit" } else { "a directory without commits" };
                return refused(
                    format!("{} was last applied by run {} from {why}: nobody knows them now", place(part), before.run),
                    "commit before you apply, and every later run can be gone back from; now change the files by \
                     hand and apply",
                );
            }
        };
        commits.entry(commit).or_insert_with(|| (before, Vec::new())).1.push(place(part));
    }
    if commits.len() > 1 {
        let list: Vec<String> =
            commits.iter().map(|(commit, (_, places))| format!("{commit:.7}: {}", places.join(", "))).collect();
        return refused(
            format!("before run {id} not everything was at the same commit: {}", list.join("; ")),
            "go back part by part, with --host and --stack",
        );
    }
    let only = commits.into_iter().next().map(|(commit, (before, _))| (commit, before));
    only.ok_or_else(|| Error::new(Kind::Internal, "a run that touched something touched nothing"))
}

/// The repository at a commit: that of the command line, or where the run's was.
fn at(common: &Common, run: &Run, commit: &str) -> Result<Repository> {
    let of = &run.beginning;
    let spec = wire::spec(common).or_else(|_| Spec::parse(&of.source))?;
    let spec = Spec { revision: Some(commit.into()), ..spec };
    let tree = source::open(&spec, &source::default_cache())
        .map_err(|error| error.hint(format!("run {} was made from {}: name it with --repo", of.id, of.source)))?;
    let mut repository = wire::load_tree(common, &tree, &spec.place, Secrets::Required)?;
    if repository.origin.repo != of.repo {
        let what = format!("run {} was of the repository `{}`, this is `{}`", of.id, of.repo, repository.origin.repo);
        return Err(Error::new(Kind::Usage, what).hint(format!("name it: --repo {}", of.source)));
    }
    repository.origin.before = Some(of.id.clone());
    Ok(repository)
}

/// What takes part: exactly what the run touched. A stack that was not there then is planned too, and so removed.
fn parts(config: &Config, touched: &[&Part], before: &Before) -> Result<Parts> {
    let mut stacks: BTreeMap<HostName, BTreeSet<StackName>> = BTreeMap::new();
    for part in touched {
        let strange = |why| Error::new(Kind::Usage, format!("the history names something strange: {why}"));
        let host = HostName::new(&part.host).map_err(strange)?;
        if !config.hosts.contains_key(&host) {
            let what = format!("host {host} was not described at the commit of run {}", before.run);
            return Err(Error::new(Kind::Refused, what).hint("leave it out: choose others with --host"));
        }
        stacks.entry(host).or_default().insert(StackName::new(&part.stack).map_err(strange)?);
    }
    Ok(Parts { hosts: stacks.keys().cloned().collect(), stacks: Some(stacks) })
}

/// `web on web-1`.
fn place(part: &Part) -> String {
    format!("{} on {}", part.stack, part.host)
}
