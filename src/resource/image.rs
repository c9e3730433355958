//! Which image each service of a Compose project runs: how its tag is followed, and from which registry it comes.

use std::collections::BTreeMap;
use std::sync::Arc;

use camino::Utf8Path;
use semver::VersionReq;

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::{Problem, Span, did_you_mean};
use crate::provider::reference::Reference;
use crate::provider::registry::Access;
use crate::resource::Resource;
use crate::resource::lowering::Lowering;
use crate::resource::registry::access;
use crate::resource::state::{Content, Owner, PathState, Pin};

/// The file that says which image exactly runs; Compose reads it after all others.
pub const OVERRIDE: &str = "compose.reconcile.yaml";

/// How many former digests stay where nothing is said.
const KEPT: usize = 2;

/// How the images of a project are followed, as a stack says it.
#[derive(Debug, Clone, Default)]
pub struct Images {
    all: Option<Rule>,
    some: Vec<(Text, Rule)>,
    keep: Option<Text>,
}

/// How one image is followed, or all.
#[derive(Debug, Clone)]
struct Rule {
    track: Option<Text>,
    platform: Option<Text>,
    span: Span,
}

/// How a tag becomes a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Track {
    /// What the tag means now.
    Tag,
    /// The digest that is written.
    Digest,
    /// The newest tag that this range of versions has.
    Range(VersionReq),
}

/// An image whose digest is to be found out.
#[derive(Debug, Clone)]
pub struct Image {
    /// As the Compose file names it.
    pub reference: Reference,
    /// How it is followed.
    pub track: Track,
    /// The platform, where it is not the host's own.
    pub platform: Option<String>,
    /// The services that run it.
    pub services: Vec<String>,
    /// How its registry is reached.
    pub access: Arc<Access>,
    /// Where it is named.
    pub span: Span,
}

/// The image of a service, as the Compose files have it.
#[derive(Debug, Clone)]
pub struct Used {
    /// The service.
    pub service: String,
    /// The name; `None` where it takes a variable whose value is not known.
    pub image: Option<String>,
    /// The platform.
    pub platform: Option<String>,
    /// Whether it is built from source: then the name is what it is called afterwards.
    pub built: bool,
    /// Where it is named.
    pub span: Span,
}

impl Images {
    /// Reads `images track="tag"` and `image "ghcr.io/acme/api" track="semver:^1.4"`.
    pub fn decode(reader: &mut Reader<'_>) -> Self {
        let mut keep = None;
        let all = reader.child("images").map(|mut child| {
            keep = child.value("keep");
            Rule::decode(child)
        });
        let some = reader.children("image").into_iter().filter_map(|mut child| {
            let name = child.required("the name of an image");
            let rule = Rule::decode(child);
            Some((name?, rule))
        });
        Images { some: some.collect(), all, keep }
    }

    /// The images that are followed, of those that the services use.
    pub fn lower(&self, on: &Lowering<'_>, used: &[Used]) -> Option<Vec<Image>> {
        let mut images: Vec<Image> = Vec::new();
        let named = self.named(on, used)?;
        for one in used {
            let reference = one.image.as_deref().and_then(Reference::parse);
            let own = reference.as_ref().and_then(|reference| named.get(&reference.name()));
            let Some(rule) = own.copied().or(self.all.as_ref().filter(|_| !one.built)) else { continue };
            let Some(track) = rule.track(on).ok()? else { continue };
            let Some(reference) = reference else {
                on.report(unknown(one));
                return None;
            };
            let track = if reference.digest.is_some() { Track::Digest } else { track };
            if track == Track::Digest && reference.digest.is_none() {
                let problem = Problem::error(format!("`{reference}` has no digest")).at(&one.span, "this image");
                let hint = "write `@sha256:…` after it, or choose track=\"tag\"";
                on.report(problem.at(&rule.span, "asked for here").hint(hint));
                return None;
            }
            let platform = rule.platform(on).ok()?.or_else(|| one.platform.clone());
            let same = images
                .iter_mut()
                .find(|image| image.reference == reference && image.track == track && image.platform == platform);
            match same {
                Some(image) => image.services.push(one.service.clone()),
                None => images.push(Image {
                    access: access(on, &reference.registry)?,
                    services: vec![one.service.clone()],
                    span: one.span.clone(),
                    reference,
                    track,
                    platform,
                }),
            }
        }
        Some(images)
    }

    /// How many former digests of each image stay.
    pub fn keep(&self, on: &Lowering<'_>) -> Option<usize> {
        let Some(text) = &self.keep else { return Some(KEPT) };
        on.parsed(text, "a number of images, from 1", |word| {
            word.parse().ok().filter(|number| (1..1000).contains(number))
        })
    }

