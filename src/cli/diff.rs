//! `reconcile diff`: what a commit changes, without any host. No secret is read.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::base::error::Result;
use crate::base::id::HostName;
use crate::cli::args::Diff;
use crate::cli::page::{ADD, BOLD, CHANGE, DIM, PLAIN, Page, REMOVE, count};
use crate::cli::plan_text::{Layout, path_changes};
use crate::cli::wire::Repository;
use crate::cli::{Call, content, plan_json, wire, words};
use crate::load::Secrets;
use crate::plan::PathChange;
use crate::render::compare::{ChangeKind, ResourceChange, compare};
use crate::render::render_all;
use crate::resource::Desired;
use crate::source;

/// What differs, by host.
type Differences = BTreeMap<HostName, Vec<ResourceChange>>;

/// Runs the command.
pub fn run(call: &Call, options: &Diff) -> Result<u8> {
    let spec = wire::spec(call.common)?;
    let (before, after) = source::revision_pair(&spec, &options.range, &source::default_cache())?;
    let before = wire::load_tree(call.common, &before, &spec.place, Secrets::Placeholder)?;
    let after = wire::load_tree(call.common, &after, &spec.place, Secrets::Placeholder)?;
    let differences = differences(call, &before, &after)?;
    if call.common.json {
        call.screen.show_json(&diff_json(&before, &after, &differences));
    } else {
        let layout = Layout { width: call.screen.width, full: options.full };
        call.screen.show(&diff_text(&before, &after, &differences, layout));
    }
    Ok(if options.detailed_exitcode && !differences.is_empty() { 2 } else { 0 })
}

/// What differs on each host. One that only one side has, has nothing on the other.
fn differences(call: &Call, before: &Repository, after: &Repository) -> Result<Differences> {
    let (mut old, mut new) = (desired(call, before)?, desired(call, after)?);
    let hosts: Vec<HostName> = old.keys().chain(new.keys()).cloned().collect();
    let mut differences = Differences::new();
    for host in hosts {
        let nothing = || Desired { host: host.clone(), resources: Vec::new() };
        let sides = (old.remove(&host).unwrap_or_else(nothing), new.remove(&host).unwrap_or_else(nothing));
        let changes = compare(&sides.0, &sides.1);
        if !changes.is_empty() {
            differences.insert(host, changes);
        }
    }
    Ok(differences)
}

fn desired(call: &Call, repository: &Repository) -> Result<BTreeMap<HostName, Desired>> {
    let chosen = wire::choose(call.common, &repository.config)?;
    let (renderings, _) = render_all(&repository.config, &chosen)?;
    let mut all = BTreeMap::new();
    for (host, rendering) in renderings {
        let mut desired = rendering.desired;
        desired.resources.retain(|resource| chosen.stacks.contains(&resource.stack));
        all.insert(host, desired);
    }
    Ok(all)
}

fn paths(change: &ResourceChange) -> Vec<PathChange> {
    let sides = change.paths.iter();
    sides.map(|(path, sides)| content::between(path, sides.before.as_ref(), sides.after.as_ref())).collect()
}

/// What differs of a resource besides its paths.
fn besides(change: &ResourceChange) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    words.extend(change.units.iter().map(|(unit, _)| format!("state of {unit}")));
    words.extend(change.project.iter().map(|_| "services".to_string()));
    words.extend(change.packages_added.iter().map(|package| format!("+{package}")));
    words.extend(change.packages_removed.iter().map(|package| format!("-{package}")));
    words.extend(change.besides.iter().map(|what| (*what).to_string()));
    words
}

fn diff_text(before: &Repository, after: &Repository, differences: &Differences, layout: Layout) -> Page {
    let mut page = Page::new();
    let (from, to) = (before.origin.short(), after.origin.words());
    if differences.is_empty() {
        page.line(&format!("no difference between {from} and {to} on any host"));
        return page;
    }
    page.put(BOLD, &format!("{from} → {to}")).end();
    let (mut added, mut changed, mut removed) = (0, 0, 0);
    let mut sections: Vec<(Page, Vec<&str>)> = Vec::new();
    for (host, changes) in differences {
        let mut text = Page::new();
        for change in changes {
            let (sign, style, number) = match change.kind {
                ChangeKind::Added => ("+", ADD, &mut added),
                ChangeKind::Removed => ("-", REMOVE, &mut removed),
                ChangeKind::Changed => ("~", CHANGE, &mut changed),
            };
            *number += 1;
            text.space(2).put(style, &format!("{sign} {}", change.id.kind)).space(1).put(BOLD, &change.id.name);
            let besides = if change.kind == ChangeKind::Changed { besides(change) } else { Vec::new() };
            text.space(2).put(PLAIN, &besides.join(", ")).end();
            path_changes(&mut text, &paths(change), None, layout);
        }
        words::say_once(&mut sections, text, host);
    }
    for (text, hosts) in &sections {
        page.end().put(BOLD, &words::hosts(hosts, layout.full)).end().add(text);
    }
    page.end().put(BOLD, &format!("{added} added, {changed} changed, {removed} removed"));
    page.put(DIM, &format!(" on {}", count(differences.len(), "host"))).end();
    page
}

fn diff_json(before: &Repository, after: &Repository, differences: &Differences) -> Value {
    let change = |change: &ResourceChange| {
        json!({
            "id": change.id,
            "change": change.kind,
            "paths": paths(change).iter().map(plan_json::path).collect::<Vec<_>>(),
            "besides": besides(change),
        })
    };
    let host = |(host, changes): (&HostName, &Vec<ResourceChange>)| json!({ "host": host, "changes": changes.iter().map(change).collect::<Vec<_>>() });
    json!({
        "version": 1,
        "command": "diff",
        "before": before.origin,
        "after": after.origin,
        "hosts": differences.iter().map(host).collect::<Vec<_>>(),
    })
}
