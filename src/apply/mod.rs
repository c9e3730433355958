//! `Plan` to `Report`: the only stage that writes.
//!
//! All transactions of a host travel together, with their files, in one exchange. What the host answers while it works
//! is read by [`answer`].

pub mod answer;
mod checks;
pub mod commands;
pub mod expected;
mod files;
mod handover;
pub mod script;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8PathBuf;

use crate::base::error::Result;
use crate::base::id::RepoId;
use crate::host::archive::Archive;
use crate::host::observation::Observation;
use crate::load::Extent;
use crate::observe::Place;
use crate::plan::{HostPlan, Transaction};
use expected::checksum;
use script::{Script, Writer};

/// Everything one host is sent.
pub struct Payload {
    /// What `apply.sh` reads.
    pub input: Vec<u8>,
    /// What each numbered step is, in words.
    pub words: BTreeMap<usize, String>,
    /// Where the run keeps its things on the host.
    pub folder: Utf8PathBuf,
}

/// Who runs what, and how.
pub struct Run<'a> {
    /// The run's id: sorts by time, unique.
    pub id: &'a str,
    /// The repository.
    pub repo: &'a RepoId,
    /// Who, when and why, for the lease.
    pub who: &'a str,
    /// How many seconds to wait for another run on the same host.
    pub lock_wait: u32,
    /// How many seconds the host waits for confirmation before it goes back; 0 for no confirmation.
    pub confirm: u32,
    /// Whether the host keeps what it takes to go back, until it is told [`Word::Forget`] or [`Word::Back`].
    pub keep: bool,
}

/// What a host is told about whole runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Revert what dead runs left half done.
    Recover,
    /// Take this run back, which was kept.
    Back,
    /// This run stays, and nothing is to be kept of it any more.
    Forget,
}

impl Word {
    fn as_str(self) -> &'static str {
        match self {
            Word::Recover => "recover",
            Word::Back => "back",
            Word::Forget => "forget",
        }
    }
}

/// What a host is sent to carry out the transactions that are not refused.
pub fn payload(plan: &HostPlan, seen: &Observation, place: &Place, run: &Run<'_>) -> Result<Payload> {
    let folder = seen.state.join(run.repo.as_str()).join("run").join(run.id);
    let mut archive = Archive::default();
    archive.directory(&folder, 0o700);
    let mut words = BTreeMap::new();
    let (mut next, mut stage) = (1, 0);
    let transactions: Vec<&Transaction> = plan.carried_out().collect();
    // The scripts come first in the archive, but the files must be written before they are known: so these are put
    // together in a second archive.
    let mut scripts = Vec::new();
    let mut files = Archive::default();
    // A stack may be called like anything else of the run.
    let stacks = folder.join("stack");
    archive.directory(&stacks, 0o700);
    for transaction in &transactions {
        let own = stacks.join(transaction.stack.as_str());
        let writer = Writer {
            run: run.id,
            place,
            seen,
            with_owner: seen.uid == 0 && !plan.offline,
            next: &mut next,
            archive: &mut files,
            folder: &own,
            stage: &mut stage,
            first: scripts.is_empty(),
        };
        scripts.push((transaction, writer.script(transaction)?));
    }
    let stages: BTreeSet<Utf8PathBuf> = scripts.iter().flat_map(|(_, script)| &script.stages).cloned().collect();
    if run.confirm != 0 {
        archive.pipe(&folder.join("confirmed"), 0o600);
    }
    let order: String = transactions.iter().map(|transaction| format!("{}\n", transaction.stack)).collect();
    archive.file(&folder.join("order"), 0o600, order.as_bytes());
    archive.file(&folder.join("over"), 0o600, order.as_bytes());
    let extent = if plan.extent == Extent::Host { "host\n" } else { "stack\n" };
    archive.file(&folder.join("extent"), 0o600, extent.as_bytes());
    for (transaction, script) in scripts {
        let state = seen.state.join(run.repo.as_str());
        add_transaction(&mut archive, &stacks, &state, transaction, &script);
        words.extend(script.words);
    }
    let mut input = header(run, seen);
    for stage in stages {
        input.extend(format!("stage {stage}\n").into_bytes());
    }
    if run.keep {
        input.extend(b"keep\n");
    }
    input.extend(b"tar\n");
    input.extend(archive.followed_by(files));
    Ok(Payload { input, words, folder })
}

/// What a host is sent that is told a word.
pub fn told(word: Word, seen: &Observation, run: &Run<'_>) -> Vec<u8> {
    let mut input = header(run, seen);
    input.extend(format!("{}\n", word.as_str()).into_bytes());
    input
}

/// What names a run to the programs that have a word for it while it works: [`Program::Confirm`](crate::host::program::Program::Confirm)
/// and [`Program::Halt`](crate::host::program::Program::Halt).
pub fn naming(seen: &Observation, run: &Run<'_>) -> Vec<u8> {
    format!("state {}\nrepo {}\nrun {}\n", seen.state, run.repo, run.id).into_bytes()
}

fn header(run: &Run<'_>, seen: &Observation) -> Vec<u8> {
    let Run { id, repo, who, lock_wait, confirm, keep: _ } = run;
    let state = &seen.state;
    format!("state {state}\nrepo {repo}\nrun {id}\nwho {who}\nwait {lock_wait}\nconfirm {confirm}\n").into_bytes()
}

fn add_transaction(
    archive: &mut Archive,
    stacks: &Utf8PathBuf,
    state: &Utf8PathBuf,
    transaction: &Transaction,
    script: &Script,
) {
    let own = stacks.join(transaction.stack.as_str());
    let ledger = state.join("ledger").join(transaction.stack.as_str());
    let seen = transaction.ledger_seen.map_or("none".to_string(), |digest| digest.to_string());
    let sums = transaction.ledger_seen.map(|digest| checksum(&digest, &ledger)).into_iter();
    let sums: Vec<String> = sums.chain(script.expected.sums.iter().cloned()).collect();
    let needs: Vec<String> = transaction.needs.iter().map(ToString::to_string).collect();
    let (preflight, staged) = script.preflight.clone().unwrap_or_default();
    let lines = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    archive.directory(&own, 0o700);
    archive.directory(&own.join("owed"), 0o700);
    for (name, text) in [
        ("needs", lines(&needs)),
        ("paths", lines(&script.expected.paths)),
        ("stat", lines(&script.expected.stat)),
        ("sums", lines(&sums)),
        ("links", lines(&script.expected.links)),
        ("emptied", lines(&script.emptied)),
        ("phase", "staged\n".into()),
        ("steps", lines(&script.steps)),
        ("unmake", lines(&script.unmake)),
        ("undo", lines(&script.undo)),
        ("unturn", lines(&script.unturn)),
        ("parting", lines(&script.parting)),
        ("undo.before", lines(&script.undo_before)),
        ("preflight", preflight),
        ("staged", staged),
        ("ledger", format!("{ledger}\n{seen}\n")),
    ] {
        archive.file(&own.join(name), 0o600, text.as_bytes());
    }
    for (name, text) in [("ledger.before", &transaction.ledger_before), ("ledger.after", &transaction.ledger_after)] {
        archive.file(&own.join(name), 0o600, text.as_bytes());
    }
}
