//! `reconcile apply`: plan, ask, do.

use std::time::Instant;

use jiff::Timestamp;

use crate::base::error::{Error, Kind, Result};
use crate::base::id::HostName;
use crate::cli::args::Apply;
use crate::cli::ask;
use crate::cli::page::Page;
use crate::cli::plan::Planning;
use crate::cli::plan_text::{Layout, plan_text};
use crate::cli::recording::Recording;
use crate::cli::report::{Ended, report_json, report_text};
use crate::cli::wire::Bounds;
use crate::cli::{Call, wire};
use crate::engine;
use crate::engine::Planned;

/// Runs the command.
pub fn run(call: &Call, options: &Apply) -> Result<u8> {
    let agreed = is_agreed(call, options)?;
    wire::block_on(async {
        let planning = Planning::begin(call, bounds(options)).await?;
        carry_out(call, options, planning, agreed).await
    })
}

/// The digest of the one plan that may be carried out, where one is named.
fn named(options: &Apply) -> Option<&String> {
    options.expect.as_ref().or(options.override_plan.as_ref())
}

/// Whether the plan needs no question. An error where one is needed and there is nobody to ask.
pub fn is_agreed(call: &Call, options: &Apply) -> Result<bool> {
    let agreed = options.yes || named(options).is_some();
    let somebody = ask::is_somebody_there(call.common.no_input) && !call.common.json;
    if !agreed && !somebody {
        let error = Error::new(Kind::Usage, "this changes hosts, and there is nobody to ask");
        return Err(error.hint("give --expect DIGEST with the digest of a plan, or --yes for whatever is planned"));
    }
    Ok(agreed)
}

/// Within which bounds hosts are changed.
pub fn bounds(options: &Apply) -> Bounds {
    Bounds {
        adopt: options.adopt.clone(),
        override_plan: options.override_plan.clone(),
        recover: Some(lease()),
        waves: options.waves.clone(),
        lock_wait: options.lock_wait,
        confirm: options.confirm,
    }
}

/// Shows a plan, asks, does it, and writes it down.
pub async fn carry_out(call: &Call<'_>, options: &Apply, planning: Planning, agreed: bool) -> Result<u8> {
    let planned = &planning.planned;
    if !call.common.json {
        planning.say_problems(call);
        let layout = Layout { width: call.screen.width, full: options.full };
        call.screen.show(&plan_text(&planning.origin, planned, layout));
    }
    let run = run_id();
    if let Some(expected) = named(options)
        && let Err(refusal) = as_expected(planned, expected)
    {
        Recording::begin(call, &planning, &run).refuse(&refusal);
        return Err(refusal);
    }
    if !agreed && is_anything_to_do(planned, options.confirm > 0) && !ask::confirm(call.screen, "Apply these changes?")
    {
        call.screen.say(Page::new().line("nothing was changed"));
        return Ok(1);
    }
    let digest = planned.plan.digest().to_string();
    let (quiet, setup) = (planned.plan.is_empty() && planned.failures.is_empty(), planning.live.setup.clone());
    let told: Vec<HostName> = planned.failures.iter().map(|(host, _)| host.clone()).collect();
    planning.live.interrupt.be_careful();
    let (start, looked) = (Instant::now(), planned.elapsed);
    let recording = Recording::begin(call, &planning, &run);
    let report = engine::apply(&setup, planning.planned, &run, &lease()).await;
    recording.end(&setup, &report);
    let code = planning.live.interrupt.code().filter(|_| report.is_interrupted()).unwrap_or(report.exit_code());
    let ended = Ended { report: &report, code, run: &run, elapsed: looked + start.elapsed() };
    if call.common.json {
        call.screen.show_json(&report_json(&ended, &planning.origin, &digest));
    } else if !quiet {
        call.screen.show(&report_text(&ended, &told));
    }
    Ok(code)
}

/// Whether the plan is the one that was agreed to. What is already as wanted is no surprise.
fn as_expected(planned: &Planned, expected: &str) -> Result<()> {
    let digest = planned.plan.digest().to_string();
    if planned.plan.is_empty() || digest.starts_with(expected) {
        return Ok(());
    }
    let what =
        format!("this is no longer plan {expected}, but plan {}: the repository or a host has moved", &digest[..12]);
    Err(Error::new(Kind::Stale, what).hint("read the plan again; nothing was changed"))
}

/// Whether anything would be carried out.
fn is_anything_to_do(planned: &Planned, confirmed: bool) -> bool {
    let free = planned.plan.hosts.iter().filter(|host| host.held(confirmed).next().is_none());
    free.into_iter().any(|host| host.has_work())
}

/// A name for this run that no other has, and that sorts by time.
fn run_id() -> String {
    format!("{}-{:x}", Timestamp::now().strftime("%Y%m%dT%H%M%SZ"), std::process::id())
}

/// Who runs this, since when and what, for the lease on the hosts.
fn lease() -> String {
    format!("{}, apply, since {}", who(), Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC"))
}

/// Who runs this, and where.
pub fn who() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "somebody".into());
    let node = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let text = format!("{user}@{}", node.trim());
    text.chars().filter(char::is_ascii_graphic).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fixtures;

    #[test]
    fn g01_another_plan_than_the_expected_one_is_refused() {
        let planned = fixtures::everything();
        let digest = planned.plan.digest().to_string();
        assert!(as_expected(&planned, &digest[..6]).is_ok());
        assert_eq!(as_expected(&planned, "000000").unwrap_err().kind, Kind::Stale);
        let empty = fixtures::planned(vec![fixtures::host_plan("web-1", Vec::new())]);
        assert!(as_expected(&empty, "000000").is_ok(), "what is already as wanted is no surprise");
    }
}
