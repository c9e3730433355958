//! Being let in: keys of the agent and in files, in the order in which ssh(1) tries them.
//!
//! sshd counts every key that is shown and hangs up after six (`MaxAuthTries`), so the order matters: first the
//! agent's copies of keys that the configuration names, then the agent's others, then key files.

use std::path::Path;

use camino::Utf8PathBuf;
use ssh_key::{PrivateKey, PublicKey};
use ssh2::{Agent, ErrorCode, Session};
use zeroize::Zeroizing;

use crate::base::error::{Error, Kind, Result};
use crate::host::ssh::clock::Clock;
use crate::host::ssh::session::{Plan, bound};
use crate::host::transport::Prompt;

/// How often a person may mistype a passphrase.
const PASSPHRASE_TRIES: usize = 3;

/// A private key file that exists.
struct KeyFile {
    path: Utf8PathBuf,
    /// The wire form of its public half, where it can be told without a passphrase.
    public: Option<Vec<u8>>,
    encrypted: bool,
}

/// Logs in, or fails with [`Kind::Auth`] saying what was tried; with [`Kind::Unreachable`] if the link is lost.
pub fn log_in(session: &Session, plan: &Plan, prompt: &dyn Prompt, clock: &Clock) -> Result<()> {
    let mut login = Login { session, plan, prompt, clock, tried: Vec::new(), missing: Vec::new() };
    let files = login.key_files();
    let offered = login.with_agent(&files)?;
    if !session.authenticated() {
        login.with_files(&files, &offered)?;
    }
    if session.authenticated() {
        return Ok(());
    }
    bound(session, clock);
    // Asking for the methods is itself an attempt without any key, which some servers accept.
    let methods = session.auth_methods(&plan.config.user).map(str::to_string);
    if session.authenticated() { Ok(()) } else { Err(login.refused(methods.as_deref().unwrap_or("nothing we know"))) }
}

struct Login<'a> {
    session: &'a Session,
    plan: &'a Plan,
    prompt: &'a dyn Prompt,
    clock: &'a Clock,
    /// What was tried, for the error.
    tried: Vec<String>,
    /// Key files that were asked for and are not there.
    missing: Vec<Utf8PathBuf>,
}

