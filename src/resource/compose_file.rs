//! What a Compose file says: services, images, published ports, and the files it mounts.
//!
//! It is read only to learn from it. Whatever Compose accepts is accepted here: what is not understood is passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::diagnostic::{Source, Span};
use crate::resource::state::Ties;
use crate::resource::yaml::Node;

/// A service of a Compose file.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its image, where it is not only built.
    pub image: Option<String>,
    /// Where its image is named.
    pub image_span: Option<Span>,
    /// Whether it is built from source.
    pub built: bool,
    /// The platform it asks for.
    pub platform: Option<String>,
    /// The ports it publishes.
    pub ports: Vec<Port>,
    /// What it mounts from the project directory or elsewhere on the host, as written.
    pub mounts: Vec<String>,
    /// The profiles it belongs to; none means always.
    pub profiles: Vec<String>,
    /// Whether it is asked to run no container at all.
    pub scaled_to_zero: bool,
    /// The services it needs.
    pub ties: Ties,
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
    /// Files that it reads besides, as written: `env_file`, `extends`, `include`.
    pub reads: Vec<String>,
    /// Other Compose files it includes, as written.
    pub includes: Vec<String>,
}

/// Where a Compose file stands, and what `${NAME}` means in it.
pub struct Context<'a> {
    /// Its text.
    pub source: &'a Arc<Source>,
    /// The place to show instead of places in the text, where the text is the result of a rendering.
    pub instead: Option<&'a Span>,
    /// Variables for interpolation.
    pub variables: &'a BTreeMap<String, String>,
}

/// How many ports of a range are looked at.
const MAX_RANGE: u16 = 1000;

/// Learns from a Compose file.
pub fn read(root: &Node, context: &Context<'_>) -> ComposeFile {
    let mut file = ComposeFile::default();
    let files = named_files(root, context);
    for (name, node) in root.get("services").map(Node::entries).unwrap_or_default() {
        file.reads.extend(env_files(node).into_iter().filter_map(|text| interpolate(text, context.variables)));
        file.reads
            .extend(node.get("extends").and_then(|extends| extends.get("file")).and_then(Node::text).map(String::from));
        file.services.push(service(name, node, &files, context));
    }
    for item in root.get("include").map(Node::items).unwrap_or_default() {
        let paths = item.get("path").map_or_else(|| item.texts(), Node::texts);
        file.includes.extend(paths.into_iter().map(String::from));
    }
    file.reads.extend(file.includes.iter().cloned());
    file
}

fn service(name: &str, node: &Node, files: &BTreeMap<String, String>, context: &Context<'_>) -> Service {
    let text = |key: &str| node.get(key).and_then(Node::text).and_then(|text| interpolate(text, context.variables));
    let list = |key: &str| node.get(key).map(Node::items).unwrap_or_default();
    let mut mounts: Vec<String> = list("volumes").iter().filter_map(|mount| bind_mount(mount, context)).collect();
    for used in list("configs").iter().chain(list("secrets")) {
        let name = used.text().or_else(|| used.get("source").and_then(Node::text));
        mounts.extend(name.and_then(|name| files.get(name)).cloned());
    }
    let ties = ties(node);
    let replicas = node.get("deploy").and_then(|deploy| deploy.get("replicas")).and_then(Node::text);
    Service {
        name: name.to_string(),
        image: text("image"),
        image_span: node.get("image").map(|image| match context.instead {
            Some(span) => span.clone(),
            None => Span::new(context.source, image.offset, image.len),
        }),
        built: node.get("build").is_some(),
        platform: text("platform"),
        ports: list("ports").iter().flat_map(|port| ports(port, context)).collect(),
        mounts,
        profiles: list("profiles").iter().filter_map(Node::text).map(String::from).collect(),
        scaled_to_zero: replicas == Some("0") || text("scale").as_deref() == Some("0"),
        ties,
    }
}

fn ties(node: &Node) -> Ties {
    let texts = |key: &str| node.get(key).map(Node::texts).unwrap_or_default();
    let conditions = node.get("depends_on").map(Node::entries).unwrap_or_default();
    let restart = |needed: &&(String, Node)| needed.1.get("restart").and_then(Node::text) == Some("true");
    let modes = ["network_mode", "ipc", "pid"].into_iter().filter_map(|key| node.get(key)?.text());
    let volumes = texts("volumes_from").into_iter().filter(|from| !from.starts_with("container:"));
    let borrows = modes.filter_map(|mode| mode.strip_prefix("service:")).chain(volumes.map(before_colon));
    let borrows: BTreeSet<String> = borrows.map(String::from).collect();
    let named = texts("depends_on").into_iter().chain(texts("links").into_iter().map(before_colon)).map(String::from);
    let needs = named.chain(conditions.iter().map(|(name, _)| name.clone())).chain(borrows.iter().cloned());
    Ties {
        needs: needs.collect(),
        borrows,
        follows: conditions.iter().filter(restart).map(|(name, _)| name.clone()).collect(),
    }
}

fn before_colon(text: &str) -> &str {
    text.split(':').next().unwrap_or(text)
}

/// The files of the top-level `configs` and `secrets`, by name.
fn named_files(root: &Node, context: &Context<'_>) -> BTreeMap<String, String> {
    let sections = ["configs", "secrets"].into_iter().filter_map(|key| root.get(key));
    sections
        .flat_map(Node::entries)
        .filter_map(|(name, node)| {
            let file = node.get("file")?.text()?;
            Some((name.clone(), interpolate(file, context.variables)?))
        })
        .collect()
}

fn env_files(service: &Node) -> Vec<&str> {
    let Some(node) = service.get("env_file") else { return Vec::new() };
    let long = node.items().iter().filter_map(|item| item.get("path").and_then(Node::text));
    node.texts().into_iter().chain(long).collect()
}

/// The path on the host of a bind mount; `None` for volumes.
fn bind_mount(mount: &Node, context: &Context<'_>) -> Option<String> {
    let source = if let Some(short) = mount.text() {
        interpolate(short, context.variables)?.split_once(':')?.0.to_string()
    } else {
        let kind = mount.get("type").and_then(Node::text);
        let source = mount.get("source").or_else(|| mount.get("src"))?.text()?;
        interpolate(source, context.variables).filter(|_| kind == Some("bind"))?
    };
    // Anything else is the name of a volume.
    (source.starts_with('.') || source.starts_with('/')).then_some(source)
}

/// The ports that one item of `ports` publishes. A port that Docker chooses is none that anybody could rely on.
fn ports(node: &Node, context: &Context<'_>) -> Vec<Port> {
    let span = || match context.instead {
        Some(span) => span.clone(),
        None => Span::new(context.source, node.offset, node.len),
    };
    let parts = match node.text() {
        Some(short) => interpolate(short, context.variables).and_then(|short| short_port(&short)),
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
        .map(|(published, target)| Port { address: address.clone(), published, target, span: span() })
        .collect()
}

/// The long form, as a mapping.
fn long_port(node: &Node, context: &Context<'_>) -> Option<(Option<String>, String, String)> {
    let text = |key: &str| node.get(key).and_then(Node::text).and_then(|text| interpolate(text, context.variables));
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
