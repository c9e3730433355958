//! Writing runs down.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Transaction, TransactionBehavior, params};

use crate::base::error::{Error, Result};
use crate::base::secret::{MASK, Secret};
use crate::engine::report::{HostReport, Outcome, Report};
use crate::store::at_work::AtWork;
use crate::store::run::{Beginning, Ending, Part, name};
use crate::store::{KEPT, Store, broken, unusable};

impl Store {
    /// Writes down that a run begins, and what it is about to do. The run is at work until the result is dropped.
    pub fn begin(&mut self, beginning: &Beginning, parts: &[Part]) -> Result<AtWork> {
        // Before the row is there: nobody must take the run for one that was killed.
        let at_work = AtWork::mark(&self.directory, &beginning.id);
        let at_work = at_work.map_err(|cause| unusable(&self.directory).because(cause))?;
        self.transact(|transaction| {
            insert(transaction, beginning)?;
            for Part { host, stack, effects, .. } in parts {
                let part = "INSERT INTO part SELECT number, ?2, ?3, NULL FROM run WHERE id = ?1";
                transaction.execute(part, params![beginning.id, host, stack])?;
                for (position, effect) in effects.iter().enumerate() {
                    let sql = "INSERT INTO effect SELECT number, ?2, ?3, ?4, ?5 FROM run WHERE id = ?1";
                    transaction.execute(sql, params![beginning.id, host, stack, position, effect])?;
                }
            }
            Ok(())
        })?;
        Ok(at_work)
    }

    /// Writes down how a run ended. Secrets that a program on a host has printed are masked.
    pub fn end(&mut self, id: &str, report: &Report, ending: Ending, secrets: &[&Secret]) -> Result<()> {
        self.transact(|transaction| {
            transaction.execute("DELETE FROM part WHERE run = (SELECT number FROM run WHERE id = ?1)", [id])?;
            for host in &report.hosts {
                outcomes(transaction, id, host)?;
                failures(transaction, id, host, secrets)?;
            }
            finish(transaction, id, ending, None)?;
            tidy(transaction, id)
        })
    }

    /// Writes down that a run was refused as a whole.
    pub fn refuse(&mut self, id: &str, why: &Error) -> Result<()> {
        self.transact(|transaction| {
            // What was to be done was not.
            for table in ["part", "effect"] {
                let sql = format!("DELETE FROM {table} WHERE run = (SELECT number FROM run WHERE id = ?1)");
                transaction.execute(&sql, [id])?;
            }
            finish(transaction, id, Ending::Refused, Some(&why.to_string()))?;
            tidy(transaction, id)
        })
    }

    /// All or nothing. Writers wait for each other from the start, so that none fails in the middle.
    fn transact(&mut self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>) -> Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let done = transaction.and_then(|transaction| {
            work(&transaction)?;
            transaction.commit()
        });
        done.map_err(broken)
    }
}

fn insert(transaction: &Transaction<'_>, of: &Beginning) -> rusqlite::Result<()> {
    let sql = "INSERT INTO run (id, repo, source, commit_id, branch, author, signer, dirty, plan, who, asked, whole, \
               before, begun) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
    let asked = serde_json::to_string(&of.asked).unwrap_or_default();
    let begun = Timestamp::now().to_string();
    transaction.execute(
        sql,
        params![
            of.id, of.repo, of.source, of.commit, of.branch, of.author, of.signer, of.dirty, of.plan, of.who, asked,
            of.whole, of.before, begun
        ],
    )?;
    Ok(())
}

fn outcomes(transaction: &Transaction<'_>, id: &str, report: &HostReport) -> rusqlite::Result<()> {
    let part = "INSERT INTO part SELECT number, ?2, ?3, ?4 FROM run WHERE id = ?1";
    let other = "INSERT INTO outcome SELECT number, ?2, ?3, ?4, ?5 FROM run WHERE id = ?1";
    let (mut part, mut other) = (transaction.prepare_cached(part)?, transaction.prepare_cached(other)?);
    let host = report.host.as_str();
    let mut unchanged: BTreeMap<&str, usize> = BTreeMap::new();
    for ((resource, stack), outcome) in &report.outcomes {
        let count = unchanged.entry(stack.as_str()).or_default();
        if *outcome == Outcome::Unchanged {
            *count += 1;
        } else {
            other.execute(params![id, host, stack.as_str(), name(resource), outcome.as_str()])?;
        }
    }
    for (stack, count) in unchanged {
        part.execute(params![id, host, stack, count])?;
    }
    Ok(())
}

fn failures(transaction: &Transaction<'_>, id: &str, report: &HostReport, secrets: &[&Secret]) -> rusqlite::Result<()> {
    let sql = "INSERT INTO failure SELECT number, ?2, ?3, ?4, ?5 FROM run WHERE id = ?1";
    let mut failed = transaction.prepare_cached(sql)?;
    for failure in &report.failures {
        let (what, output) = (masked(&failure.what, secrets), masked(&failure.output.join("\n"), secrets));
        failed.execute(params![id, report.host.as_str(), failure.stack.as_str(), what, output])?;
    }
    if let Some(error) = &report.error {
        let what = masked(&error.to_string(), secrets);
        failed.execute(params![
            id,
            report.host.as_str(),
            None::<&str>,
            what,
            error.hint.clone().unwrap_or_default()
        ])?;
    }
    Ok(())
}

/// A text without secrets. A program on a host may have printed one.
fn masked(text: &str, secrets: &[&Secret]) -> String {
    let secrets = secrets.iter().map(|secret| secret.expose().trim()).filter(|value| !value.is_empty());
    secrets.fold(text.to_string(), |text, value| text.replace(value, MASK))
}

fn finish(transaction: &Transaction<'_>, id: &str, ending: Ending, error: Option<&str>) -> rusqlite::Result<()> {
    let sql = "UPDATE run SET ended = ?2, ending = ?3, error = ?4 WHERE id = ?1";
    transaction.execute(sql, params![id, Timestamp::now().to_string(), ending.as_str(), error])?;
    Ok(())
}

/// Keeps the last runs. Of several in a row that found nothing to do, at the same commit of the same repository, the last
/// one says it all.
fn tidy(transaction: &Transaction<'_>, id: &str) -> rusqlite::Result<()> {
    const IDLE: &str = "ending = 'done' AND NOT EXISTS (SELECT 1 FROM outcome WHERE outcome.run = run.number)";
    let sql = format!(
        "DELETE FROM run WHERE {IDLE} AND number = (
             SELECT max(was.number) FROM run AS was, run AS now
             WHERE now.id = ?1 AND was.number < now.number AND was.repo = now.repo
         ) AND EXISTS (
             SELECT 1 FROM run AS now
             WHERE id = ?1 AND {} AND now.commit_id IS run.commit_id AND now.dirty = run.dirty
                 AND now.source = run.source AND now.asked = run.asked
         )",
        IDLE.replace("run.number", "now.number")
    );
    transaction.execute(&sql, [id])?;
    transaction.execute("DELETE FROM run WHERE number <= (SELECT max(number) FROM run) - ?1", [KEPT])?;
    Ok(())
}
