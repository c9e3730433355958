//! The second look, where something will change.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::id::StackName;
use crate::host::archive::Archive;
use crate::host::observation::{Observation, Seen, Thing};
use crate::ledger::{Claim, ProjectClaim, Written};
use crate::observe::{Place, Questions};
use crate::plan::PathChange;
use crate::plan::compare::{Ownership, path_changes};
use crate::plan::host::Policy;
use crate::resource::compose_build::Built;
use crate::resource::state::{PathState, Project, ProjectService};
use crate::resource::{Action, Desired, Resource};

/// Files larger than this are not fetched to show how they differ.
const LARGEST_SHOWN: u64 = 512 * 1024;

/// Where validators write themselves.
const WRITTEN: [&str; 3] = ["/run", "/var/log", "/var/lib/nginx"];

/// What the second look asks, and the candidate tree that the host's validators are to judge.
#[derive(Debug, Default)]
pub struct Inspection {
    /// Further questions.
    pub questions: Questions,
    /// What to judge.
    pub candidate: Candidate,
}

/// The files as they would be, and which validators have a say.
#[derive(Debug, Default, Clone)]
pub struct Candidate {
    /// What would be there.
    pub paths: BTreeMap<Utf8PathBuf, PathState>,
    /// What would be gone.
    pub removed: BTreeSet<Utf8PathBuf>,
    /// Whether nginx has a say.
    pub nginx: bool,
    /// The units that systemd has a say about.
    pub units: BTreeSet<String>,
    /// The projects that Compose has a say about.
    pub projects: Vec<Project>,
    /// The same as they lie there.
    pub former: Vec<Former>,
}

/// A project as it lies on a host, and the version of Compose that made its containers: another one may see all of
/// them as changed.
#[derive(Debug, Clone)]
pub struct Former {
    compose: String,
    project: ProjectClaim,
}

/// The project of a claim, where it has containers.
fn former(claim: Option<&Claim>, seen: &Observation) -> Option<Former> {
    let project = claim?.project.clone()?;
    let mut containers = seen.containers.iter().flatten().flatten();
    let compose = containers.find(|container| container.project == project.name)?.compose.clone();
    Some(Former { compose, project })
}

/// What must be looked at more closely, given the first look; `None` where nothing differs.
pub fn inspection(desired: &Desired, seen: &Observation, policy: &Policy<'_>) -> Option<Inspection> {
    let ownership = Ownership::read(policy.repo, seen).settled(desired, &policy.here);
    let wanted: BTreeSet<&Utf8Path> = desired
        .resources
        .iter()
        .flat_map(|resource| resource.state.paths.keys())
        .map(camino::Utf8PathBuf::as_path)
        .collect();
    let selects = |stack: &StackName| policy.stacks.is_none_or(|stacks| stacks.contains(stack));
    let mut inspection = Inspection::default();
    let mut anything = false;
    for resource in desired.resources.iter().filter(|resource| selects(&resource.stack)) {
        let claim = ownership.claim(&resource.id, &resource.stack);
        // Claimed paths that are unwanted have not been looked at: all of them count as changes here.
        let stale =
            claim.into_iter().flat_map(|claim| &claim.paths).filter(|(path, _)| !wanted.contains(path.as_path()));
        let stale: Vec<_> = stale.filter(|(path, written)| !is_above(path, written, &wanted)).collect();
        let with_owner = seen.uid == 0 && !policy.offline;
        let changes = path_changes(resource, None, seen, &wanted, with_owner);
        let recreated =
            resource.state.project.as_ref().is_some_and(|project| differs(project, resource, &ownership, seen));
        if changes.is_empty() && stale.is_empty() && !recreated {
            continue;
        }
        anything = true;
        // What has another name now runs under the former one.
        inspection.questions.units.extend(claim.into_iter().flat_map(|claim| claim.units.keys().cloned()));
        inspection.questions.contents.extend(leaves_behind(resource, &stale));
        inspection.questions.paths.extend(stale.iter().flat_map(|(path, _)| with_parents(path)));
        inspection
            .candidate
            .removed
            .extend(stale.iter().filter(|(_, written)| !written.is_directory()).map(|(p, _)| (*p).clone()));
        inspection.add_changes(resource, claim, &changes, former(claim, seen));
    }
    for (_, _, claim) in ownership.unwanted(desired, &selects) {
        anything = true;
        inspection.add_unwanted(claim, &wanted);
    }
    inspection.candidate.keep_what_can_be_judged(seen, policy.offline);
    anything.then_some(inspection)
}

