//! The stages for one host.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::apply::answer::{Course, Ending};
use crate::apply::{Run, Word, payload, told};
use crate::base::diagnostic::Problems;
use crate::base::digest::Digest;
use crate::base::error::{Error, Kind, Result};
use crate::base::event::Event;
use crate::base::id::{HostName, ResourceId, StackName};
use crate::engine::Setup;
use crate::engine::back::retiring;
use crate::engine::builder::Builders;
use crate::engine::hiding;
use crate::engine::images::Lookups;
use crate::engine::pull::{Supply, pull};
use crate::engine::report::{HostReport, Outcome, StackFailure};
use crate::engine::rolling::Kept;
use crate::engine::serving::{Pooled, pools};
use crate::engine::session::Session;
use crate::host::program::Program;
use crate::load::Extent;
use crate::observe::Questions;
use crate::observe::inspect::inspection;
use crate::plan::colours::choose;
use crate::plan::effect::Phase;
use crate::plan::host::Policy;
use crate::plan::{HostPlan, Transaction};
use crate::render::{Rendering, render};
use crate::resource::{Desired, Resource};

/// Why a stack is blocked that is well itself.
const OTHERS: &str = "a stack it comes after did not go well";

/// A host that is planned and ready to be changed.
pub struct Ready {
    /// What is to be done.
    pub plan: Arc<HostPlan>,
    /// All resources that take part, each with its stack.
    pub resources: BTreeMap<ResourceId, StackName>,
    /// Where its images come from.
    supply: Supply,
    /// The pools of its sites whose servers are taken out of them while they are changed.
    pub pools: Vec<Pooled>,
    /// What is wrong with what it was planned from.
    pub problems: Problems,
    session: Session,
    retiring: BTreeSet<StackName>,
}

/// Observes and plans one host: one exchange where nothing differs, a second one where something does, and one before
/// them where templates ask for facts.
pub async fn plan(setup: &Setup, host: &HostName, lookups: &Lookups, builders: Arc<Builders>) -> Result<Ready> {
    let described = &setup.config.hosts[host];
    let follows = |resource: &Resource| described.target.is_live() && setup.takes_part(host, &resource.stack);
    let pool = setup.pool.as_deref();
    let rendering = match pool {
        Some(pool) => pool.rendering(&setup.config, host),
        None => render(&setup.config, host, None),
    };
    // Registries are asked while the connection is made.
    let (mut session, ()) = tokio::try_join!(
        Session::open(host, &described.target, setup.base.as_ref(), setup.prompt.clone(), pool),
        async {
            lookups.foresee(rendering.desired.resources.iter().filter(|resource| follows(resource))).await;
            Ok(())
        },
    )?;
    session.goes_on(pool);
    note(setup, host, "looking");
    let mut desired = desired(setup, &mut session, rendering).await?;
    let mut unknown = lookups.pin(desired.resources.iter_mut().filter(|resource| follows(resource))).await;
    let repo = &setup.config.repo;
    let questions = Questions::about(&desired, session.is_offline());
    session.seen = session.look(&questions.to_request(&session.place, Some(repo))).await?;
    let left = session.seen.busy.is_some() || !session.seen.unfinished.is_empty();
    let mut recovered = Vec::new();
    if let Some(who) = setup.recover.as_ref().filter(|_| left) {
        recovered = recover(setup, &mut session, who).await?;
        session.seen = session.look(&questions.to_request(&session.place, Some(repo))).await?;
        brought_back(&session)?;
    }
    unknown.settle(repo, &mut desired.resources, &session.seen);
    let after = setup
        .config
        .stacks
        .iter()
        .map(|(name, stack)| (name.clone(), stack.after.iter().map(|(after, _)| after.clone()).collect()))
        .collect();
    let policy = Policy {
        repo,
        stacks: setup.stacks_on(host),
        adopt: &setup.adopt,
        refused: &BTreeMap::new(),
        after: &after,
        offline: session.is_offline(),
        goes_back: session.is_remote(),
        here: stacks_on(setup, host),
        limits: described.limits,
        extent: described.extent,
    };
    choose(&mut desired, &session.seen, &policy);
    if let Some(inspection) = inspection(&desired, &session.seen, &policy) {
        note(setup, host, "checking the candidate");
        let later = if inspection.candidate.is_empty() {
            session.look(&inspection.questions.to_request(&session.place, None)).await?
        } else {
            session.ask(Program::Inspect, &inspection.to_request(&session.place)).await?
        };
        session.seen.merge(later);
        lookups.weigh(&mut desired.resources, &session.seen, &mut unknown).await;
        builders.ask(setup, &mut desired.resources, &session.seen, &mut unknown).await;
        // Compose has said by now which services would be other ones.
        choose(&mut desired, &session.seen, &policy);
    }
    let policy = Policy { refused: &unknown.refusals, ..policy };
    let mut plan = crate::plan::host::plan(&desired, &session.seen, &policy);
    if plan.is_empty() {
        session.has_looked(pool);
    }
    plan.notes.splice(0..0, recovered);
    hiding::in_plan(setup, &mut plan);
    let plan = Arc::new(plan);
    session.seen.forget_what_is_planned();
    tracing::debug!(target: "plan", host = %host, exchanges = session.exchanges, changes = plan.changes().count());
    let supply = Supply::of(&desired.resources, builders);
    let pools = pools(&desired.resources);
    let resources = taking_part(setup, host, desired.resources);
    let retiring = retiring(&plan);
    Ok(Ready { plan, resources, supply, pools, problems: unknown.problems, session, retiring })
}

