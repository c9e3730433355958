//! What must be applied before what: as far as it can be told, nobody has to say it.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::diagnostic::{Problem, Problems, did_you_mean};
use crate::base::id::{HostName, Kind, ResourceId, StackName};
use crate::load::Config;
use crate::resource::Resource;
use crate::resource::state::PathState;

/// Which packages bring what a kind works with: names, or beginnings of names if they end with `*`.
const PROGRAMS: [(Kind, &[&str]); 3] =
    [(Kind::Site, &["nginx*"]), (Kind::Compose, &["docker*", "moby*"]), (Kind::Tunnel, &["cloudflared"])];

/// Adds what each resource needs beyond what its kind has said.
pub(super) fn fill(config: &Config, host: &HostName, resources: &mut [Resource]) {
    let directories: BTreeMap<Utf8PathBuf, ResourceId> = resources
        .iter()
        .flat_map(|resource| resource.state.paths.iter().map(move |(path, state)| (path, state, &resource.id)))
        .filter(|(_, state, _)| matches!(state, PathState::Directory { .. }))
        .map(|(path, _, id)| (path.clone(), id.clone()))
        .collect();
    let packages: Vec<(ResourceId, BTreeSet<String>)> = resources
        .iter()
        .filter(|resource| !resource.state.packages.is_empty())
        .map(|resource| (resource.id.clone(), resource.state.packages.clone()))
        .collect();
    for resource in resources.iter_mut() {
        let mut found: BTreeSet<ResourceId> =
            resource.state.paths.keys().filter_map(|path| above(path, &directories)).collect();
        found.extend(programs(resource.id.kind, &packages));
        add(resource, found);
    }
    after_stacks(config, host, resources);
    for resource in resources.iter_mut() {
        resource.needs.sort();
        resource.needs.dedup();
    }
}

fn add(resource: &mut Resource, found: impl IntoIterator<Item = ResourceId>) {
    let own = resource.id.clone();
    resource.needs.extend(found.into_iter().filter(|id| *id != own));
}

/// The resource that makes the nearest managed directory above `path`.
fn above(path: &Utf8Path, directories: &BTreeMap<Utf8PathBuf, ResourceId>) -> Option<ResourceId> {
    path.ancestors().skip(1).find_map(|above| directories.get(above)).cloned()
}

/// The packages that bring the program which makes this kind work.
fn programs(kind: Kind, packages: &[(ResourceId, BTreeSet<String>)]) -> Vec<ResourceId> {
    let Some((_, wanted)) = PROGRAMS.iter().find(|(of, _)| *of == kind) else { return Vec::new() };
    let matches = |package: &String| {
        wanted.iter().any(|wanted| match wanted.strip_suffix('*') {
            Some(beginning) => package.starts_with(beginning),
            None => package == wanted,
        })
    };
    packages.iter().filter(|(_, names)| names.iter().any(matches)).map(|(id, _)| id.clone()).collect()
}

/// A stack that is `after` another needs everything of it. It is enough that what needs nothing else of the one stack
/// needs what nothing else of the other needs: the rest follows.
fn after_stacks(config: &Config, host: &HostName, resources: &mut [Resource]) {
    let stack_of: BTreeMap<ResourceId, StackName> =
        resources.iter().map(|resource| (resource.id.clone(), resource.stack.clone())).collect();
    let within = |stack: &StackName, id: &ResourceId| stack_of.get(id) == Some(stack);
    let needed: BTreeSet<ResourceId> = resources
        .iter()
        .flat_map(|resource| resource.needs.iter().filter(|id| within(&resource.stack, id)).cloned())
        .collect();
    let mut last: BTreeMap<StackName, Vec<ResourceId>> = BTreeMap::new();
    for resource in resources.iter().filter(|resource| !needed.contains(&resource.id)) {
        last.entry(resource.stack.clone()).or_default().push(resource.id.clone());
    }
    let reached = reached(config, host);
    for resource in resources.iter_mut() {
        if resource.needs.iter().any(|id| within(&resource.stack, id)) {
            continue;
        }
        let before: Vec<ResourceId> = reached
            .get(&resource.stack)
            .into_iter()
            .flatten()
            .flat_map(|stack| last.get(stack).cloned().unwrap_or_default())
            .collect();
        add(resource, before);
    }
}

