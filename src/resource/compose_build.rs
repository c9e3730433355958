//! `builder "builder-1"`: the images of a Compose project are built on one host, once for all that run them.
//!
//! What an image is made from decides its name. So it is known before anything is built, and whether an engine has it
//! is a question to that engine alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Map, Value, json};

use crate::base::decode::Text;
use crate::base::diagnostic::{Problem, Span, did_you_mean};
use crate::base::digest::Digest;
use crate::base::id::HostName;
use crate::resource::compose_file::{Context, Named, Service};
use crate::resource::compose_mount::Shipped;
use crate::resource::compose_whole::Whole;
use crate::resource::lowering::{Lowering, join_within};
use crate::resource::state::{Content, PathState};
use crate::resource::yaml::{self, Node};

/// The registry of images that come from a builder. No engine can ask it: the name is nobody's for ever (RFC 2606).
const REGISTRY: &str = "reconcile.invalid";

/// How many digits of a digest are in a name.
const DIGITS: usize = 32;

/// The `build` of a service as it is written, with variables filled in.
#[derive(Debug, Clone)]
pub struct Spec {
    value: Map<String, Value>,
    /// Whether it takes a variable whose value is not known.
    unknown: bool,
    span: Span,
}

/// An image that a host of the repository builds, and the services that run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// How it is made.
    pub recipe: Arc<Recipe>,
    /// The services that run it.
    pub services: Vec<String>,
    /// What its builder has of it.
    pub source: Source,
}

/// What a builder has of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Source {
    /// It was not asked: the host that runs it has it already.
    #[default]
    Unasked,
    /// It has to be built; these former images need not stay.
    Absent {
        /// By their names.
        former: Vec<String>,
    },
    /// It is there.
    There {
        /// Its id.
        id: String,
        /// How much room it takes.
        bytes: u64,
    },
}

/// How an image is made.
pub struct Recipe {
    /// Its name, which is another one for whatever else it is made from.
    pub image: String,
    /// The host that builds it.
    pub builder: HostName,
    /// The service that describes it.
    pub service: String,
    /// What it is made from: paths in the repository, with their modes.
    pub files: BTreeMap<Utf8PathBuf, (u32, Content)>,
    /// A Compose file that builds it beside these files.
    pub description: Value,
    /// What those call it that begin with it.
    pub alias: Option<String>,
    /// What it begins with.
    pub bases: Vec<Arc<Recipe>>,
    /// The platform that it asks for.
    pub platform: Option<String>,
    /// How many former ones stay.
    pub keep: usize,
    /// The line that names the builder.
    pub span: Span,
}

impl PartialEq for Recipe {
    fn eq(&self, other: &Self) -> bool {
        self.image == other.image
    }
}

impl Eq for Recipe {}

impl fmt::Debug for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.image, self.builder)
    }
}

impl Recipe {
    /// This one after all that it begins with.
    pub fn in_order(self: &Arc<Self>) -> Vec<Arc<Recipe>> {
        let mut order: Vec<Arc<Recipe>> = Vec::new();
        for recipe in self.bases.iter().flat_map(Recipe::in_order).chain([self.clone()]) {
            if !order.contains(&recipe) {
                order.push(recipe);
            }
        }
        order
    }
}

impl Spec {
    /// Reads what stands under `build`.
    pub fn read(node: &Node, context: &Context<'_>) -> Self {
        let mut spec = Spec { value: Map::new(), unknown: false, span: context.span(node) };
        let read = spec.value(node, context);
        spec.value = match read {
            Value::Object(entries) => entries,
            text => [("context".to_string(), text)].into_iter().collect(),
        };
        if let Some(args) = node.get("args") {
            let args = spec.args(args, context);
            spec.value.insert("args".into(), Value::Object(args));
        }
        spec
    }

    /// Lays what a later file says over it.
    pub fn add(&mut self, later: Spec) {
        for (key, value) in later.value {
            match (self.value.get_mut(&key), value) {
                (Some(Value::Object(known)), Value::Object(more)) => known.extend(more),
                (_, value) => _ = self.value.insert(key, value),
            }
        }
        self.unknown |= later.unknown;
        self.span = later.span;
    }

    fn value(&mut self, node: &Node, context: &Context<'_>) -> Value {
        match &node.value {
            yaml::Value::Null => Value::Null,
            yaml::Value::Scalar(text) => match context.fill(text).as_deref() {
                Some("true") => true.into(),
                Some("false") => false.into(),
                Some(text) => text.into(),
                None => {
                    self.unknown = true;
                    Value::Null
                }
            },
            yaml::Value::List(items) => items.iter().map(|item| self.value(item, context)).collect(),
            yaml::Value::Map(entries) => {
                Value::Object(entries.iter().map(|(key, node)| (key.clone(), self.value(node, context))).collect())
            }
        }
    }

