//! The images of a project: which ones are to come, and which former ones need not stay.

use std::collections::BTreeMap;

use crate::host::images::ImagesSeen;
use crate::host::observation::ContainerSeen;
use crate::ledger::Claim;
use crate::plan::Refusal;
use crate::plan::effect::{Deed, size};
use crate::plan::host::Planner;
use crate::plan::wishes::Wishes;
use crate::resource::Resource;
use crate::resource::image::untagged;
use crate::resource::state::{Pin, Project};

/// How many bytes an image takes while it is pulled, for each byte that travels: the layer as it comes, and unpacked.
const UNPACKED: u64 = 4;

impl Wishes {
    /// The images that the host lacks, and those that it need not keep. Where it was not asked, nothing differs.
    pub(super) fn images(
        &mut self,
        planner: &Planner<'_>,
        resource: &Resource,
        claim: Option<&Claim>,
        project: &Project,
        there: &[&ContainerSeen],
    ) {
        let Some(images) = &planner.seen.images else { return };
        let used = |image: &String| planner.containers().any(|container| container.image == *image);
        let (_, mut dropped) = former(project, claim);
        dropped.retain(|image| images.has(image) && !used(image));
        self.builds(planner, resource, project, there);
        if !dropped.is_empty() {
            self.other(Deed::Discard { images: dropped }, &resource.id);
        }
        let mut room = 0;
        for pin in project.pins.iter().filter(|pin| !images.has(&pin.image())) {
            let (bytes, about) = weight(pin, images);
            room = bytes.unwrap_or(0).saturating_mul(UNPACKED).saturating_add(room);
            let own = there.iter().filter(|container| pin.services.contains(&container.service));
            let mut digests = own.filter_map(|container| container.image.split_once('@'));
            let deed = Deed::Pull {
                image: pin.name.clone(),
                tag: pin.tag.clone(),
                before: digests.next().map(|(_, digest)| digest.to_string()),
                digest: pin.digest.clone(),
                platform: pin.platform.clone(),
                bytes,
                about,
            };
            self.other(deed, &resource.id);
        }
        if let Some(free) = images.free.filter(|free| *free < room) {
            let (free, room) = (size(free), size(room));
            let why = format!("Docker has {free} left for images, and this needs about {room}");
            let hint = "make room there: `docker system df` shows what takes it";
            self.refused = Some(Refusal { why, hint: hint.into() });
        }
    }
}

/// What of an image travels to a host, and whether that is an estimate.
fn weight(pin: &Pin, there: &ImagesSeen) -> (Option<u64>, bool) {
    let Some(layers) = &pin.layers else { return (None, true) };
    let ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    let (shared, certain) = there.shared(&ids);
    (Some(layers[shared..].iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.size))), !certain)
}

/// The images that ran before, the latest first: those that stay for going back, and those that need not.
pub(super) fn former(project: &Project, claim: Option<&Claim>) -> (Vec<String>, Vec<String>) {
    let recorded = claim.and_then(|claim| claim.project.as_ref()).map(|project| &project.images);
    let runs: Vec<String> = project.images().collect();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let former = recorded.into_iter().flatten().filter(|image| !runs.contains(image));
    former.cloned().partition(|image| {
        let count = counts.entry(untagged(image).to_string()).or_default();
        *count += 1;
        *count <= project.keep
    })
}

/// Whether every service runs a pinned image.
pub(super) fn all_pinned(project: &Project) -> bool {
    let by_digest = |service: &String| project.pins.iter().any(|pin| pin.services.contains(service));
    let built = |service: &String| project.built.iter().any(|built| built.services.contains(service));
    let pinned = |service: &String| by_digest(service) || built(service);
    project.images().next().is_some() && project.services.keys().all(pinned)
}
