//! Templates: minijinja, strict about undefined names.
//!
//! Three things are watched while a template renders. Touching `secret.NAME` marks the rendering as secret, whatever
//! becomes of the value afterwards. Touching `facts.NAME` before the facts are known marks it as not to be used yet.
//! And a mistake is reported twice over: where it stands in the template, and which line of the stack used it.

mod filter;
mod limit;
mod names;
mod problem;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior};

use crate::base::decode::Text;
use crate::base::diagnostic::{Problem, Source, Span, did_you_mean};
use crate::base::secret::SecretTree;
use limit::{Room, Written};
use names::{Facts, Secrets, Watch};

pub use filter::{nginx as quote_nginx, shell as quote_shell, systemd as quote_systemd};

/// How much work one rendering may be, in instructions of minijinja's machine.
const FUEL: u64 = 200_000;
/// How deep includes and macros may nest.
const RECURSION: usize = 64;

/// The templates compiled into the program, by name.
const BUILT_IN: [(&str, &str); 6] = [
    ("systemd/service.j2", include_str!("../../../templates/systemd/service.j2")),
    ("systemd/timer.j2", include_str!("../../../templates/systemd/timer.j2")),
    ("nginx/site.j2", include_str!("../../../templates/nginx/site.j2")),
    ("nginx/upstream.j2", include_str!("../../../templates/nginx/upstream.j2")),
    ("cloudflared/config.yml.j2", include_str!("../../../templates/cloudflared/config.yml.j2")),
    ("cloudflared/service.j2", include_str!("../../../templates/cloudflared/service.j2")),
];

/// The templates there are: the built-in ones, and those of the repository, which win.
pub struct Templates {
    environment: Environment<'static>,
    sources: BTreeMap<String, Arc<Source>>,
}

/// What names mean in a template.
#[derive(Default, Clone)]
pub struct Scope {
    /// Variables, values, `host`, `stack`, as an object of names.
    names: serde_json::Map<String, serde_json::Value>,
    /// All hosts, as `hosts`; undefined where there is no such name.
    hosts: Value,
    /// Secrets, as `secret.NAME`.
    secrets: BTreeMap<String, SecretTree>,
    /// Facts about the host, as `facts.NAME`; `None` while they are not known yet.
    facts: Option<serde_json::Value>,
    /// How much may still be written with these names, and with those of the parts of the same stack.
    room: Room,
    /// `names` and `hosts` as the library wants them, from the first rendering on.
    converted: OnceLock<BTreeMap<String, Value>>,
}

impl Scope {
    /// What names mean: variables and the like, secrets, and facts, as far as they are known.
    pub fn new(
        names: serde_json::Map<String, serde_json::Value>,
        secrets: BTreeMap<String, SecretTree>,
        facts: Option<serde_json::Value>,
    ) -> Self {
        Scope { names, secrets, facts, ..Scope::default() }
    }

    /// The same with `hosts`.
    #[must_use]
    pub fn with_hosts(mut self, hosts: Value) -> Self {
        self.hosts = hosts;
        self.converted = OnceLock::new();
        self
    }

    /// The secret called `name`, or what is below that name.
    pub fn secret(&self, name: &str) -> Option<&SecretTree> {
        self.secrets.get(name)
    }

    /// The names of all secrets.
    pub fn secret_names(&self) -> impl Iterator<Item = &str> {
        self.secrets.keys().map(String::as_str)
    }

    /// The same with more names, for a part of a stack that has some of its own.
    #[must_use]
    pub fn with<const N: usize>(&self, names: [(&str, serde_json::Value); N]) -> Self {
        let mut scope = self.clone();
        scope.names.extend(names.map(|(name, value)| (name.to_string(), value)));
        scope.converted = OnceLock::new();
        scope
    }

    /// Other variables and the like.
    pub fn set_names(&mut self, names: serde_json::Map<String, serde_json::Value>) {
        self.names = names;
        self.converted = OnceLock::new();
    }

    fn converted(&self) -> &BTreeMap<String, Value> {
        self.converted.get_or_init(|| {
            let names = self.names.iter().map(|(name, value)| (name.clone(), Value::from(Serde(value))));
            let hosts = (!self.hosts.is_undefined()).then(|| ("hosts".to_string(), self.hosts.clone()));
            names.chain(hosts).collect()
        })
    }
}

/// The result of a rendering.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// Whether a secret went into it.
    pub secret: bool,
    /// Whether it asked for facts that were not known: then the text is not to be used.
    pub needs_facts: bool,
}

impl std::fmt::Debug for Rendered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = if self.secret { crate::base::secret::MASK } else { &self.text };
        write!(f, "Rendered({text:?}, secret: {}, needs_facts: {})", self.secret, self.needs_facts)
    }
}

/// One rendering: what is rendered, for whom, and with what.
struct Job<'a> {
    source: &'a Arc<Source>,
    /// The line of the stack, unless the template is that line itself.
    origin: Option<&'a Span>,
    context: BTreeMap<String, Value>,
    scope: &'a Scope,
    /// Whether the context already carries a secret.
    secret: bool,
}

