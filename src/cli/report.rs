//! What an apply did, as text and as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use crate::base::id::HostName;
use crate::cli::failure::error_value;
use crate::cli::origin::Origin;
use crate::cli::page::{ADD, BOLD, CHANGE, DIM, PLAIN, Page, REMOVE, count};
use crate::cli::plan_text::failure;
use crate::cli::words::seconds;
use crate::engine::report::{HostReport, Outcome, Report, StackFailure};

/// A run that is over.
pub struct Ended<'a> {
    /// How everything ended.
    pub report: &'a Report,
    /// The exit code.
    pub code: u8,
    /// Its id.
    pub run: &'a str,
    /// How long it took.
    pub elapsed: Duration,
}

/// A report as text. The errors of the hosts among `told` have been shown with the plan already.
pub fn report_text(ended: &Ended<'_>, told: &[HostName]) -> Page {
    let Ended { report, run, .. } = ended;
    let mut page = Page::new();
    for host in &report.hosts {
        host_text(&mut page, host, !told.contains(&host.host));
    }
    page.end();
    page.put(if ended.code == 0 { ADD } else { REMOVE }, &verdict(report, ended.code));
    page.put(PLAIN, &format!(" · {}", counts(|outcome| total(report, outcome))));
    page.put(DIM, &format!(" · {} · run {run}", seconds(ended.elapsed))).end();
    page
}

/// `done on 2 of 3 hosts`.
fn verdict(report: &Report, code: u8) -> String {
    let all = report.hosts.len();
    let of = |is: &dyn Fn(&HostReport) -> bool| {
        let some = report.hosts.iter().filter(|host| is(host)).count();
        if some == all { count(all, "host") } else { format!("{some} of {}", count(all, "host")) }
    };
    match code {
        0 | 3 => format!("done on {}", of(&HostReport::is_good)),
        1 => format!("failed on {}", of(&|host| !host.is_good() && !host.is_not_begun())),
        4 => format!("rolled back on {}", of(&HostReport::is_brought_back)),
        _ => format!("stopped: done on {}", of(&HostReport::is_good)),
    }
}

fn total(report: &Report, outcome: Outcome) -> usize {
    report.hosts.iter().map(|host| host.count(outcome)).sum()
}

/// `3 applied, 20 unchanged`; outcomes that nothing has are left out.
pub fn counts(of: impl Fn(Outcome) -> usize) -> String {
    let some = Outcome::ALL.into_iter().map(|outcome| (of(outcome), outcome)).filter(|(number, _)| *number > 0);
    let words: Vec<String> = some.map(|(number, outcome)| format!("{number} {}", outcome.as_str())).collect();
    if words.is_empty() { "no resources".into() } else { words.join(", ") }
}

fn host_text(page: &mut Page, host: &HostReport, with_error: bool) {
    let (sign, style) = if host.is_good() { ("✓", ADD) } else { ("✗", REMOVE) };
    page.put(style, sign).put(BOLD, &format!(" {}", host.host));
    page.put(PLAIN, &format!("  {}", counts(|outcome| host.count(outcome)))).end();
    let changed = host.resources().into_iter().filter(|(_, outcome)| !is_quiet(host, *outcome));
    for (id, outcome) in changed {
        page.space(4).put(colour(outcome), &format!("{:<11}", outcome.as_str()));
        page.space(1).put(PLAIN, &format!("{} {}", id.kind, id.name)).end();
    }
    if let Some(error) = host.error.as_ref().filter(|_| with_error) {
        page.space(2).put(REMOVE, "✗ ").put(PLAIN, failure(error).trim_start_matches([':', ' '])).end();
        if let Some(hint) = &error.hint {
            page.hint(4, hint);
        }
    }
    for each in &host.failures {
        stack_failure(page, each);
    }
}

/// What is not worth a line of its own for each resource.
fn is_quiet(host: &HostReport, outcome: Outcome) -> bool {
    let of_host = host.error.is_some() && matches!(outcome, Outcome::Unreachable | Outcome::Skipped);
    outcome == Outcome::Unchanged || of_host
}

/// The colour of an outcome.
pub fn colour(outcome: Outcome) -> anstyle::Style {
    match outcome {
        Outcome::Applied => ADD,
        Outcome::Failed | Outcome::RolledBack | Outcome::Unreachable => REMOVE,
        Outcome::Blocked | Outcome::Held => CHANGE,
        Outcome::Unchanged | Outcome::Skipped => DIM,
    }
}

