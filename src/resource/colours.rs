//! `rollout "blue-green"`: a service that has two places, of which one takes the requests. A new version comes up in
//! the other one, and takes over once it is healthy.

use std::collections::BTreeMap;
use std::time::Duration;

use camino::Utf8PathBuf;
use minijinja::context;
use serde::Serialize;

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::{Problem, Span};
use crate::base::id::{Kind, ResourceId};
use crate::resource::health::{self, Health};
use crate::resource::lowering::Lowering;
use crate::resource::site::variable;
use crate::resource::state::{ProjectService, State, UnitState};
use crate::resource::{Action, Check, Reaction, Resource, unit, value};

/// How long requests may still take that the former version has begun, where nothing is said.
const DRAIN: Duration = Duration::from_secs(10);
/// The longest such time: a run does not last for ever.
const LONGEST: Duration = Duration::from_mins(30);
/// Where nginx reads what all its sites share.
const SHARED: &str = "/etc/nginx/conf.d";

/// One of the two places of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Colour {
    /// The first.
    Blue,
    /// The second.
    Green,
}

impl Colour {
    /// Both.
    pub const BOTH: [Colour; 2] = [Colour::Blue, Colour::Green];

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        if self == Colour::Blue { Colour::Green } else { Colour::Blue }
    }

    /// `blue` or `green`.
    pub fn word(self) -> &'static str {
        if self == Colour::Blue { "blue" } else { "green" }
    }
}

/// The two places of a service, each fully written out. Which of them is wanted follows from what is seen on the host.
#[derive(Debug, Clone)]
pub struct Colours {
    /// Blue, then green.
    faces: [Face; 2],
    /// The service, as people call it.
    pub service: String,
    /// The name by which sites send requests to whichever place takes them.
    pub upstream: String,
    /// The file that says which one that is. Both faces have it.
    pub switch: Utf8PathBuf,
    /// How long the former one goes on after the switch.
    pub drain: Duration,
    /// What it was called while it had one place, where a plan would not know: the service of a Compose project.
    pub alone: Option<String>,
    /// Files and folders with whose change a new process is wanted, wherever they belong.
    pub watched: Vec<Utf8PathBuf>,
}

/// What a resource has of its own in one of the two places.
#[derive(Debug, Clone)]
pub struct Face {
    /// Its part of the state.
    pub state: State,
    /// Its part of the Compose project.
    pub services: BTreeMap<String, ProjectService>,
    /// Its reactions.
    pub reactions: Vec<Reaction>,
    /// How one sees that it works.
    pub checks: Vec<Check>,
    /// Where it listens.
    pub at: (String, u16),
}

impl Colours {
    /// How long the place that is left has to end what it has begun, in whole seconds.
    pub fn drain_seconds(&self) -> u64 {
        u64::try_from(self.drain.as_millis().div_ceil(1000)).unwrap_or(u64::MAX)
    }

    /// The face of a colour.
    pub fn face(&self, colour: Colour) -> &Face {
        &self.faces[usize::from(colour == Colour::Green)]
    }

    /// Both faces.
    pub fn faces(&self) -> &[Face] {
        &self.faces
    }

    /// The units that only this colour has.
    pub fn units(&self, colour: Colour) -> impl Iterator<Item = &String> {
        let other = self.face(colour.other());
        self.face(colour).state.units.keys().filter(|unit| !other.state.units.contains_key(*unit))
    }

    /// Has it run in neither place.
    pub fn stop(&mut self) {
        for face in &mut self.faces {
            face.state.stop_own_units();
            face.checks.clear();
        }
    }

    /// Whether it is to run in neither place.
    pub fn is_stopped(&self) -> bool {
        let units = &self.face(Colour::Blue).state.units;
        self.units(Colour::Blue).any(|unit| units[unit].active == Some(false))
    }

    /// The services of its Compose project that are its own, in either place or while it had only one.
    pub fn has_service(&self, name: &str) -> bool {
        self.alone.as_deref() == Some(name) || self.faces.iter().any(|face| face.services.contains_key(name))
    }
}

impl Resource {
    /// Has a resource with two places want this one, and not the other.
    pub fn wear(&mut self, colour: Colour) {
        let Some(colours) = self.colours.clone() else { return };
        let (face, other) = (colours.face(colour).clone(), colours.face(colour.other()));
        self.state.paths.retain(|path, _| !other.state.paths.contains_key(path));
        self.state.units.retain(|unit, _| !other.state.units.contains_key(unit));
        self.reactions.retain(|reaction| !other.reactions.contains(reaction) && !face.reactions.contains(reaction));
        self.checks.retain(|check| !other.checks.contains(check) && !face.checks.contains(check));
        if let Some(project) = &mut self.state.project {
            project.services.retain(|service, _| !other.services.contains_key(service));
            project.services.extend(face.services);
        }
        self.state.paths.extend(face.state.paths);
        self.state.units.extend(face.state.units);
        self.reactions.extend(face.reactions);
        self.checks.extend(face.checks);
    }
}