/// For each stack of the host, the stacks that come right before it there. A stack that is not on this host hands on
/// what it is after itself.
fn reached(config: &Config, host: &HostName) -> BTreeMap<StackName, BTreeSet<StackName>> {
    let on_host = |name: &StackName| config.stacks.get(name).is_some_and(|stack| stack.hosts.contains(host));
    let mut reached = BTreeMap::new();
    for stack in config.stacks.values().filter(|stack| stack.hosts.contains(host)) {
        let (mut found, mut seen) = (BTreeSet::new(), BTreeSet::new());
        let mut open: Vec<&StackName> = stack.after.iter().map(|(name, _)| name).collect();
        while let Some(name) = open.pop() {
            if !seen.insert(name) {
                continue;
            }
            if on_host(name) {
                found.insert(name.clone());
            } else if let Some(other) = config.stacks.get(name) {
                open.extend(other.after.iter().map(|(name, _)| name));
            }
        }
        reached.insert(stack.name.clone(), found);
    }
    reached
}

/// Reports needs that name nothing, and resources that wait for each other.
pub(super) fn check(resources: &[Resource], complete: bool, problems: &mut Problems) {
    let by_id: BTreeMap<&ResourceId, &Resource> = resources.iter().map(|resource| (&resource.id, resource)).collect();
    let mut done = BTreeSet::new();
    for resource in resources {
        for id in resource.needs.iter().filter(|id| complete && !by_id.contains_key(id)) {
            let message = format!("`{}` needs `{id}`, which is not on this host", resource.id);
            let problem = Problem::error(message).at(&resource.origin, "this needs it");
            let known: Vec<String> = by_id.keys().map(ToString::to_string).collect();
            problems.push(match did_you_mean(&id.to_string(), known.iter().map(String::as_str)) {
                Some(near) => problem.hint(format!("did you mean `{near}`?")),
                None => problem.hint("describe it in a stack of the same host"),
            });
        }
        if let Some(circle) = circle_from(resource, &by_id, &mut done) {
            let mut names: Vec<String> = circle.iter().map(|resource| format!("`{}`", resource.id)).collect();
            names.extend(names.first().cloned());
            let mut problem = Problem::error(format!("resources wait for each other: {}", names.join(" needs ")));
            for resource in circle {
                problem = problem.at(&resource.origin, "waits");
            }
            problems.push(problem.hint("one of them must do without the other"));
        }
    }
}

/// The first circle reached from `start`. Everything that was looked at is put into `done`.
fn circle_from<'a>(
    start: &'a Resource,
    by_id: &BTreeMap<&ResourceId, &'a Resource>,
    done: &mut BTreeSet<&'a ResourceId>,
) -> Option<Vec<&'a Resource>> {
    if !done.insert(&start.id) {
        return None;
    }
    let mut path: Vec<(&Resource, usize)> = vec![(start, 0)];
    let mut on_path: BTreeSet<&ResourceId> = BTreeSet::from([&start.id]);
    while let Some((resource, next)) = path.last_mut() {
        let resource = *resource;
        let Some(needed) = resource.needs.get(*next) else {
            on_path.remove(&resource.id);
            path.pop();
            continue;
        };
        *next += 1;
        if on_path.contains(needed) {
            return Some(path.iter().map(|(on, _)| *on).skip_while(|on| on.id != *needed).collect());
        }
        if let Some(needed) = by_id.get(needed).filter(|needed| done.insert(&needed.id)) {
            on_path.insert(&needed.id);
            path.push((needed, 0));
        }
    }
    None
}
