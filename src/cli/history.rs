//! `reconcile history`: the runs that were made from here.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::base::error::Result;
use crate::cli::args::{Common, History};
use crate::cli::origin::Origin;
use crate::cli::page::{ADD, BOLD, CHANGE, DIM, PLAIN, Page, REMOVE, width};
use crate::cli::report::{colour, counts};
use crate::cli::{Call, wire};
use crate::load;
use crate::source::{self, Place};
use crate::store::{self, Ending, Filter, Part, Run, Store};

/// Runs the command.
pub fn run(call: &Call, options: &History) -> Result<u8> {
    let store = Store::open(&store::default_directory())?;
    if let Some(name) = &options.run {
        let run = store.find(name, here(call.common, &store)?.as_deref())?;
        if call.common.json {
            call.screen.show_json(&json!({ "version": 1, "command": "history", "run": run_value(&run) }));
        } else {
            call.screen.show(&run_text(&run));
        }
        return Ok(0);
    }
    let (hosts, stacks) = (call.common.hosts.clone(), call.common.stacks.clone());
    let repo = if options.all { None } else { here(call.common, &store)? };
    let runs = store.runs(&Filter { repo: repo.clone(), hosts, stacks, limit: options.limit })?;
    if call.common.json {
        let runs: Vec<Value> = runs.iter().map(run_value).collect();
        call.screen.show_json(&json!({ "version": 1, "command": "history", "runs": runs }));
    } else {
        call.screen.show(&list_text(&runs, repo.as_deref()));
    }
    Ok(0)
}

/// The id of the repository that the command line names, or one stands in, where that can be told without asking for
/// anything far away.
pub fn here(common: &Common, store: &Store) -> Result<Option<String>> {
    let spec = match wire::spec(common) {
        Ok(spec) => spec,
        Err(_) if common.repo.is_none() => return Ok(None),
        Err(error) => return Err(error),
    };
    if let Place::Directory(_) = spec.place
        && let Some(repo) = load::repo(&source::open(&spec, &source::default_cache())?.files)
    {
        return Ok(Some(repo.to_string()));
    }
    store.repo_at(&spec.place.to_string())
}

fn run_value(run: &Run) -> Value {
    let mut value = json!(run);
    value["summary"] = json!(run.counts());
    value
}

/// One line for each run, and one below it with how its resources ended.
fn list_text(runs: &[Run], repo: Option<&str>) -> Page {
    let mut page = Page::new();
    if runs.is_empty() {
        page.line(&match repo {
            Some(repo) => {
                format!("no such run of {repo} is recorded here; --all looks at those of other repositories too")
            }
            None => "no run is recorded here".into(),
        });
        return page;
    }
    let widest = |of: &dyn Fn(&Run) -> String| runs.iter().map(|run| width(&of(run))).max().unwrap_or(0);
    let (id, what) = (widest(&|run| run.beginning.id.clone()), widest(&what));
    for run in runs {
        page.put(BOLD, &format!("{:<id$}", run.beginning.id)).space(2).put(DIM, &when(run.begun)).space(2);
        page.put(PLAIN, &format!("{:<what$}", self::what(run))).space(2);
        page.put(style(run.ending), run.ending.as_str()).put(PLAIN, &format!(": {}", result(run)));
        page.put(DIM, &format!(" · {} · plan {:.12}", run.beginning.who, run.beginning.plan)).end();
    }
    page
}

/// `infra@4f2c91d`, and what is special about it.
fn what(run: &Run) -> String {
    let origin = origin(run);
    match (&run.beginning.before, origin.dirty) {
        (Some(before), _) => format!("{}, back before {before}", origin.short()),
        (None, _) if origin.commit.is_none() => format!("{}, no commit", origin.short()),
        (None, 0) => origin.short(),
        (None, _) => format!("{} (dirty)", origin.short()),
    }
}

fn result(run: &Run) -> String {
    match (run.ending, &run.error) {
        (_, Some(error)) => error.clone(),
        // Killed, not stopped: its own report is missing.
        (Ending::Interrupted, None) if run.ended.is_none() => "what its hosts did is not known here".into(),
        (Ending::AtWork, None) => "not ended yet".into(),
        _ => counts(|outcome| run.counts().get(&outcome).copied().unwrap_or(0)),
    }
}

fn run_text(run: &Run) -> Page {
    let of = &run.beginning;
    let mut page = Page::new();
    page.put(BOLD, &format!("run {}", of.id)).put(PLAIN, " · ");
    page.put(style(run.ending), run.ending.as_str()).put(PLAIN, &format!(": {}", result(run))).end();
    let ended = match run.ended {
        Some(ended) => format!("{} to {}", when(run.begun), ended.strftime("%H:%M:%S UTC")),
        None => when(run.begun),
    };
    let asked = [("--host", &of.asked.hosts), ("--stack", &of.asked.stacks), ("--tag", &of.asked.tags)];
    let asked: Vec<String> =
        asked.iter().flat_map(|(flag, names)| names.iter().map(move |name| format!("{flag} {name}"))).collect();
    let lines = [
        ("what", origin(run).words()),
        ("author", of.author.clone().unwrap_or_default()),
        ("from", of.source.clone()),
        ("by", of.who.clone()),
        ("when", ended),
        ("chosen", asked.join(" ")),
        ("plan", of.plan.clone()),
    ];
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        page.space(2).put(DIM, &format!("{name:<8}")).put(PLAIN, value).end();
    }
    for part in &run.parts {
        part_text(&mut page, part);
        for failure in run.failures.iter().filter(|f| f.host == part.host && f.stack.as_ref() == Some(&part.stack)) {
            page.space(2).put(REMOVE, "✗ ").put(PLAIN, &failure.what).end();
            failure.output.iter().for_each(|line| _ = page.space(6).put(DIM, "│ ").put(PLAIN, line).end());
        }
    }
    for failure in run.failures.iter().filter(|failure| failure.stack.is_none()) {
        page.end().put(BOLD, &failure.host).end();
        page.space(2).put(REMOVE, "✗ ").put(PLAIN, &failure.what).end();
        page.hint(4, &failure.output.join("\n"));
    }
    page
}

