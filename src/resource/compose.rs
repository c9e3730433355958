//! `compose`: a Compose project: its files, its environment, what it mounts, and that it runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::{Problem, Source, Span};
use crate::base::id::{Kind, ResourceId};
use crate::resource::access::Access;
use crate::resource::compose_env::Env;
use crate::resource::compose_file::{self, ComposeFile, Context};
use crate::resource::compose_mount::{Change, Mount, Shipped};
use crate::resource::health::{self, Health};
use crate::resource::image::{self, Images, Used};
use crate::resource::lowering::{Lowering, join_within};
use crate::resource::state::{Content, Owner, PathState, Project, ProjectService};
use crate::resource::{Check, Listen, Probe, Resource, path, value, yaml};

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
    access: Access,
    healths: Vec<Health>,
    images: Images,
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
            access: Access::decode_owner(&mut reader),
            healths: Health::decode_all(&mut reader),
            images: Images::decode(&mut reader),
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
        let env = self.env.lower(on);
        let files = self.files(on)?;
        let variables = self.env.variables(on);
        let read: Vec<(ComposeFile, Utf8PathBuf)> =
            files.iter().map(|file| self.read(on, file, &variables)).collect::<Option<Vec<_>>>()?.concat();
        for file in &files {
            resource.state.paths.insert(directory.join(&file.name), state(file.content.clone(), 0o644));
        }
        if !self.env.is_empty() {
            resource.state.paths.insert(directory.join(".env"), state(env?, 0o640));
        }
        let mut shipped = Shipped::new(on, self.base(on)?, &directory, &self.origin);
        let shipped_all = shipped.own(&self.mounts).is_some();
        for (file, base) in &read {
            shipped.named_by(file, base);
        }
        let profiles: Option<Vec<String>> = self.profiles.iter().map(|text| value::service_name(on, text)).collect();
        let profiles = profiles.filter(|_| shipped_all)?;
        let single = |mount: &str, base: &Utf8Path| shipped.single(mount, base).into_iter().collect();
        let services = active_services(&read, &profiles, &single);
        let folders = active_services(&read, &profiles, &|mount, base| shipped.below(mount, base));
        resource.reactions = Change::reactions(&self.changes, on, &name, &services, &folders, &shipped)?;
        resource.state.paths.extend(shipped.into_paths());
        let owned_by = self.access.owner(on)?;
        for state in resource.state.paths.values_mut() {
            if let PathState::File { owner, .. } = state {
                owner.clone_from(&owned_by);
            }
        }
        resource.wiring.listens = read.iter().flat_map(|(file, _)| listens(file, &profiles)).collect();
        resource.checks = self.checks(on, &resource.wiring.listens);
        resource.images = self.images.lower(on, &images_used(&read, &profiles))?;
        resource.state.project = Some(Project {
            name,
            files: files.iter().map(|file| directory.join(&file.name)).collect(),
            directory,
            profiles,
            services,
            running: self.running,
            pins: Vec::new(),
            keep: self.images.keep(on)?,
        });
        Some(resource)
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
            if image::is_taken(&file.name) {
                let problem = Problem::error(format!("`{}` is a name that is kept for our own file", file.name));
                on.report(problem.at(&self.files[at].named().span, "here").hint("call it something else"));
                return None;
            }
        }
        Some(files)
    }

    /// What a file says, and what those it includes say, each with the folder its paths are relative to.
    fn read(
        &self,
        on: &Lowering<'_>,
        file: &Lowered,
        variables: &BTreeMap<String, String>,
    ) -> Option<Vec<(ComposeFile, Utf8PathBuf)>> {
        let base = self.base(on)?;
        let mut all = vec![(read_one(on, file, variables)?, base.clone())];
        let mut waiting: Vec<Utf8PathBuf> = included(&all[0].0, &base);
        let mut seen: Vec<Utf8PathBuf> = Vec::new();
        while let Some(path) = waiting.pop() {
            let Some(source) = on.source(&path, &self.origin).filter(|_| !seen.contains(&path)) else { continue };
            let content = Content::plain(source.text.as_bytes());
            let read = read_one(on, &Lowered { name: path.to_string(), content, source, instead: None }, variables)?;
            let base = path.parent().unwrap_or(on.folder).to_path_buf();
            waiting.extend(included(&read, &base));
            seen.push(path);
            all.push((read, base));
        }
        Some(all)
    }

    /// What is said; with a time alone, that every published port answers within it.
    fn checks(&self, on: &Lowering<'_>, listens: &[Listen]) -> Vec<Check> {
        if !self.running {
            return Vec::new();
        }
        let base = listens.first().map(|listen| (value::reachable(listen.address.as_deref()), listen.port));
        let (mut checks, within) = health::lower_all(&self.healths, on, base.as_ref(), None);
        if checks.is_empty() && !self.healths.is_empty() {
            checks.extend(listens.iter().map(|listen| Check {
                probe: Probe::Tcp { host: value::reachable(listen.address.as_deref()), port: listen.port },
                within,
            }));
        }
        checks
    }

    /// `compose:app/web` for each service with a published port, and `compose:app` if only one has.
    pub fn endpoints(&self, on: &Lowering<'_>) -> Vec<(ResourceId, (String, u16))> {
        let Some(name) = value::compose_name(on, &self.name) else { return Vec::new() };
        let variables = self.env.variables(on);
        let files = self.files(on).unwrap_or_default();
        let read = files.iter().filter_map(|file| self.read(on, file, &variables)).flatten();
        let mut found: BTreeMap<String, (String, u16)> = BTreeMap::new();
        for service in read.flat_map(|(file, _)| file.services) {
            if let Some(port) = service.ports.first() {
                found.entry(service.name).or_insert((value::reachable(port.address.as_deref()), port.published));
            }
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

fn read_one(on: &Lowering<'_>, file: &Lowered, variables: &BTreeMap<String, String>) -> Option<ComposeFile> {
    match yaml::parse(&file.source, file.instead.as_ref()) {
        Ok(root) => {
            let context = Context { source: &file.source, instead: file.instead.as_ref(), variables };
            Some(compose_file::read(&root, &context))
        }
        Err(problem) => {
            on.report(*problem);
            None
        }
    }
}

fn included(file: &ComposeFile, base: &Utf8Path) -> Vec<Utf8PathBuf> {
    file.includes.iter().filter_map(|relative| join_within(base, relative)).collect()
}

/// The services that run with these profiles, each with the managed files that `mounted` finds for its mounts. A service
/// of several files is one service.
fn active_services(
    read: &[(ComposeFile, Utf8PathBuf)],
    profiles: &[String],
    mounted: &dyn Fn(&str, &Utf8Path) -> Vec<Utf8PathBuf>,
) -> BTreeMap<String, ProjectService> {
    let mut services: BTreeMap<String, ProjectService> = BTreeMap::new();
    for (file, base) in read {
        for service in file.services.iter().filter(|service| is_active(service, profiles)) {
            let ProjectService { mounts, ties } = services.entry(service.name.clone()).or_default();
            for path in service.mounts.iter().flat_map(|mount| mounted(mount, base)) {
                if !mounts.contains(&path) {
                    mounts.push(path);
                }
            }
            ties.add(&service.ties);
        }
    }
    services
}

/// The image of each service that runs with these profiles. Of several files the last has the last word.
fn images_used(read: &[(ComposeFile, Utf8PathBuf)], profiles: &[String]) -> Vec<Used> {
    let mut used: BTreeMap<&str, Used> = BTreeMap::new();
    let services = read.iter().flat_map(|(file, _)| &file.services);
    for service in services.filter(|service| is_active(service, profiles)) {
        let Some(span) = service.image_span.clone() else { continue };
        let (image, platform, built) = (service.image.clone(), service.platform.clone(), service.built);
        used.insert(&service.name, Used { service: service.name.clone(), image, platform, built, span });
    }
    used.into_values().collect()
}

fn is_active(service: &compose_file::Service, profiles: &[String]) -> bool {
    let chosen = service.profiles.is_empty() || service.profiles.iter().any(|profile| profiles.contains(profile));
    chosen && !service.scaled_to_zero
}

fn listens(file: &ComposeFile, profiles: &[String]) -> Vec<Listen> {
    let active = file.services.iter().filter(|service| is_active(service, profiles));
    active
        .flat_map(|service| {
            service.ports.iter().map(|port| Listen {
                address: port.address.clone(),
                port: port.published,
                container_port: Some(port.target),
                image: service.image.clone(),
                span: port.span.clone(),
            })
        })
        .collect()
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
    let context = Context { source: &source, instead: None, variables: &BTreeMap::new() };
    let read = compose_file::read(&root, &context);
    let written = read.services.iter().flat_map(|service| &service.mounts).chain(&read.reads).chain(&read.includes);
    let plain = written.filter(|path| !path.starts_with(['/', '~']) && !path.contains('$'));
    plain.filter_map(|path| join_within(Utf8Path::new(""), path)).filter(|path| !path.as_str().is_empty()).collect()
}
