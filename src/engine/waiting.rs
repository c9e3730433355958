//! Images whose registry cannot be asked: what runs goes on as it is, where nothing about it has changed.

use crate::base::diagnostic::Problem;
use crate::base::id::{RepoId, ResourceId};
use crate::engine::images::{Found, Unknown, pin_to, problem};
use crate::host::observation::{Observation, Seen};
use crate::ledger::Ledger;
use crate::provider::registry::Fault;
use crate::resource::Resource;
use crate::resource::image::{self, Image, Track};
use crate::resource::state::Pin;

/// What stands for a digest until the host has said which one it has.
const UNKNOWN: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// A project, and what became of the questions about its images.
#[derive(Debug)]
pub struct Waiting {
    id: ResourceId,
    found: Vec<Result<Found, Fault>>,
}

/// Whether a project may go on without an answer: only tags that nobody could be asked about are missing.
pub(super) fn may_go_on(resource: &Resource, found: &[Result<Found, Fault>]) -> bool {
    let missing = || resource.images.iter().zip(found).filter(|(_, found)| found.is_err());
    let down = |(image, found): (&Image, &Result<Found, Fault>)| {
        image.track == Track::Tag && matches!(found, Err(Fault::Down(_)))
    };
    missing().next().is_some() && missing().all(down)
}

impl Unknown {
    /// Remembers a project until the host has been seen. What it is asked about is the same for any digest.
    pub(super) fn wait(&mut self, resource: &mut Resource, found: Vec<Result<Found, Fault>>) {
        let unknown = |image: &Image| pin_to(image, (image.reference.tag().into(), UNKNOWN.into()));
        let pins = resource.images.iter().map(unknown).collect();
        image::pin(resource, pins);
        self.waiting.push(Waiting { id: resource.id.clone(), found });
    }

    /// Has the projects that wait go on with what they have; the others are refused.
    pub fn settle(&mut self, repo: &RepoId, resources: &mut [Resource], seen: &Observation) {
        for Waiting { id, found } in std::mem::take(&mut self.waiting) {
            let Some(resource) = resources.iter_mut().find(|resource| resource.id == id) else { continue };
            let was = recorded(repo, resource, &found, seen);
            if was.is_none() {
                image::unpin(resource);
            }
            for (image, fault) in resource.images.iter().zip(&found).filter_map(|(i, f)| Some((i, f.as_ref().err()?))) {
                match was {
                    Some(_) => self.problems.push(goes_on(image, fault)),
                    None => self.add(&id, problem(image, fault)),
                }
            }
            if let Some(was) = was {
                let images = resource.images.iter().zip(found).zip(was);
                let pins = images.map(|((image, found), was)| found.map_or(was, |found| pin_to(image, found)));
                let pins = pins.collect();
                image::pin(resource, pins);
            }
        }
    }
}

/// The images that run by what is recorded of them. That they are for the same tags and services shows in the file that
/// names them: it would come out as it is.
fn recorded(
    repo: &RepoId,
    resource: &Resource,
    found: &[Result<Found, Fault>],
    seen: &Observation,
) -> Option<Vec<Pin>> {
    let ledger = Ledger::parse(seen.ledgers.get(&format!("{repo}/ledger/{}", resource.stack))?);
    let mut images = ledger.claims.get(&resource.id)?.project.as_ref()?.images.clone();
    let mut pins = Vec::new();
    for (image, found) in resource.images.iter().zip(found) {
        let name = image.reference.name();
        let at = images.iter().position(|was| was.split_once('@').is_some_and(|(of, _)| of == name))?;
        let digest = images.remove(at).split_once('@')?.1.to_string();
        let tag = found.as_ref().map_or(image.reference.tag(), |(tag, _)| tag).to_string();
        pins.push(pin_to(image, (tag, digest)));
    }
    let path = resource.state.project.as_ref()?.directory.join(image::OVERRIDE);
    let Some(Seen::Present(there)) = seen.paths.get(&path) else { return None };
    (there.digest() == Some(image::pinning(resource, &pins).digest)).then_some(pins)
}

/// The same fault where it is no reason to stop.
fn goes_on(image: &Image, fault: &Fault) -> Problem {
    let what = format!("{}; what runs goes on", problem(image, fault).message);
    Problem::warning(what).at(&image.span, "this image").hint("a newer image under this tag is not seen until then")
}
