//! The plan for one host.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::digest::Digest;
use crate::base::id::{Kind, RepoId, ResourceId, StackName};
use crate::host::observation::{ContainerSeen, Observation, Seen, Thing};
use crate::ledger::{Claim, Ledger, Written};
use crate::load::{Extent, Limits};
use crate::plan::compare::{Ownership, is_as_wanted, is_as_written, left_there, path_changes};
use crate::plan::containers::{self, hashes_of, with_followers};
use crate::plan::effect::{Deed, Effect};
use crate::plan::guard::hazards;
use crate::plan::hold::{self, hold_back};
use crate::plan::images::former;
use crate::plan::order::{all_needs, in_order};
use crate::plan::verdict::judge;
use crate::plan::watch;
use crate::plan::wishes::Wishes;
use crate::plan::{Action, Cause, Change, HostPlan, PathChange, Refusal, Transaction};
use crate::resource::state::{Owner, PathState, Project};
use crate::resource::{Check, Desired, Resource};

/// What decides a plan besides what is wanted and seen.
pub struct Policy<'a> {
    /// The repository.
    pub repo: &'a RepoId,
    /// The stacks that take part; `None` for all.
    pub stacks: Option<&'a BTreeSet<StackName>>,
    /// Resources that may be taken over although they are not ours.
    pub adopt: &'a BTreeSet<ResourceId>,
    /// Resources that must not be touched, and why, for reasons that no host knows of.
    pub refused: &'a BTreeMap<ResourceId, Refusal>,
    /// What each stack of the repository is `after`, be it on this host or not.
    pub after: &'a BTreeMap<StackName, Vec<StackName>>,
    /// Files are written below a root directory, and nothing is activated.
    pub offline: bool,
    /// The host can go back by itself if it is not reached again: there is a link that could break.
    pub goes_back: bool,
    /// The stacks that the repository has for this host.
    pub here: BTreeSet<StackName>,
    /// How much may be done to it.
    pub limits: Limits,
    /// What happens together.
    pub extent: Extent,
}

impl Policy<'_> {
    pub(super) fn selects(&self, stack: &StackName) -> bool {
        self.stacks.is_none_or(|stacks| stacks.contains(stack))
    }
}

/// Plans one host. Pure: the same input gives the same plan.
pub fn plan(desired: &Desired, seen: &Observation, policy: &Policy<'_>) -> HostPlan {
    let planner = Planner::new(desired, seen, policy);
    let mut changes = planner.changes();
    changes.extend(planner.removals());
    let unchanged = desired.resources.iter().filter(|resource| policy.selects(&resource.stack)).count();
    let touched = changes.iter().filter(|change| change.origin.is_some()).count();
    let mut transactions = planner.transactions(changes);
    judge(&seen.verdicts, &mut transactions);
    HostPlan {
        host: desired.host.clone(),
        unchanged: unchanged.saturating_sub(touched),
        notes: planner.notes(&transactions),
        hazards: hazards(&transactions, desired, &planner.ownership, policy),
        extent: policy.extent,
        transactions,
        unfinished: seen.unfinished.clone(),
        offline: policy.offline,
        salt: planner.ownership.salt.clone(),
    }
}

