//! Looking at a host for what was set up by hand: reads only.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::error::{Error, Kind, Result};
use crate::base::id::{HostName, RepoId};
use crate::engine::Setup;
use crate::engine::session::Session;
use crate::host::discovery::{self, Discovery};
use crate::host::observation::{Observation, PathSeen, Seen, Thing};
use crate::host::program::Program;
use crate::observe::Questions;
use crate::resource::compose;

/// Files that are larger are nobody's configuration.
const LARGEST: u64 = 512 << 10;

/// What was found on a host.
#[derive(Debug, Default)]
pub struct Found {
    /// Names.
    pub named: Discovery,
    /// How the named files, units and projects are, with the contents of all files that everybody may read.
    pub seen: Observation,
}

/// Why the bytes of a file are not there to be copied.
pub enum Missing {
    /// Not everybody may read it: it may hold a secret.
    Closed,
    /// It is no regular file, not there, or too large.
    Unfit(&'static str),
}

impl Found {
    /// What is at a path.
    pub fn at(&self, path: &Utf8Path) -> Option<&PathSeen> {
        match self.seen.paths.get(path) {
            Some(Seen::Present(seen)) => Some(seen),
            _ => None,
        }
    }

    /// The bytes of a file, or why they are not there.
    pub fn bytes(&self, path: &Utf8Path) -> Result<&[u8], Missing> {
        let seen = self.at(path).ok_or(Missing::Unfit("it is not there"))?;
        match seen.thing {
            Thing::File(Some(_)) if seen.size > LARGEST => return Err(Missing::Unfit("it is larger than 512 KiB")),
            Thing::File(Some(_)) if !is_open(seen) => return Err(Missing::Closed),
            Thing::File(_) => {}
            _ => return Err(Missing::Unfit("it is no regular file")),
        }
        self.seen.contents.get(path).map(Vec::as_slice).ok_or(Missing::Unfit("it could not be read"))
    }
}

impl Missing {
    /// Why, and what to do.
    pub fn words(&self) -> String {
        match self {
            Missing::Closed => "not everybody may read it, so it may hold a secret, and is not copied into Git: \
                                describe it yourself with the secret as `{{ secret.NAME }}`, or `chmod 644` it if it holds none"
                .into(),
            Missing::Unfit(why) => (*why).into(),
        }
    }
}

/// Whether everybody may read it.
fn is_open(seen: &PathSeen) -> bool {
    seen.mode & 0o044 == 0o044
}

/// Looks at a host.
pub async fn look(setup: &Setup, host: &HostName) -> Result<Found> {
    let described = &setup.config.hosts[host];
    let mut session = Session::open(host, &described.target, setup.base.as_ref(), setup.prompt.clone(), None).await?;
    if session.is_offline() {
        let error = Error::new(Kind::Usage, format!("{host} is a directory: nothing runs there that could be adopted"));
        return Err(error.hint("adopt a host that is reached by SSH, or this machine without `root`"));
    }
    let named = discovery::parse(&session.hear(Program::Discover, b"").await?);
    let mut found = Found { named, seen: Observation::default() };
    let repo = &setup.config.repo;
    let projects: Vec<_> = found.named.projects.values().cloned().collect();
    let mut first = Questions { docker: true, ..Questions::default() };
    first.paths.extend(found.named.files.iter().chain(&found.named.links).cloned());
    first.paths.extend(projects.iter().flat_map(|project| project.files.iter().cloned()));
    first.paths.extend(projects.iter().map(|project| project.directory.join(".env")));
    let is_unit = |path: &&Utf8PathBuf| path.parent() == Some(Utf8Path::new(super::systemd::FOLDER));
    first.units.extend(found.named.files.iter().filter(is_unit).filter_map(|path| path.file_name().map(Into::into)));
    first.units.insert("nginx.service".into());
    ask(&mut session, &mut found, first, repo).await?;
    // What the Compose files mount from beside them.
    let beside: BTreeSet<Utf8PathBuf> = projects
        .iter()
        .flat_map(|project| project.files.iter().map(|file| (file, &project.directory)))
        .filter_map(|(file, directory)| Some((found.bytes(file).ok()?, directory)))
        .flat_map(|(bytes, directory)| compose::beside(bytes).into_iter().map(|path| directory.join(path)))
        .collect();
    ask(&mut session, &mut found, Questions { paths: beside, ..Questions::default() }, repo).await?;
    Ok(found)
}

/// Asks how things are, and then for the bytes of those files that everybody may read.
async fn ask(session: &mut Session, found: &mut Found, questions: Questions, repo: &RepoId) -> Result<()> {
    if questions == Questions::default() {
        return Ok(());
    }
    let seen = session.ask(Program::Observe, &questions.to_request(&session.place, Some(repo))).await?;
    let fits = |path: &Utf8PathBuf| match seen.paths.get(path) {
        Some(Seen::Present(seen)) => matches!(seen.thing, Thing::File(_)) && is_open(seen) && seen.size <= LARGEST,
        _ => false,
    };
    let contents = questions.paths.iter().filter(|path| fits(path)).cloned().collect();
    let contents = Questions { contents, ..Questions::default() };
    let bytes = session.ask(Program::Observe, &contents.to_request(&session.place, None)).await?;
    found.seen.paths.extend(seen.paths);
    found.seen.units.extend(seen.units);
    found.seen.ledgers.extend(seen.ledgers);
    found.seen.contents.extend(bytes.contents);
    found.seen.containers = seen.containers.or(found.seen.containers.take());
    Ok(())
}
