//! A private place for one file while a person edits it: in memory where the system has such a place, for its owner alone,
//! and gone on every way out that leaves us time to act.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::process::{Command, ExitStatus};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use camino::{Utf8Path, Utf8PathBuf};
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use crate::base::error::{Error, Kind, Result};

/// How our directories are called; then the process, then a number.
const PREFIX: &str = "reconcile-secret.";
/// What `statfs` says of file systems that are only in memory: tmpfs, ramfs.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
/// How often the editor is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// The directory and the one file in it.
pub(super) struct Private {
    folder: Utf8PathBuf,
    file: Utf8PathBuf,
}

impl Private {
    /// A file of this name with this content.
    pub(super) fn new(name: &str, content: &[u8]) -> Result<Private> {
        let failed = |cause: io::Error| Error::new(Kind::Usage, "there is no place for a private file").because(cause);
        let base = base();
        sweep(&base);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let folder = base.join(format!("{PREFIX}{}.{now}", std::process::id()));
        // Not recursive: a directory that is there already is nobody's private place.
        DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?;
        let private = Private { file: folder.join(name), folder };
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&private.file).map_err(failed)?;
        file.write_all(content).map_err(failed)?;
        Ok(private)
    }

    /// Where the file is.
    pub(super) fn path(&self) -> &Utf8Path {
        &self.file
    }

    /// What is in it now.
    pub(super) fn read(&self) -> Result<Zeroizing<Vec<u8>>> {
        let failed =
            |cause: io::Error| Error::new(Kind::Usage, "the edited file is gone: nothing was written").because(cause);
        fs::read(&self.file).map(Zeroizing::new).map_err(failed)
    }

    /// Runs a program that works on the file. Ctrl-C is for that program alone, as both have it from the terminal; whoever
    /// asks us to end ends the program, too, and nothing stays.
    pub(super) fn wait(&self, command: &mut Command) -> io::Result<ExitStatus> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (mut interrupt, mut quit) = (signal(SignalKind::interrupt())?, signal(SignalKind::quit())?);
            let (mut terminate, mut hangup) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
            let mut child = command.spawn()?;
            loop {
                let asked = tokio::select! {
                    _ = interrupt.recv() => None,
                    _ = quit.recv() => None,
                    _ = terminate.recv() => Some(SignalKind::terminate()),
                    _ = hangup.recv() => Some(SignalKind::hangup()),
                    () = tokio::time::sleep(LOOK) => None,
                };
                if let Some(asked) = asked {
                    let _ = child.kill();
                    let _ = child.wait();
                    self.remove();
                    std::process::exit(128 + asked.as_raw_value());
                }
                if let Some(status) = child.try_wait()? {
                    return Ok(status);
                }
            }
        })
    }

    fn remove(&self) {
        // There is nothing that could be done about it.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A directory in memory, or failing that the one for temporary files.
fn base() -> Utf8PathBuf {
    let runtime = std::env::var("XDG_RUNTIME_DIR").ok().filter(|path| path.starts_with('/'));
    let places = runtime.into_iter().chain(["/dev/shm".into()]).map(Utf8PathBuf::from);
    let in_memory = |path: &Utf8PathBuf| {
        let kind = rustix::fs::statfs(path.as_std_path()).ok().and_then(|is| u64::try_from(is.f_type).ok());
        kind.is_some_and(|kind| IN_MEMORY.contains(&(kind & 0xffff_ffff)))
            && rustix::fs::access(path.as_std_path(), rustix::fs::Access::WRITE_OK).is_ok()
    };
    let temporary = || Utf8PathBuf::from_path_buf(std::env::temp_dir()).unwrap_or_else(|_| "/tmp".into());
    places.into_iter().find(in_memory).unwrap_or_else(temporary)
}

/// Removes what a process of ours left that was killed without a warning.
fn sweep(base: &Utf8Path) {
    let ours = rustix::process::geteuid().as_raw();
    for entry in base.read_dir_utf8().into_iter().flatten().flatten() {
        let process = entry.file_name().strip_prefix(PREFIX).and_then(|rest| rest.split('.').next());
        let Some(process) = process.filter(|process| process.bytes().all(|byte| byte.is_ascii_digit())) else {
            continue;
        };
        let is_ours = fs::symlink_metadata(entry.path()).is_ok_and(|is| is.is_dir() && is.uid() == ours);
        if is_ours && !Utf8Path::new("/proc").join(process).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