/// The files of the place that a service leaves, by which people see what is new in the other one. None with secrets.
fn leaves_behind(resource: &Resource, stale: &[(&Utf8PathBuf, &Written)]) -> Vec<Utf8PathBuf> {
    let (Some(colours), Some(handover)) = (&resource.colours, &resource.handover) else { return Vec::new() };
    let Some(face) = handover.from.map(|from| colours.face(from)) else { return Vec::new() };
    let open = |written: &Written| matches!(written, Written::File { secret: false, .. });
    let wanted = |path: &Utf8Path| match face.state.paths.get(path) {
        Some(PathState::File { content, .. }) => !content.secret,
        _ => false,
    };
    stale.iter().filter(|(path, written)| open(written) && wanted(path)).map(|(path, _)| (*path).clone()).collect()
}

/// A path, and the directories above it: they tell where its last version can wait.
fn with_parents(path: &Utf8Path) -> impl Iterator<Item = Utf8PathBuf> {
    path.ancestors().filter(|above| *above != "/").map(Utf8Path::to_owned)
}

/// A directory that stays because something wanted lies in it.
fn is_above(path: &Utf8Path, written: &Written, wanted: &BTreeSet<&Utf8Path>) -> bool {
    written.is_directory() && wanted.range(path..).next().is_some_and(|next: &&Utf8Path| next.starts_with(path))
}

/// Whether a project's containers are not those that were last started for it.
fn differs(project: &Project, resource: &Resource, ownership: &Ownership, seen: &Observation) -> bool {
    let Some(Ok(containers)) = &seen.containers else { return true };
    let claim = ownership.claim(&resource.id, &resource.stack).and_then(|claim| claim.project.as_ref());
    let Some(claim) = claim else { return true };
    let own: Vec<_> = containers.iter().filter(|container| container.project == project.name).collect();
    let as_recorded = |(service, runs): (&String, &ProjectService)| {
        let Some(recorded) = claim.services.get(service).filter(|hash| !hash.is_empty()) else { return false };
        let mut of_service = own.iter().filter(|container| container.service == *service).peekable();
        let borrows = !runs.ties.borrows.is_empty();
        of_service.peek().is_some() && of_service.all(|container| borrows || container.hash == *recorded)
    };
    // Docker names an image by its id where its name is gone, or has become another one's.
    let as_built = |built: &Built| {
        let runs = own.iter().filter(|container| built.services.contains(&container.service));
        runs.into_iter().all(|container| container.image == built.recipe.image)
    };
    project.running && !(project.services.iter().all(as_recorded) && project.built.iter().all(as_built))
}

impl Inspection {
    fn add_changes(
        &mut self,
        resource: &Resource,
        claim: Option<&Claim>,
        changes: &[PathChange],
        former: Option<Former>,
    ) {
        for change in changes {
            let Some(after) = &change.after else { continue };
            // What is or was a secret does not travel.
            let was = claim.and_then(|claim| claim.paths.get(&change.path));
            let secret = matches!(after, PathState::File { content, .. } if content.secret)
                || matches!(was, Some(Written::File { secret: true, .. }));
            if let Seen::Present(seen) = &change.before
                && let (Thing::File(Some(digest)), PathState::File { content, .. }) = (&seen.thing, after)
                && *digest != content.digest
                && seen.size <= LARGEST_SHOWN
                && !secret
            {
                self.questions.contents.insert(change.path.clone());
            }
            self.candidate.paths.insert(change.path.clone(), after.clone());
        }
        for reaction in &resource.reactions {
            if let Action::ByDirective(unit) = &reaction.action
                && changes.iter().any(|change| reaction.paths.contains(&change.path))
            {
                self.candidate.units.insert(unit.clone());
            }
        }
        self.questions.images |=
            resource.state.project.as_ref().is_some_and(|project| project.images().next().is_some());
        self.candidate.projects.extend(resource.state.project.clone());
        self.candidate.former.extend(former);
    }

    fn add_unwanted(&mut self, claim: &Claim, wanted: &BTreeSet<&Utf8Path>) {
        for (path, written) in &claim.paths {
            if wanted.contains(path.as_path()) {
                continue;
            }
            self.questions.paths.extend(with_parents(path));
            if !written.is_directory() {
                self.candidate.removed.insert(path.clone());
            }
        }
        self.questions.units.extend(claim.units.keys().cloned());
        self.questions.docker |= claim.project.is_some();
    }

