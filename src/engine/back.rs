//! What a run did on hosts that went well is taken back, where the rollout as a whole did not.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::sync::{Mutex, watch};

use crate::apply::answer::{Answer, Ending};
use crate::apply::{Run, Word, told};
use crate::base::error::{Error, Kind, Result};
use crate::base::id::{HostName, StackName};
use crate::engine::host::locked;
use crate::engine::report::{HostReport, Outcome, StackFailure};
use crate::engine::rolling::Rolling;
use crate::engine::session::{Heard, Session};
use crate::engine::{Setup, on_all_hosts};
use crate::plan::effect::Phase;
use crate::plan::{HostPlan, Transaction};

/// Why a host does nothing at the end of a rollout.
const GONE: &str = "what was kept is gone: another run has been here since, or the disk was full";

/// Takes back what was done on some hosts, side by side, and says so in their reports.
pub(super) async fn take_back(rolling: &mut Rolling<'_>, hosts: Vec<HostName>, why: &str) {
    let done = |host: &HostName| {
        let report = rolling.report.hosts.iter().find(|report| report.host == *host);
        report.is_some_and(|report| report.outcomes.values().any(|outcome| *outcome == Outcome::Applied))
    };
    let hosts: Vec<HostName> = hosts.into_iter().filter(done).collect();
    // That one cannot be taken out is no reason to leave it as it is.
    rolling.drain(&hosts).await;
    let sessions: Vec<_> = hosts.iter().filter_map(|host| rolling.kept.remove_entry(host)).collect();
    let sessions = Arc::new(Mutex::new(sessions));
    let (run, who) = (rolling.run.clone(), rolling.who.clone());
    let results = on_all_hosts(rolling.setup, "bring back", None, hosts.clone(), move |setup, host| {
        let (sessions, run, who) = (sessions.clone(), run.clone(), who.clone());
        async move {
            let mine = sessions.lock().await.extract_if(.., |(other, _)| *other == host).next();
            let (_, kept) = mine.ok_or_else(|| Error::new(Kind::Host, format!("{host} has nothing to go back to")))?;
            tell(&setup, kept.session, Word::Back, &run, &who).await
        }
    });
    for (host, result) in results.await {
        if let Some(report) = rolling.report_of(&host) {
            settle(report, result, why);
        }
    }
    rolling.fill_those_that_are_well(&hosts).await;
}

/// The stacks of a plan in which something is stopped for good once the run stays.
pub(super) fn retiring(plan: &HostPlan) -> BTreeSet<StackName> {
    let retires =
        |transaction: &&Transaction| transaction.effects.iter().any(|effect| effect.deed.phase() == Phase::Parting);
    plan.carried_out().filter(retires).map(|transaction| transaction.stack.clone()).collect()
}

/// No host keeps anything any more. One that does not hear of it clears it away with the next run; what was to be
/// stopped with it runs on until then, and its report says so.
pub(super) async fn forget(rolling: &mut Rolling<'_>) {
    let (setup, run, who) = (rolling.setup, &rolling.run, &rolling.who);
    let all = std::mem::take(&mut rolling.kept).into_iter().map(|(host, kept)| async move {
        let heard = tell(setup, kept.session, Word::Forget, run, who).await;
        let heard = heard.inspect_err(|error| {
            tracing::warn!(target: "apply", %host, %error, "the next run there clears away what was kept");
        });
        (host, kept.retiring, heard)
    });
    let all: Vec<_> = stream::iter(all).buffer_unordered(setup.parallel.max(1)).collect().await;
    for (host, retiring, heard) in all {
        if let Some(report) = rolling.report_of(&host) {
            part(report, retiring, &heard);
        }
    }
}

/// What was to be stopped for good on a host, and was not: what the plan has said of it did not come true.
fn part(report: &mut HostReport, retiring: BTreeSet<StackName>, heard: &Result<Answer>) {
    let retiring: Vec<StackName> = retiring.into_iter().filter(|stack| report.has_applied(stack)).collect();
    for stack in retiring {
        let (what, output) = match heard {
            Err(error) => (format!("stays: {error}"), error.hint.iter().cloned().collect()),
            Ok(answer) => match answer.courses.get(&stack).filter(|course| course.parted) {
                None => (format!("may run on: {GONE}"), vec!["the next plan stops it where it does".into()]),
                Some(course) if course.ending == Some(Ending::Failed) => {
                    (format!("stays: {}", course.failed.as_deref().unwrap_or_default()), course.output.clone())
                }
                Some(_) => continue,
            },
        };
        end(report, stack, Outcome::Failed, format!("what served until then {what}"), output);
    }
}

