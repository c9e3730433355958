//! What the change of a Compose project asks for.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8PathBuf;

use crate::base::id::ResourceId;
use crate::host::observation::ContainerSeen;
use crate::ledger::Claim;
use crate::plan::builds::replaced;
use crate::plan::containers::{Wanted, former_hashes_of, is_up, with_followers};
use crate::plan::effect::{Deed, Effect};
use crate::plan::host::Planner;
use crate::plan::leave::services_left;
use crate::plan::wishes::Wishes;
use crate::plan::{PathChange, Refusal};
use crate::resource::state::Project;
use crate::resource::{Action, Resource};

impl Wishes {
    pub(super) fn project(
        &mut self,
        planner: &Planner<'_>,
        resource: &Resource,
        claim: Option<&Claim>,
        project: &Project,
        paths: &[PathChange],
    ) {
        let there = match &planner.seen.containers {
            Some(Err(why)) if !planner.installs_packages() => {
                let hint = if planner.seen.tools.contains("docker") {
                    "see that `docker ps` works there"
                } else {
                    "install and start Docker there, or let the stack do it with `packages`"
                };
                self.refused = Some(Refusal { why: format!("Docker: {why}"), hint: hint.into() });
                return;
            }
            _ => containers(planner, &project.name),
        };
        if claim.is_none() && !there.is_empty() && !planner.policy.adopt.contains(&resource.id) {
            let why = format!("a Compose project `{}` runs there already and is not ours", project.name);
            self.refused = Some(Refusal { why, hint: format!("to take it over: --adopt {}", resource.id) });
            return;
        }
        let hashes = planner.hashes_of(&project.name);
        if !hashes.is_empty() {
            self.hashes.insert(project.name.clone(), hashes.clone());
        }
        if !project.running {
            if there.iter().any(|container| is_up(container)) {
                let deed = Deed::ComposeStop { project: project.name.clone(), services: Vec::new() };
                self.other(deed, &resource.id);
            }
            return;
        }
        self.images(planner, resource, claim, project, &there);
        let recorded = claim.and_then(|claim| claim.project.as_ref()).map(|project| &project.services);
        let changed = |folder: &Utf8PathBuf| paths.iter().any(|change| change.path.starts_with(folder));
        let services = project.services.iter();
        let built = services.filter_map(|(name, service)| Some((name.as_str(), service.built_from.as_ref()?)));
        let rebuilt = built.filter(|(_, folders)| folders.iter().any(changed)).map(|(name, _)| name);
        let rebuilt = rebuilt.chain(replaced(project, planner.seen.images.as_ref(), &there)).collect();
        let wanted = Wanted { project, recorded, hashes: &hashes, rebuilt, files_change: !paths.is_empty() };
        let idle = wanted.idle(&there);
        if !idle.is_empty() {
            let deed = Deed::ComposeStop { project: project.name.clone(), services: idle };
            self.other(deed, &resource.id);
        }
        for (service, why) in wanted.sick(&there) {
            self.details.push(why.clone());
            let services = with_followers(project, &service);
            self.restart_container(&project.name, services, &resource.id, Some(why));
        }
        if let Some(mut deed) = wanted.up(&there, &services_left(resource, claim)) {
            if let (Deed::ComposeUp { before, .. }, Some(was)) =
                (&mut deed, claim.and_then(|claim| claim.project.as_ref()))
            {
                before.clone_from(&was.files);
            }
            let why = by_another_compose(planner, project, &deed, &hashes, &there);
            self.details.extend(why.clone());
            self.others.push(Effect { why, ..Effect::new(deed, vec![resource.id.clone()]) });
        }
    }

    /// A container that uses a changed file; one that is replaced anyway needs nothing more.
    pub(super) fn container(
        &mut self,
        planner: &Planner<'_>,
        resource: &Resource,
        action: &Action,
        why: Option<String>,
    ) {
        let deed = match (action, &resource.state.project) {
            (Action::Container { project, service, signal: Some(signal) }, _) => {
                Deed::ContainerSignal { project: project.clone(), service: service.clone(), signal: signal.clone() }
            }
            (Action::Container { project, service, signal: None }, _) => {
                let services = planner.with_followers(project, service);
                return self.restart_container(project, services, &resource.id, why);
            }
            (Action::Recreate { service, .. }, Some(project)) => Deed::ContainerRecreate {
                project: project.name.clone(),
                directory: project.directory.clone(),
                files: project.files.clone(),
                profiles: project.profiles.clone(),
                services: vec![service.clone()],
            },
            _ => return,
        };
        self.others.push(Effect { why, ..Effect::new(deed, vec![resource.id.clone()]) });
    }