    /// Build arguments by name. One without a value has that of the project's variable, as Compose has it.
    fn args(&mut self, node: &Node, context: &Context<'_>) -> Map<String, Value> {
        let written = match self.value(node, context) {
            Value::Object(entries) => entries,
            Value::Array(items) => {
                let texts = items.iter().filter_map(Value::as_str);
                let pair =
                    |text: &str| text.split_once('=').map_or((text.into(), Value::Null), |(a, b)| (a.into(), b.into()));
                texts.map(pair).collect()
            }
            _ => Map::new(),
        };
        let filled = written.into_iter().filter_map(|(name, value)| match value {
            Value::Null => Some((name.clone(), context.variables.get(&name)?.as_str().into())),
            value => Some((name, value)),
        });
        filled.collect()
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.value.get(key).and_then(Value::as_str)
    }

    /// The platform that it asks for, where that is one.
    fn platform(&self) -> Option<String> {
        match self.value.get("platforms")?.as_array()?.as_slice() {
            [Value::String(one)] => Some(one.clone()),
            _ => None,
        }
    }
}

/// The host that a stack names as builder.
pub fn builder(on: &Lowering<'_>, text: &Text) -> Option<HostName> {
    let name = on.text(text)?;
    if let Some(peer) = on.peers.iter().find(|peer| peer.name.as_str() == name) {
        return Some(peer.name.clone());
    }
    let problem = Problem::error(format!("no host of the repository is called `{name}`")).at(&text.span, "here");
    on.report(match did_you_mean(&name, on.peers.iter().map(|peer| peer.name.as_str())) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None => problem.hint("describe it in `hosts/`; it needs SSH and Docker with Compose"),
    });
    None
}

/// Makes the recipes of one project.
pub struct Recipes<'a> {
    on: &'a Lowering<'a>,
    whole: &'a Whole,
    project: &'a str,
    builder: HostName,
    keep: usize,
    span: &'a Span,
    begun: BTreeSet<String>,
}

impl<'a> Recipes<'a> {
    /// Nothing yet. `span` is the line that names the builder.
    pub fn new(
        on: &'a Lowering<'a>,
        whole: &'a Whole,
        project: &'a str,
        builder: HostName,
        keep: usize,
        span: &'a Span,
    ) -> Self {
        Recipes { on, whole, project, builder, keep, span, begun: BTreeSet::new() }
    }

    /// The images of the services that are built.
    pub fn all(mut self, active: &[&Service]) -> Option<Vec<Built>> {
        let mut all = Vec::new();
        for service in active.iter().filter(|service| service.spec.is_some()) {
            let recipe = self.recipe(service)?;
            all.push(Built { recipe, services: vec![service.name.clone()], source: Source::Unasked });
        }
        if all.is_empty() {
            let problem = Problem::error("no service of this project is built").at(self.span, "a builder for nothing");
            self.on.report(problem.hint("take the line away, or give a service a `build`"));
            return None;
        }
        Some(all)
    }

    fn recipe(&mut self, service: &Service) -> Option<Arc<Recipe>> {
        let spec = service.spec.as_ref()?;
        self.refuse_what_cannot_travel(spec)?;
        let mut build = spec.value.clone();
        let mut files = BTreeMap::new();
        let context = spec.text("context").unwrap_or(".").to_string();
        if !is_remote(&context) {
            let named = service.build.as_ref().and_then(Named::path);
            let folder = self.folder(named, &context, spec, &mut files, service.recipe().as_deref())?;
            build.insert("context".into(), beside(&folder));
            // It may lie elsewhere.
            if let Some((path, bytes)) = service.recipe().and_then(|path| self.on.files.get_key_value(&path)) {
                files.entry(path.clone()).or_insert_with(|| (0o644, Content::plain(bytes.clone())));
            }
        }
        self.further_contexts(service, spec, &mut build, &mut files)?;
        let bases = self.bases(service)?;
        let mut described = Map::new();
        described.insert("build".into(), Value::Object(build));
        if let Some(platform) = &service.platform {
            described.insert("platform".into(), platform.as_str().into());
        }
        let mut described = Value::Object(described);
        let image = self.image(service, &described, &files, &bases);
        described["image"] = image.as_str().into();
        Some(Arc::new(Recipe {
            image,
            builder: self.builder.clone(),
            service: service.name.clone(),
            files,
            description: json!({ "services": { service.name.as_str(): escaped(described) } }),
            alias: service.image.clone(),
            bases,
            platform: service.platform.clone().or_else(|| spec.platform()),
            keep: self.keep,
            span: self.span.clone(),
        }))
    }

    /// What an image begins with. Nothing begins with itself.
    fn bases(&mut self, service: &Service) -> Option<Vec<Arc<Recipe>>> {
        let mut bases = Vec::new();
        self.begun.insert(service.name.clone());
        for base in self.whole.bases(self.on, self.span, service) {
            if !self.begun.contains(&base.name) {
                bases.push(self.recipe(base)?);
            }
        }
        self.begun.remove(&service.name);
        Some(bases)
    }

