//! All stacks of one host, written out in two passes: first where everything listens, then everything.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::base::diagnostic::{Problems, Span};
use crate::base::id::{HostName, Kind, ResourceId};
use crate::base::template::Scope;
use crate::load::{Config, Stack};
use crate::render::names::{self, Names};
use crate::resource::Resource;
use crate::resource::lowering::Lowering;

/// What came of it.
#[derive(Default)]
pub(super) struct Lowered {
    pub(super) resources: Vec<Resource>,
    pub(super) problems: Problems,
    pub(super) waiting: Vec<Span>,
}

/// Writes out all resources of `host`.
pub(super) fn lower(config: &Config, host: &HostName, facts: Option<&Value>) -> Lowered {
    let mut lowered = Lowered::default();
    let scopes = scopes(config, host, facts, &mut lowered);
    let problems = RefCell::new(std::mem::take(&mut lowered.problems));
    let listening = listening(config, host, &scopes);
    for (stack, scope) in &scopes {
        let on = lowering(config, host, stack, scope, &listening, &problems);
        for (spec, span) in &stack.resources {
            on.needs_facts.set(false);
            let resource = spec.lower(&on);
            lowered
                .resources
                .extend(resource.into_iter().map(|resource| if stack.stopped { resource.stopped() } else { resource }));
            if on.needs_facts.get() {
                lowered.waiting.push(span.clone());
            }
        }
    }
    lowered.problems = problems.into_inner();
    lowered
}

/// The stacks of the host with their names. Those whose names are not all known are left out.
fn scopes<'c>(
    config: &'c Config,
    host: &HostName,
    facts: Option<&Value>,
    lowered: &mut Lowered,
) -> Vec<(&'c Stack, Scope)> {
    let Some(host) = config.hosts.get(host) else { return Vec::new() };
    let repository = names::of_repository(host);
    let mut scopes = Vec::new();
    for stack in config.stacks.values().filter(|stack| stack.hosts.contains(&host.name)) {
        match names::of_stack(config, stack, host, &repository, facts, &mut lowered.problems) {
            Names::Known(scope) => scopes.push((stack, *scope)),
            Names::Waiting => lowered.waiting.push(stack.span.clone()),
            Names::Failed => {}
        }
    }
    scopes
}

/// What the first pass found out.
#[derive(Default)]
struct Listening {
    /// Where resources listen.
    ports: BTreeMap<ResourceId, (String, u16)>,
    /// What nginx calls those with two places.
    upstreams: BTreeMap<ResourceId, String>,
    /// Kinds of which something could not be read.
    unread: BTreeSet<Kind>,
}

/// Where the resources of all stacks listen. What is wrong with them is reported by the second pass.
fn listening(config: &Config, host: &HostName, scopes: &[(&Stack, Scope)]) -> Listening {
    let (nothing, quiet) = (Listening::default(), RefCell::<Problems>::default());
    let mut found = Listening::default();
    for (stack, scope) in scopes {
        let on = lowering(config, host, stack, scope, &nothing, &quiet);
        for (spec, _) in &stack.resources {
            let before = quiet.borrow().errors();
            found.ports.extend(spec.endpoints(&on));
            found.upstreams.extend(spec.upstreams(&on));
            if quiet.borrow().errors() > before {
                found.unread.insert(spec.kind());
            }
        }
    }
    found
}

fn lowering<'a>(
    config: &'a Config,
    host: &'a HostName,
    stack: &'a Stack,
    scope: &'a Scope,
    listening: &'a Listening,
    problems: &'a RefCell<Problems>,
) -> Lowering<'a> {
    Lowering {
        host,
        stack: &stack.name,
        repo: &config.repo,
        folder: &stack.folder,
        files: &config.files,
        templates: &config.templates,
        scope,
        ports: &listening.ports,
        upstreams: &listening.upstreams,
        peers: &config.peers,
        unread: &listening.unread,
        registries: &stack.registries,
        needs_facts: Cell::new(false),
        problems,
    }
}