/// What is known while a host is planned.
pub(crate) struct Planner<'a> {
    pub(crate) desired: &'a Desired,
    pub(crate) seen: &'a Observation,
    pub(crate) policy: &'a Policy<'a>,
    pub(crate) ownership: Ownership,
    pub(super) wanted: BTreeSet<&'a Utf8Path>,
    order: Vec<&'a Resource>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(desired: &'a Desired, seen: &'a Observation, policy: &'a Policy<'a>) -> Self {
        let wanted = desired.resources.iter().flat_map(|resource| resource.state.paths.keys());
        Planner {
            desired,
            seen,
            policy,
            ownership: Ownership::read(policy.repo, seen).settled(desired, &policy.here),
            wanted: wanted.map(camino::Utf8PathBuf::as_path).collect(),
            order: in_order(&desired.resources),
        }
    }

    /// Only root can give files away: without it, and below a root directory, owners are left alone.
    pub(super) fn with_owner(&self) -> bool {
        self.seen.uid == 0 && !self.policy.offline
    }

    fn changes(&self) -> Vec<Change> {
        let selected = self.order.iter().filter(|resource| self.policy.selects(&resource.stack));
        let mut changes: Vec<Change> = selected.filter_map(|resource| self.change(resource)).collect();
        self.add_missing_directories(&mut changes);
        changes
    }

    /// The directories above new paths that nobody describes are made with the first path that needs them.
    fn add_missing_directories(&self, changes: &mut [Change]) {
        let mut planned = BTreeSet::new();
        for change in changes {
            let mut missing = BTreeSet::new();
            for path in change.paths.iter().filter(|path| path.after.is_some()) {
                let above = path.path.ancestors().skip(1).filter(|above| !self.wanted.contains(above));
                missing.extend(above.filter(|above| self.seen.paths.get(*above) == Some(&Seen::Absent)));
            }
            let missing: Vec<Utf8PathBuf> = missing.into_iter().map(Utf8Path::to_owned).collect();
            for path in missing.into_iter().rev() {
                if planned.insert(path.clone()) {
                    let after = PathState::Directory { mode: 0o755, owner: Owner::root() };
                    let made = PathChange {
                        path,
                        before: Seen::Absent,
                        after: Some(after),
                        before_content: None,
                        implied: true,
                    };
                    change.paths.insert(0, made);
                }
            }
        }
    }

    fn change(&self, resource: &Resource) -> Option<Change> {
        let claim = self.ownership.claim(&resource.id, &resource.stack);
        let paths = path_changes(resource, claim, self.seen, &self.wanted, self.with_owner());
        let mut wishes = Wishes::default();
        if !self.policy.offline {
            wishes.of_resource(self, resource, claim, &paths);
        }
        let refused = self.policy.refused.get(&resource.id).cloned();
        let refused = refused.or_else(|| self.refusal(resource, claim)).or_else(|| wishes.refused.take());
        let adopts = claim.is_none() && self.policy.adopt.contains(&resource.id) && self.is_there(resource);
        if paths.is_empty() && wishes.is_empty() && refused.is_none() && !adopts {
            return None;
        }
        wishes.details.extend(claim.into_iter().flat_map(|claim| left_there(claim, self.seen, &self.wanted)));
        let (action, cause) = self.action(resource, claim, &paths, &wishes, adopts);
        Some(Change {
            id: resource.id.clone(),
            stack: resource.stack.clone(),
            origin: Some(resource.origin.clone()),
            action,
            cause,
            details: wishes.details,
            paths,
            refused,
        })
    }

    fn is_there(&self, resource: &Resource) -> bool {
        let paths = &resource.state.paths;
        paths.keys().any(|path| matches!(self.seen.paths.get(path), Some(Seen::Present(_))))
    }

    fn action(
        &self,
        resource: &Resource,
        claim: Option<&Claim>,
        paths: &[PathChange],
        wishes: &Wishes,
        adopts: bool,
    ) -> (Action, Cause) {
        let Some(claim) = claim else {
            return if adopts { (Action::Adopt, Cause::New) } else { (Action::Create, Cause::New) };
        };
        if let Some(handover) = &resource.handover {
            let moved = if handover.drift { Cause::Drift } else { Cause::Repository };
            return (Action::Update, if wishes.owed { Cause::Owed } else { moved });
        }
        let salt = &self.ownership.salt;
        let now = Claim::on(&resource.state, &BTreeMap::new(), salt);
        let written = |path: &Utf8Path| claim.paths.get(path);
        let project = now.project.as_ref().zip(claim.project.as_ref());
        let repository = now.paths.iter().any(|(path, wanted)| written(path).is_none_or(|was| was != wanted))
            || now.units != claim.units
            || project.is_some_and(|(now, was)| !now.is_described_as(was))
            || paths.iter().any(|change| change.after.is_none());
        let drift = paths.iter().any(|change| {
            written(&change.path).is_some_and(|was| !is_as_written(was, &change.before, self.with_owner(), salt))
        }) || (!repository && !paths.is_empty());
        let cause = match (repository, drift) {
            (true, true) => Cause::Both,
            (true, false) => Cause::Repository,
            (false, _) if wishes.owed => Cause::Owed,
            (false, _) => Cause::Drift,
        };
        (if paths.is_empty() { Action::Activate } else { Action::Update }, cause)
    }

    /// Why this resource must not be touched: something at its place is not ours, or cannot be seen.
    pub(super) fn refusal(&self, resource: &Resource, claim: Option<&Claim>) -> Option<Refusal> {
        for (path, wanted) in &resource.state.paths {
            let seen = self.seen.paths.get(path);
            if let Some(Seen::Unknown(why)) = seen {
                let hint = "connect as root, or give the host `sudo`";
                return Some(Refusal { why: format!("{path} cannot be seen: {why}"), hint: hint.into() });
            }
            if let Some(other) = self.ownership.foreign.get(path) {
                let why = format!("{path} belongs to the repository `{other}`");
                return Some(Refusal { why, hint: "remove it there, or choose another name here".into() });
            }
            let Some(Seen::Present(there)) = seen else { continue };
            let (is, becomes) = (there.thing == Thing::Directory, matches!(wanted, PathState::Directory { .. }));
            if is != becomes {
                let why = if is {
                    format!("{path} is a directory there, and no file takes the place of one")
                } else {
                    format!("{path} is no directory there, and no directory takes the place of a file or link")
                };
                let hint = "remove it there; if it was made from here, first apply without it";
                return Some(Refusal { why, hint: hint.into() });
            }
            let shared = matches!(wanted, PathState::Directory { .. })
                && is_as_wanted(wanted, &Seen::Present(there.clone()), self.with_owner());
            let ours = claim.is_some_and(|claim| claim.paths.contains_key(path)) || self.ownership.owns(path);
            if !ours && !shared && !self.policy.adopt.contains(&resource.id) {
                let what = match there.thing {
                    Thing::File(_) => "file",
                    Thing::Directory => "directory with other permissions",
                    Thing::Link(_) => "link",
                    Thing::Other => "device or socket",
                };
                let why = format!("{path} is there already, and this {what} is not ours");
                let hint = format!("to take it over: --adopt {}", resource.id);
                return Some(Refusal { why, hint });
            }
        }
        None
    }

    /// One transaction for each stack with changes, ordered by what stacks say and need of each other.
    fn transactions(&self, changes: Vec<Change>) -> Vec<Transaction> {
        let mut by_stack: BTreeMap<StackName, Vec<Change>> = BTreeMap::new();
        for change in changes {
            by_stack.entry(change.stack.clone()).or_default().push(change);
        }
        let mut needs = self.needs_of_stacks(&by_stack);
        self.forget_first(&by_stack, &mut needs);
        let needs_of = all_needs(&self.desired.resources);
        let mut transactions: Vec<Transaction> = by_stack
            .into_iter()
            .map(|(stack, changes)| {
                let needs = needs.remove(&stack).unwrap_or_default();
                self.transaction(stack, changes, needs, &needs_of)
            })
            .collect();
        self.sort(&mut transactions);
        hold_back(&mut transactions, self.seen);
        transactions
    }

    fn transaction(
        &self,
        stack: StackName,
        changes: Vec<Change>,
        needs: BTreeSet<StackName>,
        needs_of: &BTreeMap<&ResourceId, BTreeSet<&ResourceId>>,
    ) -> Transaction {
        let mut wishes = Wishes::default();
        let mut checks = Vec::new();
        if !self.policy.offline {
            for change in &changes {
                match self.desired.resources.iter().find(|resource| resource.id == change.id) {
                    Some(resource) => {
                        let claim = self.ownership.claim(&resource.id, &resource.stack);
                        wishes.of_resource(self, resource, claim, &change.paths);
                        checks.extend(resource.checks.iter().map(|check| (resource.id.clone(), check.clone())));
                    }
                    None => wishes.of_removal(self, change),
                }
            }
        }
        let position: BTreeMap<&ResourceId, usize> =
            self.order.iter().enumerate().map(|(position, resource)| (&resource.id, position)).collect();
        let ledger_text = self.seen.ledgers.get(&format!("{}/ledger/{stack}", self.policy.repo));
        let (ledger_before, ledger_after) = self.ledgers(&stack, &changes, &wishes.hashes);
        let ledger_before: Arc<str> = ledger_before.to_text().into();
        // Mostly it is the same text.
        let ledger_after = Some(ledger_after.to_text()).filter(|after| **after != *ledger_before);
        let effects = wishes.into_effects(&position, needs_of);
        checks.extend(self.checks_of_touched(&effects, &changes));
        checks.extend(containers::checks(&effects, &self.desired.resources));
        let debts = self.debts_of_others(&stack, &changes);
        Transaction {
            debts,
            effects,
            checks,
            ledger_seen: ledger_text.map(|text| Digest::of(text.as_bytes())),
            held: None,
            ledger_after: ledger_after.map_or_else(|| ledger_before.clone(), Arc::from),
            ledger_before,
            stack,
            needs,
            changes,
        }
    }

    /// What must be so of resources that do not change themselves, but whose units are restarted or reloaded.
    fn checks_of_touched(&self, effects: &[Effect], changes: &[Change]) -> Vec<(ResourceId, Check)> {
        let touched: BTreeSet<&str> = effects
            .iter()
            .filter(|effect| matches!(effect.deed, Deed::Start { .. } | Deed::Restart { .. } | Deed::Reload { .. }))
            .flat_map(|effect| effect.deed.units().iter().map(String::as_str))
            .collect();
        let others = self.desired.resources.iter().filter(|resource| {
            let runs = |unit: &String| resource.state.units[unit].active == Some(true);
            resource.id.kind == Kind::Unit
                && resource.state.units.keys().any(|unit| touched.contains(unit.as_str()) && runs(unit))
                && !changes.iter().any(|change| change.id == resource.id)
        });
        others.flat_map(|resource| resource.checks.iter().map(|check| (resource.id.clone(), check.clone()))).collect()
    }

    /// The stack's ledger with the claims that this transaction needs, and as it is to be in the end.
    fn ledgers(
        &self,
        stack: &StackName,
        changes: &[Change],
        hashes: &BTreeMap<String, BTreeMap<String, String>>,
    ) -> (Ledger, Ledger) {
        let salt = &self.ownership.salt;
        let mut before = self.ownership.own.get(stack).cloned().unwrap_or_default();
        before.salt.clone_from(salt);
        let mut after = before.clone();
        for change in changes {
            let Some(resource) = self.desired.resources.iter().find(|resource| resource.id == change.id) else {
                after.claims.remove(&change.id);
                continue;
            };
            let none = BTreeMap::new();
            let project = resource.state.project.as_ref().map(|project| project.name.as_str());
            let mut claim =
                Claim::on(&resource.state, project.and_then(|name| hashes.get(name)).unwrap_or(&none), salt);
            self.drop_shared_directories(resource, &mut claim);
            self.add_made_directories(resource, &mut claim);
            claim.moves = self.ownership.moves(&change.id, stack);
            if let (Some(wanted), Some(project)) = (&resource.state.project, &mut claim.project) {
                project.images.extend(former(wanted, self.ownership.claim(&change.id, stack)).0);
            }
            if change.paths.is_empty() {
                claim.keep_hashes(self.ownership.claim(&change.id, stack));
            }
            let mut both = claim.clone();
            if let Some(was) = self.ownership.claim(&change.id, stack) {
                both.add(was);
            }
            before.claims.insert(change.id.clone(), both);
            after.claims.insert(change.id.clone(), claim);
        }
        (before, after)
    }

    /// A directory that was there before us, as it should be, is used and not owned.
    fn drop_shared_directories(&self, resource: &Resource, claim: &mut Claim) {
        claim.paths.retain(|path, written| {
            !written.is_directory()
                || self.ownership.owns(path)
                || self.policy.adopt.contains(&resource.id)
                || self.seen.paths.get(path) == Some(&Seen::Absent)
        });
    }

    /// Directories that are made, or were once made, only because something of this resource lies in them.
    fn add_made_directories(&self, resource: &Resource, claim: &mut Claim) {
        for path in resource.state.paths.keys() {
            for above in path.ancestors().skip(1).filter(|above| !self.wanted.contains(above)) {
                if self.seen.paths.get(above) == Some(&Seen::Absent) || self.ownership.owns(above) {
                    let made = Written::Directory { mode: 0o755, owner: Owner::root() };
                    claim.paths.insert(above.to_owned(), made);
                }
            }
        }
    }

    fn notes(&self, transactions: &[Transaction]) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(who) = &self.seen.busy {
            notes.push(format!("another run is at work there: {who}"));
        }
        notes.extend(hold::notes(self.seen, |stack| self.policy.selects(stack)));
        notes.extend(watch::notes(transactions));
        if let Some(why) = &self.seen.verdicts.cannot {
            notes.push(format!("not checked beforehand by nginx, systemd and Compose: {why}"));
        }
        if !self.with_owner() && self.desired.resources.iter().any(|resource| !resource.state.paths.is_empty()) {
            let why = if self.policy.offline { "below a root directory" } else { "not root there" };
            notes.push(format!("owners are left alone: {why}"));
        }
        if !self.policy.offline && !transactions.is_empty() && !self.seen.systemd {
            notes.push("systemd does not run there: units cannot be started".into());
        }
        notes
    }
}

