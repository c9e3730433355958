//! The hosts that build images for others. One is asked only where another host lacks an image, and builds each once,
//! whatever the number of hosts that are to run it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::sync::OnceCell;

use crate::base::diagnostic::Problem;
use crate::base::error::{Error, Kind, Result};
use crate::base::id::HostName;
use crate::engine::Setup;
use crate::engine::images::Unknown;
use crate::engine::session::{Session, is_alive};
use crate::host::archive::Archive;
use crate::host::images::ImagesSeen;
use crate::host::observation::Observation;
use crate::host::program::Program;
use crate::observe::Questions;
use crate::plan::builds::is_lacking;
use crate::provider::docker::{Engine, OnProgress};
use crate::resource::Resource;
use crate::resource::compose_build::{Recipe, Source};
use crate::resource::image::untagged;

/// How long the build of one image may take.
const BUILD: Duration = Duration::from_mins(30);
/// For how many seconds a build waits for another one at least: several hosts may be planned one after the other.
const PATIENCE: u32 = 600;
/// How many lines of a build that failed are told.
const LAST: usize = 15;

/// The builders of one run.
#[derive(Default)]
pub struct Builders {
    asked: Once<HostName, Result<Arc<Asked>, Fault>>,
    reached: Once<HostName, Result<Arc<Session>, Fault>>,
    built: Once<String, Result<(), Fault>>,
}

type Once<K, T> = Mutex<BTreeMap<K, Arc<OnceCell<T>>>>;

/// What a builder said of itself.
struct Asked {
    images: ImagesSeen,
    /// Where our records are there.
    state: Utf8PathBuf,
}

/// Why something could not be had, for everybody who wants it.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    /// What happened.
    pub what: String,
    /// What was said last, or what to do.
    pub output: Vec<String>,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault { what: error.to_string(), output: error.hint.into_iter().collect() }
    }
}

impl Builders {
    /// Finds out what builders have of the images that a host lacks.
    pub async fn ask(&self, setup: &Setup, resources: &mut [Resource], seen: &Observation, unknown: &mut Unknown) {
        let Some(images) = &seen.images else { return };
        for resource in resources {
            let Some(project) = resource.state.project.as_mut().filter(|project| project.running) else { continue };
            let containers = seen.containers.iter().flatten().flatten();
            let there: Vec<_> = containers.filter(|container| container.project == project.name).collect();
            for built in project.built.iter_mut().filter(|built| is_lacking(built, images, &there)) {
                let recipe = &built.recipe;
                match self.asked(setup, &recipe.builder).await {
                    Err(fault) => unknown.add(&resource.id, cannot_be_asked(recipe, &fault)),
                    Ok(asked) if recipe.platform.is_none() && asked.images.platform != images.platform => {
                        unknown.add(&resource.id, other_machine(recipe, &asked.images.platform, &images.platform));
                    }
                    Ok(asked) => built.source = asked.source(recipe),
                }
            }
        }
    }

    async fn asked(&self, setup: &Setup, host: &HostName) -> Result<Arc<Asked>, Fault> {
        let asking = async { Ok(Arc::new(Box::pin(ask(setup, host)).await?)) };
        once(&self.asked, host).get_or_init(|| asking).await.clone()
    }

    /// A connection for this run: the one of the plan may be old.
    async fn session(&self, setup: &Setup, host: &HostName) -> Result<Arc<Session>, Fault> {
        let reaching = async { Ok(Arc::new(Box::pin(open(setup, host)).await.map_err(|error| lost(host, error))?)) };
        once(&self.reached, host).get_or_init(|| reaching).await.clone()
    }

    /// Builds an image, once for all who ask for it.
    pub(super) async fn build(&self, setup: &Setup, recipe: &Arc<Recipe>, discard: &[String]) -> Result<(), Fault> {
        let building = async {
            let asked = self.asked(setup, &recipe.builder).await?;
            build(&*self.session(setup, &recipe.builder).await?, setup, &asked.state, recipe, discard).await
        };
        once(&self.built, &recipe.image).get_or_init(|| building).await.clone()
    }

    /// Brings an image to another host.
    pub(super) async fn bring(
        &self,
        setup: &Setup,
        recipe: &Recipe,
        to: &Engine,
        on_progress: &mut OnProgress<'_>,
    ) -> Result<(), Fault> {
        let session = self.session(setup, &recipe.builder).await?;
        let from = Engine::reach(session.connection(), session.is_sudo()).await?;
        match to.take(&from, &recipe.image, on_progress).await {
            // What the two Engines say then is only that a stream has ended.
            Err(_) if !is_alive(session.connection()).await => {
                let error = Error::new(Kind::Unreachable, "the connection was lost while an image came from there");
                Err(lost(&recipe.builder, error))
            }
            taken => Ok(taken?),
        }
    }
}

