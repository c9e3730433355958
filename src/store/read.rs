//! Reading runs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{OptionalExtension as _, Row, params};

use crate::base::error::{Error, Kind, Result};
use crate::engine::report::Outcome;
use crate::store::at_work::is_at_work;
use crate::store::run::{Beginning, Ending, Failure, Filter, Part, Run};
use crate::store::{Store, broken};

/// What stands for the last run.
const LAST: &str = "last";

impl Store {
    /// The runs that a filter lets through, the last one first.
    pub fn runs(&self, filter: &Filter) -> Result<Vec<Run>> {
        let sql = "
            SELECT * FROM run WHERE (?2 = '[]'
                OR EXISTS (SELECT 1 FROM part WHERE run = number AND host IN (SELECT value FROM json_each(?2)))
                OR EXISTS (SELECT 1 FROM failure WHERE run = number AND host IN (SELECT value FROM json_each(?2))))
            AND (?3 = '[]'
                OR EXISTS (SELECT 1 FROM part WHERE run = number AND stack IN (SELECT value FROM json_each(?3))))
            AND (?4 IS NULL OR repo = ?4)
            ORDER BY number DESC LIMIT ?1";
        let list = |names: &[String]| serde_json::to_string(names).unwrap_or_default();
        let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
        self.select(sql, params![limit, list(&filter.hosts), list(&filter.stacks), filter.repo])
    }

    /// The repository that was at `source` when something was last run from there.
    pub fn repo_at(&self, source: &str) -> Result<Option<String>> {
        let sql = "SELECT repo FROM run WHERE source = ?1 ORDER BY number DESC LIMIT 1";
        self.connection.query_row(sql, [source], |row| row.get(0)).optional().map_err(broken)
    }

    /// The run that a name means: its id, the beginning of it, or `last`, which is the last one of `repo`.
    pub fn find(&self, name: &str, repo: Option<&str>) -> Result<Run> {
        let error = |what: String| {
            Error::new(Kind::Usage, what).hint("`reconcile history` lists the runs; `last` is the last one")
        };
        let mut found = if name == LAST {
            let sql = "SELECT * FROM run WHERE ?1 IS NULL OR repo = ?1 ORDER BY number DESC LIMIT 1";
            self.select(sql, params![repo])?
        } else {
            // Not LIKE: a name is no pattern.
            self.select("SELECT * FROM run WHERE substr(id, 1, length(?1)) = ?1 LIMIT 3", params![name])?
        };
        if let Some(exact) = found.iter().position(|run| run.beginning.id == name) {
            return Ok(found.swap_remove(exact));
        }
        match (found.pop(), found.is_empty()) {
            (Some(run), true) => Ok(run),
            (Some(_), false) => Err(error(format!("several runs begin with `{name}`"))),
            (None, _) if name == LAST => Err(error(match repo {
                Some(repo) => format!("no run of {repo} is recorded here"),
                None => "no run is recorded here".into(),
            })),
            (None, _) => Err(error(format!("no run `{name}` is recorded here"))),
        }
    }

    fn select(&self, sql: &str, params: impl rusqlite::Params) -> Result<Vec<Run>> {
        let runs = || {
            let mut statement = self.connection.prepare(sql)?;
            let rows = statement.query_map(params, |row| Ok((row.get("number")?, self.run(row)?)))?;
            let numbered: Vec<(i64, Run)> = rows.collect::<rusqlite::Result<_>>()?;
            numbered.into_iter().map(|(number, run)| self.filled(number, run)).collect::<rusqlite::Result<_>>()
        };
        runs().map_err(broken)
    }

    /// The run of a row, without what other tables say of it.
    fn run(&self, row: &Row<'_>) -> rusqlite::Result<Run> {
        let id: String = row.get("id")?;
        let time = |text: String| text.parse::<Timestamp>().map_err(|cause| strange(cause.into()));
        let ended = row.get::<_, Option<String>>("ended")?.map(time).transpose()?;
        let ending = match row.get::<_, Option<String>>("ending")? {
            Some(word) => Ending::parse(&word).ok_or_else(|| strange(word.into()))?,
            None if is_at_work(&self.directory, &id) => Ending::AtWork,
            None => Ending::Interrupted,
        };
        let asked: String = row.get("asked")?;
        let beginning = Beginning {
            id,
            repo: row.get("repo")?,
            source: row.get("source")?,
            commit: row.get("commit_id")?,
            branch: row.get("branch")?,
            author: row.get("author")?,
            signer: row.get("signer")?,
            dirty: row.get("dirty")?,
            plan: row.get("plan")?,
            who: row.get("who")?,
            asked: serde_json::from_str(&asked).map_err(|cause| strange(cause.into()))?,
            whole: row.get("whole")?,
            before: row.get("before")?,
        };
        let (begun, error) = (time(row.get("begun")?)?, row.get("error")?);
        Ok(Run { beginning, begun, ended, ending, error, parts: Vec::new(), failures: Vec::new() })
    }

    fn filled(&self, number: i64, run: Run) -> rusqlite::Result<Run> {
        let mut parts: BTreeMap<(String, String), Part> = BTreeMap::new();
        let mut of_part = self.connection.prepare_cached("SELECT host, stack, unchanged FROM part WHERE run = ?1")?;
        let rows = of_part.query_map([number], |row| {
            let (host, stack, unchanged) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(Part { host, stack, unchanged, outcomes: BTreeMap::new(), effects: Vec::new() })
        })?;
        for part in rows {
            let part = part?;
            parts.insert((part.host.clone(), part.stack.clone()), part);
        }
        let sql = "SELECT host, stack, resource, outcome FROM outcome WHERE run = ?1";
        self.each(sql, number, |at, [resource, outcome]| {
            let outcome = Outcome::parse(&outcome).ok_or_else(|| strange(outcome.into()))?;
            parts.get_mut(&at).and_then(|part| part.outcomes.insert(resource, outcome));
            Ok(())
        })?;
        let sql = "SELECT host, stack, effect, '' FROM effect WHERE run = ?1 ORDER BY position";
        self.each(sql, number, |at, [effect, _]| {
            parts.get_mut(&at).into_iter().for_each(|part| part.effects.push(effect.clone()));
            Ok(())
        })?;
        let mut of_failure =
            self.connection.prepare_cached("SELECT host, stack, what, output FROM failure WHERE run = ?1")?;
        let failures = of_failure.query_map([number], |row| {
            let output: String = row.get(3)?;
            let output = output.lines().map(Into::into).collect();
            Ok(Failure { host: row.get(0)?, stack: row.get(1)?, what: row.get(2)?, output })
        })?;
        Ok(Run { parts: parts.into_values().collect(), failures: failures.collect::<rusqlite::Result<_>>()?, ..run })
    }

    /// Hands each row of two texts to `take`, with the part it belongs to.
    fn each(
        &self,
        sql: &str,
        number: i64,
        mut take: impl FnMut((String, String), [String; 2]) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([number])?;
        while let Some(row) = rows.next()? {
            take((row.get(0)?, row.get(1)?), [row.get(2)?, row.get(3)?])?;
        }
        Ok(())
    }
}

/// The error of a row that this program cannot have written.
fn strange(cause: Box<dyn std::error::Error + Send + Sync>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, cause)
}