fn part_text(page: &mut Page, part: &Part) {
    page.end().put(BOLD, &format!("{} · {}", part.host, part.stack));
    match part.unchanged {
        Some(0) => page.end(),
        Some(number) => page.put(DIM, &format!(" · {number} unchanged")).end(),
        None => page.put(REMOVE, " · how it ended is not known here").end(),
    };
    for (resource, outcome) in &part.outcomes {
        page.space(2).put(colour(*outcome), &format!("{:<11}", outcome.as_str())).space(1).put(PLAIN, resource).end();
    }
    if !part.effects.is_empty() {
        page.space(2).put(DIM, "planned     ").put(PLAIN, &part.effects.join(", ")).end();
    }
}

/// Where the wanted state came from.
fn origin(run: &Run) -> Origin {
    let of = run.beginning.clone();
    Origin {
        repo: of.repo,
        location: of.source,
        commit: of.commit,
        branch: of.branch,
        author: of.author,
        signer: of.signer,
        dirty: of.dirty,
        before: of.before,
        chosen: Vec::new(),
    }
}

fn when(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn style(ending: Ending) -> anstyle::Style {
    match ending {
        Ending::Done => ADD,
        Ending::Partly | Ending::Failed | Ending::RolledBack | Ending::Interrupted => REMOVE,
        Ending::Refused | Ending::AtWork => CHANGE,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::engine::report::Outcome;
    use crate::store::{Asked, Beginning, Failure};

    fn part(stack: &str, unchanged: Option<usize>, outcomes: &[(&str, Outcome)], effects: &[&str]) -> Part {
        Part {
            host: "web-1".into(),
            stack: stack.into(),
            unchanged,
            outcomes: outcomes.iter().map(|(name, outcome)| ((*name).to_string(), *outcome)).collect(),
            effects: effects.iter().map(|effect| (*effect).to_string()).collect(),
        }
    }

    fn some(id: &str, ending: Ending, parts: Vec<Part>) -> Run {
        let beginning = Beginning {
            id: id.into(),
            repo: "infra".into(),
            source: "https://git.example.org/infra".into(),
            commit: Some("4f2c91d8aa0b1c2d3e4f".into()),
            branch: Some("main".into()),
            author: Some("Alice <alice@example.org>".into()),
            signer: Some("alice".into()),
            dirty: 0,
            plan: "7c1d0e5f00112233445566".into(),
            who: "alice@desk".into(),
            asked: Asked { hosts: vec!["web-1".into()], ..Asked::default() },
            whole: true,
            before: None,
        };
        let begun: Timestamp = "2026-03-04T05:06:07Z".parse().unwrap();
        let ended = Some(begun + jiff::SignedDuration::from_secs(3));
        Run { beginning, begun, ended, ending, error: None, parts, failures: Vec::new() }
    }

    /// Runs of all sorts, the last one first.
    fn all() -> Vec<Run> {
        let applied = [("unit:go-api", Outcome::Applied)];
        let mut failed = some(
            "20260304T050607Z-2f",
            Ending::Failed,
            vec![
                part("web", Some(2), &[("unit:go-api", Outcome::RolledBack)], &["daemon-reload", "restart go-api"]),
                part("site", Some(7), &[], &[]),
            ],
        );
        let output = vec!["panic: \u{1b}[31mno such port".to_string()];
        let what = "restart go-api".to_string();
        failed.failures.push(Failure { host: "web-1".into(), stack: Some("web".into()), what, output });
        let (host, what) = ("web-2".to_string(), "no route to host".to_string());
        failed.failures.push(Failure { host, stack: None, what, output: vec!["is it switched on?".into()] });
        let mut killed =
            some("20260304T050607Z-3", Ending::Interrupted, vec![part("web", None, &[], &["restart go-api"])]);
        killed.ended = None;
        killed.beginning.before = Some("20260304T050607Z-2f".into());
        let mut refused = some("20260304T050607Z-4", Ending::Refused, Vec::new());
        refused.error = Some("this is no longer plan 7c1d0e".into());
        refused.beginning.dirty = 2;
        let done = some("20260304T050607Z-1", Ending::Done, vec![part("web", Some(3), &applied, &[])]);
        vec![refused, killed, failed, done]
    }

    #[test]
    fn runs_are_listed() {
        insta::assert_snapshot!(list_text(&all(), None).plain());
        assert_eq!(list_text(&[], None).plain(), "no run is recorded here\n");
    }

    #[test]
    fn a_run_in_full() {
        let all: Vec<String> = all().iter().map(|run| run_text(run).plain()).collect();
        insta::assert_snapshot!(all.join("----\n"));
    }

    #[test]
    fn a_run_as_json() {
        insta::assert_json_snapshot!(run_value(&all()[2]));
        let counts = BTreeMap::from([(Outcome::Unchanged, 9), (Outcome::RolledBack, 1)]);
        assert_eq!(all()[2].counts(), counts);
    }
}
