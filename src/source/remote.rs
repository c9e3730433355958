//! Repositories behind a URL: fetched into a cache, as little as the revision needs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use git2::{AutotagOption, Cred, CredentialType, Direction, FetchOptions, ProxyOptions, RemoteCallbacks, Repository};

use crate::base::digest::Digest;
use crate::base::error::{Error, Kind, Result};
use crate::host::ssh::config::{self, HostConfig, Place};
use crate::host::ssh::known_hosts::Known;
use crate::source::git::{Local, unknown_revision};
use crate::source::spec::without_password;
use crate::source::tree::Tree;

/// How long a fetch may take in all.
const FETCH_DEADLINE: Duration = Duration::from_mins(5);
/// How long to wait for another process at work in the cache.
const LOCK_DEADLINE: Duration = Duration::from_mins(2);
/// What was fetched last stands here.
const FETCHED: &str = "refs/reconcile/fetched";
/// libgit2's `GIT_FETCH_DEPTH_UNSHALLOW`.
const WHOLE: i32 = i32::MAX;

/// A commit in the cache.
pub struct Fetched {
    local: Local,
    id: git2::Oid,
    branch: Option<String>,
}

impl Fetched {
    /// Its tree, called `label`.
    pub fn tree(&self, label: &str) -> Result<Tree> {
        let commit = self.local.repository.find_commit(self.id).map_err(|cause| unknown_revision("", label, &cause))?;
        self.local.at_commit(&commit, self.branch.clone(), label)
    }
}

/// Fetches `revision` of `url`, or the default branch, into `cache`. A full id that is there already is not fetched.
pub fn open(url: &str, revision: Option<&str>, cache: &Utf8Path) -> Result<Fetched> {
    let directory = cache.join(format!("{:.32}", Digest::of(url.as_bytes())));
    let lock = lock(cache, &directory, url)?;
    let repository = open_cache(&directory)?;
    if let Some(id) = revision.and_then(full_id).and_then(|id| in_cache(&repository, id)) {
        return Ok(Fetched { local: Local::whole(repository), id, branch: None });
    }
    let (done, result) = mpsc::channel();
    let job = Fetch {
        url: url.to_string(),
        shown: without_password(url),
        revision: revision.map(Into::into),
        until: Instant::now() + FETCH_DEADLINE,
    };
    // On a thread of its own, for libgit2 has no deadline for connecting that safe code could set. The thread has the
    // lock, so that nobody works beside it should it outlive us.
    std::thread::Builder::new()
        .name("git fetch".into())
        .spawn(move || {
            let fetched = open_cache(&directory).and_then(|repository| job.run(&repository));
            drop(lock);
            _ = done.send(fetched);
        })
        .map_err(|cause| Error::new(Kind::Internal, "cannot start a thread").because(cause))?;
    match result.recv_timeout(FETCH_DEADLINE + Duration::from_secs(5)) {
        Ok(fetched) => fetched.map(|(id, branch)| Fetched { local: Local::whole(repository), id, branch }),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            Err(Error::new(Kind::Unreachable, format!("{} does not answer in time", without_password(url))))
        }
        // `git2` panics at a branch name that is not UTF-8.
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            Err(Error::new(Kind::Internal, format!("the fetch of {} broke off", without_password(url))))
        }
    }
}

fn full_id(revision: &str) -> Option<git2::Oid> {
    (revision.len() == 40).then(|| git2::Oid::from_str(revision).ok()).flatten()
}

/// The commit that `id` is, or is a tag of, if it has been fetched before.
fn in_cache(repository: &Repository, id: git2::Oid) -> Option<git2::Oid> {
    let commit = repository.find_object(id, None).and_then(|object| object.peel_to_commit()).ok()?;
    commit.tree().is_ok().then(|| commit.id())
}