/// The resources that take part on a host, each with its stack.
fn taking_part(setup: &Setup, host: &HostName, resources: Vec<Resource>) -> BTreeMap<ResourceId, StackName> {
    let own = resources.into_iter().filter(|resource| setup.takes_part(host, &resource.stack));
    own.map(|resource| (resource.id, resource.stack)).collect()
}

/// The stacks that the repository has for a host.
fn stacks_on(setup: &Setup, host: &HostName) -> BTreeSet<StackName> {
    let here = setup.config.stacks.values().filter(|stack| stack.hosts.contains(host));
    here.map(|stack| stack.name.clone()).collect()
}

/// Waits for a run that is at work, and has the host bring back what dead runs left half done. Says what became of it.
async fn recover(setup: &Setup, session: &mut Session, who: &str) -> Result<Vec<String>> {
    note(setup, &session.host, "bringing back what a dead run left");
    let repo = &setup.config.repo;
    let run = Run { id: "recovery", repo, who, lock_wait: setup.lock_wait, confirm: 0, keep: false };
    let heard = session.apply(&told(Word::Recover, &session.seen, &run), &run, |_| {}, setup.interrupted.clone()).await;
    if let Some(holder) = heard.answer.locked {
        return Err(locked(&session.host, &holder));
    }
    heard.lost.map_or(Ok(()), Err)?;
    Ok(heard.answer.recovered.iter().map(|(run, courses)| became(run, courses)).collect())
}

/// What became of a dead run, for the reader.
fn became(run: &str, courses: &BTreeMap<StackName, Course>) -> String {
    let words = courses.iter().map(|(stack, course)| match (course.ending, course.output.last()) {
        (Some(Ending::RolledBack), _) => format!("{stack} has been rolled back"),
        (None, None) if course.parted => format!("{stack} had gone well, and what served before has been stopped"),
        (_, Some(why)) if course.parted => format!("{stack} had gone well, but what served before may run on ({why})"),
        (_, None) if course.parted => format!("{stack} had gone well, but what served before may run on"),
        (_, Some(why)) => format!("{stack} could not be rolled back whole ({why})"),
        (_, None) => format!("{stack} could not be rolled back whole"),
    });
    let words: Vec<String> = words.collect();
    if words.is_empty() {
        format!("run {run} had died: nothing of it was left to bring back")
    } else {
        format!("run {run} had died half-way: {}", words.join("; "))
    }
}

/// Nothing is changed on a host where something is still half done.
fn brought_back(session: &Session) -> Result<()> {
    match session.seen.unfinished.first() {
        Some(run) => {
            let what = format!("{}: not all that run {run} left half done could be brought back", session.host);
            let hint = format!("is a disk full? Its journal is below {}; apply again to try again", session.seen.state);
            Err(Error::new(Kind::Host, what).hint(hint))
        }
        None => Ok(()),
    }
}

pub(super) fn locked(host: &HostName, holder: &str) -> Error {
    let error = Error::new(Kind::Locked, format!("another run holds the lock of {host}: {holder}"));
    error.hint("wait for it to end, or give --lock-wait SECONDS")
}

