//! What a stack on a host was like before a run: the commit that was last applied there with success.

use rusqlite::{OptionalExtension as _, params};

use crate::base::error::Result;
use crate::store::{Part, Run, Store, broken};

/// The run that a part of a later run goes back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    /// Its id.
    pub run: String,
    /// Its commit.
    pub commit: Option<String>,
    /// How many files differed from it.
    pub dirty: usize,
}

/// Whether a stack went well on a host, or nothing of it is known to have gone otherwise.
const WELL: &str = "NOT EXISTS (SELECT 1 FROM outcome AS o WHERE o.run = run.number AND o.host = ?3
    AND (?4 IS NULL OR o.stack = ?4) AND o.outcome <> 'applied')";

impl Store {
    /// The last run before `run` that went well for this stack on this host. A stack that no earlier run knew was not
    /// there: then it is the last one that went well for the whole host.
    pub fn before(&self, run: &Run, part: &Part) -> Result<Option<Before>> {
        let of_stack = "part.stack = ?4";
        let of_host = "run.whole AND NOT EXISTS (SELECT 1 FROM failure AS f WHERE f.run = run.number AND f.host = ?3)";
        let found = self.last(run, part, Some(&part.stack), of_stack)?;
        match found {
            Some(found) => Ok(Some(found)),
            None => self.last(run, part, None, of_host),
        }
    }

    fn last(&self, run: &Run, part: &Part, stack: Option<&str>, which: &str) -> Result<Option<Before>> {
        let sql = format!(
            "SELECT id, commit_id, dirty FROM run JOIN part ON part.run = run.number
             WHERE run.repo = ?2 AND run.number < (SELECT number FROM run WHERE id = ?1)
                 AND part.host = ?3 AND part.unchanged IS NOT NULL AND {which} AND {WELL}
             ORDER BY run.number DESC LIMIT 1"
        );
        let of = &run.beginning;
        let row = self.connection.query_row(&sql, params![of.id, of.repo, part.host, stack], |row| {
            Ok(Before { run: row.get(0)?, commit: row.get(1)?, dirty: row.get(2)? })
        });
        row.optional().map_err(broken)
    }
}