// What wishes ask of the whole picture.
impl Planner<'_> {
    /// All containers of projects there.
    pub(crate) fn containers(&self) -> impl Iterator<Item = &ContainerSeen> {
        self.seen.containers.iter().flatten().flatten()
    }

    /// Whether this run installs packages on the host, so that units and programs may exist by the time they are needed.
    pub(crate) fn installs_packages(&self) -> bool {
        let packages = self.desired.resources.iter().flat_map(|resource| &resource.state.packages);
        packages.clone().any(|package| !self.seen.packages.contains_key(package))
    }

    fn project(&self, name: &str) -> Option<&Project> {
        let mut projects = self.desired.resources.iter().filter_map(|resource| resource.state.project.as_ref());
        projects.find(|project| project.name == name)
    }

    /// Whether a service of a project is to run, as far as is known here.
    pub(crate) fn is_to_run(&self, project: &str, service: &str) -> bool {
        self.project(project).is_none_or(|project| {
            project.running && project.services.contains_key(service) && !project.stopped.contains(service)
        })
    }

    /// The services of a project that are restarted if this one is.
    pub(crate) fn with_followers(&self, project: &str, service: &str) -> BTreeSet<String> {
        self.project(project).map_or_else(|| [service.to_string()].into(), |project| with_followers(project, service))
    }

    /// The hash that Compose on the host gives to each service of the candidate project.
    pub(crate) fn hashes_of(&self, project: &str) -> BTreeMap<String, String> {
        hashes_of(self.seen, project)
    }
}