    /// The rules for single images, by the name of the image.
    fn named(&self, on: &Lowering<'_>, used: &[Used]) -> Option<BTreeMap<String, &Rule>> {
        let names: Vec<String> =
            used.iter().filter_map(|used| Some(Reference::parse(used.image.as_deref()?)?.name())).collect();
        let mut rules = BTreeMap::new();
        for (text, rule) in &self.some {
            let word = on.text(text)?;
            let name = Reference::parse(&word).filter(|name| name.tag.is_none() && name.digest.is_none());
            let Some(name) = name.map(|name| name.name()) else {
                let problem = Problem::error(format!("`{}` is not an image without a tag", word.escape_debug()));
                on.report(problem.at(&text.span, "here").hint("the tag stands in the Compose file"));
                return None;
            };
            if !names.contains(&name) && used.iter().all(|used| used.image.is_some()) {
                let problem = Problem::error(format!("no service that runs uses the image `{name}`"));
                let near = did_you_mean(&name, names.iter().map(String::as_str));
                let hint =
                    near.map_or(format!("they use: {}", names.join(", ")), |near| format!("did you mean `{near}`?"));
                on.report(problem.at(&text.span, "here").hint(hint));
                return None;
            }
            rules.insert(name, rule);
        }
        Some(rules)
    }
}

fn unknown(used: &Used) -> Problem {
    let Used { service, image, span, .. } = used;
    if let Some(image) = image {
        return Problem::error(format!("`{}` names no image", image.escape_debug())).at(span, "here");
    }
    let what = format!("the image of `{service}` takes a variable whose value is not known");
    let problem = Problem::error(what).at(span, "this image");
    problem.hint("give the variable with `env` or `env-file`; it cannot be a secret")
}

/// A problem, which has been reported.
struct Reported;

impl Rule {
    fn decode(mut reader: Reader<'_>) -> Self {
        let rule = Rule { track: reader.value("track"), platform: reader.value("platform"), span: reader.span() };
        reader.finish();
        rule
    }

    /// How the image is followed, if it is.
    fn track(&self, on: &Lowering<'_>) -> Result<Option<Track>, Reported> {
        let Some(text) = &self.track else { return Ok(Some(Track::Tag)) };
        let track = on.parsed(text, "`tag`, `digest`, `none` or a range such as `semver:^1.4`", |word| match word {
            "tag" => Some(Ok(Some(Track::Tag))),
            "digest" => Some(Ok(Some(Track::Digest))),
            "none" => Some(Ok(None)),
            _ => Some(Ok(Some(Track::Range(VersionReq::parse(word.strip_prefix("semver:")?.trim()).ok()?)))),
        });
        track.unwrap_or(Err(Reported))
    }

    fn platform(&self, on: &Lowering<'_>) -> Result<Option<String>, Reported> {
        let Some(text) = &self.platform else { return Ok(None) };
        let platform = |word: &str| is_platform(word).then(|| word.to_string());
        on.parsed(text, "a platform such as `linux/amd64`", platform).ok_or(Reported).map(Some)
    }
}

fn is_platform(word: &str) -> bool {
    let clean = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    (2..=3).contains(&word.split('/').count()) && word.split('/').all(clean)
}

/// Has a project run exactly these images: through a file of our own after the user's, which stay as they are.
pub fn pin(resource: &mut Resource, pins: Vec<Pin>) {
    if let Some(project) = resource.state.project.as_mut().filter(|_| !pins.is_empty()) {
        project.pins = pins;
        name(resource);
    }
}

/// Writes the file that names a project's images, where there is something to say.
pub fn name(resource: &mut Resource) {
    let Some(project) = &resource.state.project else { return };
    let content = pinning(resource, &project.pins);
    let Some(project) = &mut resource.state.project else { return };
    let path = project.directory.join(OVERRIDE);
    if project.images().next().is_none() {
        project.files.retain(|file| *file != path);
        resource.state.paths.remove(&path);
        return;
    }
    let state = PathState::File { content, mode: 0o644, owner: Owner::root() };
    resource.state.paths.insert(path.clone(), state);
    if !project.files.contains(&path) {
        project.files.push(path);
    }
}

/// Leaves the images of a project to Compose again.
pub fn unpin(resource: &mut Resource) {
    if let Some(project) = &mut resource.state.project {
        project.pins.clear();
        name(resource);
    }
}

/// What stands in that file.
pub fn pinning(resource: &Resource, pins: &[Pin]) -> Content {
    let mut lines: BTreeMap<String, String> = BTreeMap::new();
    for pin in pins {
        let platform = pin.platform.iter().map(|platform| format!("    platform: {platform}\n")).collect::<String>();
        for service in &pin.services {
            // Text as JSON has it is text as YAML has it, whatever the service is called.
            let name = serde_json::Value::from(service.as_str());
            let tag = pin.tag.iter().map(|tag| format!(" # {tag}")).collect::<String>();
            lines.insert(service.clone(), format!("  {name}:\n    image: {}{tag}\n{platform}", pin.image()));
        }
    }
    for built in resource.state.project.iter().flat_map(|project| &project.built) {
        for service in &built.services {
            let name = serde_json::Value::from(service.as_str());
            lines.insert(service.clone(), format!("  {name}:\n    image: {}\n", built.recipe.image));
        }
    }
    let stack = &resource.stack;
    let head = format!("# Managed by reconcile: stack {stack}. Changes made here are undone.\nservices:\n");
    Content::plain((head + &lines.into_values().collect::<String>()).into_bytes())
}

/// The name of an image without its tag or digest.
pub fn untagged(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    // A colon may belong to the registry's port.
    image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(image, |(name, _)| name)
}

/// Whether a Compose file of the user's has the name of ours.
pub fn is_taken(name: &str) -> bool {
    Utf8Path::new(name).file_name() == Some(OVERRIDE)
}