    /// Each container is restarted once, however many of the files it uses have changed.
    fn restart_container(
        &mut self,
        project: &str,
        services: BTreeSet<String>,
        cause: &ResourceId,
        why: Option<String>,
    ) {
        let mut services = services;
        for effect in &mut self.others {
            if let Deed::ContainerRestart { project: of, services: others } = &effect.deed
                && of == project
                && effect.why != why
            {
                // For whatever reason it was asked for first.
                let asked = services.len();
                services.retain(|service| !others.contains(service));
                if services.len() < asked && !effect.causes.contains(cause) {
                    effect.causes.push(cause.clone());
                }
            }
        }
        if services.is_empty() {
            return;
        }
        for effect in &mut self.others {
            if let Deed::ContainerRestart { project: of, services: others } = &mut effect.deed
                && of == project
                && effect.why == why
            {
                others.extend(services.iter().filter(|service| !others.contains(service)).cloned().collect::<Vec<_>>());
                if !effect.causes.contains(cause) {
                    effect.causes.push(cause.clone());
                }
                return;
            }
        }
        let deed = Deed::ContainerRestart { project: project.into(), services: services.into_iter().collect() };
        self.others.push(Effect { why, ..Effect::new(deed, vec![cause.clone()]) });
    }

    pub(super) fn drop_needless_container_restarts(&mut self) {
        let replaced: BTreeSet<(String, String)> = self
            .others
            .iter()
            .filter_map(|effect| match &effect.deed {
                Deed::ComposeUp { project, recreate, start, .. } => Some((project, recreate.iter().chain(start))),
                _ => None,
            })
            .flat_map(|(project, services)| services.map(|service| (project.clone(), service.clone())))
            .collect();
        self.others.retain(|effect| match &effect.deed {
            Deed::ContainerRestart { project, services } | Deed::ContainerRecreate { project, services, .. } => {
                !services.iter().all(|service| replaced.contains(&(project.clone(), service.clone())))
            }
            Deed::ContainerSignal { project, service, .. } => !replaced.contains(&(project.clone(), service.clone())),
            _ => true,
        });
        let mut seen = BTreeSet::new();
        self.others.retain(|effect| seen.insert(effect.deed.clone()));
    }
}

/// The services that are replaced only because another Compose makes another hash of the same files.
fn by_another_compose(
    planner: &Planner<'_>,
    project: &Project,
    deed: &Deed,
    hashes: &BTreeMap<String, String>,
    there: &[&ContainerSeen],
) -> Option<String> {
    let Deed::ComposeUp { recreate, .. } = deed else { return None };
    let now = planner.seen.verdicts.compose.as_ref()?;
    let former = former_hashes_of(planner.seen, &project.name);
    let older = |service: &str| there.iter().find(|seen| seen.service == service && seen.compose != *now);
    let same = |service: &&String| former.get(*service).is_some_and(|hash| hashes.get(*service) == Some(hash));
    let only: Vec<&String> = recreate.iter().filter(same).filter(|service| older(service).is_some()).collect();
    let was = &older(only.first()?)?.compose;
    let names: Vec<&str> = only.iter().map(|name| name.as_str()).collect();
    let names = names.join(", ");
    Some(format!("{names}: Compose {was} → {now} hashes differently; no file of yours changed"))
}

/// Whether a container goes on with the files that it was started with.
pub(super) fn is_at_work(container: &ContainerSeen) -> bool {
    matches!(container.state.as_str(), "running" | "paused")
}

/// The containers of a project.
pub(super) fn containers<'a>(planner: &Planner<'a>, project: &str) -> Vec<&'a ContainerSeen> {
    match &planner.seen.containers {
        Some(Ok(containers)) => containers.iter().filter(|container| container.project == project).collect(),
        _ => Vec::new(),
    }
}
