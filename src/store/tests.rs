//! The history, written and read.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;

use super::*;
use crate::base::error::Error;
use crate::base::id::{HostName, StackName};
use crate::base::secret::Secret;
use crate::engine::report::{HostReport, Outcome, Report, StackFailure};

fn directory() -> (TempDir, Utf8PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(directory.path()).unwrap().join("state/reconcile");
    (directory, path)
}

fn beginning(id: &str, commit: &str) -> Beginning {
    Beginning {
        id: id.into(),
        repo: "infra".into(),
        source: "/srv/infra".into(),
        commit: Some(commit.into()),
        branch: Some("main".into()),
        author: Some("Alice <a@example.org>".into()),
        signer: None,
        dirty: 0,
        plan: "7c1d0e".into(),
        who: "alice@desk".into(),
        asked: Asked { hosts: vec!["web-1".into()], ..Asked::default() },
        whole: true,
        before: None,
    }
}

/// What is to be done: a restart for the stack `web` on `web-1`.
fn plan() -> [Part; 1] {
    let (host, stack, effects) = ("web-1".into(), "web".into(), vec!["restart go-api".into()]);
    [Part { host, stack, unchanged: None, outcomes: BTreeMap::new(), effects }]
}

/// `("a", "web", Outcome::Applied)`: how the files of stacks on `web-1` ended.
fn report(outcomes: &[(&str, &str, Outcome)]) -> Report {
    let of = |name: &str, stack: &str| (format!("file:/{name}").parse().unwrap(), StackName::new(stack).unwrap());
    let outcomes = outcomes.iter().map(|(name, stack, outcome)| (of(name, stack), *outcome)).collect();
    Report { hosts: vec![HostReport { outcomes, ..HostReport::new(HostName::new("web-1").unwrap()) }] }
}

/// A run of one file of the stack `web`, from begin to end.
fn ran(store: &mut Store, id: &str, commit: &str, outcome: Outcome) {
    let _at_work = store.begin(&beginning(id, commit), &plan()).unwrap();
    let ending = if outcome.is_failure() { Ending::Failed } else { Ending::Done };
    store.end(id, &report(&[("a", "web", outcome)]), ending, &[]).unwrap();
}

fn ids(store: &Store) -> Vec<String> {
    let all = store.runs(&Filter { limit: usize::MAX, ..Filter::default() }).unwrap();
    all.into_iter().map(|run| run.beginning.id).collect()
}

#[test]
fn a_run_is_read_as_it_was_written() {
    let (_keep, path) = directory();
    let mut store = Store::open(&path).unwrap();
    let begun = beginning("20260101T000000Z-1", "4f2c91d");
    let at_work = store.begin(&begun, &plan()).unwrap();
    let mut report = report(&[("a", "web", Outcome::RolledBack), ("b", "web", Outcome::Unchanged)]);
    report.hosts[0].failures.push(StackFailure {
        stack: StackName::new("web").unwrap(),
        outcome: Outcome::RolledBack,
        what: "restart go-api".into(),
        output: vec!["panic".into(), "with hunter2 in it".into()],
    });
    report.hosts[0].error = Some(Error::new(Kind::Unreachable, "lost").hint("is it on?"));
    store.end(&begun.id, &report, Ending::Failed, &[&Secret::new("hunter2".into())]).unwrap();
    drop(at_work);
    drop(store);
    let run = Store::open(&path).unwrap().find("last", None).unwrap();
    assert_eq!((&run.beginning, run.ending, run.ended.is_some()), (&begun, Ending::Failed, true));
    let part = &run.parts[..];
    let outcomes = BTreeMap::from([("file:/a".to_string(), Outcome::RolledBack)]);
    let (host, stack) = ("web-1".to_string(), "web".to_string());
    let effects = vec!["restart go-api".to_string()];
    assert_eq!(part, [Part { host: host.clone(), stack: stack.clone(), unchanged: Some(1), outcomes, effects }]);
    let output = vec!["panic".into(), "with ‹secret› in it".into()];
    let failed = Failure { host: host.clone(), stack: Some(stack), what: "restart go-api".into(), output };
    let lost = Failure { host, stack: None, what: "lost".into(), output: vec!["is it on?".into()] };
    assert_eq!(run.failures, [failed, lost]);
}

