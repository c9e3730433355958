//! `unit`: a systemd unit, its file, and whether it is enabled and running.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::{Problem, Span};
use crate::base::id::{Kind, ResourceId};
use crate::resource::body::Body;
use crate::resource::colours::{self, BlueGreen, Colour, Face};
use crate::resource::health::{self, Health};
use crate::resource::lowering::Lowering;
use crate::resource::service::{Defaults, Service};
use crate::resource::state::{Content, Owner, PathState, UnitState};
use crate::resource::unit_file::{self, Directives};
use crate::resource::{Action, Check, Listen, Reaction, Resource, path, value};

/// Where unit files are written.
const FOLDER: &str = "/etc/systemd/system";

/// A unit as a stack describes it.
#[derive(Debug, Clone)]
pub struct Unit {
    name: Text,
    service: Service,
    body: Option<Body>,
    drop_ins: Vec<DropIn>,
    wanted_by: Vec<Text>,
    enabled: Option<bool>,
    running: Option<bool>,
    on_demand: bool,
    listens: Vec<Text>,
    healths: Vec<Health>,
    restart_on: Vec<Text>,
    rollout: Option<BlueGreen>,
    origin: Span,
}

/// A file that adds to a unit.
#[derive(Debug, Clone)]
struct DropIn {
    name: Text,
    body: Body,
}

impl Unit {
    /// Reads `unit "go-api" { … }`.
    pub fn decode(mut reader: Reader<'_>) -> Option<Self> {
        let name = reader.required("a name");
        let service = Service::decode(&mut reader);
        let body = Body::decode(&mut reader, "file");
        let drop_ins = reader.children("drop-in").into_iter().filter_map(DropIn::decode).collect();
        let unit = Unit {
            service,
            body,
            drop_ins,
            wanted_by: reader.values("wanted-by"),
            enabled: reader.flag("enabled"),
            running: reader.flag("running"),
            on_demand: reader.flag("on-demand").unwrap_or(false),
            listens: reader.values("listen"),
            healths: Health::decode_all(&mut reader),
            restart_on: reader.values("restart-on"),
            rollout: BlueGreen::decode(&mut reader, |_| {}),
            origin: reader.span(),
            name: name.clone().unwrap_or(Text { raw: String::new(), span: reader.span() }),
        };
        let sensible = unit.sensible(&reader);
        reader.finish();
        (name.is_some() && sensible).then_some(unit)
    }

    /// Whether it is described in exactly one way.
    fn sensible(&self, reader: &Reader<'_>) -> bool {
        let settings = self.service.span().or(self.wanted_by.first().map(|text| &text.span));
        if let (Some(body), Some(setting)) = (&self.body, settings) {
            let problem = Problem::error("a unit is either described by settings or by a file, not both");
            reader.report(problem.at(setting, "a setting").at(body.span(), "and a file").hint(
                "settings of systemd belong in the file; `enabled`, `running`, `listen` and `health` go with both",
            ));
            return false;
        }
        if self.body.is_none() && !self.service.is_empty() && !self.service.has_exec {
            let problem = Problem::error("this unit has settings but no `exec`").at(&self.origin, "this unit");
            reader.report(problem.hint("add `exec \"/path/to/program\"`; to change a foreign unit, use `drop-in`"));
            return false;
        }
        if let Some(rollout) = &self.rollout
            && let Some((what, hint)) = self.cannot_take_turns()
        {
            let problem =
                Problem::error(what).at(&self.origin, "this unit").at(&rollout.span, "new versions take turns");
            reader.report(problem.hint(hint));
            return false;
        }
        if self.on_demand && self.running.is_some() {
            let problem = Problem::error("`on-demand` leaves open whether it runs now, and `running` says it");
            reader.report(problem.at(&self.origin, "this unit").hint("give one of them"));
            return false;
        }
        let says_nothing = self.body.is_none() && self.service.is_empty() && self.drop_ins.is_empty();
        if says_nothing && self.enabled.is_none() && self.running.is_none() {
            let problem = Problem::error("this unit says nothing about itself").at(&self.origin, "this unit");
            reader.report(problem.hint("add `exec`, `file`, `content`, `drop-in`, or `enabled` and `running`"));
            return false;
        }
        true
    }

    /// Why its versions cannot take turns on two ports, and what to do about it.
    fn cannot_take_turns(&self) -> Option<(&'static str, &'static str)> {
        let checks = self.healths.iter().any(|health| !health.is_terms_alone())
            || self.rollout.as_ref().is_some_and(BlueGreen::has_checks);
        if !self.has_file() {
            return Some((
                "a unit that is not described here has no two places",
                "describe it by `exec` or `template`",
            ));
        }
        if self.on_demand || self.running == Some(false) || self.enabled == Some(false) {
            return Some((
                "a service in two places always runs, also after a boot",
                "leave `enabled` and `running` out",
            ));
        }
        if !self.listens.is_empty() {
            return Some(("a service in two places listens on the ports of its rollout", "leave `listen` out"));
        }
        let how = "add `health http=\"/health\"`: only what has shown that it works is sent requests";
        (!checks).then_some(("nothing says how one sees that a new version works", how))
    }

