//! What registries say of the images of a run. Each is asked once, whatever the number of hosts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use tokio::sync::{OnceCell, Semaphore};

use crate::base::diagnostic::{Problem, Problems};
use crate::base::digest::Digest;
use crate::base::id::ResourceId;
use crate::engine::waiting::{self, Waiting};
use crate::host::observation::Observation;
use crate::plan::Refusal;
use crate::provider::registry::version::newest;
use crate::provider::registry::{Access, Fault, Layer, Patience, Repository};
use crate::resource::Resource;
use crate::resource::image::{Image, Track, pin};
use crate::resource::state::Pin;

/// How many questions are asked at the same time.
const PARALLEL: usize = 8;

/// The answers of registries during one run.
pub struct Lookups {
    repositories: Mutex<BTreeMap<String, Arc<Repository>>>,
    digests: Answers<Found>,
    layers: Answers<Vec<Layer>>,
    places: Semaphore,
}

/// A tag, and the digest it stands for.
pub(super) type Found = (String, String);

type Answers<T> = Mutex<BTreeMap<String, Arc<OnceCell<Result<T, Fault>>>>>;

impl Default for Lookups {
    fn default() -> Self {
        Lookups {
            repositories: Mutex::default(),
            digests: Mutex::default(),
            layers: Mutex::default(),
            places: Semaphore::new(PARALLEL),
        }
    }
}

impl Lookups {
    /// Asks beforehand what [`Lookups::pin`] is going to ask.
    pub async fn foresee(&self, resources: impl Iterator<Item = &Resource>) {
        join_all(resources.flat_map(|resource| &resource.images).map(|image| self.digest(image))).await;
    }

    /// Has every project that follows images run the digests that they have now.
    pub async fn pin(&self, resources: impl Iterator<Item = &mut Resource>) -> Unknown {
        let mut unknown = Unknown::default();
        let following = resources.filter(|resource| !resource.images.is_empty());
        for (resource, found) in join_all(following.map(|resource| self.find(resource))).await {
            if waiting::may_go_on(resource, &found) {
                unknown.wait(resource, found);
                continue;
            }
            let mut pins = Vec::new();
            for (image, found) in resource.images.iter().zip(found) {
                match found {
                    Ok(found) => pins.push(pin_to(image, found)),
                    Err(fault) => unknown.add(&resource.id, problem(image, &fault)),
                }
            }
            // A project is pinned as a whole, or is not touched.
            if !unknown.refusals.contains_key(&resource.id) {
                pin(resource, pins);
            }
        }
        unknown
    }

    /// Finds out what the images weigh that a host lacks.
    pub async fn weigh(&self, resources: &mut [Resource], seen: &Observation, unknown: &mut Unknown) {
        let Some(there) = &seen.images else { return };
        let pinned = resources.iter_mut().flat_map(|resource| {
            let project = resource.state.project.iter_mut().filter(|project| project.running);
            let pins = project.flat_map(|project| &mut project.pins);
            resource.images.iter().zip(pins).map(|(image, pin)| (&resource.id, image, pin))
        });
        let lacking = pinned.filter(|(_, _, pin)| !there.has(&pin.image()));
        let asked = lacking.map(|(id, image, pin)| async move {
            let platform = image.platform.as_ref().unwrap_or(&there.platform);
            (self.layers(image, &pin.digest, platform).await, id, image, pin)
        });
        for (layers, id, image, pin) in join_all(asked).await {
            match layers {
                Ok(layers) => pin.layers = Some(layers),
                Err(fault) => unknown.add(id, problem(image, &fault)),
            }
        }
    }

    async fn find<'r>(&self, resource: &'r mut Resource) -> (&'r mut Resource, Vec<Result<Found, Fault>>) {
        let found = join_all(resource.images.iter().map(|image| self.digest(image))).await;
        (resource, found)
    }

    async fn digest(&self, image: &Image) -> Result<Found, Fault> {
        if let (Track::Digest, Some(digest)) = (&image.track, &image.reference.digest) {
            return Ok((image.reference.tag().to_string(), digest.clone()));
        }
        let key = format!("{} {} {:?}", key(image), image.reference.tag(), image.track);
        let asking = async {
            let _place = self.places.acquire().await;
            let repository = self.repository(image)?;
            let tag = match &image.track {
                Track::Range(range) => {
                    let tags = repository.tags().await?;
                    newest(&tags, range, image.reference.tag()).ok_or(Fault::Version(tags.len()))?
                }
                _ => image.reference.tag().to_string(),
            };
            let digest = repository.digest(&tag).await?;
            Ok((tag, digest))
        };
        once(&self.digests, key).get_or_init(|| asking).await.clone()
    }

    async fn layers(&self, image: &Image, digest: &str, platform: &str) -> Result<Vec<Layer>, Fault> {
        let asking = async {
            let _place = self.places.acquire().await;
            self.repository(image)?.layers(digest, platform).await
        };
        once(&self.layers, format!("{} {digest} {platform}", key(image))).get_or_init(|| asking).await.clone()
    }

    fn repository(&self, image: &Image) -> Result<Arc<Repository>, Fault> {
        let mut repositories = self.repositories.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key(image);
        if let Some(repository) = repositories.get(&key) {
            return Ok(repository.clone());
        }
        let repository = Arc::new(Repository::new(&image.reference, &image.access, Patience::default())?);
        repositories.insert(key, repository.clone());
        Ok(repository)
    }
}

