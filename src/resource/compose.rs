//! `compose`: a Compose project: its files, its environment, what it mounts, and that it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::{Problem, Source, Span, did_you_mean};
use crate::base::id::{Kind, ResourceId};
use crate::resource::access::Access;
use crate::resource::colours::{self, Colour};
use crate::resource::compose_build::{self, Built, Recipes};
use crate::resource::compose_env::Env;
use crate::resource::compose_file::{self, Context, Service};
use crate::resource::compose_mount::{Change, Mount, Shipped};
use crate::resource::compose_proxy;
use crate::resource::compose_rollout::{self, ROLLOUT, Rollout};
use crate::resource::compose_whole::{self, Whole};
use crate::resource::health::{self, Health, Terms};
use crate::resource::image::{self, Images, Used};
use crate::resource::lowering::{Lowering, join_within};
use crate::resource::state::{Content, Owner, PathState, Project, ProjectService};
use crate::resource::{Action, Check, Listen, Probe, Reaction, Resource, path, value, yaml};

/// How long a container without a health check must run before one believes it, where nothing is said.
const STEADY: Duration = Duration::from_secs(2);

/// How long its services may take where nothing is said: Docker itself gives up on most of them before.
const WITHIN: Duration = Duration::from_mins(10);

/// A Compose project as a stack describes it.
#[derive(Debug, Clone)]
pub struct Compose {
    name: Text,
    files: Vec<File>,
    directory: Option<Text>,
    env: Env,
    mounts: Vec<Mount>,
    changes: Vec<Change>,
    profiles: Vec<Text>,
    running: bool,
    stopped: Vec<Text>,
    access: Access,
    healths: Vec<Health>,
    images: Images,
    builder: Option<Text>,
    rollout: Option<Rollout>,
    origin: Span,
}

/// A Compose file as a stack names it.
#[derive(Debug, Clone)]
enum File {
    AsIs(Text),
    Template(Text),
}

/// A Compose file on one host.
struct Lowered {
    /// Its name in the project directory.
    name: String,
    content: Content,
    source: Arc<Source>,
    /// The line of the stack, where the content was rendered and so stands nowhere.
    instead: Option<Span>,
}

impl Compose {
    /// Reads `compose "app" { file "compose.yaml" … }`.
    pub fn decode(mut reader: Reader<'_>) -> Option<Self> {
        let name = reader.required("a name");
        let as_is = reader.values("file").into_iter().map(File::AsIs);
        let templates = reader.values("template").into_iter().map(File::Template);
        let mut files: Vec<File> = as_is.chain(templates).collect();
        files.sort_by_key(|file| file.named().span.offset);
        let compose = Compose {
            directory: reader.value("directory"),
            env: Env::decode(&mut reader),
            mounts: Mount::decode_all(&mut reader),
            changes: Change::decode_all(&mut reader),
            profiles: reader.values("profiles"),
            running: reader.flag("running").unwrap_or(true),
            stopped: reader.values("stopped"),
            access: Access::decode_owner(&mut reader),
            healths: Health::decode_all(&mut reader),
            images: Images::decode(&mut reader),
            builder: reader.value("builder"),
            rollout: Rollout::decode(&mut reader),
            origin: reader.span(),
            name: name.clone().unwrap_or(Text { raw: String::new(), span: reader.span() }),
            files,
        };
        if compose.files.is_empty() {
            let problem = Problem::error("this project names no Compose file").at(&compose.origin, "this project");
            reader.report(problem.hint("add `file \"compose.yaml\"`"));
        }
        reader.finish();
        (name.is_some() && !compose.files.is_empty()).then_some(compose)
    }

