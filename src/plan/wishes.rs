//! What the changed resources of one transaction want done on the host, gathered so that each thing is done once.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::id::ResourceId;
use crate::host::observation::{ContainerSeen, UnitSeen};
use crate::ledger::Claim;
use crate::plan::containers::Wanted;
use crate::plan::effect::{Deed, Effect, Phase};
use crate::plan::host::Planner;
use crate::plan::leave::services_left;
use crate::plan::{PathChange, Refusal};
use crate::resource::state::{PathState, Project, UnitState};
use crate::resource::unit_file::{self, Impact};
use crate::resource::{Action, Resource};

/// The unit that is told last of all: once everything it sends requests to is there.
const NGINX: &str = "nginx.service";

/// Effects on their way to becoming a list.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// What is worth saying of the resource asked last.
    pub details: Vec<String>,
    /// A restart or reload of an earlier run is still owed.
    pub owed: bool,
    /// Why the resource must not be touched.
    pub refused: Option<Refusal>,
    /// The hash of each service's configuration, by project, where Compose has told.
    pub hashes: BTreeMap<String, BTreeMap<String, String>>,
    packages: BTreeMap<String, Causes>,
    pub(super) daemon_reload: Causes,
    units: BTreeMap<String, UnitWish>,
    others: Vec<Effect>,
}

type Causes = BTreeSet<ResourceId>;