#[test]
fn only_its_owner_reads_the_history() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_keep, path) = directory();
    let mut store = Store::open(&path).unwrap();
    ran(&mut store, "1", "a", Outcome::Applied);
    let mode = |path: &Utf8Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for file in path.read_dir_utf8().unwrap() {
        let file = file.unwrap();
        assert_eq!(mode(file.path()), 0o600, "{}", file.path());
    }
}

#[test]
fn a_run_that_was_killed_is_not_taken_for_one_at_work() {
    let (_keep, path) = directory();
    let mut store = Store::open(&path).unwrap();
    let at_work = store.begin(&beginning("1", "a"), &plan()).unwrap();
    let other = Store::open(&path).unwrap();
    assert_eq!(other.find("1", None).unwrap().ending, Ending::AtWork);
    drop(at_work);
    let run = other.find("1", None).unwrap();
    assert_eq!((run.ending, run.ended), (Ending::Interrupted, None));
    assert!(run.parts[0].unchanged.is_none() && run.parts[0].is_touched(), "what it did is not known");
}

#[test]
fn a_refused_run_touched_nothing() {
    let (_keep, path) = directory();
    let mut store = Store::open(&path).unwrap();
    let at_work = store.begin(&beginning("1", "a"), &plan()).unwrap();
    store.refuse("1", &Error::new(Kind::Stale, "it has moved")).unwrap();
    drop(at_work);
    let run = store.find("1", None).unwrap();
    assert_eq!((run.ending, run.error.as_deref(), run.parts.len()), (Ending::Refused, Some("it has moved"), 0));
}

#[test]
fn the_runs_of_a_repository_are_its_own() {
    let (_keep, path) = directory();
    let mut store = Store::open(&path).unwrap();
    ran(&mut store, "1", "a", Outcome::Applied);
    let other = Beginning { repo: "other".into(), source: "/srv/other".into(), ..beginning("2", "a") };
    drop(store.begin(&other, &plan()).unwrap());
    let of = |repo: Option<&str>| {
        let runs = store.runs(&Filter { repo: repo.map(Into::into), limit: usize::MAX, ..Filter::default() }).unwrap();
        runs.into_iter().map(|run| run.beginning.id).collect::<Vec<_>>()
    };
    assert_eq!((of(Some("infra")), of(Some("other"))), (vec!["1".to_string()], vec!["2".to_string()]));
    assert_eq!((of(None).len(), of(Some("none")).len()), (2, 0));
    let last = |repo: Option<&str>| store.find("last", repo).map(|run| run.beginning.id).map_err(|error| error.what);
    assert_eq!((last(Some("infra")).unwrap(), last(None).unwrap()), ("1".to_string(), "2".to_string()));
    assert_eq!(last(Some("none")).unwrap_err(), "no run of none is recorded here");
    assert_eq!(store.find("1", Some("other")).unwrap().beginning.repo, "infra", "an id says which run is meant");
    assert_eq!(store.repo_at("/srv/other").unwrap().as_deref(), Some("other"));
    assert_eq!(store.repo_at("/srv/none").unwrap(), None);
}

#[test]
fn runs_are_named_by_the_beginning_of_their_id() {
    let (_keep, path) = directory();
    let mut store = Store::open(&path).unwrap();
    for id in ["20260101T1", "20260101T12", "20260102T1"] {
        ran(&mut store, id, id, Outcome::Applied);
    }
    let found = |name: &str| store.find(name, None).map(|run| run.beginning.id).map_err(|error| error.what);
    assert_eq!(found("20260102").unwrap(), "20260102T1");
    assert_eq!(found("20260101T1").unwrap(), "20260101T1", "a whole id is no prefix");
    assert_eq!(found("last").unwrap(), "20260102T1");
    assert!(found("202601").unwrap_err().contains("several"));
    assert!(found("%").unwrap_err().contains("no run"));
}