fn open_cache(directory: &Utf8Path) -> Result<Repository> {
    let opened = Repository::open_bare(directory).or_else(|_| Repository::init_bare(directory));
    opened.map_err(|cause| {
        Error::new(Kind::Usage, format!("the cache {directory} cannot be used"))
            .hint("it can be deleted at any time")
            .because(cause)
    })
}

/// The lock on one repository of the cache, which ends with its file.
fn lock(cache: &Utf8Path, directory: &Utf8Path, url: &str) -> Result<File> {
    let path = Utf8PathBuf::from(format!("{directory}.lock"));
    let failed = |cause| Error::new(Kind::Usage, format!("cannot write into the cache {cache}")).because(cause);
    std::fs::create_dir_all(cache).map_err(failed)?;
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    let until = Instant::now() + LOCK_DEADLINE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::Error(cause)) => return Err(failed(cause)),
            Err(std::fs::TryLockError::WouldBlock) if Instant::now() >= until => {
                let what = format!("another process has been fetching {} for long", without_password(url));
                return Err(Error::new(Kind::Locked, what).hint(format!("it holds {path}")));
            }
            Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// One fetch.
struct Fetch {
    url: String,
    /// The URL as it may be shown.
    shown: String,
    revision: Option<String>,
    until: Instant,
}

/// The names that a remote has, and what they stand for.
type Heads = BTreeMap<String, git2::Oid>;

/// What is to be fetched.
struct Want {
    refspecs: Vec<String>,
    branch: Option<String>,
    /// Only this commit, without its history.
    shallow: bool,
    /// What the remote says it is.
    id: Option<git2::Oid>,
}

impl Fetch {
    fn run(&self, repository: &Repository) -> Result<(git2::Oid, Option<String>)> {
        let access = Access::new(&self.url, repository)?;
        let address = access.address.clone();
        let mut remote = repository.remote_anonymous(&address).map_err(|cause| self.failed(&access, cause))?;
        let connection = remote
            .connect_auth(Direction::Fetch, Some(access.callbacks(self.until)), Some(proxy()))
            .map_err(|cause| self.failed(&access, cause))?;
        let heads: Heads = connection
            .list()
            .map_err(|cause| self.failed(&access, cause))?
            .iter()
            .map(|head| (head.name().to_string(), head.oid()))
            .collect();
        let default = connection.default_branch().ok().and_then(|name| name.as_str().ok().map(String::from));
        drop(connection);
        if let Some(default) = &default {
            // So that `HEAD~1` means here what it means there.
            repository.set_head(default).map_err(|cause| self.failed(&access, cause))?;
        }
        let want = self.want(&heads, default.as_deref())?;
        if let Some(id) = want.id.and_then(|id| in_cache(repository, id)) {
            return Ok((id, want.branch));
        }
        let fetched = self.fetch(&mut remote, &access, &want);
        let whole = || Want { refspecs: everything(), branch: None, shallow: false, id: None };
        match fetched {
            // Not every server hands out a commit by its id: then it must be on a branch.
            Err(_) if self.revision.as_deref().and_then(full_id).is_some() => {
                self.fetch(&mut remote, &access, &whole())?;
            }
            other => other?,
        }
        let name = if want.shallow { FETCHED } else { self.revision.as_deref().unwrap_or(FETCHED) };
        let name = self.revision.as_deref().filter(|revision| full_id(revision).is_some()).unwrap_or(name);
        let commit = repository.revparse_single(name).and_then(|object| object.peel_to_commit());
        let shown = self.revision.as_deref().unwrap_or("HEAD");
        let commit = commit.map_err(|cause| unknown_revision(shown, &self.shown, &cause))?;
        Ok((commit.id(), want.branch))
    }