    /// The inspection as `observe.sh` and `preflight.sh` read it.
    pub fn to_request(&self, place: &Place) -> Vec<u8> {
        let mut request = self.questions.to_request(place, None);
        request.extend(self.candidate.to_lines().into_bytes());
        request.extend(b"tar\n");
        request.extend(self.candidate.archive());
        request
    }
}

impl Candidate {
    /// Whether no validator has a say.
    pub fn is_empty(&self) -> bool {
        !self.nginx && self.units.is_empty() && self.projects.is_empty()
    }

    /// Decides which validators have a say: those that are there, about files they can be shown.
    pub fn keep_what_can_be_judged(&mut self, seen: &Observation, offline: bool) {
        let has = |tool: &str| !offline && seen.tools.contains(tool);
        let in_nginx = |path: &Utf8PathBuf| path.starts_with("/etc/nginx");
        self.nginx = has("nginx") && (self.paths.keys().any(in_nginx) || self.removed.iter().any(in_nginx));
        if !has("systemd-analyze") || !seen.systemd {
            self.units.clear();
        }
        if !has("docker") {
            self.projects.clear();
            self.former.clear();
        }
        // A new directory at the very top cannot be laid over anything.
        let exists = |path: &Utf8Path| matches!(seen.paths.get(&overlay(path)), Some(Seen::Present(_)));
        self.paths.retain(|path, _| exists(path));
        self.projects.retain(|project| exists(&project.directory));
    }

    /// The directories that candidate files are laid over.
    fn over(&self) -> BTreeSet<Utf8PathBuf> {
        self.paths.keys().chain(&self.removed).map(|path| overlay(path)).collect()
    }

    /// The request's lines: what to lay over, what is gone, who has a say.
    pub fn to_lines(&self) -> String {
        let mut lines = String::new();
        for path in self.over() {
            let _ = writeln!(lines, "over {path}");
        }
        for path in &self.removed {
            let _ = writeln!(lines, "remove {path}");
        }
        if self.nginx {
            lines.push_str("nginx\n");
        }
        for unit in &self.units {
            let _ = writeln!(lines, "unit {unit}");
        }
        for Project { name, directory, files, profiles, .. } in &self.projects {
            let _ = writeln!(lines, "compose {}", named(name, directory, files, profiles));
        }
        for Former { compose, project } in &self.former {
            let ProjectClaim { name, directory, files, profiles, .. } = project;
            let _ = writeln!(lines, "former {compose}\t{}", named(name, directory, files, profiles));
        }
        lines
    }

    /// The candidate, and the directories that it takes to lay it over others: see `preflight.sh`.
    fn archive(&self) -> Vec<u8> {
        let mut archive = Archive::default();
        let over: Vec<_> = self.over().into_iter().chain(WRITTEN.map(Utf8PathBuf::from)).collect();
        for (path, number) in over.iter().zip(1..) {
            if matches!(self.paths.get(path), None | Some(PathState::Directory { .. })) {
                archive.directory(path, 0o755);
            }
            archive.directory(&Utf8Path::new("/.work").join(format!("{number}")), 0o755);
        }
        for (path, state) in &self.paths {
            match state {
                PathState::File { content, mode, .. } => archive.file(path, *mode, &content.bytes),
                PathState::Directory { mode, .. } => archive.directory(path, *mode),
                PathState::Link { target } => archive.link(path, target),
            }
        }
        archive.finish()
    }
}

/// A project as Compose is told of it.
fn named(name: &str, directory: &Utf8Path, files: &[Utf8PathBuf], profiles: &[String]) -> String {
    let files: String = files.iter().map(|file| format!("\t{file}")).collect();
    let profiles: String = profiles.iter().map(|profile| format!("\t{profile}")).collect();
    format!("{name}\t{directory}{files}\t--{profiles}")
}

/// The directory that an overlay is mounted on to show a path: the topmost one, but below `/var` the second, since
/// much is mounted there.
fn overlay(path: &Utf8Path) -> Utf8PathBuf {
    let depth = if path.starts_with("/var") { 3 } else { 2 };
    path.components().take(depth).map(|part| part.as_str()).collect::<Utf8PathBuf>()
}
