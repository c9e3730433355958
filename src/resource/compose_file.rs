//! What a Compose file says: services, images, published ports, and the files it mounts.
//!
//! It is read only to learn from it. Whatever Compose accepts is accepted here: what is not understood is passed over.

use std::collections::BTreeMap;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::diagnostic::{Source, Span};
use crate::resource::compose_build::Spec;
use crate::resource::compose_link;
use crate::resource::lowering::join_within;
use crate::resource::state::Ties;
use crate::resource::yaml::Node;

/// A service of a Compose file.
#[derive(Debug, Clone, Default)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its image, where it is not only built.
    pub image: Option<String>,
    /// Where its image is named.
    pub image_span: Option<Span>,
    /// The platform it asks for.
    pub platform: Option<String>,
    /// The folder it is built from.
    pub build: Option<Named>,
    /// All that is said of how it is built.
    pub spec: Option<Spec>,
    /// The file in that folder that says how.
    pub dockerfile: Option<String>,
    /// The ports it publishes.
    pub ports: Listed<Port>,
    /// What it mounts from the project directory or elsewhere on the host.
    pub mounts: Listed<Named>,
    /// Files that Compose reads for it: `env_file`, `label_file`.
    pub reads: Vec<Named>,
    /// The profiles it belongs to; none means always.
    pub profiles: Vec<String>,
    /// When Docker starts it again.
    pub restart: Option<String>,
    /// Whether it is asked to run no container at all.
    pub scaled_to_zero: Option<bool>,
    /// The service it begins with, and the file that one is in, if another.
    pub extends: Option<(Option<String>, String)>,
    /// The networks it is on.
    pub networks: Networks,
    /// Other names by which it is known, or knows others.
    pub names: Vec<String>,
    /// The services it needs.
    pub ties: Ties,
    /// What it needs that must be written down somewhere in the project.
    pub uses: Vec<Use>,
}

/// Where the other containers can be reached from a service, and it from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Networks {
    /// On these networks of the project.
    Named(Vec<String>),
    /// On the host's, another container's, or none.
    Other,
}

/// A list of a service: in addition to what was said before, or instead of it (`!override`, `!reset`).
#[derive(Debug, Clone)]
pub struct Listed<T> {
    /// What is in it.
    pub items: Vec<T>,
    /// Whether what was said before no longer counts.
    pub instead: bool,
}

/// A path as it is written, and the folder of the repository it is relative to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// As written, with variables filled in.
    pub written: String,
    /// What it is relative to.
    pub base: Utf8PathBuf,
}

/// Something that a service needs by name.
#[derive(Debug, Clone)]
pub struct Use {
    /// What it is.
    pub part: Part,
    /// Its name.
    pub name: String,
    /// Where it is written.
    pub span: Span,
}

/// What a project is made of. Each is written down under its own key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `services`
    Service,
    /// `volumes`
    Volume,
    /// `networks`
    Network,
    /// `configs`
    Config,
    /// `secrets`
    Secret,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The address on the host; `None` means all.
    pub address: Option<String>,
    /// The port on the host.
    pub published: u16,
    /// The port in the container.
    pub target: u16,
    /// Where it is written.
    pub span: Span,
}

/// What one Compose file says.
#[derive(Debug, Clone, Default)]
pub struct ComposeFile {
    /// Its services, in order.
    pub services: Vec<Service>,
    /// Other Compose files it includes.
    pub includes: Vec<Include>,
    /// What it writes down.
    pub parts: Vec<(Part, String)>,
    /// Networks that others have made.
    pub external: Vec<String>,
}

/// One item of `include`: files that are read one over the other.
#[derive(Debug, Clone)]
pub struct Include {
    /// The files.
    pub files: Vec<Named>,
    /// The folder that their own paths are relative to.
    pub directory: Utf8PathBuf,
    /// Where their variables come from, besides ours.
    pub env_files: Vec<Named>,
}

/// Where a Compose file stands, and what `${NAME}` means in it.
pub struct Context<'a> {
    /// Its text.
    pub source: &'a Arc<Source>,
    /// The folder of the repository that its paths are relative to.
    pub base: &'a Utf8Path,
    /// The place to show instead of places in the text, where the text is the result of a rendering.
    pub instead: Option<&'a Span>,
    /// Variables for interpolation.
    pub variables: &'a BTreeMap<String, String>,
}

