//! How bytes get to a host and back. One [`Connection`] per host; everything a host does for us is one [`Exchange`].

use std::time::Duration;

use camino::Utf8PathBuf;

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