    /// What to ask for, seeing the names that the remote has.
    fn want(&self, heads: &Heads, default: Option<&str>) -> Result<Want> {
        let one = |name: &str| Want {
            refspecs: vec![format!("+{name}:{FETCHED}")],
            branch: name.strip_prefix("refs/heads/").map(String::from),
            shallow: true,
            id: heads.get(name).copied(),
        };
        let Some(revision) = &self.revision else {
            let name = default.or_else(|| heads.contains_key("HEAD").then_some("HEAD"));
            return name.map(one).ok_or_else(|| {
                Error::new(Kind::Usage, format!("{} has no default branch", self.shown)).hint("name one: URL@BRANCH")
            });
        };
        if full_id(revision).is_some() {
            return Ok(one(revision));
        }
        let candidates = [revision.clone(), format!("refs/tags/{revision}"), format!("refs/heads/{revision}")];
        match candidates.iter().find(|name| heads.contains_key(*name)) {
            Some(name) => Ok(one(name)),
            // `main~2`, a short id: only the whole history can tell.
            None => Ok(Want { refspecs: everything(), branch: None, shallow: false, id: None }),
        }
    }

    fn fetch(&self, remote: &mut git2::Remote<'_>, access: &Access, want: &Want) -> Result<()> {
        let mut options = FetchOptions::new();
        options.remote_callbacks(access.callbacks(self.until)).proxy_options(proxy());
        options.download_tags(AutotagOption::None).update_fetchhead(false);
        // libgit2 cannot fetch shallowly from a directory of this machine.
        if !self.url.starts_with("file:") {
            options.depth(if want.shallow { 1 } else { WHOLE });
        }
        remote.fetch(&want.refspecs, Some(&mut options), None).map_err(|cause| self.failed(access, cause))
    }

    /// The error of a failed connection: what the checks found, else what libgit2 says.
    fn failed(&self, access: &Access, cause: git2::Error) -> Error {
        if let Some(error) = access.refusal.borrow_mut().take() {
            return error;
        }
        let (kind, hint) = match (cause.code(), cause.class()) {
            (git2::ErrorCode::Auth, _) => {
                (Kind::Auth, "an SSH agent, a key file or a Git credential helper lets us in")
            }
            _ if cause.message().contains("certificate") => (
                Kind::HostKey,
                "SSL_CERT_FILE names a file with the certificates that are trusted instead of the system's",
            ),
            (git2::ErrorCode::NotFound, _) | (_, git2::ErrorClass::Repository) => {
                (Kind::Usage, "is the URL right, and may you read it?")
            }
            _ => (Kind::Unreachable, "a full commit id that was fetched before needs no network"),
        };
        Error::new(kind, format!("cannot fetch {}", self.shown)).hint(hint).because(cause)
    }
}

fn everything() -> Vec<String> {
    vec!["+refs/heads/*:refs/heads/*".into(), "+refs/tags/*:refs/tags/*".into()]
}

fn proxy() -> ProxyOptions<'static> {
    let mut proxy = ProxyOptions::new();
    proxy.auto();
    proxy
}

/// How to get in: credentials and the check of the host's key.
struct Access {
    /// The URL to connect to: for SSH with host, port and user of `~/.ssh/config`.
    address: String,
    ssh: Option<HostConfig>,
    config: Option<git2::Config>,
    /// Why a check of ours refused, which libgit2 would put less well.
    refusal: RefCell<Option<Error>>,
}

impl Access {
    fn new(url: &str, repository: &Repository) -> Result<Self> {
        let config = repository.config().ok();
        let refusal = RefCell::new(None);
        let Some((user, host, port, path)) = ssh_parts(url) else {
            return Ok(Access { address: url.into(), ssh: None, config, refusal });
        };
        let ssh = config::resolve(&Place::from_env(), host, port, user)?;
        let (user, host, port) = (&ssh.user, &ssh.host_name, ssh.port);
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let address = match (url.starts_with("ssh://"), port) {
            (true, _) => format!("ssh://{user}@{host}:{port}{path}"),
            (false, 22) => format!("{user}@{host}:{path}"),
            (false, _) => format!("[{user}@{host}:{port}]:{path}"),
        };
        Ok(Access { address, ssh: Some(ssh), config, refusal })
    }

