//! From the command line to the stages: which repository, which hosts and stacks, within which bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::diagnostic::Problems;
use crate::base::error::{Error, Kind, Result};
use crate::base::id::{HostName, ResourceId, StackName};
use crate::cli::args::{Common, Waves};
use crate::cli::ask::Passphrases;
use crate::cli::interrupt::Interrupt;
use crate::cli::origin::Origin;
use crate::cli::progress::Progress;
use crate::cli::screen::Screen;
use crate::engine::Setup;
use crate::load::{self, Chosen, Config, Rollout, Secrets, Selection};
use crate::sealed::World;
use crate::source::{self, Place, Signature, Spec, Tree};

/// A repository, loaded.
pub struct Repository {
    /// Where it comes from.
    pub origin: Origin,
    /// What it says.
    pub config: Config,
    /// Warnings.
    pub warnings: Problems,
    /// Its directory, where it is a work tree.
    pub directory: Option<Utf8PathBuf>,
}

/// The repository that the command line names, or the one that one stands in.
pub fn spec(common: &Common) -> Result<Spec> {
    if let Some(repo) = &common.repo {
        return Spec::parse(repo);
    }
    let here = std::env::current_dir().ok().and_then(|here| Utf8PathBuf::from_path_buf(here).ok());
    let root = here.as_deref().and_then(source::find_root);
    let root = root.ok_or_else(|| {
        Error::new(Kind::Usage, "neither this directory nor one above it has stacks/ and hosts/")
            .hint("go to the repository, or name it: --repo DIR|URL[@REV]; a new one begins with these two directories")
    })?;
    Ok(Spec { place: Place::Directory(root), revision: None })
}

/// Opens and loads the repository of the command line.
pub fn open(common: &Common, secrets: Secrets) -> Result<Repository> {
    let spec = spec(common)?;
    let tree = source::open(&spec, &source::default_cache())?;
    load_tree(common, &tree, &spec.place, secrets)
}

/// Loads a tree.
pub fn load_tree(common: &Common, tree: &Tree, place: &Place, secrets: Secrets) -> Result<Repository> {
    let prompt = passphrases(common);
    let (config, mut warnings) = load::load(&tree.files, world(common, &prompt), secrets)?;
    warnings.extend(tree.problems.clone());
    let directory = match place {
        Place::Directory(directory) => Some(directory.clone()),
        Place::Url(_) => None,
    };
    Ok(Repository { origin: origin(&config, tree, place), config, warnings, directory })
}

/// Whoever is at the terminal, before anything is shown there.
pub fn passphrases(common: &Common) -> Passphrases {
    Passphrases::new(Progress::new(false), common.no_input)
}

/// The world around this program, as far as secrets are concerned.
pub fn world<'a>(common: &'a Common, prompt: &'a Passphrases) -> World<'a> {
    let env = &|name: &str| std::env::var(name).ok();
    let read = &|path: &Utf8Path| std::fs::read(path);
    World { env, read, prompt, identities: &common.identities }
}

fn origin(config: &Config, tree: &Tree, place: &Place) -> Origin {
    let signer = tree.commit.as_ref().and_then(|commit| match &commit.signature {
        Signature::Good { signer, .. } => Some(signer.clone()),
        _ => None,
    });
    Origin {
        repo: config.repo.to_string(),
        location: place.to_string(),
        commit: tree.commit.as_ref().map(|commit| commit.id.clone()),
        branch: tree.commit.as_ref().and_then(|commit| commit.branch.clone()),
        author: tree.commit.as_ref().map(|commit| commit.author.clone()),
        signer,
        before: None,
        chosen: Vec::new(),
        dirty: tree.dirty.tracked.len() + tree.dirty.untracked.len(),
    }
}

/// The hosts and stacks that the command line chooses.
pub fn choose(common: &Common, config: &Config) -> Result<Chosen> {
    let selection = Selection { hosts: common.hosts.clone(), stacks: common.stacks.clone(), tags: common.tags.clone() };
    selection.select(config)
}

/// What takes part: hosts, and the stacks of each unless it is all of them.
pub struct Parts {
    /// The hosts.
    pub hosts: Vec<HostName>,
    /// The stacks that take part on each host; `None` for all.
    pub stacks: Option<BTreeMap<HostName, BTreeSet<StackName>>>,
}

/// What a selection means for each host.
pub fn parts(chosen: Chosen) -> Parts {
    let stacks = || chosen.hosts.iter().map(|host| (host.clone(), chosen.stacks.clone())).collect();
    Parts { stacks: chosen.partial.then(stacks), hosts: chosen.hosts.into_iter().collect() }
}

/// Within which bounds hosts are worked on.
#[derive(Debug, Clone, Default)]
pub struct Bounds {
    /// Resources that may be taken over.
    pub adopt: Vec<ResourceId>,
    /// The plan that may do what plans must not do just like that.
    pub override_plan: Option<String>,
    /// Who brings back what dead runs left half done; `None` leaves it.
    pub recover: Option<String>,
    /// In which waves, where the command line says so.
    pub waves: Waves,
    /// How many seconds to wait for another run.
    pub lock_wait: u32,
    /// How many seconds a host waits for confirmation.
    pub confirm: u32,
}

/// What stays the same while a command works on hosts.
pub struct Live {
    /// What the engine works on.
    pub setup: Arc<Setup>,
    /// Ctrl-C.
    pub interrupt: Interrupt,
}

/// Gets everything ready for work on the chosen hosts. Must be called within the runtime.
pub fn go_live(common: &Common, repository: Repository, chosen: Parts, bounds: Bounds) -> Result<Live> {
    let screen = Screen::new(common.color);
    let progress = Progress::new(screen.is_watched && common.verbose == 0);
    let interrupt = Interrupt::listen(screen, progress.clone())
        .map_err(|error| Error::new(Kind::Internal, "signals cannot be listened to").because(error))?;
    let setup = Setup {
        rollout: rollout(&repository.config, &bounds.waves)?,
        base: repository.directory,
        config: Arc::new(repository.config),
        hosts: chosen.hosts,
        stacks: chosen.stacks,
        recover: bounds.recover,
        override_plan: bounds.override_plan,
        adopt: bounds.adopt.into_iter().collect::<BTreeSet<_>>(),
        parallel: usize::from(common.parallel),
        lock_wait: bounds.lock_wait,
        confirm: bounds.confirm,
        prompt: Arc::new(Passphrases::new(progress.clone(), common.no_input)),
        sink: Arc::new(progress),
        pool: None,
        interrupted: interrupt.receiver(),
    };
    Ok(Live { setup: Arc::new(setup), interrupt })
}

/// How the repository has hosts gone over, with what the command line says otherwise.
fn rollout(config: &Config, waves: &Waves) -> Result<Option<Rollout>> {
    if waves.canary.is_empty() && waves.batch.is_none() && waves.pause.is_none() {
        return Ok(config.rollout.clone());
    }
    let mut rollout = config.rollout.clone().unwrap_or_default();
    if !waves.canary.is_empty() {
        let selection = Selection { hosts: waves.canary.clone(), ..Selection::default() };
        rollout.canary = selection.select(config)?.hosts.into_iter().collect();
    }
    rollout.batch = waves.batch.unwrap_or(rollout.batch);
    rollout.pause = waves.pause.unwrap_or(rollout.pause);
    Ok(Some(rollout))
}

/// Runs work that talks to hosts.
pub fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::new(Kind::Internal, "no runtime can be started").because(error))?;
    let result = runtime.block_on(work);
    // A host that hangs must not keep the program from ending.
    runtime.shutdown_background();
    result
}