/// An image by what its tag, or the range, came to: a tag and a digest.
pub(super) fn pin_to(image: &Image, (tag, digest): Found) -> Pin {
    Pin {
        name: image.reference.name(),
        tag: (image.track != Track::Digest).then_some(tag),
        digest,
        platform: image.platform.clone(),
        services: image.services.clone(),
        layers: None,
    }
}

fn once<T>(answers: &Answers<T>, key: String) -> Arc<OnceCell<Result<T, Fault>>> {
    answers.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().clone()
}

/// A repository as somebody who may see it.
fn key(image: &Image) -> String {
    let Access { login, plain_http, ca } = &*image.access;
    let who = login.as_ref().map(|(user, password)| (user, Digest::of(password.expose().as_bytes())));
    let ca = ca.as_ref().map(|ca| Digest::of(ca));
    format!("{}/{} {who:?} {plain_http} {ca:?}", image.reference.registry, image.reference.repository)
}

/// What could not be found out: then nothing of the stack is done.
#[derive(Debug, Default)]
pub struct Unknown {
    /// Why resources must not be touched.
    pub refusals: BTreeMap<ResourceId, Refusal>,
    /// The same, each with the line that names the image.
    pub problems: Problems,
    /// The projects of which it shows only on the host whether they can go on with the images they have.
    pub(super) waiting: Vec<Waiting>,
}

impl Unknown {
    pub(super) fn add(&mut self, id: &ResourceId, problem: Problem) {
        let why = problem.message.clone();
        let hint = problem.hint.clone().unwrap_or_default();
        self.refusals.entry(id.clone()).or_insert(Refusal { why, hint });
        self.problems.push(problem);
    }
}

/// What a registry's fault means for the line that names the image.
pub(super) fn problem(image: &Image, fault: &Fault) -> Problem {
    let (name, registry) = (&image.reference, &image.reference.registry);
    let platform = image.platform.as_deref();
    let (what, hint) = match fault {
        Fault::Missing => (
            format!("the image `{name}` is not there: {registry} does not know it"),
            "push it, or name one that is there; everything runs as before".to_string(),
        ),
        Fault::Denied if image.access.login.is_some() => (
            format!("the image `{name}` is not for us: {registry} does not let this user have it"),
            format!("check user and password of `registry \"{registry}\"`, and that the image exists"),
        ),
        Fault::Denied => (
            format!("the image `{name}` is not for us: {registry} wants to know who asks, or has no such image"),
            format!("write `registry \"{registry}\" user=\"…\" password=\"{{{{ secret.NAME }}}}\"`"),
        ),
        Fault::Down(why) => (
            format!("nobody can say what the image `{name}` is: {registry} cannot be asked: {why}"),
            "try again later; `track=\"digest\"` needs no registry while nothing changes".to_string(),
        ),
        Fault::Odd(why) => (
            format!("the image `{name}` cannot be looked up: {registry} answers oddly: {why}"),
            "is this a registry of images? `plain-http` and `ca` say how to reach it".to_string(),
        ),
        Fault::Version(tags) => (
            format!("the image `{name}` has no version in the range, among {tags} tags"),
            "versions are tags such as `1.4` and `v1.4.2`, with the same ending as the one in the Compose file"
                .to_string(),
        ),
        Fault::Platform(there) => (
            format!("the image `{name}` is not for {}", platform.unwrap_or("the machine of this host")),
            match &there[..] {
                [] => "it is for no platform at all".to_string(),
                there => format!("it is for {}; build it for this one too, or say `platform`", there.join(", ")),
            },
        ),
    };
    Problem::error(what).at(&image.span, "this image").hint(hint)
}