/// What the host should be. Where templates ask for facts, the host is asked first.
async fn desired(setup: &Setup, session: &mut Session, rendering: Rendering) -> Result<Desired> {
    if !rendering.needs_facts() {
        return rendering.into_result().map(|(desired, _)| desired);
    }
    let questions = Questions { facts: true, ..Questions::default() };
    let seen = session.look(&questions.to_request(&session.place, None)).await?;
    let facts = serde_json::to_value(seen.facts.unwrap_or_default()).unwrap_or_default();
    render(&setup.config, &session.host, Some(&facts)).into_result().map(|(desired, _)| desired)
}

/// Carries out the plan of one host and says how each resource ended, and what there is to go back with.
pub(super) async fn apply(
    setup: &Setup,
    mut ready: Ready,
    run: &str,
    who: &str,
    digest: &Digest,
) -> (HostReport, Kept) {
    let mut report = blank(&ready);
    if let Some(error) = hold(setup, &ready, digest) {
        fill(&mut report, &ready.plan, Outcome::Blocked);
        report.error = Some(error);
    } else if let Err(error) = carry_out(setup, &mut ready, run, who, &mut report).await {
        fill(&mut report, &ready.plan, without_part(&error));
        report.error = Some(hiding::in_error(setup, error));
    }
    fill_unchanged(&mut report, &ready);
    hiding::in_failures(setup, &mut report.failures);
    (report, Kept { session: ready.session, retiring: ready.retiring })
}

/// The report of a host that was planned, and whose turn did not come.
pub fn not_begun(ready: &Ready, outcome: Outcome, error: Error) -> HostReport {
    let mut report = blank(ready);
    fill(&mut report, &ready.plan, outcome);
    fill_unchanged(&mut report, ready);
    report.error = Some(error);
    report
}

/// The report of a host on which nothing was done yet: what is held back stays so.
fn blank(ready: &Ready) -> HostReport {
    let held = ready.plan.transactions.iter().filter(|transaction| transaction.held.is_some());
    let held = held.flat_map(|transaction| &transaction.changes);
    let outcomes = held.map(|change| (change.key(), Outcome::Held)).collect();
    HostReport { outcomes, notes: ready.plan.notes.clone(), ..HostReport::new(ready.plan.host.clone()) }
}

/// What has no outcome yet is as it should be.
fn fill_unchanged(report: &mut HostReport, ready: &Ready) {
    for (id, stack) in &ready.resources {
        report.outcomes.entry((id.clone(), stack.clone())).or_insert(Outcome::Unchanged);
    }
}

/// Why nothing is done on a host until a person says so for this very plan.
pub(super) fn hold(setup: &Setup, ready: &Ready, digest: &Digest) -> Option<Error> {
    let named = setup.override_plan.as_ref().is_some_and(|named| digest.to_string().starts_with(named));
    let confirmed = ready.session.is_remote() && setup.confirm > 0;
    let held: Vec<&str> = ready.plan.held(confirmed).map(|hazard| hazard.what.as_str()).collect();
    if named || held.is_empty() {
        return None;
    }
    let error = Error::new(Kind::Refused, held.join("; "));
    Some(error.hint(format!("to do it all the same: the same command with --override {digest:.12}")))
}

