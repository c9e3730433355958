//! What the tests of all kinds share: a stack's text in, resources and problems out.

mod colours;
mod compose;
mod compose_build;
mod file;
mod first_system;
mod language;
mod nginx;
mod site;
mod tunnel;
mod unit;
mod unit_file;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::decode::{Reader, parse};
use crate::base::diagnostic::{Problem, Problems, Source};
use crate::base::id::{HostName, RepoId, ResourceId, StackName};
use crate::base::secret::Secret;
use crate::base::template::{Scope, Templates};
use crate::resource::Resource;
use crate::resource::lowering::Lowering;
use crate::resource::pool::Peer;
use crate::resource::spec::Spec;
use crate::resource::state::PathState;

/// What became of a stack's text.
pub struct Outcome {
    pub resources: Vec<Resource>,
    pub problems: Vec<Problem>,
    pub needs_facts: bool,
}

/// Decodes and lowers the body of a stack, for the host `web-1`, with the stack's files (relative to its folder).
pub fn lower_with(stack: &str, files: &[(&str, &str)]) -> Outcome {
    let source = Source::new("stacks/demo/stack.kdl", stack);
    let problems = RefCell::new(Problems::default());
    let folder = Utf8Path::new("stacks/demo");
    let files: BTreeMap<Utf8PathBuf, Arc<[u8]>> =
        files.iter().map(|(name, text)| (folder.join(name), Arc::from(text.as_bytes()))).collect();
    let document = parse(&source, &problems);
    let specs: Vec<Spec> = document
        .iter()
        .flat_map(|document| Reader::document(document, &source, &problems))
        .filter_map(Spec::decode)
        .collect();
    let templates = Templates::new(BTreeMap::new()).expect("the built-in templates are valid");
    let scope = scope();
    let (host, stack) = (HostName::new("web-1").expect("valid"), StackName::new("demo").expect("valid"));
    let (nothing, no_upstreams, unread) = (BTreeMap::new(), BTreeMap::new(), std::collections::BTreeSet::new());
    let peers = peers();
    let repo = RepoId::new("infra").expect("valid");
    let on = || Lowering {
        host: &host,
        stack: &stack,
        repo: &repo,
        folder,
        files: &files,
        templates: &templates,
        scope: &scope,
        ports: &nothing,
        upstreams: &no_upstreams,
        peers: &peers,
        unread: &unread,
        registries: &[],
        needs_facts: Cell::new(false),
        problems: &problems,
    };
    let quiet = RefCell::new(Problems::default());
    let ports: BTreeMap<ResourceId, (String, u16)> = {
        let first = Lowering { ports: &nothing, problems: &quiet, ..on() };
        specs.iter().flat_map(|spec| spec.endpoints(&first)).collect()
    };
    let upstreams: BTreeMap<ResourceId, String> = specs.iter().flat_map(|spec| spec.upstreams(&on())).collect();
    let second = Lowering { ports: &ports, upstreams: &upstreams, ..on() };
    let resources = specs.iter().flat_map(|spec| spec.lower(&second)).collect();
    let needs_facts = second.needs_facts.get();
    Outcome { resources, problems: problems.into_inner().0, needs_facts }
}

/// The same without files.
pub fn lower(stack: &str) -> Outcome {
    lower_with(stack, &[])
}

/// Three hosts with the tag `web`, and one to build on.
fn peers() -> Vec<Peer> {
    let peer = |number: u8| Peer {
        name: HostName::new(format!("web-{number}")).expect("valid"),
        address: format!("192.0.2.{number}"),
        tags: vec!["web".into()],
        vars: [("private".to_string(), format!("fd00::{number}").into())].into_iter().collect(),
    };
    let builder = Peer { name: HostName::new("builder-1").expect("valid"), tags: Vec::new(), ..peer(9) };
    (1..=3).map(peer).chain([builder]).collect()
}

fn scope() -> Scope {
    let names = serde_json::json!({ "domain": "example.org", "replicas": 3, "tls": true, "nested": { "port": 8080 } });
    let secrets = [("db".to_string(), Secret::new("hunter2 50%".into()).into())].into();
    Scope::new(names.as_object().cloned().unwrap_or_default(), secrets, None)
}

impl Outcome {
    /// The only resource, where nothing was wrong.
    pub fn one(&self) -> &Resource {
        assert_eq!(self.problems, [], "no problem was expected");
        assert_eq!(self.resources.len(), 1, "one resource was expected");
        &self.resources[0]
    }

    /// The text of a file of any resource.
    pub fn text(&self, path: &str) -> String {
        assert_eq!(self.problems, [], "no problem was expected");
        let states = self.resources.iter().filter_map(|resource| resource.state.paths.get(Utf8Path::new(path)));
        match states.into_iter().next_back() {
            Some(PathState::File { content, .. }) => String::from_utf8_lossy(&content.bytes).into_owned(),
            other => panic!("{path} is {other:?}"),
        }
    }

    /// The problems as lines `line:column message (hint)`.
    pub fn complaints(&self) -> String {
        let mut text = String::new();
        for problem in &self.problems {
            let place = problem.places.first().map(|(span, _)| span.to_string()).unwrap_or_default();
            let place = place.strip_prefix("stacks/demo/").unwrap_or(&place);
            let hint = problem.hint.as_deref().unwrap_or("-");
            let _ = writeln!(text, "{place} {} ({hint})", problem.message);
        }
        text
    }
}
