//! Services with two places: which of them takes the requests, and whether the other one is to take over.
//!
//! The ledger says which one is ours, and the file that nginx reads says which one it sends requests to where both are.

use std::collections::BTreeMap;

use camino::Utf8Path;

use crate::base::id::RepoId;
use crate::host::observation::Observation;
use crate::ledger::Claim;
use crate::plan::compare::{Ownership, is_as_wanted};
use crate::plan::containers::hashes_of;
use crate::resource::colours::{Colour, Colours};
use crate::resource::state::PathState;
use crate::resource::{Desired, Handover, Resource};

/// Has every service with two places want the one that it should be in: the one it is in, as long as that is as wanted,
/// else the other.
pub fn choose(desired: &mut Desired, seen: &Observation, repo: &RepoId, offline: bool) {
    let ownership = Ownership::read(repo, seen);
    let with_owner = seen.uid == 0 && !offline;
    let chooser = Chooser { seen, with_owner, salt: &ownership.salt };
    let chosen: Vec<Option<(Colour, Option<Handover>)>> = desired
        .resources
        .iter()
        .map(|resource| {
            let claim = ownership.claim(&resource.id, &resource.stack);
            Some(chooser.place(&desired.resources, resource, resource.colours.as_ref()?, claim))
        })
        .collect();
    for (resource, chosen) in desired.resources.iter_mut().zip(chosen) {
        if let Some((colour, handover)) = chosen {
            resource.wear(colour);
            resource.handover = handover;
        }
    }
}

struct Chooser<'a> {
    seen: &'a Observation,
    with_owner: bool,
    salt: &'a str,
}

impl Chooser<'_> {
    fn place(
        &self,
        all: &[Resource],
        resource: &Resource,
        colours: &Colours,
        claim: Option<&Claim>,
    ) -> (Colour, Option<Handover>) {
        let now = self.active(colours, claim);
        if colours.is_stopped() || resource.state.project.as_ref().is_some_and(|project| !project.running) {
            return (now.unwrap_or(Colour::Blue), None);
        }
        let Some(now) = now else {
            let to = Colour::Blue;
            return (to, Some(Handover { from: None, to, drift: false }));
        };
        let touched = colours.watched.iter().any(|path| self.is_about_to_change(all, path));
        let own = self.is_unit_as_wanted(colours, now, claim) && self.runs_as_wanted(resource, colours, now, claim);
        // What is there and not ours is taken over where it is: the place it leaves would stay nobody's.
        let Some(claim) = claim.filter(|_| !own || touched) else { return (now, None) };
        let drift = !touched && self.was_written(resource, colours, now, claim);
        (now.other(), Some(Handover { from: Some(now), to: now.other(), drift }))
    }

    /// The place that takes the requests.
    fn active(&self, colours: &Colours, claim: Option<&Claim>) -> Option<Colour> {
        let is_claimed = |colour: &Colour| {
            claim.is_some_and(|claim| {
                let services = |name: &String| claim.project.iter().any(|project| project.services.contains_key(name));
                colours.units(*colour).any(|unit| claim.units.contains_key(unit))
                    || colours.face(*colour).services.keys().any(services)
            })
        };
        let claimed: Vec<Colour> = Colour::BOTH.into_iter().filter(is_claimed).collect();
        if let [only] = claimed[..] {
            return Some(only);
        }
        let is_shown = |colour: &Colour| {
            let wanted = &colours.face(*colour).state.paths[&colours.switch];
            self.seen.paths.get(&colours.switch).is_some_and(|seen| is_as_wanted(wanted, seen, self.with_owner))
        };
        Colour::BOTH.into_iter().find(is_shown).or(claimed.first().copied())
    }

    /// Whether the unit's files are as wanted. The switch does not count: it is set right where it is.
    fn is_unit_as_wanted(&self, colours: &Colours, colour: Colour, claim: Option<&Claim>) -> bool {
        let face = colours.face(colour);
        let more = claim.into_iter().flat_map(|claim| &claim.paths).any(|(path, written)| {
            // What has been added to its unit, and is no longer wanted.
            let folder = path.parent().and_then(Utf8Path::file_name).and_then(|name| name.strip_suffix(".d"));
            let of_unit = folder.is_some_and(|of| colours.units(colour).any(|unit| unit == of));
            of_unit && !written.is_directory() && !face.state.paths.contains_key(path)
        });
        let mut own = face.state.paths.iter().filter(|(path, _)| **path != colours.switch);
        !more && own.all(|(path, wanted)| self.is_there(path, wanted))
    }

    /// Whether its containers run what is wanted, as far as Compose has told; else, whether nothing about it changes.
    fn runs_as_wanted(&self, resource: &Resource, colours: &Colours, colour: Colour, claim: Option<&Claim>) -> bool {
        let (Some(project), Some(Ok(containers))) = (&resource.state.project, &self.seen.containers) else {
            return true;
        };
        let recorded = claim.and_then(|claim| claim.project.as_ref());
        let hashes = hashes_of(self.seen, &project.name);
        colours.face(colour).services.keys().all(|name| {
            let mut own = containers.iter().filter(|seen| seen.project == project.name && seen.service == *name);
            let recorded = recorded.and_then(|project| project.services.get(name));
            match hashes.get(name) {
                Some(hash) => own.all(|seen| seen.hash == *hash),
                None => self.is_settled(resource, colours) && own.all(|seen| Some(&seen.hash) == recorded),
            }
        })
    }

    /// Whether no file of the resource changes, besides the switch.
    fn is_settled(&self, resource: &Resource, colours: &Colours) -> bool {
        let mut own = resource.state.paths.iter().filter(|(path, _)| **path != colours.switch);
        own.all(|(path, wanted)| self.is_there(path, wanted))
    }

    /// Whether the repository says of a place what it said before: then it is the host that differs.
    fn was_written(&self, resource: &Resource, colours: &Colours, colour: Colour, claim: &Claim) -> bool {
        let mut before = resource.clone();
        before.wear(colour);
        let now = Claim::on(&before.state, &BTreeMap::new(), self.salt);
        let mut own = now.paths.iter().filter(|(path, _)| **path != colours.switch);
        own.all(|(path, written)| claim.paths.get(path) == Some(written))
    }

    fn is_there(&self, path: &Utf8Path, wanted: &PathState) -> bool {
        self.seen.paths.get(path).is_some_and(|seen| is_as_wanted(wanted, seen, self.with_owner))
    }

    /// Whether some resource is about to change a path, or something in a folder.
    fn is_about_to_change(&self, all: &[Resource], path: &Utf8Path) -> bool {
        let below = all.iter().flat_map(|resource| &resource.state.paths).filter(|(other, _)| other.starts_with(path));
        below.into_iter().any(|(path, wanted)| !self.is_there(path, wanted))
    }
}
