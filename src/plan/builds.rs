//! Images that another host builds: which are to be built, and which are to be brought.

use std::collections::BTreeSet;

use crate::host::images::ImagesSeen;
use crate::host::observation::ContainerSeen;
use crate::plan::effect::{Deed, Effect};
use crate::plan::host::Planner;
use crate::plan::wishes::Wishes;
use crate::resource::Resource;
use crate::resource::compose_build::{Built, Source};
use crate::resource::state::Project;

impl Wishes {
    /// What has to be built, and what has to come from where it was built.
    pub(super) fn builds(
        &mut self,
        planner: &Planner<'_>,
        resource: &Resource,
        project: &Project,
        there: &[&ContainerSeen],
    ) {
        let Some(images) = &planner.seen.images else { return };
        for built in project.built.iter().filter(|built| is_lacking(built, images, there)) {
            let recipe = &built.recipe;
            let (image, service) = (recipe.image.clone(), recipe.service.clone());
            let (id, bytes) = match &built.source {
                Source::Unasked => continue,
                Source::Absent { former } => {
                    let (on, platform) = (recipe.builder.clone(), recipe.platform.clone());
                    let discard = former.clone();
                    let deed = Deed::Build { image: image.clone(), service: service.clone(), on, platform, discard };
                    self.others.push(Effect::new(deed, vec![resource.id.clone()]));
                    (None, None)
                }
                Source::There { id, bytes } => {
                    // Under another name it may be there.
                    let there = images.tagged.iter().any(|tagged| tagged.id == *id);
                    (Some(id.clone()), Some(if there { 0 } else { *bytes }))
                }
            };
            if recipe.builder != planner.desired.host {
                let deed = Deed::Transfer { image, service, from: recipe.builder.clone(), id, bytes };
                self.others.push(Effect::new(deed, vec![resource.id.clone()]));
            }
        }
    }
}

/// Whether the host does not have an image, or has another one under its name.
pub(crate) fn is_lacking(built: &Built, images: &ImagesSeen, there: &[&ContainerSeen]) -> bool {
    let Some(tagged) = images.tagged(&built.recipe.image) else { return true };
    runs(built, there).any(|container| is_id(&container.image) && !is_same(&container.image, &tagged.id))
}

/// The services whose containers run another image than the one that comes under the same name.
pub(crate) fn replaced<'p>(
    project: &'p Project,
    images: Option<&ImagesSeen>,
    there: &[&ContainerSeen],
) -> BTreeSet<&'p str> {
    let Some(images) = images else { return BTreeSet::new() };
    let lacking = project.built.iter().filter(|built| is_lacking(built, images, there));
    let other = lacking.filter(|built| match &built.source {
        Source::Unasked => false,
        Source::Absent { .. } => true,
        Source::There { id, .. } => runs(built, there).any(|container| !is_same(&container.image, id)),
    });
    other.flat_map(|built| &built.services).map(String::as_str).collect()
}

fn runs<'a>(built: &Built, there: &'a [&'a ContainerSeen]) -> impl Iterator<Item = &'a ContainerSeen> {
    there.iter().copied().filter(|container| built.services.contains(&container.service))
}

/// Whether Docker names an image by its id: that is so where its name is gone, or has become another one's.
fn is_id(image: &str) -> bool {
    let hex = image.strip_prefix("sha256:").unwrap_or(image);
    hex.len() >= 12 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether an id is that of an image, however much of it is shown.
fn is_same(shown: &str, id: &str) -> bool {
    let hex = |text: &str| text.strip_prefix("sha256:").unwrap_or(text).to_string();
    is_id(shown) && hex(id).starts_with(&hex(shown))
}
