//! Writing a run into the history. A history that cannot be written never fails a run: it is a warning.

use std::collections::BTreeMap;

use crate::base::error::{Error, Result};
use crate::base::secret::{Secret, SecretTree};
use crate::cli::Call;
use crate::cli::apply::who;
use crate::cli::page::{CHANGE, PLAIN, Page};
use crate::cli::plan::Planning;
use crate::engine::Setup;
use crate::engine::report::Report;
use crate::plan::Plan;
use crate::store::{self, Asked, AtWork, Beginning, Ending, Part, Store};

/// The record of one run, while it is made.
pub struct Recording<'a> {
    call: &'a Call<'a>,
    run: &'a str,
    /// Nothing where the history cannot be written: that was said.
    open: Option<(Store, AtWork)>,
}

impl<'a> Recording<'a> {
    /// Writes down that a run begins.
    pub fn begin(call: &'a Call<'a>, planning: &Planning, run: &'a str) -> Self {
        let begin = || {
            let mut store = Store::open(&store::default_directory())?;
            let at_work = store.begin(&beginning(call, planning, run), &parts(&planning.planned.plan))?;
            Ok((store, at_work))
        };
        Recording { call, run, open: said(call, begin()) }
    }

    /// Writes down how it ended.
    pub fn end(mut self, setup: &Setup, report: &Report) {
        let stacks = setup.config.stacks.values();
        let trees = stacks.flat_map(|stack| {
            stack.secrets.values().chain(stack.host_secrets.values().flat_map(std::collections::BTreeMap::values))
        });
        // A secret number or truth value is in too many words to be masked in them.
        let secrets: Vec<&Secret> = trees.flat_map(SecretTree::leaves).filter(|secret| !secret.is_scalar()).collect();
        let ending = match report.exit_code() {
            _ if *setup.interrupted.borrow() => Ending::Interrupted,
            0 => Ending::Done,
            3 => Ending::Partly,
            4 => Ending::RolledBack,
            _ => Ending::Failed,
        };
        if let Some((store, _)) = &mut self.open {
            said(self.call, store.end(self.run, report, ending, &secrets));
        }
    }

    /// Writes down that it was refused as a whole.
    pub fn refuse(mut self, why: &Error) {
        if let Some((store, _)) = &mut self.open {
            said(self.call, store.refuse(self.run, why));
        }
    }
}

/// What a plan is about to do.
fn parts(plan: &Plan) -> Vec<Part> {
    let all = plan.hosts.iter().flat_map(|host| host.carried_out().map(move |each| (host.host.to_string(), each)));
    all.map(|(host, each)| Part {
        host,
        stack: each.stack.to_string(),
        unchanged: None,
        outcomes: BTreeMap::new(),
        effects: each.effects.iter().map(|effect| effect.deed.words()).collect(),
    })
    .collect()
}

fn beginning(call: &Call, planning: &Planning, run: &str) -> Beginning {
    let origin = planning.origin.clone();
    let common = call.common;
    Beginning {
        id: run.into(),
        repo: origin.repo,
        source: origin.location,
        commit: origin.commit,
        branch: origin.branch,
        author: origin.author,
        signer: origin.signer,
        dirty: origin.dirty,
        plan: planning.planned.plan.digest().to_string(),
        who: who(),
        asked: Asked { hosts: common.hosts.clone(), stacks: common.stacks.clone(), tags: common.tags.clone() },
        whole: planning.live.setup.stacks.is_none(),
        before: origin.before,
    }
}

/// The result, or a warning.
fn said<T>(call: &Call, result: Result<T>) -> Option<T> {
    result
        .inspect_err(|error| {
            let mut page = Page::new();
            page.put(CHANGE, "warning: ").put(PLAIN, &format!("this run is not recorded: {error}")).end();
            if let Some(hint) = &error.hint {
                page.hint(0, hint);
            }
            call.screen.say(&page);
        })
        .ok()
}