async fn carry_out(setup: &Setup, ready: &mut Ready, id: &str, who: &str, report: &mut HostReport) -> Result<()> {
    let repo = &setup.config.repo;
    let confirm = if ready.session.is_remote() { setup.confirm } else { 0 };
    let run = Run { id, repo, who, lock_wait: setup.lock_wait, confirm, keep: setup.goes_back() };
    let host = ready.plan.host.clone();
    refuse(&ready.plan, report);
    if ready.plan.carried_out().next().is_none() {
        return Ok(());
    }
    if ready.plan.carried_out().flat_map(|transaction| &transaction.effects).any(|it| it.deed.phase() == Phase::Pull) {
        ready.session.make_room();
    }
    let mut interrupted = setup.interrupted.clone();
    tokio::select! {
        pulled = pull(setup, &ready.session, &ready.supply, &mut ready.plan, report) => {
            if pulled.is_err() {
                // Nothing of it was begun.
                fill(report, &ready.plan, Outcome::Unreachable);
            }
            pulled?;
        }
        // Without its other end it never becomes true.
        Ok(_) = interrupted.wait_for(|interrupted| *interrupted) => {
            return Err(Error::new(Kind::Interrupted, format!("{host}: interrupted while images came; nothing changed")));
        }
    }
    if ready.plan.carried_out().next().is_none() {
        return Ok(());
    }
    let payload = payload(&ready.plan, &ready.session.seen, &ready.session.place, &run)?;
    let heard = {
        let (sink, host, words) = (setup.sink.clone(), host.clone(), payload.words.clone());
        let on_step = move |step: usize| {
            if let Some(what) = words.get(&step) {
                sink.note(Event::Working { host: host.clone(), what: what.clone() });
            }
        };
        ready.session.apply(&payload.input, &run, on_step, setup.interrupted.clone()).await
    };
    if let Some(holder) = heard.answer.locked {
        return Err(locked(&host, &holder));
    }
    if let Some(broken) = heard.answer.broken {
        return Err(Error::new(Kind::Host, format!("{host}: {broken}")).hint("nothing was changed; is its disk full?"));
    }
    let others = match ready.plan.extent {
        _ if heard.answer.unconfirmed => "the host was not reached again in time",
        Extent::Host => "another stack of the host did not go well",
        Extent::Stack => OTHERS,
    };
    for transaction in ready.plan.carried_out() {
        let course = heard.answer.courses.get(&transaction.stack).cloned().unwrap_or_default();
        let step = course.failed_step.and_then(|step| payload.words.get(&step));
        settle(report, transaction, &course, step, others);
        if course.parted {
            ready.retiring.remove(&transaction.stack);
        }
    }
    if let Some(lost) = heard.lost {
        report.unwell = true;
        return Err(lost);
    }
    let skipped = heard.answer.courses.values().filter(|course| course.ending == Some(Ending::Skipped)).count();
    let what = || format!("{host} was interrupted: {skipped} of its stacks were not begun");
    if skipped == 0 { Ok(()) } else { Err(Error::new(Kind::Interrupted, what())) }
}

/// What is refused is blocked, with everything that happens together with it.
fn refuse(plan: &HostPlan, report: &mut HostReport) {
    if plan.carried_out().next().is_none() {
        fill(report, plan, Outcome::Blocked);
    }
    for transaction in plan.transactions.iter().filter(|transaction| transaction.held.is_none()) {
        let why = match transaction.refusal() {
            Some((change, refusal)) => (format!("{}: {}", change.id, refusal.why), vec![refusal.hint.clone()]),
            None if plan.carried_out().any(|done| done.stack == transaction.stack) => continue,
            None => (OTHERS.into(), Vec::new()),
        };
        report.outcomes.extend(transaction.changes.iter().map(|change| (change.key(), Outcome::Blocked)));
        report.failures.push(StackFailure {
            stack: transaction.stack.clone(),
            outcome: Outcome::Blocked,
            what: why.0,
            output: why.1,
        });
    }
}

/// How the resources of a transaction ended. `others` is the reason where it lies outside of it.
fn settle(report: &mut HostReport, transaction: &Transaction, course: &Course, step: Option<&String>, others: &str) {
    let said = || course.failed.clone().unwrap_or_else(|| others.into());
    let failed = || Some(step.map_or_else(said, |step| finding(step)));
    let (outcome, what) = match course.ending {
        Some(Ending::Applied) => (Outcome::Applied, None),
        Some(Ending::RolledBack) => (Outcome::RolledBack, failed()),
        Some(Ending::Failed) => (Outcome::Failed, failed()),
        Some(Ending::Blocked) => (Outcome::Blocked, Some(others.to_string())),
        Some(Ending::Stale) => {
            let moved = course.failed.clone().unwrap_or_default();
            (Outcome::Failed, Some(format!("{moved} is no longer as it was planned: plan again")))
        }
        Some(Ending::Skipped) => (Outcome::Skipped, None),
        None => (Outcome::Failed, Some("the host did not say how it ended".into())),
    };
    // Nobody knows, or it is in between. Whose end is all that failed is as planned.
    report.unwell |= matches!(course.ending, Some(Ending::Failed) | None) && !course.parted;
    report.outcomes.extend(transaction.changes.iter().map(|change| (change.key(), outcome)));
    if let Some(what) = what {
        report.failures.push(StackFailure {
            stack: transaction.stack.clone(),
            outcome,
            what,
            output: course.output.clone(),
        });
    }
}

/// That a step failed, in words that are no order.
fn finding(step: &str) -> String {
    match step.strip_prefix("check ") {
        Some(that) if that.starts_with("that ") => format!("the check {that} failed"),
        Some(what) => format!("the check of {what} failed"),
        None => format!("`{step}` failed"),
    }
}

