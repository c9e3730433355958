//! What a resource leaves behind when it goes, and while it stays: units that served under another name, and the place
//! it served in until now.

use std::collections::BTreeSet;

use camino::Utf8Path;

use crate::base::id::ResourceId;
use crate::host::observation::ContainerSeen;
use crate::ledger::Claim;
use crate::plan::effect::Deed;
use crate::plan::host::Planner;
use crate::plan::project::containers;
use crate::plan::wishes::{Switch, Verb, Wishes, is_active, is_drop_in};
use crate::plan::{Change, PathChange, Refusal};
use crate::resource::Resource;
use crate::resource::state::PathState;
use crate::resource::unit_file;

impl Wishes {
    /// The turn that is taken, and what becomes of units that are ours and no longer wanted.
    pub(super) fn leave(
        &mut self,
        planner: &Planner<'_>,
        resource: &Resource,
        claim: Option<&Claim>,
        paths: &[PathChange],
    ) {
        self.turn(planner, resource);
        let claimed = claim.into_iter().flat_map(|claim| claim.units.keys());
        let wanted = |unit: &String| planner.desired.resources.iter().any(|other| other.state.units.contains_key(unit));
        let of = |unit: &str| {
            let gone = paths.iter().filter(|change| change.after.is_none()).map(|change| &change.path);
            let folder = format!("{unit}.d");
            let is = |name: &str| name == unit || name == folder;
            let gone = gone.filter(move |path| path.components().any(|part| is(part.as_str())));
            gone.cloned().collect::<Vec<_>>()
        };
        let left: Vec<&String> = claimed.filter(|unit| !wanted(unit) && !of(unit).is_empty()).collect();
        let services = services_left(resource, claim);
        let nothing = left.is_empty() && services.is_empty();
        let Some(colours) = resource.colours.as_ref().filter(|_| !nothing) else {
            return left.into_iter().for_each(|unit| self.put_away(planner, unit, &resource.id));
        };
        let files = left.iter().flat_map(|unit| of(unit)).collect();
        // One that is down has nothing to end.
        let project = resource.state.project.as_ref().map(|project| project.name.clone());
        let of = |seen: &&ContainerSeen| Some(&seen.project) == project.as_ref() && services.contains(&seen.service);
        let runs = left.iter().any(|unit| planner.seen.units.get(*unit).is_some_and(is_active))
            || planner.containers().filter(of).any(|seen| seen.state == "running");
        let drain = if runs { colours.drain_seconds() } else { 0 };
        let units = left.into_iter().cloned().collect();
        self.other(Deed::Retire { units, files, services, project, drain }, &resource.id);
    }

    /// A unit that is ours, and no longer wanted: it goes before its file does.
    fn put_away(&mut self, planner: &Planner<'_>, unit: &str, id: &ResourceId) {
        self.read_again(planner, unit, id);
        let Some(seen) = planner.seen.units.get(unit) else { return };
        if is_active(seen) {
            self.strengthen(unit, id, Verb::Stop);
        }
        if seen.file_state.starts_with("enabled") {
            self.wish(unit, id).switch = Some(Switch::Disable);
        }
    }

    /// What goes away with a resource that nobody wants any more.
    pub(crate) fn of_removal(&mut self, planner: &Planner<'_>, change: &Change) {
        // Nothing goes with a claim that another stack's took the place of.
        let ledger = planner.ownership.own.get(&change.stack);
        let Some(claim) = ledger.and_then(|ledger| ledger.claims.get(&change.id)) else { return };
        for unit in claim.units.keys() {
            let file_goes = change.paths.iter().any(|path| path.path.file_name() == Some(unit));
            if !file_goes {
                // A unit that is not ours: nginx has to notice that a site goes, any to run without its drop-in.
                let dropped = change.paths.iter().any(|path| is_drop_in(&path.path, unit));
                if dropped {
                    self.daemon_reload.insert(change.id.clone());
                }
                if change.paths.iter().any(|path| path.after.is_none())
                    && planner.seen.units.get(unit).is_some_and(is_active)
                {
                    self.strengthen(unit, &change.id, if dropped { Verb::Restart } else { Verb::Reload });
                }
                continue;
            }
            self.put_away(planner, unit, &change.id);
        }
        if let Some(project) = &claim.project {
            let services: BTreeSet<String> =
                containers(planner, &project.name).iter().map(|container| container.service.clone()).collect();
            if !services.is_empty() {
                let deed = Deed::ComposeDown {
                    project: project.name.clone(),
                    directory: project.directory.clone(),
                    files: project.files.clone(),
                    profiles: project.profiles.clone(),
                    services: services.into_iter().collect(),
                };
                self.other(deed, &change.id);
            }
        }
    }

    fn turn(&mut self, planner: &Planner<'_>, resource: &Resource) {
        let (Some(colours), Some(handover)) = (&resource.colours, &resource.handover) else { return };
        let (host, port) = &colours.face(handover.to).at;
        let drain = colours.drain_seconds();
        let turn = Deed::Turn {
            service: colours.service.clone(),
            from: handover.from,
            to: handover.to,
            address: format!("{host}:{port}"),
            drain,
        };
        self.other(turn, &resource.id);
        let Some(from) = handover.from else { return };
        if let Some(at) = serves_at(planner, &colours.switch).filter(|at| *at == format!("{host}:{port}")) {
            self.refused = Some(Refusal {
                why: format!("{} is to listen at {at}, where {} does now", handover.to.word(), from.word()),
                hint: "both run side by side for a while: apply with two other ports first".into(),
            });
        }
        self.details.push(format!("{} → {}", from.word(), handover.to.word()));
        let changed = colours.watched.iter().filter(|path| planner.is_to_change_within(path, &resource.stack));
        self.details.extend(changed.map(|path| format!("uses {path}, which changes")));
        // What is new is seen beside what the same place would be now.
        for (path, wanted) in &colours.face(from).state.paths {
            if let (Some(before), PathState::File { content, .. }) = (planner.seen.contents.get(path), wanted) {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let impact = unit_file::impact(&text(before), &text(&content.bytes));
                if !impact.changed.is_empty() {
                    self.details.push(format!("{} changed", impact.changed.join(", ")));
                }
            }
        }
    }
}

/// Where nginx sends requests to so far, by the file that says so.
fn serves_at(planner: &Planner<'_>, switch: &Utf8Path) -> Option<String> {
    let text = String::from_utf8_lossy(planner.seen.contents.get(switch)?);
    text.lines().find_map(|line| line.trim().strip_prefix("server ")?.strip_suffix(';').map(String::from))
}

/// The services of a project in which it was until now.
pub(super) fn services_left(resource: &Resource, claim: Option<&Claim>) -> Vec<String> {
    let (Some(colours), Some(project)) = (&resource.colours, &resource.state.project) else { return Vec::new() };
    let recorded = claim.and_then(|claim| claim.project.as_ref()).into_iter().flat_map(|claim| claim.services.keys());
    let left = recorded.filter(|name| colours.has_service(name) && !project.services.contains_key(*name));
    left.cloned().collect()
}