#[test]
fn runs_that_found_nothing_to_do_are_kept_as_one() {
    let (_keep, path) = directory();
    let mut store = Store::open(&path).unwrap();
    ran(&mut store, "1", "a", Outcome::Applied);
    for id in ["2", "3", "4"] {
        ran(&mut store, id, "a", Outcome::Unchanged);
    }
    ran(&mut store, "5", "b", Outcome::Unchanged);
    ran(&mut store, "6", "b", Outcome::Failed);
    ran(&mut store, "7", "b", Outcome::Unchanged);
    assert_eq!(ids(&store), ["7", "6", "5", "4", "1"]);
}

#[test]
fn the_last_thousand_runs_are_kept() {
    let (_keep, path) = directory();
    let mut store = Store::open(&path).unwrap();
    for number in 0..KEPT + 5 {
        ran(&mut store, &format!("{number:05}"), "a", Outcome::Applied);
    }
    let ids = ids(&store);
    assert_eq!((ids.len(), ids.last().map(String::as_str)), (1000, Some("00005")));
    let left: u32 = store.connection.query_row("SELECT count(*) FROM outcome", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 1000, "what belonged to the others is gone too");
}

#[test]
fn what_a_run_goes_back_to() {
    let (_keep, path) = directory();
    let mut store = Store::open(&path).unwrap();
    ran(&mut store, "1", "a", Outcome::Applied);
    ran(&mut store, "2", "b", Outcome::RolledBack);
    ran(&mut store, "2h", "h", Outcome::Held);
    ran(&mut store, "3", "c", Outcome::Unchanged);
    ran(&mut store, "4", "d", Outcome::Failed);
    let before = |store: &Store, id: &str| {
        let run = store.find(id, None).unwrap();
        store.before(&run, &run.parts[0]).unwrap().and_then(|before| before.commit)
    };
    assert_eq!(before(&store, "1"), None);
    assert_eq!(before(&store, "2").as_deref(), Some("a"));
    assert_eq!(before(&store, "3").as_deref(), Some("a"), "nobody goes back to what failed, or was held back");
    assert_eq!(before(&store, "4").as_deref(), Some("c"));
    // A stack that comes into being: before it, the host was without it.
    let at_work = store.begin(&beginning("5", "e"), &plan()).unwrap();
    let both = report(&[("a", "web", Outcome::Applied), ("n", "new", Outcome::Applied)]);
    store.end("5", &both, Ending::Done, &[]).unwrap();
    drop(at_work);
    let run = store.find("5", None).unwrap();
    let new = run.parts.iter().find(|part| part.stack == "new").unwrap();
    assert_eq!(store.before(&run, new).unwrap().and_then(|before| before.commit).as_deref(), Some("c"));
}

#[test]
fn many_write_at_once() {
    let (_keep, path) = directory();
    let threads: Vec<_> = (0..8)
        .map(|number| {
            let path = path.clone();
            std::thread::spawn(move || {
                for run in 0..5 {
                    let mut store = Store::open(&path).unwrap();
                    ran(&mut store, &format!("{number}-{run}"), "a", Outcome::Applied);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(ids(&Store::open(&path).unwrap()).len(), 40);
}

#[test]
fn a_history_from_a_newer_program_is_refused() {
    let (_keep, path) = directory();
    let store = Store::open(&path).unwrap();
    store.connection.pragma_update(None, "user_version", 99).unwrap();
    drop(store);
    assert!(Store::open(&path).err().unwrap().what.contains("newer"));
}