impl Login<'_> {
    fn user(&self) -> &str {
        &self.plan.config.user
    }

    fn key_files(&mut self) -> Vec<KeyFile> {
        let mut files = Vec::new();
        for path in &self.plan.config.identities {
            match read_key(path) {
                Ok(key) => files.push(key),
                // Default files need not be there; one that was asked for is worth a word.
                Err(cause) if self.plan.config.identities_given => {
                    if cause.kind() == std::io::ErrorKind::NotFound {
                        self.missing.push(path.clone());
                    }
                    self.tried.push(format!("{path}: {cause}"));
                }
                Err(_) => {}
            }
        }
        files
    }

    /// Tries the agent's keys; gives those that were offered.
    fn with_agent(&mut self, files: &[KeyFile]) -> Result<Vec<Vec<u8>>> {
        let Some(agent) = self.agent() else { return Ok(Vec::new()) };
        let Ok(keys) = agent.identities() else { return Ok(Vec::new()) };
        let rank = |blob: &[u8]| files.iter().position(|file| file.public.as_deref() == Some(blob));
        let mut keys: Vec<_> = keys.iter().map(|key| (rank(key.blob()), key)).collect();
        if self.plan.config.identities_only {
            keys.retain(|(rank, _)| rank.is_some());
        }
        keys.sort_by_key(|(rank, _)| rank.unwrap_or(usize::MAX));
        let mut offered = Vec::new();
        for (_, key) in keys {
            offered.push(key.blob().to_vec());
            bound(self.session, self.clock);
            let attempt = agent.userauth(self.user(), key);
            if self.settle(&format!("the agent's {}", key.comment()), attempt)? {
                break;
            }
        }
        Ok(offered)
    }

    fn agent(&mut self) -> Option<Agent> {
        let asked = self.plan.config.agent.as_deref();
        if asked.is_some_and(|path| path.as_str().is_empty())
            || (asked.is_none() && std::env::var_os("SSH_AUTH_SOCK").is_none())
        {
            return None;
        }
        let mut agent = self.session.agent().ok()?;
        if let Some(path) = asked {
            agent.set_identity_path(path.as_std_path()).ok()?;
        }
        let reached = agent.connect().and_then(|()| agent.list_identities());
        if let Err(cause) = reached {
            self.tried.push(format!("the agent: {}", cause.message()));
            return None;
        }
        Some(agent)
    }

    fn with_files(&mut self, files: &[KeyFile], offered: &[Vec<u8>]) -> Result<()> {
        for file in files {
            // The agent has shown this one already, and it was refused.
            if file.public.as_ref().is_some_and(|public| offered.contains(public)) {
                continue;
            }
            let done = if file.encrypted { self.with_passphrase(file)? } else { self.with_file(file, None)? };
            if done {
                break;
            }
        }
        Ok(())
    }

    fn with_file(&mut self, file: &KeyFile, passphrase: Option<&str>) -> Result<bool> {
        bound(self.session, self.clock);
        let attempt = self.session.userauth_pubkey_file(self.user(), None, file.path.as_std_path(), passphrase);
        self.settle(file.path.as_str(), attempt)
    }

    fn with_text(&mut self, file: &KeyFile, text: &str) -> Result<bool> {
        bound(self.session, self.clock);
        let attempt = self.session.userauth_pubkey_memory(self.user(), None, text, None);
        self.settle(file.path.as_str(), attempt)
    }

    fn with_passphrase(&mut self, file: &KeyFile) -> Result<bool> {
        let mut wrong = None;
        for _ in 0..PASSPHRASE_TRIES {
            let answer = self.clock.pause(|| self.prompt.passphrase(&file.path, wrong.as_ref()));
            let Some(passphrase) = answer else {
                let why = if wrong.is_some() { "wrong passphrase" } else { "needs a passphrase, and nobody gave one" };
                self.tried.push(format!("{}: {why}", file.path));
                return Ok(false);
            };
            // A wrong passphrase is found out here, before the server counts it as a try.
            match unlock(file, passphrase.expose()) {
                Unlocked::Key(text) => return self.with_text(file, &text),
                Unlocked::NotOurs => return self.with_file(file, Some(passphrase.expose())),
                Unlocked::Wrong => wrong = Some(passphrase),
            }
        }
        self.tried.push(format!("{}: wrong passphrase", file.path));
        Ok(false)
    }

    /// Notes how an attempt ended: whether we are in, or the error that makes further attempts senseless.
    fn settle(&mut self, what: &str, attempt: Result<(), ssh2::Error>) -> Result<bool> {
        let Err(cause) = attempt else { return Ok(self.session.authenticated()) };
        if is_lost(&cause) {
            if self.tried.is_empty() || self.clock.left().is_zero() {
                let what = format!("{} went away while we logged in", self.plan.label);
                return Err(Error::new(Kind::Unreachable, what).because(cause.to_string()));
            }
            self.tried.push(format!("{what}: the server hung up"));
            return Err(self.refused("nothing more"));
        }
        let why = match cause.code() {
            // LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED, LIBSSH2_ERROR_AUTHENTICATION_FAILED
            ErrorCode::Session(-18 | -19) => "not accepted".to_string(),
            _ => cause.message().to_string(),
        };
        self.tried.push(format!("{what}: {why}"));
        Ok(false)
    }

    fn refused(&self, methods: &str) -> Error {
        let Plan { label, config, .. } = self.plan;
        let tried = if self.tried.is_empty() { "no key was found".to_string() } else { self.tried.join("; ") };
        let error = Error::new(Kind::Auth, format!("{label} does not let in the user {} ({tried})", config.user));
        if let Some(path) = self.missing.first() {
            return error.hint(format!(
                "there is no key file {path}: mend `identity` in hosts/*.kdl, or IdentityFile in ~/.ssh/config"
            ));
        }
        error.hint(format!(
            "the server accepts: {methods}. Put a public key into ~{}/.ssh/authorized_keys there, and the private one into \
             the agent (ssh-add), or name it by `identity` in hosts/*.kdl or IdentityFile in ~/.ssh/config",
            config.user
        ))
    }
}

fn is_lost(cause: &ssh2::Error) -> bool {
    crate::host::ssh::actor::lost(cause).is_some()
}

fn read_key(path: &Utf8PathBuf) -> std::io::Result<KeyFile> {
    let text = Zeroizing::new(std::fs::read_to_string(path)?);
    let beside = || PublicKey::read_openssh_file(Path::new(&format!("{path}.pub"))).ok();
    let (public, encrypted) = match PrivateKey::from_openssh(text.as_bytes()) {
        Ok(key) => (Some(key.public_key().clone()), key.is_encrypted()),
        // The older PEM forms, which only libssh2 reads.
        Err(_) => (beside(), text.contains("ENCRYPTED")),
    };
    Ok(KeyFile { path: path.clone(), public: public.and_then(|key| key.to_bytes().ok()), encrypted })
}

/// What a passphrase does to a key file.
enum Unlocked {
    /// The key, without a passphrase.
    Key(Zeroizing<String>),
    /// It does not fit.
    Wrong,
    /// One of the older PEM forms, which only libssh2 reads.
    NotOurs,
}

fn unlock(file: &KeyFile, passphrase: &str) -> Unlocked {
    let Ok(key) = PrivateKey::read_openssh_file(file.path.as_std_path()) else { return Unlocked::NotOurs };
    match key.decrypt(passphrase).and_then(|key| key.to_openssh(ssh_key::LineEnding::LF)) {
        Ok(text) => Unlocked::Key(text),
        Err(_) => Unlocked::Wrong,
    }
}
