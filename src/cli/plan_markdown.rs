//! A plan as Markdown, for pull requests.

use std::fmt::Write as _;

use crate::cli::content::{self, Difference};
use crate::cli::origin::Origin;
use crate::cli::page::{count, visible};
use crate::cli::plan_text::{Layout, failure};
use crate::cli::sections::{Section, sections};
use crate::cli::words::{self, Totals};
use crate::engine::Planned;
use crate::plan::{Change, PathChange, Transaction};

/// A comment on a pull request may have 65,536 characters on GitHub. Beyond this, diffs are left out.
const MOST: usize = 60_000;

/// A plan as Markdown.
pub fn plan_markdown(origin: &Origin, planned: &Planned) -> String {
    let mut text = format!("### reconcile plan: {}\n\n", inline(&origin.words()));
    if words::is_nothing(planned) {
        let (resources, hosts) = (count(planned.resources, "resource"), count(planned.plan.hosts.len(), "host"));
        let _ = writeln!(text, "Nothing to do: {resources} on {hosts} as they should be.");
        return text;
    }
    table(&mut text, planned);
    for (host, sections) in sections(planned, Layout { width: 120, full: true }) {
        for run in &host.unfinished {
            let _ = writeln!(
                text,
                "- ❗ **{}**: run {} broke off here, and is brought back first\n",
                host.host,
                inline(run)
            );
        }
        for section in sections {
            details(&mut text, &section);
        }
    }
    for host in &planned.plan.hosts {
        for hazard in &host.hazards {
            let _ = writeln!(text, "- ❗ **{}**: {}", host.host, inline(&words::hazard(hazard)));
        }
    }
    for (note, hosts) in words::notes(planned) {
        let _ = writeln!(text, "- **{}**: {}", words::hosts(&hosts, false), inline(note));
    }
    let waves: Vec<String> = words::waves(planned)
        .map(|(wave, drains)| {
            let drains: String = drains.iter().map(|drain| format!("  - {}\n", inline(drain))).collect();
            format!("- wave {}\n{drains}", inline(&wave))
        })
        .collect();
    if !waves.is_empty() {
        let _ = writeln!(text, "\nIn waves: {}\n\n{}", inline(&words::rollout(planned)), waves.concat());
    }
    if !planned.plan.is_empty() {
        let (digest, command) = (words::short_digest(&planned.plan), origin.command());
        let _ = writeln!(text, "\n{}\n", Totals::of(&planned.plan).words());
        let _ = match words::override_hint(&planned.plan, &command) {
            Some(command) => writeln!(text, "What is refused is not done. To do it all the same: `{command}`"),
            None => writeln!(text, "Exactly this: `reconcile {command} --expect {digest}`"),
        };
    }
    text
}

/// How much is done on each host; hosts of which the same is to be said share a line.
fn table(text: &mut String, planned: &Planned) {
    text.push_str("| on each of | to add | to change | to remove | refused | effects |\n|---|--:|--:|--:|--:|---|\n");
    let mut rows: Vec<(String, Vec<&str>)> = Vec::new();
    for host in &planned.plan.hosts {
        let totals = Totals::of_host(host);
        let (change, refused) = (totals.change + totals.activate + totals.adopt, totals.refused + totals.blocked);
        let effects = totals.effect_words();
        let (add, remove) = (totals.add, totals.remove);
        let row = format!("{add} | {change} | {remove} | {refused} | {effects}");
        words::say_once(&mut rows, row, &host.host);
    }
    for (row, hosts) in rows {
        let _ = writeln!(text, "| {} | {row} |", words::hosts(&hosts, false));
    }
    for (host, error) in &planned.failures {
        let _ = writeln!(text, "| {host} | | | | | ✗{} |", inline(&failure(error)).replace('|', "\\|"));
    }
    text.push('\n');
}

fn details(text: &mut String, section: &Section) {
    let transaction = section.transaction;
    let totals = Totals::of_transaction(section.host, transaction).words();
    let _ = writeln!(text, "<details><summary><b>{}</b>: {totals}</summary>\n", section.title(false));
    if let Some(held) = &transaction.held {
        let _ = writeln!(text, "- {}: nothing of it is done", inline(held));
    }
    for pull in words::pulls(transaction) {
        let (name, digests, weight) = (code(&pull.name), inline(&pull.digests), inline(&pull.weight));
        let _ = writeln!(text, "- `↓` image {name}: {digests} → {weight}");
    }
    for each in &transaction.changes {
        change(text, transaction, each);
    }
    if transaction.refusal().is_none() && transaction.held.is_none() && !transaction.effects.is_empty() {
        text.push_str("\nIn this order:\n\n");
        for (number, effect) in transaction.effects.iter().enumerate() {
            let (number, what, why) = (number + 1, words::effect(effect), words::names(&effect.causes));
            let _ = writeln!(text, "{number}. {}, because of {}", inline(&what), inline(&why));
        }
    }
    text.push_str("\n</details>\n\n");
}

