//! `reconcile history`: the runs that were made from here.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::base::error::Result;
use crate::cli::Call;
use crate::cli::args::History;
use crate::cli::origin::Origin;
use crate::cli::page::{ADD, BOLD, CHANGE, DIM, PLAIN, Page, REMOVE, width};
use crate::cli::report::{colour, counts};
use crate::store::{self, Ending, Filter, Part, Run, Store};

/// Runs the command.
pub fn run(call: &Call, options: &History) -> Result<u8> {
    let store = Store::open(&store::default_directory())?;
    if let Some(name) = &options.run {
        let run = store.find(name)?;
        if call.common.json {
            call.screen.show_json(&json!({ "version": 1, "command": "history", "run": run_value(&run) }));
        } else {
            call.screen.show(&run_text(&run));
        }
        return Ok(0);
    }
    let (hosts, stacks) = (call.common.hosts.clone(), call.common.stacks.clone());
    let runs = store.runs(&Filter { hosts, stacks, limit: options.limit })?;
    if call.common.json {
        let runs: Vec<Value> = runs.iter().map(run_value).collect();
        call.screen.show_json(&json!({ "version": 1, "command": "history", "runs": runs }));
    } else {
        call.screen.show(&list_text(&runs));
    }
    Ok(0)
}

fn run_value(run: &Run) -> Value {
    let mut value = json!(run);
    value["summary"] = json!(run.counts());
    value
}

/// One line for each run, and one below it with how its resources ended.
fn list_text(runs: &[Run]) -> Page {
    let mut page = Page::new();
    if runs.is_empty() {
        page.line("no run is recorded here");
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
    }
}

fn when(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn style(ending: Ending) -> anstyle::Style {
    match ending {
        Ending::Done => ADD,
        Ending::Partly | Ending::Failed | Ending::Interrupted => REMOVE,
        Ending::Refused | Ending::AtWork => CHANGE,
    }
}