    /// The unit on one host.
    pub fn lower(&self, on: &Lowering<'_>) -> Option<Resource> {
        let name = value::unit_name(on, &self.name)?;
        match &self.rollout {
            Some(rollout) => self.lower_both(on, rollout, &name),
            None => self.lower_one(on, &name, self.base(on).as_ref()),
        }
    }

    /// The unit as two, of which one takes the requests.
    fn lower_both(&self, on: &Lowering<'_>, rollout: &BlueGreen, name: &str) -> Option<Resource> {
        let stem = name.strip_suffix(".service").filter(|stem| !stem.contains('@'));
        let Some(stem) = stem else {
            let problem = Problem::error(format!("`{name}` cannot have two places: only a plain service can"));
            on.report(problem.at(&self.name.span, "here"));
            return None;
        };
        let mut resource = Resource::empty(Kind::Unit, stem, on, &self.origin);
        let mut colours = rollout.lower(on, &resource.id, |on, colour, at| {
            let name = format!("{stem}-{}.service", colour.word());
            let lowered = self.lower_one(on, &name, Some(at))?;
            if !says_port(&lowered, at.1) {
                let problem = Problem::error("nothing in this unit says on which port it listens");
                on.report(
                    problem.at(&rollout.span, "it has two").hint("use `{{ port }}`, as in `env PORT=\"{{ port }}\"`"),
                );
                return None;
            }
            let Resource { state, reactions, checks, .. } = lowered;
            Some(Face { state, services: BTreeMap::new(), reactions, checks, at: at.clone() })
        })?;
        colours.watched = self.restart_on.iter().filter_map(|text| path::lower(on, text)).collect();
        for (face, span) in colours.faces().iter().zip(rollout.spans()) {
            let (address, port) = face.at.clone();
            let listen = Listen { address: Some(address), port, container_port: None, image: None, span: span.clone() };
            resource.wiring.listens.push(listen);
        }
        resource.colours = Some(Box::new(colours));
        resource.wear(Colour::Blue);
        Some(resource)
    }

    /// The unit by this name; `base` is where it is reached.
    fn lower_one(&self, on: &Lowering<'_>, name: &str, base: Option<&(String, u16)>) -> Option<Resource> {
        if self.service.has_exec && !name.ends_with(".service") {
            let problem = Problem::error(format!("`exec` belongs in a service, and `{name}` is none"));
            on.report(problem.at(&self.name.span, "here").hint("give it as `file` or `content`"));
            return None;
        }
        let mut resource = Resource::empty(Kind::Unit, short(name), on, &self.origin);
        let own = Utf8PathBuf::from(format!("{FOLDER}/{name}"));
        let mut directives = None;
        if self.has_file() {
            let content = self.content(on, name)?;
            directives = Some(unit_file::parse(&String::from_utf8_lossy(&content.bytes)));
            resource.state.paths.insert(own, file(content));
        }
        for drop_in in &self.drop_ins {
            let (path, content) = drop_in.lower(on, name)?;
            resource.state.paths.insert(path, file(content));
        }
        let paths: Vec<_> = resource.state.paths.keys().cloned().collect();
        if !paths.is_empty() {
            resource.reactions.push(Reaction { paths, action: Action::ByDirective(name.to_string()) });
        }
        let watched: Vec<_> = self.restart_on.iter().filter_map(|text| path::lower(on, text)).collect();
        if !watched.is_empty() {
            resource.reactions.push(Reaction { paths: watched, action: Action::Restart(name.to_string()) });
        }
        let state = self.state(name, directives.as_ref());
        resource.state.units.insert(name.to_string(), state);
        self.wire(on, &mut resource);
        resource.checks = self.checks(on, base, name, state, directives.as_ref());
        Some(resource)
    }

    /// Whether it has a file of its own; a foreign unit has none.
    fn has_file(&self) -> bool {
        self.body.is_some() || !self.service.is_empty()
    }

    /// The unit's own file.
    fn content(&self, on: &Lowering<'_>, name: &str) -> Option<Content> {
        if let Some(body) = &self.body {
            return body.lower(on);
        }
        let wanted_by: Vec<String> = if self.wanted_by.is_empty() {
            vec!["multi-user.target".to_string()]
        } else {
            self.wanted_by.iter().map(|text| value::unit_name(on, text)).collect::<Option<_>>()?
        };
        let defaults =
            Defaults { description: short(name), kind: None, restart: Some("on-failure"), wanted_by: &wanted_by };
        self.service.lower(on, &self.origin, &defaults)
    }

