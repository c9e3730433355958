//! Services with two places: which of them takes the requests, and whether the other one is to take over.
//!
//! The ledger says which one is ours, and the file that nginx reads says which one it sends requests to where both are.

use camino::Utf8Path;

use crate::base::id::RepoId;
use crate::host::observation::Observation;
use crate::ledger::Claim;
use crate::plan::compare::{Ownership, is_as_wanted, is_as_written};
use crate::resource::colours::{Colour, Colours};
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
            Some(chooser.place(&desired.resources, resource.colours.as_ref()?, claim))
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
    fn place(&self, all: &[Resource], colours: &Colours, claim: Option<&Claim>) -> (Colour, Option<Handover>) {
        let Some(now) = self.active(colours, claim) else {
            let to = Colour::Blue;
            return (to, Some(Handover { from: None, to, drift: false }));
        };
        let touched = colours.watched.iter().any(|path| self.is_about_to_change(all, path));
        if self.is_as_wanted(colours, now, claim) && !touched {
            return (now, None);
        }
        let drift = !touched && claim.is_some_and(|claim| self.was_written(colours, now, claim));
        (now.other(), Some(Handover { from: Some(now), to: now.other(), drift }))
    }

    /// The place that takes the requests.
    fn active(&self, colours: &Colours, claim: Option<&Claim>) -> Option<Colour> {
        let is_claimed = |colour: &Colour| {
            claim.is_some_and(|claim| colours.units(*colour).any(|unit| claim.units.contains_key(unit)))
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

    /// Whether the files of a place are as wanted. The switch does not count: it is set right where it is.
    fn is_as_wanted(&self, colours: &Colours, colour: Colour, claim: Option<&Claim>) -> bool {
        let face = colours.face(colour);
        let own = face.state.paths.iter().filter(|(path, _)| **path != colours.switch);
        let as_wanted = |path: &Utf8Path| self.seen.paths.get(path);
        let more = claim.into_iter().flat_map(|claim| &claim.paths).any(|(path, written)| {
            // What has been added to its unit, and is no longer wanted.
            let folder = path.parent().and_then(Utf8Path::file_name).and_then(|name| name.strip_suffix(".d"));
            let of_unit = folder.is_some_and(|of| colours.units(colour).any(|unit| unit == of));
            of_unit && !written.is_directory() && !face.state.paths.contains_key(path)
        });
        !more
            && own.into_iter().all(|(path, wanted)| {
                as_wanted(path).is_some_and(|seen| is_as_wanted(wanted, seen, self.with_owner))
            })
    }

    /// Whether the repository says of a place what it said before: then it is the host that differs.
    fn was_written(&self, colours: &Colours, colour: Colour, claim: &Claim) -> bool {
        let now = Claim::on(&colours.face(colour).state, &std::collections::BTreeMap::new(), self.salt);
        let own = now.paths.iter().filter(|(path, _)| **path != colours.switch);
        own.clone().all(|(path, written)| claim.paths.get(path) == Some(written))
            && own.into_iter().any(|(path, written)| {
                self.seen.paths.get(path).is_none_or(|seen| !is_as_written(written, seen, self.with_owner, self.salt))
            })
    }

    /// Whether some resource is about to change a path.
    fn is_about_to_change(&self, all: &[Resource], path: &Utf8Path) -> bool {
        let wanted = all.iter().find_map(|resource| resource.state.paths.get(path));
        wanted.is_some_and(|wanted| {
            self.seen.paths.get(path).is_none_or(|seen| !is_as_wanted(wanted, seen, self.with_owner))
        })
    }
}