/// How many ports of a range are looked at.
const MAX_RANGE: u16 = 1000;

impl Named {
    /// Where it is in the repository; `None` for what is elsewhere on the host.
    pub fn path(&self) -> Option<Utf8PathBuf> {
        join_within(&self.base, &self.written)
    }
}

impl Default for Networks {
    fn default() -> Self {
        Networks::Named(vec!["default".into()])
    }
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Listed { items: Vec::new(), instead: false }
    }
}

impl<T> Listed<T> {
    fn add(&mut self, later: Self) {
        if later.instead {
            self.items.clear();
        }
        self.items.extend(later.items);
        self.instead |= later.instead;
    }
}

impl Part {
    /// The key under which it is written down.
    pub fn key(self) -> &'static str {
        match self {
            Part::Service => "services",
            Part::Volume => "volumes",
            Part::Network => "networks",
            Part::Config => "configs",
            Part::Secret => "secrets",
        }
    }
}

impl Service {
    /// Lays what a later file says over it.
    pub fn add(&mut self, later: Service) {
        self.image_span = later.image_span.or(self.image_span.take());
        self.image = later.image.or(self.image.take());
        self.platform = later.platform.or(self.platform.take());
        self.build = later.build.or(self.build.take());
        match (&mut self.spec, later.spec) {
            (Some(spec), Some(later)) => spec.add(later),
            (spec, later) => *spec = later.or(spec.take()),
        }
        self.dockerfile = later.dockerfile.or(self.dockerfile.take());
        self.ports.add(later.ports);
        self.mounts.add(later.mounts);
        self.reads.extend(later.reads);
        self.profiles.extend(later.profiles);
        self.restart = later.restart.or(self.restart.take());
        self.scaled_to_zero = later.scaled_to_zero.or(self.scaled_to_zero);
        if later.networks != Networks::default() {
            self.networks = later.networks;
        }
        self.names.extend(later.names);
        self.ties.add(&later.ties);
        self.uses.extend(later.uses);
    }

    /// Whether it is to run for good: then one that has ended was stopped by somebody.
    pub fn runs_for_good(&self) -> bool {
        self.restart.as_deref().is_some_and(|restart| ["always", "unless-stopped", "any"].contains(&restart))
    }

    /// Where the file is that says how it is built.
    pub fn recipe(&self) -> Option<Utf8PathBuf> {
        join_within(&self.build.as_ref()?.path()?, self.dockerfile.as_deref().unwrap_or("Dockerfile"))
    }
}

impl Context<'_> {
    pub(super) fn span(&self, node: &Node) -> Span {
        self.instead.cloned().unwrap_or_else(|| Span::new(self.source, node.offset, node.len))
    }

    pub(super) fn fill(&self, text: &str) -> Option<String> {
        interpolate(text, self.variables)
    }

    /// The text under a key, with variables filled in.
    pub(super) fn text(&self, node: &Node, key: &str) -> Option<String> {
        self.fill(node.get(key)?.text()?)
    }

    fn named(&self, written: &str) -> Option<Named> {
        Some(Named { written: self.fill(written)?, base: self.base.to_path_buf() })
    }

    /// Whether a value takes the place of what was said before. The tag stands before it.
    fn is_instead(&self, node: &Node) -> bool {
        let (before, from) = self.source.text.split_at_checked(node.offset).unwrap_or_default();
        ["!override", "!reset"].iter().any(|tag| before.trim_end().ends_with(tag) || from.starts_with(tag))
    }

    fn listed<T>(&self, service: &Node, key: &str, read: impl FnMut(&Node) -> Vec<T>) -> Listed<T> {
        let Some(node) = service.get(key) else { return Listed::default() };
        Listed { items: node.items().iter().flat_map(read).collect(), instead: self.is_instead(node) }
    }
}