/// What is wanted of one unit. Of several verbs the strongest wins.
#[derive(Debug, Default)]
pub(super) struct UnitWish {
    pub(super) switch: Option<Switch>,
    verb: Option<Verb>,
    causes: Causes,
    why: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Switch {
    Enable,
    Reenable,
    Disable,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verb {
    Signal(String),
    Reload,
    Bring,
    Start,
    Restart,
    Stop,
}

impl Wishes {
    pub(crate) fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.daemon_reload.is_empty() && self.units.is_empty() && self.others.is_empty()
    }

    /// What one wanted resource asks for, given which of its paths change.
    pub(crate) fn of_resource(
        &mut self,
        planner: &Planner<'_>,
        resource: &Resource,
        claim: Option<&Claim>,
        paths: &[PathChange],
    ) {
        self.details.clear();
        for package in &resource.state.packages {
            if !planner.seen.packages.contains_key(package) {
                self.packages.entry(package.clone()).or_default().insert(resource.id.clone());
            }
        }
        let impact = self.unit_files(planner, resource, paths);
        for (unit, wanted) in &resource.state.units {
            let impact = impact.get(unit.as_str());
            self.unit(planner, resource, claim, unit, *wanted, impact);
        }
        for reaction in &resource.reactions {
            let changed: Vec<&Utf8Path> = paths.iter().map(|change| change.path.as_path()).collect();
            let changed: Vec<&Utf8Path> =
                changed.into_iter().filter(|path| reaction.paths.iter().any(|watched| watched == path)).collect();
            if !changed.is_empty() || Self::reacts_to_others(planner, resource, &reaction.paths) {
                self.reaction(planner, resource, &reaction.action, &changed);
            }
        }
        if let Some(project) = &resource.state.project {
            self.project(planner, resource, claim, project, paths);
        }
        self.leave(planner, resource, claim, paths);
        self.debts(planner, resource);
    }

    /// Whether a path that this resource only watches (it belongs to another) is about to change.
    fn reacts_to_others(planner: &Planner<'_>, resource: &Resource, paths: &[Utf8PathBuf]) -> bool {
        paths.iter().filter(|path| !resource.state.paths.contains_key(*path)).any(|path| planner.path_changes(path))
    }

    // ---- units

    /// What the changes of unit files mean, by unit.
    fn unit_files<'a>(
        &mut self,
        planner: &Planner<'_>,
        resource: &'a Resource,
        paths: &[PathChange],
    ) -> BTreeMap<&'a str, Impact> {
        let mut impacts: BTreeMap<&str, Impact> = BTreeMap::new();
        for reaction in &resource.reactions {
            let Action::ByDirective(unit) = &reaction.action else { continue };
            for change in paths.iter().filter(|change| reaction.paths.contains(&change.path)) {
                self.read_again(planner, unit, &resource.id);
                let impact = impact_of(change);
                if !impact.changed.is_empty() {
                    self.details.push(format!("{} changed", impact.changed.join(", ")));
                }
                let all = impacts.entry(unit.as_str()).or_default();
                all.restart |= impact.restart;
                all.reload |= impact.reload;
                all.reenable |= impact.reenable;
            }
        }
        for unit in resource.state.units.keys() {
            if paths.iter().any(|change| change.after.is_none() && is_drop_in(&change.path, unit)) {
                self.read_again(planner, unit, &resource.id);
                impacts.entry(unit.as_str()).or_default().restart = true;
            }
        }
        impacts
    }

    /// Has systemd read a unit's changed files, which it does by itself for one that it does not have in memory.
    pub(super) fn read_again(&mut self, planner: &Planner<'_>, unit: &str, cause: &ResourceId) {
        if !planner.seen.units.get(unit).is_some_and(|seen| seen.rests) {
            self.daemon_reload.insert(cause.clone());
        }
    }

    fn unit(
        &mut self,
        planner: &Planner<'_>,
        resource: &Resource,
        claim: Option<&Claim>,
        unit: &str,
        wanted: UnitState,
        impact: Option<&Impact>,
    ) {
        let unseen = UnitSeen::default();
        let seen = planner.seen.units.get(unit).unwrap_or(&unseen);
        if seen.load == "masked" && (wanted.active == Some(true) || wanted.enabled == Some(true)) {
            let why = format!("{unit} is masked on the host");
            self.refused = Some(Refusal { why, hint: format!("`systemctl unmask {unit}` there, if it should run") });
            return;
        }
        if seen.needs_reload && claim.is_some_and(|claim| claim.units.contains_key(unit)) {
            self.daemon_reload.insert(resource.id.clone());
        }
        if let Some(switch) = switch(wanted.enabled, seen, impact) {
            self.wish(unit, &resource.id).switch = Some(switch);
            self.daemon_reload.insert(resource.id.clone());
        }
        let installing = !self.packages.is_empty() || planner.installs_packages();
        let verb = match (wanted.active, is_active(seen)) {
            (Some(true), false) if seen.load != "loaded" && impact.is_none() && installing => Some(Verb::Bring),
            (Some(true), false) => Some(Verb::Start),
            (Some(false), true) => Some(Verb::Stop),
            (_, true) => impact.and_then(|impact| match impact {
                Impact { restart: true, .. } => Some(Verb::Restart),
                Impact { reload: true, .. } => Some(Verb::Reload),
                _ => None,
            }),
            _ => None,
        };
        if verb == Some(Verb::Start) && seen.active == "failed" {
            self.details.push(format!("{unit} has failed"));
        }
        if let Some(verb) = verb {
            self.strengthen(unit, &resource.id, verb);
        }
    }

    fn reaction(&mut self, planner: &Planner<'_>, resource: &Resource, action: &Action, changed: &[&Utf8Path]) {
        let active = |unit: &str| planner.seen.units.get(unit).is_some_and(is_active);
        match action {
            Action::Reload(unit) if active(unit) => self.strengthen(unit, &resource.id, Verb::Reload),
            Action::Restart(unit) if active(unit) => self.strengthen(unit, &resource.id, Verb::Restart),
            Action::Signal { unit, signal } if active(unit) => {
                self.strengthen(unit, &resource.id, Verb::Signal(signal.clone()));
            }
            Action::Container { project, service, .. } | Action::Recreate { project, service } => {
                let is = |container: &&ContainerSeen| container.service == *service && container.state == "running";
                if !planner.is_stopped(project) && containers(planner, project).iter().any(is) {
                    self.container(planner, resource, action, changed);
                }
            }
            // A unit that does not run reads its files when it is started, and its own files were dealt with.
            _ => {}
        }
    }

    /// Restarts and reloads that earlier runs did not get to, where the process is still the one from before.
    fn debts(&mut self, planner: &Planner<'_>, resource: &Resource) {
        for owed in planner.seen.owed.iter().filter(|owed| owed.why == resource.id.to_string()) {
            let Some(seen) = planner.seen.units.get(&owed.unit) else { continue };
            if !is_active(seen) || seen.invocation != owed.invocation {
                continue;
            }
            self.owed = true;
            self.details.push(format!("{} runs with older files", owed.unit));
            let verb = if owed.verb == "reload" { Verb::Reload } else { Verb::Restart };
            self.strengthen(&owed.unit, &resource.id, verb);
            self.wish(&owed.unit, &resource.id).why = Some(format!("owed since run {}", owed.run));
        }
    }

    // ---- containers

    fn project(
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
            if there.iter().any(|container| container.state == "running") {
                self.other(Deed::ComposeStop { project: project.name.clone() }, &resource.id);
            }
            return;
        }
        self.images(planner, resource, claim, project, &there);
        let recorded = claim.and_then(|claim| claim.project.as_ref()).map(|project| &project.services);
        let changed = |folder: &Utf8PathBuf| paths.iter().any(|change| change.path.starts_with(folder));
        let services = project.services.iter();
        let built = services.filter_map(|(name, service)| Some((name.as_str(), service.built_from.as_ref()?)));
        let rebuilt = built.filter(|(_, folders)| folders.iter().any(changed)).map(|(name, _)| name).collect();
        let wanted = Wanted { project, recorded, hashes: &hashes, rebuilt, files_change: !paths.is_empty() };
        if let Some(mut deed) = wanted.up(&there, &services_left(resource, claim)) {
            if let (Deed::ComposeUp { before, .. }, Some(was)) =
                (&mut deed, claim.and_then(|claim| claim.project.as_ref()))
            {
                before.clone_from(&was.files);
            }
            self.other(deed, &resource.id);
        }
    }

    /// A container that uses a changed file; one that is replaced anyway needs nothing more.
    fn container(&mut self, planner: &Planner<'_>, resource: &Resource, action: &Action, changed: &[&Utf8Path]) {
        let names: Vec<&str> = changed.iter().filter_map(|path| path.file_name()).collect();
        let why = (!names.is_empty()).then(|| format!("uses {}", names.join(", ")));
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

    // ---- gathering

    pub(super) fn wish(&mut self, unit: &str, cause: &ResourceId) -> &mut UnitWish {
        let wish = self.units.entry(unit.to_string()).or_default();
        wish.causes.insert(cause.clone());
        wish
    }

    pub(super) fn strengthen(&mut self, unit: &str, cause: &ResourceId, verb: Verb) {
        let wish = self.wish(unit, cause);
        wish.verb = wish.verb.take().max(Some(verb));
    }

    pub(super) fn other(&mut self, deed: Deed, cause: &ResourceId) {
        self.others.push(Effect::new(deed, vec![cause.clone()]));
    }

    /// The effects in the order in which they happen.
    pub(crate) fn into_effects(
        mut self,
        position: &BTreeMap<&ResourceId, usize>,
        needs: &BTreeMap<&ResourceId, BTreeSet<&ResourceId>>,
    ) -> Vec<Effect> {
        self.drop_needless_container_restarts();
        let mut effects = Vec::new();
        if !self.packages.is_empty() {
            let causes = self.packages.values().flatten().cloned().collect::<Causes>().into_iter().collect();
            let packages = self.packages.into_keys().collect();
            effects.push(Effect::new(Deed::Install { packages }, causes));
        }
        let at = |causes: &[ResourceId]| causes.iter().filter_map(|id| position.get(id).copied()).max().unwrap_or(0);
        let mut placed: Vec<(usize, usize, Effect)> = Vec::new();
        let turns = self.others.iter().any(|effect| matches!(effect.deed, Deed::Turn { .. }));
        let (pulls, others) = self.others.into_iter().partition(|effect| effect.deed.phase() == Phase::Pull);
        (effects, self.others) = ([pulls, effects].concat(), others);
        for (unit, wish) in self.units {
            let causes: Vec<ResourceId> = wish.causes.into_iter().collect();
            let shares: Vec<_> = causes.iter().map(|cause| (cause.clone(), unit.clone())).collect();
            let effect = |deed, why| Effect { deed, causes: causes.clone(), why, shares: shares.clone() };
            let units = vec![unit];
            if let Some(switch) = wish.switch {
                let (stage, deed) = match switch {
                    Switch::Disable => (0, Deed::Disable { units: units.clone() }),
                    Switch::Enable => (1, Deed::Enable { units: units.clone() }),
                    Switch::Reenable => (1, Deed::Reenable { units: units.clone() }),
                };
                placed.push((stage, 0, effect(deed, None)));
            }
            let Some(verb) = wish.verb else { continue };
            let late = if turns && units[0] == NGINX { 5 } else { 3 };
            let (stage, deed) = match verb {
                Verb::Stop => (0, Deed::Stop { units }),
                Verb::Start => (late, Deed::Start { units }),
                Verb::Restart => (late, Deed::Restart { units }),
                Verb::Reload => (late, Deed::Reload { units }),
                Verb::Bring => (late, Deed::Bring { units }),
                Verb::Signal(signal) => (late, Deed::Signal { unit: units[0].clone(), signal }),
            };
            placed.push((stage, at(&causes), effect(deed, wish.why)));
        }
        if !self.daemon_reload.is_empty() {
            let causes = self.daemon_reload.into_iter().collect();
            placed.push((2, 0, Effect::new(Deed::DaemonReload, causes)));
        }
        for effect in self.others {
            let stage = match (&effect.deed, effect.deed.phase()) {
                (Deed::Turn { .. }, _) => 4,
                (_, Phase::Parting) => 6,
                (_, Phase::After) => 3,
                _ => 0,
            };
            placed.push((stage, at(&effect.causes), effect));
        }
        placed.sort_by_key(|(stage, position, _)| (*stage, *position));
        for (_, _, effect) in placed {
            merge_or_push(&mut effects, effect, needs);
        }
        effects
    }

    fn drop_needless_container_restarts(&mut self) {
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

/// Adds an effect to the one before it where both are the same verb and neither cause needs the other.
fn merge_or_push(effects: &mut Vec<Effect>, effect: Effect, needs: &BTreeMap<&ResourceId, BTreeSet<&ResourceId>>) {
    if let Some(last) = effects.last_mut()
        && last.why == effect.why
        && !effect.causes.iter().any(|cause| {
            needs.get(cause).is_some_and(|needed| last.causes.iter().any(|earlier| needed.contains(earlier)))
        })
        && std::mem::discriminant(&last.deed) == std::mem::discriminant(&effect.deed)
        && let Some(units) = last.deed.units_mut()
    {
        units.extend(effect.deed.units().iter().cloned());
        last.shares.extend(effect.shares);
        let causes = effect.causes.into_iter().filter(|cause| !last.causes.contains(cause)).collect::<Vec<_>>();
        last.causes.extend(causes);
        return;
    }
    effects.push(effect);
}

fn switch(wanted: Option<bool>, seen: &UnitSeen, impact: Option<&Impact>) -> Option<Switch> {
    let enabled = seen.file_state.starts_with("enabled");
    match wanted {
        Some(true) if !enabled => Some(Switch::Enable),
        Some(true) if impact.is_some_and(|impact| impact.reenable) => Some(Switch::Reenable),
        Some(false) if enabled => Some(Switch::Disable),
        _ => None,
    }
}

/// Whether a unit runs.
pub(crate) fn is_active(seen: &UnitSeen) -> bool {
    matches!(seen.active.as_str(), "active" | "reloading" | "activating" | "refreshing")
}

/// Whether a path is a drop-in of a unit.
pub(super) fn is_drop_in(path: &Utf8Path, unit: &str) -> bool {
    path.parent().and_then(Utf8Path::file_name).and_then(|name| name.strip_suffix(".d")) == Some(unit)
}

pub(super) fn containers<'a>(planner: &Planner<'a>, project: &str) -> Vec<&'a ContainerSeen> {
    match &planner.seen.containers {
        Some(Ok(containers)) => containers.iter().filter(|container| container.project == project).collect(),
        _ => Vec::new(),
    }
}

/// What the change of a unit file means. Where the former text is unknown, everything may have changed.
fn impact_of(change: &PathChange) -> Impact {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let before = change.before_content.as_deref().map(text);
    let after = match &change.after {
        Some(PathState::File { content, .. }) => Some(text(&content.bytes)),
        _ => None,
    };
    match (before, after) {
        (Some(before), Some(after)) => unit_file::impact(&before, &after),
        _ => Impact { daemon_reload: true, reenable: true, restart: true, ..Impact::default() },
    }
}
