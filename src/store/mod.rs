//! The history of runs, on the machine that reconcile runs on.
//!
//! One `SQLite` file, `history.db`, in a directory of the user's own. What belongs to the hosts is recorded on the hosts
//! (see [`crate::ledger`]); the history is for people, and for `rollback`, which asks it for commits. It holds names, times
//! and words: no content of a file and no difference, so nothing of it is secret.
//!
//! [`Store::begin`] writes a run down before anything changes, [`Store::end`] how it ended. A run that never ended was
//! killed: what its hosts did then is not known here. As long as it is at work it holds a lock, which dies with it.

mod at_work;
mod before;
mod read;
mod run;
mod schema;
#[cfg(test)]
mod tests;
mod write;

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use rusqlite::Connection;

use crate::base::error::{Error, Kind, Result};

pub use at_work::AtWork;
pub use before::Before;
pub use run::{Asked, Beginning, Ending, Failure, Filter, Part, Run};

/// How long to wait for another process that writes.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many runs are kept.
const KEPT: u32 = 1000;

/// An open history.
pub struct Store {
    connection: Connection,
    directory: Utf8PathBuf,
}

impl Store {
    /// Opens the history in `directory`, and makes it if there is none: the directory for its owner alone, and the file too.
    pub fn open(directory: &Utf8Path) -> Result<Store> {
        let failed = |cause| unusable(directory).because(cause);
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let file = directory.join("history.db");
        // SQLite gives its other files the mode of this one.
        let made = std::fs::File::options().create(true).append(true).mode(0o600).open(&file);
        made.map_err(failed)?;
        let mut connection = Connection::open(&file).map_err(broken)?;
        connection.busy_timeout(PATIENCE).map_err(broken)?;
        schema::prepare(&mut connection)?;
        Ok(Store { connection, directory: directory.to_owned() })
    }
}

/// Where the history is: `$RECONCILE_STATE_DIR`, or `reconcile` below `$XDG_STATE_HOME` or `~/.local/state`.
pub fn default_directory() -> Utf8PathBuf {
    let set = |name: &str| std::env::var(name).ok().filter(|path| path.starts_with('/')).map(Utf8PathBuf::from);
    let home = || Utf8PathBuf::from(std::env::var("HOME").unwrap_or_else(|_| "/".into())).join(".local/state");
    set("RECONCILE_STATE_DIR").unwrap_or_else(|| set("XDG_STATE_HOME").unwrap_or_else(home).join("reconcile"))
}

fn unusable(directory: &Utf8Path) -> Error {
    Error::new(Kind::Usage, format!("the history in {directory} cannot be used"))
        .hint("RECONCILE_STATE_DIR names another directory")
}

fn broken(cause: rusqlite::Error) -> Error {
    let hint = "it can be deleted; only `history` and `rollback` need it";
    Error::new(Kind::Usage, "the history cannot be read or written").hint(hint).because(cause)
}