fn change(text: &mut String, transaction: &Transaction, change: &Change) {
    let (sign, _) = words::sign(transaction, change);
    let (kind, name) = (change.id.kind, code(&change.id.name));
    if let Some(refusal) = &change.refused {
        let (why, hint) = (inline(&refusal.why), inline(&refusal.hint));
        let _ = writeln!(text, "- `{sign}` {kind} {name}: **refused**: {why} ({hint})");
        return;
    }
    let effects: Vec<String> = words::effects_of(transaction, &change.id).collect();
    let arrow = if effects.is_empty() { String::new() } else { format!(" → {}", inline(&effects.join(", "))) };
    let _ = writeln!(text, "- `{sign}` {kind} {name}: {}{arrow}", inline(&words::what(change)));
    for path in &change.paths {
        let Some((before, after)) = shown(path) else {
            let _ = writeln!(text, "  - {}: {}", code(path.path.as_str()), inline(&content::words(path)));
            continue;
        };
        let lines = content::unified(before, after);
        let body: Vec<String> = lines.iter().map(|(tag, line)| format!("{}{}", tag.sign(), visible(line))).collect();
        let body = body.join("\n");
        if text.len() + body.len() > MOST {
            let _ = writeln!(text, "  - {}: {}, too long to show", code(path.path.as_str()), content::words(path));
            continue;
        }
        let fence = fence(&body);
        let _ = writeln!(text, "\n  {}\n\n{fence}diff\n{body}\n{fence}\n", code(path.path.as_str()));
    }
}

/// The text of a path before and after, where there is something to compare.
fn shown(path: &PathChange) -> Option<(&str, &str)> {
    match content::difference(path) {
        Difference::Text { before, after } if !(before.is_empty() && after.is_empty()) => Some((before, after)),
        _ => None,
    }
}

/// A fence longer than any run of backticks in the text.
fn fence(text: &str) -> String {
    "`".repeat((longest_run(text) + 1).max(3))
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// A text as code.
fn code(text: &str) -> String {
    let ticks = "`".repeat(longest_run(text) + 1);
    let space = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{ticks}{space}{}{space}{ticks}", visible(text))
}

/// A text that must not be taken for Markdown or HTML.
fn inline(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut before = ' ';
    for c in visible(text).chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '`' | '*' | '_' | '[' | ']' | '\\' | '|' => escaped.extend(['\\', c]),
            // A commit, a path or a host must not call people.
            '@' if !before.is_alphanumeric() => escaped.push_str("@\u{2060}"),
            c => escaped.push(c),
        }
        before = c;
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fixtures::{self, change, edit, host_plan, planned, transaction};
    use crate::plan::{Action, Cause};

    #[test]
    fn a_plan_with_something_of_everything() {
        let text = plan_markdown(&fixtures::origin(), &fixtures::everything());
        assert!(!text.contains(fixtures::HUSH));
        insta::assert_snapshot!(text);
    }

    #[test]
    fn what_is_the_same_on_several_hosts_is_said_once() {
        let plan = |name: &str| {
            let change = change("file:x", Action::Update, Cause::Repository, vec![edit("/srv/x", "a\n", "b\n")]);
            let mut plan = host_plan(name, vec![transaction("web", vec![change], Vec::new())]);
            plan.notes.push("it is late".into());
            plan
        };
        let text = plan_markdown(&fixtures::origin(), &planned(["a", "b", "c"].map(plan).into()));
        for said in ["<b>a, b, c · web</b>", "| a, b, c | 0 | 1 | 0 | 0 |  |", "- **a, b, c**: it is late", "\n+b\n"] {
            assert_eq!(text.matches(said).count(), 1, "{said}: {text}");
        }
    }

    #[test]
    fn no_content_ends_its_fence() {
        let path = edit("/srv/README.md", "a\n", "````\n</details>\n````\n");
        let change = change("file:x", Action::Update, Cause::Repository, vec![path]);
        let planned = planned(vec![host_plan("web-1", vec![transaction("web", vec![change], Vec::new())])]);
        insta::assert_snapshot!(plan_markdown(&fixtures::origin(), &planned));
    }
}