fn fill(report: &mut HostReport, plan: &HostPlan, outcome: Outcome) {
    for change in plan.changes() {
        report.outcomes.entry(change.key()).or_insert(outcome);
    }
}

/// The report of a host that took no part.
pub fn not_reached(setup: &Setup, host: &HostName, error: Error) -> HostReport {
    let outcome = match error.kind {
        Kind::Unreachable | Kind::HostKey | Kind::Auth => Outcome::Unreachable,
        _ => without_part(&error),
    };
    let stacks = taking_part(setup, host, render(&setup.config, host, None).desired.resources);
    let outcomes = stacks.into_iter().map(|of| (of, outcome)).collect();
    HostReport { outcomes, error: Some(error), ..HostReport::new(host.clone()) }
}

/// How everything ended that an error kept from being tried, or of which nothing was heard any more.
fn without_part(error: &Error) -> Outcome {
    if matches!(error.kind, Kind::Interrupted | Kind::Locked | Kind::Stopped) {
        Outcome::Skipped
    } else {
        Outcome::Failed
    }
}

fn note(setup: &Setup, host: &HostName, what: &str) {
    setup.sink.note(Event::Working { host: host.clone(), what: what.into() });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::answer::Answer;
    use crate::engine::pull::leave_out;
    use crate::plan::tests::{HOST, config, moved, plan_from, plan_of};

    fn report() -> HostReport {
        HostReport::new(HostName::new("web").unwrap())
    }

    /// How a plan has ended where the host has said this.
    fn ended(plan: &HostPlan, said: &str) -> HostReport {
        let (mut report, mut answer) = (report(), Answer::default());
        answer.hear(said.as_bytes());
        for transaction in plan.carried_out() {
            let course = answer.courses.get(&transaction.stack).cloned().unwrap_or_default();
            settle(&mut report, transaction, &course, None, OTHERS);
        }
        report
    }

    #[test]
    fn g13_a_host_is_unwell_only_where_something_was_begun_and_came_to_no_end() {
        let plan = plan_of(&config(HOST, &[]), &config(HOST, &[("app", "file \"/a\" content=\"x\"")]), true);
        for (said, unwell) in [
            ("outcome app applied\n", false),
            ("failed run\t1\noutcome app rolled-back\n", false),
            ("stale /a\noutcome app stale\n", false),
            ("outcome app blocked\n", false),
            ("outcome app skipped\n", false),
            ("failed run\t1\noutcome app failed\n", true),
            ("transaction app\nstep 1\n", true),
            ("", true),
            // Only what served until then stays.
            ("outcome app applied\nparting app\nfailed run\t1\noutcome app failed\n", false),
        ] {
            assert_eq!(ended(&plan, said).unwell, unwell, "{said}");
        }
        // What did not come kept everything from being begun.
        let (mut left, mut report) = (plan.clone(), report());
        let fault = Error::new(Kind::Host, "the registry does not answer").into();
        leave_out(&mut left, &mut report, &plan.transactions[0].stack, &fault);
        assert!(report.has_failed() && !report.unwell && left.transactions.is_empty());
    }

    #[test]
    fn what_failed_in_the_stack_it_has_moved_to_is_not_applied_by_its_former_one() {
        let plan = plan_from(&moved("moves\t1\n"), &config(HOST, &[("t", "file \"/t\" content=\"t\"")]), true);
        let gone: ResourceId = "file:/a".parse().unwrap();
        for (website, outcome) in [("failed", Outcome::Failed), ("rolled-back", Outcome::RolledBack)] {
            let report = ended(&plan, &format!("outcome website {website}\noutcome web applied\noutcome t applied\n"));
            assert_eq!((report.resources()[&gone], report.is_good()), (outcome, false), "{website}");
            assert!(report.has_applied(&StackName::new("web").unwrap()));
        }
    }

    #[test]
    fn what_failed_is_told_as_a_finding() {
        for (step, said) in [
            ("check that go-api.service stays active", "the check that go-api.service stays active failed"),
            ("check http://127.0.0.1/up for unit:go-api", "the check of http://127.0.0.1/up for unit:go-api failed"),
            ("check the containers of shop", "the check of the containers of shop failed"),
            ("restart go-api", "`restart go-api` failed"),
        ] {
            assert_eq!(finding(step), said);
        }
    }
}