/// Tells a host a word about the run, over a connection that may have been silent for long.
async fn tell(setup: &Setup, mut session: Session, word: Word, id: &str, who: &str) -> Result<Answer> {
    let run = Run { id, repo: &setup.config.repo, who, lock_wait: setup.lock_wait, confirm: 0, keep: false };
    session.renew().await?;
    // Once it has begun, it comes to its end.
    let never = watch::channel(false).1;
    let Heard { answer, lost } = session.apply(&told(word, &session.seen, &run), &run, |_| {}, never).await;
    if let Some(holder) = &answer.locked {
        return Err(locked(&session.host, holder));
    }
    if let Some(broken) = &answer.broken {
        return Err(Error::new(Kind::Host, format!("{}: {broken}", session.host)));
    }
    lost.map_or(Ok(answer), Err)
}

/// How what was applied on a host has ended after all.
fn settle(report: &mut HostReport, result: Result<Answer>, why: &str) {
    let answer = match result {
        Ok(answer) => answer,
        Err(error) => {
            let what = format!("{why}, but this host could not be brought back, and stays as it was applied");
            let kind = if error.kind == Kind::Interrupted { Kind::Interrupted } else { Kind::Host };
            let hint = "`reconcile rollback RUN` goes back by the commit before; or apply again";
            report.error = Some(Error::new(kind, format!("{}: {what}", report.host)).because(error).hint(hint));
            report.unwell = true;
            return;
        }
    };
    for (stack, course) in answer.courses {
        let (outcome, what) = match course.ending {
            Some(Ending::RolledBack) => (Outcome::RolledBack, why.to_string()),
            Some(Ending::Stale) => (Outcome::Failed, format!("{why}, but somebody holds it since, so it stays")),
            _ => {
                report.unwell = true;
                (Outcome::Failed, format!("{why}, but not all of it could be brought back"))
            }
        };
        end(report, stack, outcome, what, course.output);
    }
}

/// What was applied of a stack has ended in another way.
fn end(report: &mut HostReport, stack: StackName, outcome: Outcome, what: String, output: Vec<String>) {
    let of_stack = report.outcomes.iter_mut().filter(|((_, other), _)| *other == stack);
    of_stack.map(|(_, was)| was).filter(|was| **was == Outcome::Applied).for_each(|was| *was = outcome);
    report.failures.push(StackFailure { stack, outcome, what, output });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(name: &str) -> StackName {
        StackName::new(name).unwrap()
    }

    /// A host where one stack was applied, and another was blocked.
    fn report() -> HostReport {
        let all = [("unit:web", "web", Outcome::Applied), ("unit:late", "late", Outcome::Blocked)];
        let outcomes = all.map(|(id, name, outcome)| ((id.parse().unwrap(), stack(name)), outcome)).into();
        HostReport { outcomes, ..HostReport::new(HostName::new("a").unwrap()) }
    }

    #[test]
    fn g14_what_was_to_be_stopped_and_was_not_is_no_success() {
        let lost = || Error::new(Kind::Unreachable, "the link is gone");
        let mut report_of_one = report();
        part(&mut report_of_one, BTreeSet::from([stack("web"), stack("late")]), &Err(lost()));
        assert_eq!(report_of_one.outcomes.values().copied().collect::<Vec<_>>(), [Outcome::Blocked, Outcome::Failed]);
        let said: Vec<_> =
            report_of_one.failures.iter().map(|failure| (failure.stack.as_str(), &*failure.what)).collect();
        assert_eq!(said, [("web", "what served until then stays: the link is gone")]);
        assert!(!report_of_one.is_good());
        // Where nothing was to be stopped, the next run only clears something away.
        let mut other = report();
        part(&mut other, BTreeSet::new(), &Err(lost()));
        assert_eq!((other.outcomes, other.failures.len()), (report().outcomes, 0));
        // Who has heard of it says so of each stack, and what did not go.
        let stays = "what served until then stays: run 1 3 stop blue";
        let gone = "what served until then may run on: what was kept is gone: another run";
        for (said, whole) in [
            ("parting web\nend\n", None),
            ("parting web\nfailed run\t1\t3\tstop blue\noutcome web failed\nend\n", Some(stays)),
            ("parting other\nend\n", Some(gone)),
            ("end\n", Some(gone)),
        ] {
            let (mut done, mut answer) = (report(), Answer::default());
            answer.hear(said.as_bytes());
            part(&mut done, BTreeSet::from([stack("web"), stack("late")]), &Ok(answer));
            let said = done.failures.first().map_or("", |failure| &*failure.what);
            assert_eq!((done.failures.len(), done.is_good()), (usize::from(whole.is_some()), false));
            assert!(said.starts_with(whole.unwrap_or_default()), "{said}");
            assert_eq!(done.has_applied(&stack("web")), whole.is_none());
        }
    }
}
