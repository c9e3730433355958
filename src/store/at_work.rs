//! Telling a run that is at work from one that was killed: a lock that dies with its holder.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};

/// A run that is at work, for as long as this value lives.
pub struct AtWork {
    path: Utf8PathBuf,
    _lock: File,
}

impl AtWork {
    /// Marks a run as being at work.
    pub(super) fn mark(directory: &Utf8Path, run: &str) -> std::io::Result<AtWork> {
        let path = path(directory, run);
        let lock = File::options().create(true).append(true).mode(0o600).open(&path)?;
        lock.lock()?;
        Ok(AtWork { path, _lock: lock })
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        // A file that stays is no harm: without its lock it means nothing.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether a run without an end is at work.
pub(super) fn is_at_work(directory: &Utf8Path, run: &str) -> bool {
    let file = File::open(path(directory, run));
    file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
}

fn path(directory: &Utf8Path, run: &str) -> Utf8PathBuf {
    directory.join(format!("at-work-{run}"))
}