impl Asked {
    /// What the builder has of an image. Of former ones as many stay as on the hosts that run them.
    fn source(&self, recipe: &Arc<Recipe>) -> Source {
        if let Some(there) = self.images.tagged(&recipe.image) {
            return Source::There { id: there.id.clone(), bytes: there.bytes };
        }
        let former = |recipe: &Arc<Recipe>| {
            let names = self.images.tagged.iter().map(|tagged| tagged.name.clone());
            let image = recipe.image.clone();
            names.filter(move |name| untagged(name) == untagged(&image) && *name != image).skip(recipe.keep)
        };
        Source::Absent { former: recipe.in_order().iter().flat_map(former).collect() }
    }
}

/// A session with a builder, whether or not it takes part in the run.
async fn open(setup: &Setup, host: &HostName) -> Result<Session> {
    let target = &setup.config.hosts[host].target;
    if !target.is_live() {
        let error = Error::new(Kind::Host, format!("{host} is a directory, where nothing can be built"));
        return Err(error.hint("name a builder without `root`"));
    }
    Session::open(host, target, setup.base.as_ref(), setup.prompt.clone(), setup.pool.as_deref()).await
}

async fn ask(setup: &Setup, host: &HostName) -> Result<Asked> {
    let mut session = open(setup, host).await?;
    let questions = Questions { images: true, ..Questions::default() };
    let seen = session.ask(Program::Observe, &questions.to_request(&session.place, Some(&setup.config.repo))).await?;
    match seen.images {
        Some(images) => Ok(Asked { images, state: seen.state }),
        None if seen.tools.contains("docker") => {
            let error = Error::new(Kind::Host, format!("Docker does not answer on {host}"));
            Err(error.hint("see that `docker info` works there"))
        }
        None => {
            let error = Error::new(Kind::Host, format!("{host} has no Docker"));
            Err(error.hint("install Docker with Compose v2 there, or name another builder"))
        }
    }
}

/// Has a builder build an image, after what it begins with.
async fn build(
    session: &Session,
    setup: &Setup,
    state: &Utf8Path,
    recipe: &Arc<Recipe>,
    discard: &[String],
) -> Result<(), Fault> {
    let mut input = format!("state {state}\nrepo {}\n", setup.config.repo);
    let wait = setup.lock_wait.max(PATIENCE);
    let _ = write!(input, "wait {wait}\nseconds {}\n", BUILD.as_secs());
    let mut archive = Archive::default();
    let recipes = recipe.in_order();
    for recipe in &recipes {
        let alias = recipe.alias.as_deref().unwrap_or_default();
        let _ = writeln!(input, "image {}\t{}\t{alias}", recipe.image, recipe.service);
        let description = recipe.description.to_string();
        archive.file(&Utf8PathBuf::from(format!("{}.build", recipe.service)), 0o600, description.as_bytes());
        for (path, (mode, content)) in &recipe.files {
            archive.file(path, *mode, &content.bytes);
        }
    }
    input.extend(discard.iter().map(|image| format!("discard {image}\n")));
    input += "tar\n";
    let input = [input.into_bytes(), archive.finish()].concat();
    let waiting = Duration::from_secs(wait.into()) + Duration::from_mins(5);
    let deadline = BUILD * u32::try_from(recipes.len()).unwrap_or(1) + waiting;
    let answer = session.tell_alone(Program::Build, &input, deadline).await;
    let answer = answer.map_err(|error| lost(&recipe.builder, error))?;
    let said = String::from_utf8_lossy(&answer);
    let there = said.lines().filter(|line| line.starts_with("there ")).count();
    if there == recipes.len() {
        return Ok(());
    }
    let broken = said.lines().find_map(|line| line.strip_prefix("broken ")).unwrap_or("the build has no end");
    let words: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("| ")).collect();
    let last = words.len().saturating_sub(LAST);
    let output = words[last..].iter().map(ToString::to_string).collect();
    Err(Fault { what: format!("{}: {broken}", recipe.builder), output })
}

/// What is said of a builder that is out of reach, in the report of another host.
fn lost(builder: &HostName, error: Error) -> Fault {
    if error.kind != Kind::Unreachable {
        return error.into();
    }
    let hint = "apply again once it can be reached; what it has built by then is not built again".to_string();
    Fault { what: format!("the builder {builder}: {error}"), output: vec![hint] }
}

fn cannot_be_asked(recipe: &Recipe, fault: &Fault) -> Problem {
    let Recipe { builder, service, span, .. } = recipe;
    let problem = Problem::error(format!("`{service}` cannot be had from its builder {builder}: {}", fault.what));
    let problem = problem.at(span, "this builder");
    problem.hint(fault.output.first().cloned().unwrap_or_else(|| "everything runs as before".into()))
}

fn other_machine(recipe: &Recipe, there: &str, here: &str) -> Problem {
    let Recipe { builder, service, span, .. } = recipe;
    let what = format!("{builder} builds `{service}` for {there}, and this host is {here}");
    let hint = format!("give the service `platform: {here}`, or name a builder of that kind");
    Problem::error(what).at(span, "this builder").hint(hint)
}

fn once<K: Ord + Clone, T>(all: &Once<K, T>, key: &K) -> Arc<OnceCell<T>> {
    all.lock().unwrap_or_else(PoisonError::into_inner).entry(key.clone()).or_default().clone()
}