    /// The name of an image: its project and service, and a digest of all that it is made from.
    fn image(
        &self,
        service: &Service,
        described: &Value,
        files: &BTreeMap<Utf8PathBuf, (u32, Content)>,
        bases: &[Arc<Recipe>],
    ) -> String {
        let files: Vec<String> =
            files.iter().map(|(path, (mode, content))| format!("{path} {mode:o} {}", content.digest)).collect();
        let bases: Vec<&str> = bases.iter().map(|base| base.image.as_str()).collect();
        let all = json!(["recipe 1", service.name, described, files, bases]);
        let key = Digest::of(all.to_string().as_bytes()).to_string();
        let (repo, project, service) = (part(self.on.repo.as_str()), part(self.project), part(&service.name));
        format!("{REGISTRY}/{repo}/{project}/{service}:{}", &key[..DIGITS])
    }

    /// A folder of the repository, whose files go along.
    fn folder(
        &self,
        path: Option<Utf8PathBuf>,
        written: &str,
        spec: &Spec,
        files: &mut BTreeMap<Utf8PathBuf, (u32, Content)>,
        recipe: Option<&Utf8Path>,
    ) -> Option<Utf8PathBuf> {
        let root = Utf8PathBuf::new();
        let mut shipped = Shipped::new(self.on, root.clone(), &root, self.span);
        if let Some(path) = &path {
            shipped.context_of(path, recipe.unwrap_or(path));
        }
        let found = shipped.into_paths();
        let Some(path) = path.filter(|_| !found.is_empty()) else {
            let problem = Problem::error(format!("the repository has no folder `{written}` to build from"));
            let problem = problem.at(&spec.span, "here").at(self.span, "for this builder");
            self.on.report(problem.hint("commit it: a builder has nothing but files of the repository"));
            return None;
        };
        for (path, state) in found {
            if let PathState::File { content, mode, .. } = state {
                files.insert(path, (mode, content));
            }
        }
        Some(path)
    }

    fn further_contexts(
        &self,
        service: &Service,
        spec: &Spec,
        build: &mut Map<String, Value>,
        files: &mut BTreeMap<Utf8PathBuf, (u32, Content)>,
    ) -> Option<()> {
        let Some(Value::Object(contexts)) = build.get_mut("additional_contexts") else { return Some(()) };
        let base = service.build.as_ref().map(|named| named.base.clone()).unwrap_or_default();
        for value in contexts.values_mut() {
            let Some(written) = value.as_str().filter(|written| !is_remote(written)).map(String::from) else {
                continue;
            };
            let folder = self.folder(join_within(&base, &written), &written, spec, files, None)?;
            *value = beside(&folder);
        }
        Some(())
    }

    /// What stays on the host where Compose runs as it is written, and so cannot be had on another one.
    fn refuse_what_cannot_travel(&self, spec: &Spec) -> Option<()> {
        let listed = matches!(spec.value.get("additional_contexts"), Some(Value::Array(_)));
        let service = |value: &Value| value.as_str().is_some_and(|text| text.starts_with("service:"));
        let contexts = spec.value.get("additional_contexts").and_then(Value::as_object);
        let of_service = contexts.is_some_and(|contexts| contexts.values().any(service));
        let (what, hint) = match () {
            () if spec.unknown => (
                "this build takes a variable whose value is not known".to_string(),
                "give the variable with `env` or `env-file`; it cannot be a secret, for everybody reads it in the image",
            ),
            () if spec.value.contains_key("secrets") || spec.value.contains_key("ssh") => (
                "a build with `secrets` or `ssh` cannot be had on a builder".to_string(),
                "take the builder away: then the image is built where it runs",
            ),
            () if listed || of_service => (
                "these `additional_contexts` cannot be had on a builder".to_string(),
                "write them as a mapping, with folders of the repository or addresses",
            ),
            () => return Some(()),
        };
        self.on.report(Problem::error(what).at(&spec.span, "here").at(self.span, "for this builder").hint(hint));
        None
    }
}

/// A folder of the repository as the description beside its files names it.
fn beside(folder: &Utf8Path) -> Value {
    format!("./{folder}").into()
}

/// A context that is no folder: Docker fetches it by itself.
fn is_remote(written: &str) -> bool {
    written.contains("://") || written.starts_with("git@") || written.starts_with("github.com/")
}

/// A word as a part of an image's name.
fn part(word: &str) -> String {
    let clean = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let parts: String = word.chars().map(clean).collect();
    parts.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// Values whose variables are filled in, as Compose reads them again.
fn escaped(value: Value) -> Value {
    match value {
        Value::String(text) => text.replace('$', "$$").into(),
        Value::Array(items) => items.into_iter().map(escaped).collect(),
        Value::Object(entries) => entries.into_iter().map(|(key, value)| (key, escaped(value))).collect(),
        other => other,
    }
}
