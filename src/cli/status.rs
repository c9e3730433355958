//! `reconcile status`: where each host and stack stands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::base::error::Result;
use crate::base::id::{HostName, StackName};
use crate::cli::origin::Origin;
use crate::cli::page::{ADD, BOLD, CHANGE, DIM, PLAIN, Page, REMOVE, count, width};
use crate::cli::plan::{self, Planning};
use crate::cli::plan_text::failures;
use crate::cli::wire::Bounds;
use crate::cli::{Call, plan_json, wire};
use crate::engine::{Planned, Setup};
use crate::plan::{Cause, HostPlan, Transaction};

/// How one stack stands on one host: how many of its resources are in each way not as wanted.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize)]
struct Standing {
    /// New in the repository.
    new: usize,
    /// Changed in the repository.
    repository: usize,
    /// Changed on the host.
    drift: usize,
    /// No longer in the repository.
    gone: usize,
    /// Restarts that are owed.
    owed: usize,
    /// Refused.
    refused: usize,
}

impl Standing {
    fn of(transaction: &Transaction) -> Self {
        let mut standing = Standing::default();
        for change in &transaction.changes {
            *match change.cause {
                _ if change.refused.is_some() => &mut standing.refused,
                Cause::New => &mut standing.new,
                Cause::Repository => &mut standing.repository,
                Cause::Drift | Cause::Both => &mut standing.drift,
                Cause::Gone => &mut standing.gone,
                Cause::Owed => &mut standing.owed,
            } += 1;
        }
        standing
    }

    fn words(&self) -> String {
        let all = [
            (self.new, "new in the repository"),
            (self.repository, "changed in the repository"),
            (self.drift, "changed on the host"),
            (self.gone, "no longer in the repository"),
            (self.owed, "owed a restart"),
            (self.refused, "refused"),
        ];
        let some = all.into_iter().filter(|(number, _)| *number > 0);
        let words: Vec<String> = some.map(|(number, what)| format!("{number} {what}")).collect();
        if words.is_empty() { "as wanted".into() } else { words.join(", ") }
    }

    fn style(&self) -> anstyle::Style {
        match self {
            _ if *self == Standing::default() => ADD,
            _ if self.refused > 0 => REMOVE,
            _ => CHANGE,
        }
    }
}

/// Runs the command.
pub fn run(call: &Call) -> Result<u8> {
    let planning = wire::block_on(Planning::begin(call, Bounds::default()))?;
    let stacks = stacks_of(&planning.live.setup);
    let stopped = stopped(&planning.live.setup);
    if call.common.json {
        call.screen.show_json(&status_json(&planning, &stacks, &stopped));
    } else {
        planning.say_problems(call);
        call.screen.show(&status_text(&planning.origin, &planning.planned, &stacks, &stopped));
    }
    Ok(plan::exit_code(&planning.planned, false))
}

/// The stacks that take part, by host.
fn stacks_of(setup: &Setup) -> BTreeMap<HostName, BTreeSet<StackName>> {
    let mut all: BTreeMap<HostName, BTreeSet<StackName>> = BTreeMap::new();
    for stack in setup.config.stacks.values() {
        for host in stack.hosts.iter().filter(|host| setup.takes_part(host, &stack.name)) {
            all.entry(host.clone()).or_default().insert(stack.name.clone());
        }
    }
    all
}

/// The stacks that are not to run.
fn stopped(setup: &Setup) -> BTreeSet<StackName> {
    setup.config.stacks.values().filter(|stack| stack.stopped).map(|stack| stack.name.clone()).collect()
}

/// How every stack stands on a host; those no longer described are known by what is left of them.
fn standings(host: &HostPlan, stacks: Option<&BTreeSet<StackName>>) -> BTreeMap<StackName, Standing> {
    let described = stacks.into_iter().flatten().map(|stack| (stack.clone(), Standing::default()));
    let mut standings: BTreeMap<StackName, Standing> = described.collect();
    standings.extend(host.transactions.iter().map(|each| (each.stack.clone(), Standing::of(each))));
    standings
}

fn status_text(
    origin: &Origin,
    planned: &Planned,
    stacks: &BTreeMap<HostName, BTreeSet<StackName>>,
    stopped: &BTreeSet<StackName>,
) -> Page {
    let mut page = Page::new();
    page.put(BOLD, &origin.words()).end();
    for host in &planned.plan.hosts {
        let total = host.unchanged + host.changes().filter(|change| change.origin.is_some()).count();
        page.end().put(BOLD, host.host.as_str());
        page.put(DIM, &format!(" · {} of {} as wanted", host.unchanged, count(total, "resource")));
        page.put(DIM, if host.offline { " · offline" } else { "" }).end();
        for run in &host.unfinished {
            page.space(2).put(REMOVE, &format!("run {run} broke off here: the next apply repairs it")).end();
        }
        let standings = standings(host, stacks.get(&host.host));
        let widest = standings.keys().map(|stack| width(stack.as_str())).max().unwrap_or(0);
        for (stack, standing) in &standings {
            page.space(2).put(PLAIN, &format!("{stack:<widest$}  ")).put(standing.style(), &standing.words());
            page.put(DIM, if stopped.contains(stack) { ", stopped" } else { "" }).end();
        }
        for note in &host.notes {
            page.space(2).put(DIM, &format!("note: {note}")).end();
        }
    }
    failures(&mut page, &planned.failures);
    page
}

fn status_json(
    planning: &Planning,
    stacks: &BTreeMap<HostName, BTreeSet<StackName>>,
    stopped: &BTreeSet<StackName>,
) -> Value {
    let Planned { plan, .. } = &planning.planned;
    let host = |host: &Arc<HostPlan>| {
        let standings = standings(host, stacks.get(&host.host));
        json!({
            "host": host.host,
            "reachable": true,
            "unchanged": host.unchanged,
            "unfinished": host.unfinished,
            "offline": host.offline,
            "notes": host.notes,
            "stacks": standings.iter().map(|(name, standing)| json!({
                "stack": name,
                "stopped": stopped.contains(name),
                "as_wanted": *standing == Standing::default(),
                "not_as_wanted": standing,
            })).collect::<Vec<_>>(),
        })
    };
    json!({
        "version": 1,
        "command": "status",
        "source": planning.origin,
        "hosts": plan.hosts.iter().map(host).collect::<Vec<_>>(),
        "failures": plan_json::failures(&planning.planned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fixtures;

    #[test]
    fn hosts_and_stacks_stand_as_the_plan_says() {
        let names = ["web", "quiet"].map(|name| StackName::new(name).unwrap());
        let stacks = BTreeMap::from([(fixtures::host("web-1"), BTreeSet::from(names))]);
        let stopped = BTreeSet::from([StackName::new("quiet").unwrap()]);
        let text = status_text(&fixtures::origin(), &fixtures::everything(), &stacks, &stopped).plain();
        insta::assert_snapshot!(text);
    }
}