impl Templates {
    /// The built-in templates, with those of the repository (by name, such as `systemd/service.j2`) taking over.
    pub fn new(repository: BTreeMap<String, Arc<Source>>) -> Result<Self, Vec<Problem>> {
        let mut sources: BTreeMap<String, Arc<Source>> = BUILT_IN
            .into_iter()
            .map(|(name, text)| (name.to_string(), Source::new(format!("built-in/{name}"), text)))
            .collect();
        sources.extend(repository);
        let mut environment = environment();
        let mut problems = Vec::new();
        for (name, source) in &sources {
            if let Err(error) = environment.add_template_owned(name.clone(), source.text.clone()) {
                problems.push(problem::syntax(&error, source));
            }
        }
        if problems.is_empty() { Ok(Templates { environment, sources }) } else { Err(problems) }
    }

    /// The names of all templates.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sources.keys().map(String::as_str)
    }

    /// Renders a string of a stack.
    pub fn render_text(&self, text: &Text, scope: &Scope) -> Result<Rendered, Box<Problem>> {
        if !["{{", "{%", "{#"].iter().any(|mark| text.raw.contains(mark)) {
            return Ok(Rendered { text: text.raw.clone(), secret: false, needs_facts: false });
        }
        let source = Source::new(text.span.path(), text.raw.clone());
        let job = Job { source: &source, origin: None, context: BTreeMap::new(), scope, secret: false };
        self.run(job).map_err(|found| Box::new(problem::in_text(found, text)))
    }

    /// Renders the template `name` for the node at `origin`.
    #[expect(clippy::needless_pass_by_value, reason = "a context is made for one rendering")]
    pub fn render(&self, name: &str, context: Value, scope: &Scope, origin: &Span) -> Result<Rendered, Box<Problem>> {
        self.render_with(name, &context, false, scope, origin)
    }

    /// The same with a context that may carry a secret: then so does the result, and no error repeats a value.
    pub fn render_with(
        &self,
        name: &str,
        context: &Value,
        secret: bool,
        scope: &Scope,
        origin: &Span,
    ) -> Result<Rendered, Box<Problem>> {
        let Some(source) = self.sources.get(name) else {
            let problem = Problem::error(format!("there is no template `{name}`")).at(origin, "used here");
            return Err(Box::new(match did_you_mean(name, self.names()) {
                Some(near) => problem.hint(format!("did you mean `{near}`?")),
                None => {
                    problem.hint("templates are files of the stack's folder or of `templates/`, named relative to it")
                }
            }));
        };
        let job = Job { source, origin: Some(origin), context: names::flatten(context), scope, secret };
        self.run(job).map_err(Box::new)
    }

    /// Renders a file that is not below `templates/`, such as one of a stack's folder.
    pub fn render_source(
        &self,
        source: &Arc<Source>,
        context: &Value,
        scope: &Scope,
        origin: &Span,
    ) -> Result<Rendered, Box<Problem>> {
        let job = Job { source, origin: Some(origin), context: names::flatten(context), scope, secret: false };
        self.run(job).map_err(Box::new)
    }

    fn run(&self, job: Job<'_>) -> Result<Rendered, Problem> {
        let watch = Watch::new(job.secret);
        let mut context = job.scope.converted().clone();
        context.insert("secret".into(), Value::from_object(Secrets::new(job.scope, &watch)));
        context.insert("facts".into(), Facts::value(job.scope.facts.as_ref(), &watch));
        context.extend(job.context);
        let known: Vec<String> = context.keys().cloned().collect();
        let mut written = Written::new(&job.scope.room, job.source.text.len());
        let rendered = self
            .environment
            .template_from_named_str(job.source.path.as_str(), &job.source.text)
            .and_then(|template| template.render_captured_to(Value::from(context), &mut written).map(|_| ()));
        let (secret, needs_facts) = (watch.secret(), watch.needs_facts());
        match rendered {
            Ok(()) => Ok(Rendered { text: written.into_text(), secret, needs_facts }),
            // A placeholder for a fact fails in arithmetic and the like; the real fact may not.
            Err(_) if needs_facts => Ok(Rendered { text: String::new(), secret, needs_facts }),
            Err(error) => {
                let found = problem::Found {
                    error: &error,
                    source: job.source,
                    sources: &self.sources,
                    known: &known,
                    scope: job.scope,
                    secret,
                    too_large: written.is_too_large(),
                };
                let problem = found.problem();
                Err(match job.origin {
                    Some(origin) => problem.at(origin, "used here"),
                    None => problem,
                })
            }
        }
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_formatter(write_value);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION);
    environment.set_debug(true);
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build();
    environment.set_syntax(syntax.unwrap_or_default());
    filter::install(&mut environment);
    environment
}

/// Writes a value as configuration files want it: `true`, not `True`, and nothing at all for none.
fn write_value(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    if value.downcast_object_ref::<Secrets>().is_some() {
        let why = "there are several secrets below this name: write the name of one of them after it";
        return Err(Error::new(ErrorKind::InvalidOperation, why));
    }
    match value.kind() {
        ValueKind::None => Err(Error::new(
            ErrorKind::InvalidOperation,
            "this value is none, which cannot be written: give it a value, or use the filter `default(\"\", true)`",
        )),
        ValueKind::Bool => out.write_str(if value.is_true() { "true" } else { "false" }).map_err(Error::from),
        _ => minijinja::escape_formatter(out, state, value),
    }
}

#[cfg(test)]
mod tests;