fn stack_failure(page: &mut Page, failed: &StackFailure) {
    page.space(2).put(REMOVE, &format!("✗ {} {}: ", failed.stack, failed.outcome.as_str()));
    page.put(PLAIN, &failed.what).end();
    for same in failed.output.chunk_by(|line, next| line == next) {
        page.space(6).put(DIM, "│ ").put(PLAIN, &same[0]);
        page.put(DIM, &if same.len() > 1 { format!("  ({} times)", same.len()) } else { String::new() }).end();
    }
}

/// A report as JSON.
pub fn report_json(ended: &Ended<'_>, origin: &Origin, digest: &str) -> Value {
    let report = ended.report;
    let summary: serde_json::Map<String, Value> =
        Outcome::ALL.into_iter().map(|outcome| (outcome.as_str().into(), json!(total(report, outcome)))).collect();
    json!({
        "version": 1,
        "command": if origin.before.is_some() { "rollback" } else { "apply" },
        "source": origin,
        "run": ended.run,
        "plan": digest,
        "hosts": report.hosts.iter().map(host_value).collect::<Vec<_>>(),
        "summary": summary,
        "exit_code": ended.code,
        "seconds": ended.elapsed.as_secs_f64(),
    })
}

fn host_value(host: &HostReport) -> Value {
    let outcomes: serde_json::Map<String, Value> =
        host.resources().into_iter().map(|(id, outcome)| (id.to_string(), json!(outcome))).collect();
    json!({
        "host": host.host,
        "good": host.is_good(),
        "outcomes": outcomes,
        "notes": host.notes,
        "failures": host.failures,
        "error": host.error.as_ref().map(error_value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::{Error, Kind};
    use crate::base::id::StackName;
    use crate::cli::fixtures;

    fn web() -> StackName {
        StackName::new("web").unwrap()
    }

    fn some() -> Report {
        let host = |name: &str, outcomes: &[(&str, Outcome)]| HostReport {
            outcomes: outcomes.iter().map(|(id, how)| ((id.parse().unwrap(), web()), *how)).collect(),
            ..HostReport::new(fixtures::host(name))
        };
        let mut second = host(
            "web-2",
            &[("unit:go-api", Outcome::RolledBack), ("file:/etc/x", Outcome::Blocked), ("site:a", Outcome::Held)],
        );
        second.failures.push(StackFailure {
            stack: web(),
            outcome: Outcome::RolledBack,
            what: "restart go-api".into(),
            output: ["panic: \u{1b}[31mno such port", "try again", "try again", "exit 2"].map(String::from).into(),
        });
        let mut third = host("web-3", &[("unit:go-api", Outcome::Unreachable)]);
        third.error = Some(Error::new(Kind::Unreachable, "no route to host").hint("is it switched on?"));
        let first = host("web-1", &[("unit:go-api", Outcome::Applied), ("file:/etc/x", Outcome::Unchanged)]);
        Report { hosts: vec![first, second, third] }
    }

    #[test]
    fn a_report_as_text() {
        let report = some();
        let ended = |code| Ended { report: &report, code, run: "119", elapsed: Duration::from_millis(2100) };
        insta::assert_snapshot!(report_text(&ended(report.exit_code()), &[]).plain());
        let stopped = report_text(&ended(130), &[]).plain();
        assert!(stopped.contains("\nstopped: done on 1 of 3 hosts · "), "{stopped}");
    }

    #[test]
    fn hosts_whose_turn_did_not_come_are_not_said_to_have_gone_back() {
        let mut report = some();
        report.hosts.remove(0);
        report.hosts[1].error = Some(Error::new(Kind::Stopped, "not begun"));
        report.hosts[1].outcomes.values_mut().for_each(|outcome| *outcome = Outcome::Skipped);
        assert_eq!(report.exit_code(), 4);
        assert_eq!(verdict(&report, 4), "rolled back on 1 of 2 hosts");
        assert_eq!(verdict(&report, 1), "failed on 1 of 2 hosts");
    }

    #[test]
    fn a_report_as_json() {
        let report = some();
        let ended =
            Ended { report: &report, code: report.exit_code(), run: "119", elapsed: Duration::from_millis(2500) };
        let json = report_json(&ended, &fixtures::origin(), "7c1d0e");
        insta::assert_json_snapshot!(json);
    }
}