    /// The project on one host.
    pub fn lower(&self, on: &Lowering<'_>) -> Option<Resource> {
        let name = value::compose_name(on, &self.name)?;
        let directory = match &self.directory {
            Some(text) => path::lower(on, text)?,
            None => format!("/srv/{name}").into(),
        };
        let mut resource = Resource::empty(Kind::Compose, &name, on, &self.origin);
        let base = self.base(on)?;
        let env = self.env.lower(on, &base, &self.origin);
        let files = self.files(on)?;
        let variables = self.env.variables(on, &base, &self.origin);
        let whole = self.whole(on, &files, &base, &variables)?;
        for file in &files {
            resource.state.paths.insert(directory.join(&file.name), state(file.content.clone(), 0o644));
        }
        if !self.env.is_empty(on, &base) {
            resource.state.paths.insert(directory.join(".env"), state(env?, 0o640));
        }
        let mut shipped = Shipped::new(on, base, &directory, &self.origin);
        let shipped_all = shipped.own(&self.mounts).is_some();
        shipped.named_by(&whole, self.builder.is_none());
        let profiles: Option<Vec<String>> = self.profiles.iter().map(|text| value::service_name(on, text)).collect();
        let mut profiles = profiles.filter(|_| shipped_all)?;
        let asked = variables.get("COMPOSE_PROFILES").into_iter().flat_map(|names| names.split(','));
        profiles.extend(asked.map(|name| name.trim().to_string()).filter(|name| !name.is_empty()));
        let active: Vec<&Service> = whole.services.values().filter(|service| is_active(service, &profiles)).collect();
        whole.check(&active, on);
        let stopped = self.stopped(on, &active)?;
        let runs: Vec<&Service> = active.iter().copied().filter(|service| !stopped.contains(&service.name)).collect();
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        let turning = match &self.rollout {
            Some(rollout) => Some(rollout.lower(on, &runs, &names)?),
            None => None,
        };
        let turns = |service: &str| turning.as_ref().is_some_and(|turning| turning.service == service);
        compose_proxy::check(&whole, &active, &name, on, &self.origin);
        let folders = active.iter().map(|service| {
            let mounts = service.mounts.items.iter().flat_map(|mount| shipped.below(mount)).collect();
            (service.name.clone(), ProjectService { mounts, ..ProjectService::default() })
        });
        let folders: BTreeMap<String, ProjectService> = folders.collect();
        let builds = self.builder.is_none().then(|| whole.builds(on, &self.origin, &shipped));
        let mut builds = builds.unwrap_or_default();
        let built = self.built(on, &whole, &active, &name)?;
        let services = active.iter().map(|service| {
            let (mounts, ties) = (singles(service, &shipped), service.ties.clone());
            let (built_from, for_good) = (builds.remove(&service.name), service.runs_for_good());
            (service.name.clone(), ProjectService { mounts, built_from, ties, for_good })
        });
        let mut services: BTreeMap<String, ProjectService> = services.collect();
        resource.reactions = Change::reactions(&self.changes, on, &name, &services, &folders, &shipped)?;
        for (path, file) in shipped.into_paths() {
            resource.state.paths.entry(path).or_insert(file);
        }
        let mut project_files: Vec<Utf8PathBuf> = files.iter().map(|file| directory.join(&file.name)).collect();
        if let Some(turning) = &turning {
            let path = directory.join(ROLLOUT);
            resource.state.paths.insert(path.clone(), state(turning.content.clone(), 0o644));
            project_files.push(path);
        }
        let owned_by = self.access.owner(on)?;
        for state in resource.state.paths.values_mut() {
            if let PathState::File { owner, .. } = state {
                owner.clone_from(&owned_by);
            }
        }
        let alone = runs.iter().filter(|service| !turns(&service.name));
        resource.wiring.listens = alone.flat_map(|service| listens(service)).collect();
        let (checks, terms) = self.checks(on, &resource.wiring.listens);
        resource.checks = checks;
        let followed = active.iter().filter(|service| self.builder.is_none() || service.spec.is_none());
        let used = images_used(followed.copied());
        let used = turning.as_ref().map_or(used.clone(), |turning| turning.rename(used));
        resource.images = self.images.lower(on, &used)?;
        let mut built = built;
        if let Some(turning) = &turning {
            for built in &mut built {
                built.services = turning.both(&built.services);
            }
            resource.wiring.listens.extend(turning.listens.clone());
            let runs = services.remove(&turning.service).unwrap_or_default();
            let (own, others) =
                resource.reactions.into_iter().partition(|reaction| of_service(reaction, &turning.service));
            resource.reactions = others;
            let mut colours = turning.colours(on, &name, &runs, own)?;
            if !self.running {
                colours.stop();
            }
            resource.colours = Some(Box::new(colours));
        }
        resource.state.project = Some(Project {
            name,
            files: project_files,
            directory,
            profiles,
            services,
            running: self.running,
            stopped,
            pins: Vec::new(),
            built,
            keep: self.images.keep(on)?,
            patience: (terms.patience(STEADY), terms.within.unwrap_or(WITHIN)),
        });
        image::name(&mut resource);
        resource.wear(Colour::Blue);
        Some(resource)
    }

    /// The images that a builder makes.
    fn built(&self, on: &Lowering<'_>, whole: &Whole, active: &[&Service], project: &str) -> Option<Vec<Built>> {
        let Some(text) = &self.builder else { return Some(Vec::new()) };
        let builder = compose_build::builder(on, text)?;
        Recipes::new(on, whole, project, builder, self.images.keep(on)?, &text.span).all(active)
    }