    /// Enabled by default if it can be and may run (what is to be stopped stays so after a boot), running by default if it is ours; of a foreign unit only what is said.
    fn state(&self, name: &str, directives: Option<&Directives>) -> UnitState {
        let Some(directives) = directives else {
            return UnitState { enabled: self.enabled, active: self.running };
        };
        let installable = directives.keys().any(|(section, _)| section == "Install");
        // `foo@.service` is only a pattern for units; it can itself neither be enabled nor run.
        let pattern = name.contains("@.");
        let oneshot = is_oneshot(directives);
        UnitState {
            enabled: self.enabled.or((installable && !pattern).then_some(self.running != Some(false))),
            active: self.running.or((!pattern && !oneshot && !self.on_demand).then_some(true)),
        }
    }

    fn wire(&self, on: &Lowering<'_>, resource: &mut Resource) {
        for text in &self.listens {
            if let Some((address, port)) = on.parsed(text, LISTEN, value::parse_address) {
                let span = text.span.clone();
                resource.wiring.listens.push(Listen { address, port, container_port: None, image: None, span });
            }
        }
    }

    fn checks(
        &self,
        on: &Lowering<'_>,
        base: Option<&(String, u16)>,
        name: &str,
        state: UnitState,
        directives: Option<&Directives>,
    ) -> Vec<Check> {
        if state.active != Some(true) {
            return Vec::new();
        }
        let (mut checks, terms) = health::lower_all(&self.healths, on, base, None);
        if !directives.is_some_and(is_oneshot) {
            checks.push(health::active(name.into(), &terms));
        }
        checks
    }

    /// Where it can be reached: its first `listen`, or one of its two ports.
    fn base(&self, on: &Lowering<'_>) -> Option<(String, u16)> {
        match &self.rollout {
            Some(rollout) => rollout.endpoints(on).map(|[blue, _]| blue),
            None => self.listens.first().and_then(|text| endpoint(on, text)),
        }
    }

    /// What nginx calls its two places.
    pub fn upstreams(&self, on: &Lowering<'_>) -> Vec<(ResourceId, String)> {
        let name = self.rollout.as_ref().and_then(|_| value::unit_name(on, &self.name));
        let id = name.map(|name| ResourceId::new(Kind::Unit, short(&name)));
        id.into_iter().map(|id| (id.clone(), colours::upstream(&id))).collect()
    }

    /// Where it can be reached.
    pub fn endpoints(&self, on: &Lowering<'_>) -> Vec<(ResourceId, (String, u16))> {
        let name = value::unit_name(on, &self.name);
        let endpoint = self.base(on);
        name.zip(endpoint)
            .map(|(name, endpoint)| (ResourceId::new(Kind::Unit, short(&name)), endpoint))
            .into_iter()
            .collect()
    }
}

pub(super) const LISTEN: &str = "a port, or an address such as 127.0.0.1:8080";

fn endpoint(on: &Lowering<'_>, text: &Text) -> Option<(String, u16)> {
    let (address, port) = on.parsed(text, LISTEN, value::parse_address)?;
    Some((value::reachable(address.as_deref()), port))
}

/// Whether a port stands in one of the files.
fn says_port(lowered: &Resource, port: u16) -> bool {
    let port = port.to_string();
    lowered.state.paths.values().any(|state| match state {
        PathState::File { content, .. } => String::from_utf8_lossy(&content.bytes).contains(&port),
        _ => false,
    })
}

fn is_oneshot(directives: &Directives) -> bool {
    unit_file::value(directives, "Service", "Type") == Some("oneshot")
}

/// A unit's name as stacks write it: services without their suffix.
pub fn short(name: &str) -> &str {
    name.strip_suffix(".service").unwrap_or(name)
}

/// A unit file: readable to all, unless a secret is in it.
pub fn file(content: Content) -> PathState {
    let mode = if content.secret { 0o600 } else { 0o644 };
    PathState::File { content, mode, owner: Owner::root() }
}

impl DropIn {
    fn decode(mut reader: Reader<'_>) -> Option<Self> {
        let name = reader.required("a name");
        let body = Body::decode(&mut reader, "file");
        if body.is_none() {
            let problem = Problem::error("`drop-in` does not say what is in it").at(&reader.span(), "here");
            reader.report(problem.hint("give one of `content`, `file` and `template`"));
        }
        reader.finish();
        Some(DropIn { name: name?, body: body? })
    }

    fn lower(&self, on: &Lowering<'_>, unit: &str) -> Option<(Utf8PathBuf, Content)> {
        let name = on.parsed(&self.name, "the name of a drop-in (letters, digits, `-` and `_`)", |word| {
            let word = word.strip_suffix(".conf").unwrap_or(word);
            let clean = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
            (!word.is_empty() && word.len() <= 100 && word.chars().all(clean)).then(|| word.to_string())
        })?;
        Some((format!("{FOLDER}/{unit}.d/{name}.conf").into(), self.body.lower(on)?))
    }
}
