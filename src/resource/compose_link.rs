//! What ties a service of a Compose file to the rest of its project: what it needs, and who can reach it.

use std::collections::BTreeSet;

use crate::resource::compose_file::{Context, Networks, Part, Use};
use crate::resource::state::Ties;
use crate::resource::yaml::Node;

/// What a service needs by name. What is named by a variable is left to Compose.
pub(super) fn uses(service: &Node, context: &Context<'_>) -> Vec<Use> {
    let mut uses = Vec::new();
    let mut add = |part: Part, name: Option<&str>, node: &Node| {
        if let Some(name) = name.filter(|name| !name.contains('$')) {
            uses.push(Use { part, name: name.to_string(), span: context.span(node) });
        }
    };
    for (part, key) in [(Part::Service, "depends_on"), (Part::Network, "networks")] {
        let Some(node) = service.get(key) else { continue };
        node.items().iter().for_each(|item| add(part, item.text(), item));
        for (name, how) in node.entries() {
            let optional = how.get("required").and_then(Node::text) == Some("false");
            add(part, Some(name).filter(|_| !optional).map(String::as_str), how);
        }
    }
    for node in ["network_mode", "ipc", "pid"].into_iter().filter_map(|key| service.get(key)) {
        add(Part::Service, node.text().and_then(|mode| mode.strip_prefix("service:")), node);
    }
    for (part, key) in [(Part::Config, "configs"), (Part::Secret, "secrets")] {
        for item in service.get(key).map(Node::items).unwrap_or_default() {
            add(part, item.text().or_else(|| item.get("source").and_then(Node::text)), item);
        }
    }
    for item in service.get("volumes").map(Node::items).unwrap_or_default() {
        let name = match item.text() {
            Some(short) => short.split_once(':').map(|(name, _)| name),
            None if item.get("type").and_then(Node::text) == Some("volume") => item.get("source").and_then(Node::text),
            None => None,
        };
        let is_path = |name: &str| name.starts_with(['.', '/', '~']) || name.is_empty();
        add(Part::Volume, name.filter(|name| !is_path(name)), item);
    }
    uses
}

/// The networks it is on.
pub(super) fn networks(service: &Node) -> Networks {
    let Some(node) = service.get("networks") else {
        return if service.get("network_mode").is_some() { Networks::Other } else { Networks::default() };
    };
    let listed = node.texts().into_iter().map(String::from);
    Networks::Named(listed.chain(node.entries().iter().map(|(name, _)| name.clone())).collect())
}

/// Other names by which it is known, or knows others.
pub(super) fn names(service: &Node, context: &Context<'_>) -> Vec<String> {
    let mut names: Vec<String> = context.text(service, "container_name").into_iter().collect();
    for (_, how) in service.get("networks").map(Node::entries).unwrap_or_default() {
        names.extend(how.get("aliases").map(Node::texts).unwrap_or_default().into_iter().map(String::from));
    }
    let links = ["links", "external_links"].into_iter().filter_map(|key| service.get(key)).flat_map(Node::texts);
    names.extend(links.filter_map(|link| Some(link.split_once(':')?.1.to_string())));
    let Some(hosts) = service.get("extra_hosts") else { return names };
    let listed = hosts.texts().into_iter().filter_map(|host| host.split([':', '=']).next()).map(String::from);
    names.extend(listed.chain(hosts.entries().iter().map(|(name, _)| name.clone())));
    names
}

/// What it has to do with the other services.
pub(super) fn ties(node: &Node) -> Ties {
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