    /// The services that are to be stopped. Compose starts what another service needs.
    fn stopped(&self, on: &Lowering<'_>, active: &[&Service]) -> Option<BTreeSet<String>> {
        let mut stopped = BTreeMap::new();
        for text in &self.stopped {
            let name = on.text(text)?;
            if !active.iter().any(|service| service.name == name) {
                let problem = Problem::error(format!("the project runs no service called `{name}`"));
                let near = did_you_mean(&name, active.iter().map(|service| service.name.as_str()));
                let problem = problem.at(&text.span, "here");
                on.report(near.iter().fold(problem, |problem, near| problem.hint(format!("did you mean `{near}`?"))));
                return None;
            }
            stopped.insert(name, text);
        }
        for service in active.iter().filter(|service| !stopped.contains_key(&service.name)) {
            if let Some((name, text)) = stopped.iter().find(|(name, _)| service.ties.needs.contains(*name)) {
                let what = format!("`{}` needs `{name}`, and Compose would start it again", service.name);
                on.report(Problem::error(what).at(&text.span, "to be stopped").hint("stop both, or neither"));
                return None;
            }
        }
        Some(stopped.into_keys().collect())
    }

    /// The folder of the repository that relative paths of the Compose files mean: that of the first file.
    fn base(&self, on: &Lowering<'_>) -> Option<Utf8PathBuf> {
        let relative = on.text(self.files.first()?.named())?;
        let path = join_within(on.folder, &relative).unwrap_or_else(|| on.folder.join("compose.yaml"));
        Some(path.parent().unwrap_or(on.folder).to_path_buf())
    }

    fn files(&self, on: &Lowering<'_>) -> Option<Vec<Lowered>> {
        let files: Vec<Option<Lowered>> = self.files.iter().map(|file| file.lower(on)).collect();
        let files: Vec<Lowered> = files.into_iter().collect::<Option<_>>()?;
        for (at, file) in files.iter().enumerate() {
            if files[..at].iter().any(|other| other.name == file.name) {
                let problem = Problem::error(format!("two Compose files would both be called `{}`", file.name));
                on.report(problem.at(&self.files[at].named().span, "the second"));
                return None;
            }
            if image::is_taken(&file.name) || file.name == ROLLOUT {
                let problem = Problem::error(format!("`{}` is a name that is kept for our own file", file.name));
                on.report(problem.at(&self.files[at].named().span, "here").hint("call it something else"));
                return None;
            }
        }
        Some(files)
    }

    fn whole(
        &self,
        on: &Lowering<'_>,
        files: &[Lowered],
        base: &Utf8Path,
        variables: &BTreeMap<String, String>,
    ) -> Option<Whole> {
        let texts =
            files.iter().map(|file| compose_whole::Text { source: file.source.clone(), instead: file.instead.clone() });
        Whole::read(on, &texts.collect::<Vec<_>>(), base, variables, &self.origin)
    }

    /// What is said; with a time alone, that every published port answers within it.
    fn checks(&self, on: &Lowering<'_>, listens: &[Listen]) -> (Vec<Check>, Terms) {
        if !self.running {
            return (Vec::new(), Terms::default());
        }
        let base = listens.first().map(|listen| (value::reachable(listen.address.as_deref()), listen.port));
        let (mut checks, terms) = health::lower_all(&self.healths, on, base.as_ref(), None);
        if let (true, Some(within)) = (checks.is_empty(), terms.within) {
            checks.extend(listens.iter().map(|listen| Check {
                probe: Probe::Tcp { host: value::reachable(listen.address.as_deref()), port: listen.port },
                within,
            }));
        }
        (checks, terms)
    }

    /// What nginx calls the service with two places.
    pub fn upstreams(&self, on: &Lowering<'_>) -> Vec<(ResourceId, String)> {
        let service = self.rollout.as_ref().and_then(|rollout| rollout.service(on));
        let Some((project, service)) = value::compose_name(on, &self.name).zip(service) else { return Vec::new() };
        let upstream = colours::upstream(&compose_rollout::id(&project, &service));
        let whole = (ResourceId::new(Kind::Compose, &project), upstream.clone());
        // `compose:app` stands for it too, where no other service is reached.
        let ends = self.endpoints(on);
        let only = ends.iter().any(|(id, _)| *id == whole.0);
        [(compose_rollout::id(&project, &service), upstream)].into_iter().chain(only.then_some(whole)).collect()
    }

