//! How bytes get to a host and back. One [`Connection`] per host; everything a host does for us is one [`Exchange`].

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::error::{Error, Kind, Result};
use crate::base::secret::Secret;
use crate::host::ssh::config::Place;
use crate::host::{local, ssh};

/// Where a host is and how to get in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// This machine.
    Local {
        /// All paths are below this directory; nothing is activated. `None` means this machine itself.
        root: Option<Utf8PathBuf>,
        /// Become root with `sudo -n`.
        sudo: bool,
    },
    /// Another machine, by SSH.
    Ssh(SshTarget),
}

impl Target {
    /// Whether something runs there: below a root directory only files are written.
    pub fn is_live(&self) -> bool {
        !matches!(self, Target::Local { root: Some(_), .. })
    }
}

/// A machine reached by SSH. What is `None` comes from `~/.ssh/config`, then from the defaults of OpenSSH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshTarget {
    /// Address, host name, or an alias of `~/.ssh/config`.
    pub address: String,
    /// TCP port.
    pub port: Option<u16>,
    /// Login name.
    pub user: Option<String>,
    /// Become root with `sudo -n`.
    pub sudo: bool,
    /// Pinned host keys, each as `ssh-ed25519 AAAA…`. Where there are any, `known_hosts` is not asked.
    pub host_keys: Vec<String>,
    /// Private key files to try. Where there are any, only these are tried (besides the agent's copies of them).
    pub identities: Vec<Utf8PathBuf>,
    /// A machine to go through, as `[user@]host[:port]` or an alias of `~/.ssh/config`.
    pub jump: Option<String>,
}

/// One command with its input, and how long it may take.
pub struct Exchange {
    /// A fixed text of this program's own, run by the login shell. Never holds anything a user wrote.
    pub command: String,
    /// What the command reads from standard input.
    pub input: Vec<u8>,
    /// From start to end.
    pub deadline: Duration,
}

/// What a command left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// All of standard output.
    pub stdout: Vec<u8>,
    /// The last 64 KiB of standard error.
    pub stderr: Vec<u8>,
    /// The exit status; a command ended by a signal gives the signal's name instead.
    pub status: Result<i32, String>,
}

/// Takes standard output piece by piece while it comes. Called by the thread that serves the connection: it must not
/// wait for anything.
pub type OnStdout = Box<dyn FnMut(&[u8]) + Send>;

/// Asks a person for a passphrase.
pub trait Prompt: Send + Sync {
    /// The passphrase of the private key at `key`, or nothing if there is nobody to ask or they decline. `wrong` is the
    /// last answer, if it did not fit. May wait for the person. Several hosts may ask for the same key at the same
    /// time: it is for the implementation to remember answers.
    fn passphrase(&self, key: &Utf8Path, wrong: Option<&Secret>) -> Option<Secret>;
}

/// There is nobody to ask.
pub struct Nobody;

impl Prompt for Nobody {
    fn passphrase(&self, _key: &Utf8Path, _wrong: Option<&Secret>) -> Option<Secret> {
        None
    }
}

/// An open way to a host. Several exchanges may follow one another, or run at the same time. Dropping it ends it,
/// with everything that still runs over it.
pub struct Connection(Way);

enum Way {
    Local,
    Ssh(ssh::Link),
}

impl Connection {
    /// Opens the way to `target`, within `deadline` (time in which `prompt` waits for a person does not count).
    ///
    /// Fails with [`Kind::Unreachable`] if the host does not answer, [`Kind::HostKey`] if its key is unknown, changed or
    /// revoked, [`Kind::Auth`] if we are not let in, [`Kind::Usage`] if `~/.ssh/config` makes no sense or asks for
    /// what is not supported.
    pub async fn connect(target: &Target, prompt: Arc<dyn Prompt>, deadline: Duration) -> Result<Connection> {
        Connection::connect_from(&Place::from_env(), target, prompt, deadline).await
    }

    /// The same, with the configuration of `place` in place of the environment's.
    pub async fn connect_from(
        place: &Place,
        target: &Target,
        prompt: Arc<dyn Prompt>,
        deadline: Duration,
    ) -> Result<Connection> {
        match target {
            Target::Local { .. } => Ok(Connection(Way::Local)),
            Target::Ssh(target) => Ok(Connection(Way::Ssh(ssh::connect(place, target, prompt, deadline).await?))),
        }
    }

    /// Runs one command to its end. `on_stdout` sees standard output as it comes; all of it is in the result too.
    ///
    /// A command that fails is an `Output` with its status. Errors are [`Kind::Unreachable`] if the link is lost, and
    /// [`Kind::Host`] if the command cannot be started or is not done within its deadline: then its input and output are
    /// closed, and (here on this machine) its process group is killed. Dropping the future abandons the command.
    pub async fn run(&self, exchange: Exchange, on_stdout: Option<OnStdout>) -> Result<Output> {
        match &self.0 {
            Way::Local => local::run(exchange, on_stdout).await,
            Way::Ssh(link) => link.run(exchange, on_stdout).await,
        }
    }

    /// A stream to the Unix socket at `path` on the host, such as Docker's. Fails as [`Connection::run`] does.
    pub async fn open_socket(&self, path: &Utf8Path, deadline: Duration) -> Result<UnixStream> {
        match &self.0 {
            Way::Local => UnixStream::connect(path)
                .map_err(|cause| Error::new(Kind::Host, format!("cannot connect to {path}")).because(cause)),
            Way::Ssh(link) => link.open_socket(path, deadline).await,
        }
    }

    /// A stream to standard input and output of a command on the host, a fixed text of this program's own. It ends when
    /// the command does; what that says on standard error goes to the log. Fails as [`Connection::run`] does.
    pub async fn open_command(&self, command: &str, deadline: Duration) -> Result<UnixStream> {
        match &self.0 {
            Way::Local => local::open(command),
            Way::Ssh(link) => link.open_command(command, deadline).await,
        }
    }

    /// Whether it is not known to have ended. A link that was cut silently is found out only by using it.
    pub fn is_open(&self) -> bool {
        match &self.0 {
            Way::Local => true,
            Way::Ssh(link) => link.is_open(),
        }
    }

    /// Says goodbye. Without it, the connection simply ends.
    pub async fn close(self) {
        if let Way::Ssh(link) = self.0 {
            link.close().await;
        }
    }
}

impl Output {
    /// How much of standard error is kept: its last bytes say why something failed.
    pub(crate) const STDERR_KEPT: usize = 64 << 10;
    /// How many bytes of standard output are taken: a host must not fill the memory of all others' control node.
    pub(crate) const STDOUT_MOST: usize = 512 << 20;
}

/// Drops the beginning of `stderr` where it is longer than what is kept.
pub(crate) fn trim_stderr(stderr: &mut Vec<u8>) {
    if stderr.len() > Output::STDERR_KEPT {
        stderr.drain(..stderr.len() - Output::STDERR_KEPT);
    }
}

/// The error of a command that says more than anybody needs.
pub(crate) fn too_much(what: &str) -> Error {
    let error = Error::new(Kind::Host, format!("{what} said more than {} MiB", Output::STDOUT_MOST >> 20));
    error.hint("no answer of a host is as long: is it what it was?")
}

/// The error of a command that is not done in time.
pub(crate) fn too_slow(what: &str, deadline: Duration) -> Error {
    Error::new(Kind::Host, format!("{what} was not done within {} s", deadline.as_secs_f32()))
}