/// Learns from a Compose file.
pub fn read(root: &Node, context: &Context<'_>) -> ComposeFile {
    let files = named_files(root, context);
    let services = root.get("services").map(Node::entries).unwrap_or_default();
    let includes = root.get("include").map(Node::items).unwrap_or_default();
    let parts = [Part::Service, Part::Volume, Part::Network, Part::Config, Part::Secret];
    let written = |part: Part| root.get(part.key()).map(Node::entries).unwrap_or_default();
    let is_external = |node: &Node| node.get("external").is_some_and(|how| how.text() != Some("false"));
    let external = written(Part::Network).iter().filter(|(_, node)| is_external(node));
    ComposeFile {
        external: external.map(|(name, _)| name.clone()).collect(),
        services: services.iter().map(|(name, node)| service(name, node, &files, context)).collect(),
        includes: includes.iter().filter_map(|item| include(item, context)).collect(),
        parts: parts
            .into_iter()
            .flat_map(|part| written(part).iter().map(move |(name, _)| (part, name.clone())))
            .collect(),
    }
}

fn service(name: &str, node: &Node, files: &BTreeMap<String, String>, context: &Context<'_>) -> Service {
    let list = |key: &str| node.get(key).map(Node::items).unwrap_or_default();
    let mut mounts = context.listed(node, "volumes", |mount| bind_mount(mount, context).into_iter().collect());
    for used in list("configs").iter().chain(list("secrets")) {
        let name = used.text().or_else(|| used.get("source").and_then(Node::text));
        mounts.items.extend(name.and_then(|name| files.get(name)).and_then(|file| context.named(file)));
    }
    let replicas = node.get("deploy").and_then(|deploy| context.text(deploy, "replicas"));
    let extends = node.get("extends").and_then(|extends| match extends.text() {
        Some(name) => Some((None, name.to_string())),
        None => Some((context.text(extends, "file"), extends.get("service")?.text()?.to_string())),
    });
    Service {
        name: name.to_string(),
        image: context.text(node, "image"),
        image_span: node.get("image").map(|image| match context.instead {
            Some(span) => span.clone(),
            None => Span::new(context.source, image.offset, image.len),
        }),
        platform: context.text(node, "platform"),
        build: node
            .get("build")
            .and_then(|build| build.text().or_else(|| build.get("context").map_or(Some("."), Node::text)))
            .and_then(|written| context.named(written)),
        spec: node.get("build").map(|build| Spec::read(build, context)),
        dockerfile: node.get("build").and_then(|build| context.text(build, "dockerfile")),
        ports: context.listed(node, "ports", |port| ports(port, context)),
        mounts,
        reads: env_files(node).into_iter().filter_map(|written| context.named(written)).collect(),
        profiles: list("profiles").iter().filter_map(Node::text).map(String::from).collect(),
        restart: context.text(node, "restart").or_else(|| {
            let policy = node.get("deploy")?.get("restart_policy")?;
            Some(context.text(policy, "condition").unwrap_or_else(|| "any".into()))
        }),
        scaled_to_zero: context.text(node, "scale").or(replicas).map(|count| count == "0"),
        extends,
        networks: compose_link::networks(node),
        names: compose_link::names(node, context),
        ties: compose_link::ties(node),
        uses: compose_link::uses(node, context),
    }
}

fn include(item: &Node, context: &Context<'_>) -> Option<Include> {
    let paths = item.get("path").map_or_else(|| item.texts(), Node::texts);
    let files: Vec<Named> = paths.into_iter().filter_map(|path| context.named(path)).collect();
    let beside = files.first()?.path()?.parent().map(Utf8Path::to_path_buf);
    let directory = match context.text(item, "project_directory") {
        Some(written) => join_within(context.base, &written),
        None => beside,
    };
    let env_files = item.get("env_file").map(Node::texts).unwrap_or_default();
    let env_files = env_files.into_iter().filter_map(|path| context.named(path)).collect();
    Some(Include { files, directory: directory?, env_files })
}

/// The files of the top-level `configs` and `secrets`, by name.
fn named_files(root: &Node, context: &Context<'_>) -> BTreeMap<String, String> {
    let sections = ["configs", "secrets"].into_iter().filter_map(|key| root.get(key));
    let files = sections.flat_map(Node::entries);
    files.filter_map(|(name, node)| Some((name.clone(), context.text(node, "file")?))).collect()
}