    fn callbacks(&self, until: Instant) -> RemoteCallbacks<'_> {
        let mut callbacks = RemoteCallbacks::new();
        let mut offers = self.offers();
        callbacks.credentials(move |url, user, allowed| self.credential(&mut offers, url, user, allowed));
        callbacks.certificate_check(|certificate, _host| {
            let (Some(shown), Some(ssh)) = (certificate.as_hostkey(), &self.ssh) else {
                return Ok(git2::CertificateCheckStatus::CertificatePassthrough);
            };
            let name = ssh.key_alias.as_ref().unwrap_or(&ssh.host_name);
            let port = if ssh.key_alias.is_some() { 22 } else { ssh.port };
            let known = Known::read(name, port, &ssh.known_hosts);
            match known.and_then(|known| known.check(shown.hostkey().unwrap_or_default())) {
                Ok(()) => Ok(git2::CertificateCheckStatus::CertificateOk),
                Err(error) => {
                    let refusal = git2::Error::from_str(&error.what);
                    *self.refusal.borrow_mut() = Some(error);
                    Err(refusal)
                }
            }
        });
        callbacks.transfer_progress(move |_| Instant::now() < until);
        callbacks
    }

    /// What to try, one after the other: libgit2 asks again each time the last was refused.
    fn offers(&self) -> Vec<Offer> {
        let Some(ssh) = &self.ssh else { return vec![Offer::Helper, Offer::Default] };
        let files = ssh.identities.iter().filter(|file| file.exists()).cloned().map(Offer::File);
        [Offer::Agent].into_iter().chain(files).collect()
    }

    fn credential(
        &self,
        offers: &mut Vec<Offer>,
        url: &str,
        user: Option<&str>,
        allowed: CredentialType,
    ) -> Result<Cred, git2::Error> {
        let user = user.or(self.ssh.as_ref().map(|ssh| ssh.user.as_str())).unwrap_or("git");
        if allowed.is_username() {
            return Cred::username(user);
        }
        while !offers.is_empty() {
            let cred = match offers.remove(0) {
                Offer::Agent if allowed.is_ssh_key() => Cred::ssh_key_from_agent(user),
                Offer::File(file) if allowed.is_ssh_key() => Cred::ssh_key(user, None, file.as_std_path(), None),
                Offer::Helper if allowed.is_user_pass_plaintext() => match &self.config {
                    Some(config) => Cred::credential_helper(config, url, Some(user).filter(|_| url.contains('@'))),
                    None => continue,
                },
                Offer::Default if allowed.is_default() => Cred::default(),
                _ => continue,
            };
            if cred.is_ok() {
                return cred;
            }
        }
        Err(git2::Error::new(git2::ErrorCode::Auth, git2::ErrorClass::Callback, "nothing more to let us in"))
    }
}

/// One way to be let in.
enum Offer {
    Agent,
    File(Utf8PathBuf),
    Helper,
    Default,
}

/// User, host, port and path of an SSH URL in either form.
fn ssh_parts(url: &str) -> Option<(Option<&str>, &str, Option<u16>, String)> {
    let (authority, path) = match url.strip_prefix("ssh://") {
        Some(rest) => rest.find('/').map(|slash| (&rest[..slash], rest[slash..].to_string()))?,
        None if url.contains("://") => return None,
        None => {
            let (authority, path) = url.split_once(':')?;
            (authority, path.to_string())
        }
    };
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user.split(':').next().unwrap_or(user)), host),
        None => (None, authority),
    };
    match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((host, port)) => Some((user, host, port.strip_prefix(':').and_then(|port| port.parse().ok()), path)),
        None => match host.split_once(':') {
            Some((host, port)) => Some((user, host, port.parse().ok(), path)),
            None => Some((user, host, None, path)),
        },
    }
}
