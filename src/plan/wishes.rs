//! What the changed resources of one transaction want done on the host, gathered so that each thing is done once.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::id::ResourceId;
use crate::host::observation::{ContainerSeen, UnitSeen};
use crate::ledger::Claim;
use crate::plan::effect::{Deed, Effect, Phase};
use crate::plan::host::Planner;
use crate::plan::project::{containers, is_at_work};
use crate::plan::{PathChange, Refusal};
use crate::resource::state::{PathState, UnitState};
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
    pub(super) others: Vec<Effect>,
}

type Causes = BTreeSet<ResourceId>;

/// What is wanted of one unit. Of several verbs the strongest wins.
#[derive(Debug, Default)]
pub(super) struct UnitWish {
    pub(super) switch: Option<Switch>,
    verb: Option<Verb>,
    causes: Causes,
    pub(super) why: Option<String>,
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
        let others = paths.iter().filter(|path| !resource.state.paths.contains_key(*path));
        others.into_iter().any(|path| planner.is_to_change(path, &resource.stack))
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
            Action::Container { project, .. } | Action::Recreate { project, .. }
                if planner.seen.tools.contains("docker")
                    && !planner.installs_packages()
                    && matches!(planner.seen.containers, Some(Err(_))) =>
            {
                // What runs would go on with the old file, and nobody would know.
                let why = format!("Docker does not say whether containers of `{project}` use it");
                self.refused = Some(Refusal { why, hint: "is Docker running there? Plan again once it is".into() });
            }
            Action::Container { project, service, .. } | Action::Recreate { project, service } => {
                let is = |container: &&ContainerSeen| container.service == *service && is_at_work(container);
                if planner.is_to_run(project, service) && containers(planner, project).iter().any(is) {
                    let names: Vec<&str> = changed.iter().filter_map(|path| path.file_name()).collect();
                    let why = (!names.is_empty()).then(|| format!("uses {}", names.join(", ")));
                    self.container(planner, resource, action, why);
                }
            }
            // A unit that does not run reads its files when it is started, and its own files were dealt with.
            _ => {}
        }
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
        let mut placed: Vec<(usize, usize, bool, Effect)> = Vec::new();
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
                placed.push((stage, 0, false, effect(deed, None)));
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
            placed.push((stage, at(&causes), false, effect(deed, wish.why)));
        }
        if !self.daemon_reload.is_empty() {
            let causes = self.daemon_reload.into_iter().collect();
            placed.push((2, 0, false, Effect::new(Deed::DaemonReload, causes)));
        }
        let unpaused = self.others.iter().flat_map(|up| up.deed.unpauses().map(|which| (which, at(&up.causes))));
        let unpaused: BTreeMap<(String, String), usize> = unpaused.collect();
        for effect in self.others {
            let stage = match (&effect.deed, effect.deed.phase()) {
                (Deed::Turn { .. }, _) => 4,
                (_, Phase::Parting) => 6,
                (_, Phase::After) => 3,
                _ => 0,
            };
            // What is paused goes on before it is restarted, or told anything.
            let goes_on = effect.deed.again().filter_map(|which| unpaused.get(&which)).max();
            placed.push((stage, at(&effect.causes).max(goes_on.copied().unwrap_or(0)), goes_on.is_some(), effect));
        }
        placed.sort_by_key(|(stage, position, later, _)| (*stage, *position, *later));
        for (_, _, _, effect) in placed {
            merge_or_push(&mut effects, effect, needs);
        }
        effects
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