    /// `compose:app/web` for each service with a published port, and `compose:app` if only one has.
    pub fn endpoints(&self, on: &Lowering<'_>) -> Vec<(ResourceId, (String, u16))> {
        let Some(name) = value::compose_name(on, &self.name) else { return Vec::new() };
        let whole = self.base(on).and_then(|base| {
            let variables = self.env.variables(on, &base, &self.origin);
            self.whole(on, &self.files(on)?, &base, &variables)
        });
        let services = whole.into_iter().flat_map(|whole| whole.services.into_values());
        let mut found: BTreeMap<String, (String, u16)> = BTreeMap::new();
        for service in services {
            if let Some(port) = service.ports.items.first() {
                found.insert(service.name, (value::reachable(port.address.as_deref()), port.published));
            }
        }
        if let Some(rollout) = &self.rollout {
            found.extend(rollout.service(on).zip(rollout.endpoint(on)));
        }
        let only = (found.len() == 1).then(|| found.values().next().cloned()).flatten();
        let whole = only.map(|endpoint| (ResourceId::new(Kind::Compose, &name), endpoint));
        let each = found
            .into_iter()
            .map(|(service, endpoint)| (ResourceId::new(Kind::Compose, format!("{name}/{service}")), endpoint));
        each.chain(whole).collect()
    }
}

impl File {
    fn named(&self) -> &Text {
        let (File::AsIs(text) | File::Template(text)) = self;
        text
    }

    fn lower(&self, on: &Lowering<'_>) -> Option<Lowered> {
        let named = on.text(self.named())?;
        let name = Utf8Path::new(&named).file_name().unwrap_or("compose.yaml").to_string();
        match self {
            File::AsIs(text) => {
                let (path, bytes) = on.asset(text)?;
                let source = on.source(&path, &text.span)?;
                Some(Lowered { name, content: Content::plain(bytes), source, instead: None })
            }
            File::Template(text) => {
                let content = on.own_template(text)?;
                let source = Source::new(named.as_str(), String::from_utf8_lossy(&content.bytes));
                let name = name.strip_suffix(".j2").unwrap_or(&name).to_string();
                Some(Lowered { name, content, source, instead: Some(text.span.clone()) })
            }
        }
    }
}

/// The managed single files that a service mounts.
fn singles(service: &Service, shipped: &Shipped<'_>) -> Vec<Utf8PathBuf> {
    let mut paths: Vec<Utf8PathBuf> = Vec::new();
    for path in service.mounts.items.iter().filter_map(|mount| shipped.single(mount)) {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

/// The image of each of these services.
fn images_used<'s>(active: impl Iterator<Item = &'s Service>) -> Vec<Used> {
    let used = active.filter_map(|service| {
        let span = service.image_span.clone()?;
        let (image, platform, built) = (service.image.clone(), service.platform.clone(), service.build.is_some());
        Some(Used { service: service.name.clone(), image, platform, built, span })
    });
    used.collect()
}

fn is_active(service: &Service, profiles: &[String]) -> bool {
    let chosen = service.profiles.is_empty() || service.profiles.iter().any(|profile| profiles.contains(profile));
    chosen && service.scaled_to_zero != Some(true)
}

fn listens(service: &Service) -> impl Iterator<Item = Listen> {
    service.ports.items.iter().map(|port| Listen {
        address: port.address.clone(),
        port: port.published,
        container_port: Some(port.target),
        image: service.image.clone(),
        span: port.span.clone(),
    })
}

/// Whether something is done to this service.
fn of_service(reaction: &Reaction, name: &str) -> bool {
    match &reaction.action {
        Action::Container { service, .. } | Action::Recreate { service, .. } => service == name,
        _ => false,
    }
}

/// A file of the project; only root reads it where a secret is in it.
pub(super) fn state(content: Content, mode: u32) -> PathState {
    let mode = if content.secret { 0o600 } else { mode };
    PathState::File { content, mode, owner: Owner::root() }
}

/// The files beside a Compose file that it mounts or reads, relative to it, as far as that is plainly written.
pub fn beside(compose_file: &[u8]) -> Vec<Utf8PathBuf> {
    let source = Source::new("compose.yaml", String::from_utf8_lossy(compose_file));
    let Ok(root) = yaml::parse(&source, None) else { return Vec::new() };
    let context = Context { source: &source, base: Utf8Path::new(""), instead: None, variables: &BTreeMap::new() };
    let read = compose_file::read(&root, &context);
    let named = read.services.iter().flat_map(|service| service.mounts.items.iter().chain(&service.reads));
    let named = named.chain(read.includes.iter().flat_map(|include| include.files.iter().chain(&include.env_files)));
    let extended = read.services.iter().filter_map(|service| service.extends.as_ref()?.0.as_deref());
    let written =
        named.map(|named| named.written.as_str()).chain(extended).filter(|path| !path.starts_with(['/', '~']));
    written.filter_map(|path| join_within(Utf8Path::new(""), path)).filter(|path| !path.as_str().is_empty()).collect()
}