/// `rollout "blue-green"` as a stack describes it.
#[derive(Debug, Clone)]
pub struct BlueGreen {
    ports: Vec<Text>,
    drain: Option<Text>,
    healths: Vec<Health>,
    /// Where it stands.
    pub span: Span,
}

impl BlueGreen {
    /// Reads the only `rollout` of a node; `more` reads what else there is to it.
    pub fn decode(reader: &mut Reader<'_>, more: impl FnOnce(&mut Reader<'_>)) -> Option<Self> {
        let mut node = reader.child("rollout")?;
        let way = node.required("how, such as \"blue-green\"");
        let (ports, drain) = (node.values("ports"), node.value("drain"));
        let rollout = BlueGreen { ports, drain, healths: Health::decode_all(&mut node), span: node.span() };
        more(&mut node);
        let mut good = way.is_some();
        if let Some(way) = way.filter(|way| way.raw != "blue-green") {
            let problem = Problem::error(format!("there is no rollout `{}`", way.raw.escape_debug()));
            node.report(problem.at(&way.span, "here").hint("write `rollout \"blue-green\" { ports 8081 8082 }`"));
            good = false;
        }
        if rollout.ports.len() != 2 {
            let problem = Problem::error("a blue-green rollout takes turns on two ports").at(&rollout.span, "here");
            node.report(problem.hint("write `ports 8081 8082`: the service listens on the one that `{{ port }}` says"));
            good = false;
        }
        node.finish();
        good.then_some(rollout)
    }

    /// Whether it says how one sees that a place works.
    pub fn has_checks(&self) -> bool {
        self.healths.iter().any(|health| !health.is_terms_alone())
    }

    /// Where each colour listens.
    pub fn endpoints(&self, on: &Lowering<'_>) -> Option<[(String, u16); 2]> {
        let at = |text: &Text| {
            let (address, port) = on.parsed(text, unit::LISTEN, value::parse_address)?;
            Some((value::reachable(address.as_deref()), port))
        };
        let [blue, green] = &self.ports[..] else { return None };
        let (blue, green) = (at(blue)?, at(green)?);
        if blue.1 == green.1 {
            let problem = Problem::error("both colours would listen on the same port").at(&self.span, "here");
            on.report(problem.hint("they run side by side for a while: give two ports"));
            return None;
        }
        Some([blue, green])
    }

    /// Where each port is written.
    pub fn spans(&self) -> impl Iterator<Item = &Span> {
        self.ports.iter().map(|text| &text.span)
    }

    /// How long the former version goes on.
    fn drain(&self, on: &Lowering<'_>) -> Option<Duration> {
        let Some(text) = &self.drain else { return Some(DRAIN) };
        let drain = value::duration(on, text)?;
        if drain > LONGEST {
            let problem = Problem::error("a run does not wait that long").at(&text.span, "here");
            on.report(problem.hint("30 minutes are the most"));
            return None;
        }
        Some(drain)
    }

    /// Writes out both places: `face` does it for one, given names for its colour and port.
    pub fn lower(
        &self,
        on: &Lowering<'_>,
        service: &ResourceId,
        face: impl Fn(&Lowering<'_>, Colour, &(String, u16)) -> Option<Face>,
    ) -> Option<Colours> {
        let (ends, drain) = (self.endpoints(on)?, self.drain(on)?);
        let upstream = upstream(service);
        let switch = Utf8PathBuf::from(format!("{SHARED}/reconcile-{upstream}.conf"));
        let one = |colour: Colour, at: &(String, u16)| {
            let names = [("port", at.1.into()), ("colour", colour.word().into())];
            let scope = on.scope.with(names);
            let within = Lowering { scope: &scope, needs_facts: std::cell::Cell::new(false), ..*on };
            let face = face(&within, colour, at);
            on.needs_facts.set(on.needs_facts.get() || within.needs_facts.get());
            let mut face = face?;
            face.checks.extend(health::lower_all(&self.healths, &within, Some(at), None).0);
            let address = format!("{}:{}", at.0, at.1);
            let upstream = upstream.clone();
            let context = context! { managed => on.banner(), upstream, address, colour => colour.word() };
            let content = on.template("nginx/upstream.j2", context, false, &self.span)?;
            face.state.paths.insert(switch.clone(), unit::file(content));
            face.state.units.insert(NGINX.into(), UnitState { enabled: None, active: Some(true) });
            face.reactions.push(Reaction { paths: vec![switch.clone()], action: Action::Reload(NGINX.into()) });
            Some(face)
        };
        // What is wrong with one is wrong with both, and said once.
        let blue = one(Colour::Blue, &ends[0])?;
        let green = one(Colour::Green, &ends[1])?;
        let service = service.name.clone();
        let faces = [blue, green];
        Some(Colours { faces, service, upstream, switch, drain, alone: None, watched: Vec::new() })
    }
}

const NGINX: &str = "nginx.service";

/// What nginx calls the two places together: `unit_api`, `compose_shop_web`.
pub fn upstream(service: &ResourceId) -> String {
    let kind = if service.kind == Kind::Compose { "compose" } else { "unit" };
    variable(kind, &service.name)
}