fn env_files(service: &Node) -> Vec<&str> {
    let nodes = ["env_file", "label_file"].into_iter().filter_map(|key| service.get(key));
    nodes
        .flat_map(|node| {
            let long = node.items().iter().filter_map(|item| item.get("path").and_then(Node::text));
            node.texts().into_iter().chain(long)
        })
        .collect()
}

/// The path on the host of a bind mount; `None` for volumes.
fn bind_mount(mount: &Node, context: &Context<'_>) -> Option<Named> {
    let written = if let Some(short) = mount.text() {
        context.fill(short)?.split_once(':')?.0.to_string()
    } else {
        let kind = mount.get("type").and_then(Node::text);
        context.text(mount, "source").filter(|_| kind == Some("bind"))?
    };
    // Anything else is the name of a volume.
    (written.starts_with('.') || written.starts_with('/')).then(|| Named { written, base: context.base.to_path_buf() })
}

/// The ports that one item of `ports` publishes. A port that Docker chooses is none that anybody could rely on.
fn ports(node: &Node, context: &Context<'_>) -> Vec<Port> {
    let parts = match node.text() {
        Some(short) => context.fill(short).and_then(|short| short_port(&short)),
        None => long_port(node, context),
    };
    let Some((address, published, target)) = parts else { return Vec::new() };
    let (Some(published), Some(target)) = (range(&published), range(&target)) else { return Vec::new() };
    // A range on the host for a single container port means: any one of them.
    if published.len() != target.len() {
        return Vec::new();
    }
    let address = address.filter(|address| !address.is_empty());
    published
        .into_iter()
        .zip(target)
        .map(|(published, target)| Port { address: address.clone(), published, target, span: context.span(node) })
        .collect()
}

/// The long form, as a mapping.
fn long_port(node: &Node, context: &Context<'_>) -> Option<(Option<String>, String, String)> {
    let text = |key: &str| context.text(node, key);
    let tcp = text("protocol").is_none_or(|protocol| protocol == "tcp");
    Some((text("host_ip"), text("published").filter(|_| tcp)?, text("target")?))
}

/// `[ADDRESS:]PUBLISHED:TARGET[/tcp]`
fn short_port(text: &str) -> Option<(Option<String>, String, String)> {
    let text = match text.split_once('/') {
        Some((ports, "tcp")) => ports,
        Some(_) => return None,
        None => text,
    };
    let (rest, target) = text.rsplit_once(':')?;
    match rest.rsplit_once(':') {
        Some((address, published)) => Some((Some(address.to_string()), published.to_string(), target.to_string())),
        None => Some((None, rest.to_string(), target.to_string())),
    }
}

/// `8080` or `8080-8085`.
fn range(text: &str) -> Option<Vec<u16>> {
    let number = |word: &str| word.parse::<u16>().ok().filter(|port| *port > 0);
    match text.split_once('-') {
        None => Some(vec![number(text)?]),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last && last - first < MAX_RANGE).then(|| (first..=last).collect())
        }
    }
}

/// Fills in `$NAME`, `${NAME}`, `${NAME:-default}` and `${NAME-default}`; `None` where a value is not known.
pub fn interpolate(text: &str, variables: &BTreeMap<String, String>) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out += &rest[..at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let (inside, after) = after.split_once('}')?;
            out += &expand(inside, variables)?;
            rest = after;
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            out += variables.get(&rest[..end])?;
            rest = &rest[end..];
        }
    }
    Some(out + rest)
}

/// What stands between `${` and `}`.
fn expand(inside: &str, variables: &BTreeMap<String, String>) -> Option<String> {
    let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inside.len());
    let (name, operator) = inside.split_at(end);
    let value = variables.get(name).cloned();
    let filled = value.clone().filter(|value| !value.is_empty());
    if let Some(default) = operator.strip_prefix(":-") {
        return filled.or_else(|| (!default.contains('$')).then(|| default.to_string()));
    }
    if let Some(default) = operator.strip_prefix('-') {
        return value.or_else(|| (!default.contains('$')).then(|| default.to_string()));
    }
    if operator.starts_with(":?") || operator.starts_with('?') || operator.is_empty() { filled } else { None }
}
