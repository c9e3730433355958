//! The tables, and how older ones become newer ones.

use rusqlite::{Connection, TransactionBehavior};

use crate::base::error::{Error, Kind, Result};
use crate::store::broken;

/// What makes each version from the one before. Only ever added to.
const STEPS: &[&str] = &["
    CREATE TABLE run (
        number INTEGER PRIMARY KEY AUTOINCREMENT, -- the order, whatever clocks say
        id TEXT NOT NULL UNIQUE,
        repo TEXT NOT NULL,
        source TEXT NOT NULL,
        commit_id TEXT,
        branch TEXT,
        author TEXT,
        signer TEXT,
        dirty INTEGER NOT NULL,
        plan TEXT NOT NULL,
        who TEXT NOT NULL,
        asked TEXT NOT NULL,       -- JSON: hosts, stacks, tags
        whole INTEGER NOT NULL,    -- no stack of its hosts was left out
        before TEXT,               -- a rollback: to the state before this run
        begun TEXT NOT NULL,
        ended TEXT,                -- NULL: at work, or killed
        ending TEXT,
        error TEXT
    ) STRICT;
    -- A stack on a host.
    CREATE TABLE part (
        run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
        host TEXT NOT NULL,
        stack TEXT NOT NULL,
        unchanged INTEGER,         -- resources that were as wanted; NULL: how it ended is not known
        PRIMARY KEY (run, host, stack)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX part_of ON part (host, stack, run);
    -- Resources that ended in another way than unchanged.
    CREATE TABLE outcome (
        run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
        host TEXT NOT NULL,
        stack TEXT NOT NULL,
        resource TEXT NOT NULL,
        outcome TEXT NOT NULL,
        PRIMARY KEY (run, host, stack, resource)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE effect (
        run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
        host TEXT NOT NULL,
        stack TEXT NOT NULL,
        position INTEGER NOT NULL,
        effect TEXT NOT NULL,
        PRIMARY KEY (run, host, stack, position)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE failure (
        run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
        host TEXT NOT NULL,
        stack TEXT,                -- NULL: the host as a whole
        what TEXT NOT NULL,
        output TEXT NOT NULL
    ) STRICT;
    CREATE INDEX failure_of ON failure (run);
"];

/// Brings the tables to the newest version. A file from a later program is refused, not guessed at.
pub fn prepare(connection: &mut Connection) -> Result<()> {
    // The answer of this pragma is a row, which is of no interest.
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).map_err(broken)?;
    connection.pragma_update(None, "synchronous", "NORMAL").map_err(broken)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(broken)?;
    if version(connection)? == STEPS.len() {
        return Ok(());
    }
    // Of several processes that find an older version, one does the work and the others then see that it is done.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(broken)?;
    let version = version(&transaction)?;
    if version > STEPS.len() {
        let error = Error::new(Kind::Usage, format!("the history has version {version}, from a newer reconcile"));
        return Err(error.hint("use that one, or another directory: RECONCILE_STATE_DIR"));
    }
    for step in &STEPS[version..] {
        transaction.execute_batch(step).map_err(broken)?;
    }
    transaction.pragma_update(None, "user_version", STEPS.len()).map_err(broken)?;
    transaction.commit().map_err(broken)
}

fn version(connection: &Connection) -> Result<usize> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(broken)
}
