//! `rollout "blue-green"` of a Compose service: the service as two, each with the port of its colour, in a file of our
//! own that Compose reads after the user's. That file says the same whichever of the two takes the requests.

use std::fmt::Write as _;

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::{Problem, did_you_mean};
use crate::base::id::{Kind, ResourceId};
use crate::resource::colours::{BlueGreen, Colour, Colours, Face};
use crate::resource::compose_file::{Networks, Service};
use crate::resource::image::Used;
use crate::resource::lowering::Lowering;
use crate::resource::state::{Content, ProjectService, State};
use crate::resource::{Action, Listen, Reaction, value};

/// The file that describes both.
pub const ROLLOUT: &str = "compose.rollout.yaml";

/// The rollout of one service, as a stack describes it.
#[derive(Debug, Clone)]
pub struct Rollout {
    service: Text,
    target: Option<Text>,
    turns: BlueGreen,
}

/// The same on one host.
pub struct Turning {
    /// The service, as the Compose file calls it.
    pub service: String,
    /// The file that describes both places.
    pub content: Content,
    /// Where both listen.
    pub listens: Vec<Listen>,
    rollout: Rollout,
}

impl Rollout {
    /// Reads `rollout "blue-green" service="web" { … }`.
    pub fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let (mut service, mut target) = (None, None);
        let turns = BlueGreen::decode(reader, |node| {
            (service, target) = (node.value("service"), node.value("target"));
            if service.is_none() {
                let problem = Problem::error("this rollout does not say of which service").at(&node.span(), "here");
                node.report(problem.hint("add `service=\"web\"`"));
            }
        })?;
        if !turns.has_checks() {
            let problem = Problem::error("nothing says how one sees that a new version works");
            let problem = problem.at(&reader.span(), "this project").at(&turns.span, "new versions take turns");
            let hint = "add `health http=\"/health\"`: only what has shown that it works is sent requests";
            reader.report(problem.hint(hint));
            return None;
        }
        Some(Rollout { service: service?, target, turns })
    }

    /// The service that is meant.
    pub fn service(&self, on: &Lowering<'_>) -> Option<String> {
        value::service_name(on, &self.service)
    }

    /// Where it is reached.
    pub fn endpoint(&self, on: &Lowering<'_>) -> Option<(String, u16)> {
        self.turns.endpoints(on).map(|[blue, _]| blue)
    }

    /// The rollout on one host, where the service can run twice. `files` are the project's Compose files.
    pub fn lower(&self, on: &Lowering<'_>, active: &[&Service], files: &[&str]) -> Option<Turning> {
        let name = self.service(on)?;
        let Some(service) = active.iter().find(|service| service.name == name) else {
            let problem =
                Problem::error(format!("no service that runs is called `{name}`")).at(&self.service.span, "here");
            let near = did_you_mean(&name, active.iter().map(|service| service.name.as_str()));
            on.report(near.map_or(problem.clone(), |near| problem.hint(format!("did you mean `{near}`?"))));
            return None;
        };
        if let Some((why, hint)) = cannot_run_twice(service, active, files) {
            let problem = Problem::error(format!("`{name}` cannot run in two places: {why}"));
            on.report(problem.at(&self.service.span, "here").hint(hint));
            return None;
        }
        let target = match (&self.target, service.ports.items.first()) {
            (Some(text), _) => on.parsed(text, "a port", |word| word.parse::<u16>().ok().filter(|port| *port > 0))?,
            (None, Some(port)) => port.target,
            (None, None) => {
                let problem = Problem::error(format!("nothing says on which port `{name}` listens in its container"));
                on.report(problem.at(&self.turns.span, "here").hint("add `target=80`"));
                return None;
            }
        };
        let ends = self.turns.endpoints(on)?;
        let listens = ends.iter().zip(self.turns.spans()).map(|((host, port), span)| Listen {
            address: Some(host.clone()),
            port: *port,
            container_port: Some(target),
            image: service.image.clone(),
            span: span.clone(),
        });
        let listens = listens.collect();
        let content = overlay(on, service, target, &ends, files[0]);
        Some(Turning { service: name, content, listens, rollout: self.clone() })
    }
}

/// Why a service cannot run beside itself, and what to do about it.
fn cannot_run_twice(service: &Service, active: &[&Service], files: &[&str]) -> Option<(String, &'static str)> {
    let is_tied = |other: &&&Service| {
        let ties = &other.ties;
        [&ties.needs, &ties.borrows, &ties.follows].into_iter().any(|names| names.contains(&service.name))
    };
    if let Some(other) = active.iter().find(is_tied) {
        return Some((format!("`{}` depends on it", other.name), "take the dependency away"));
    }
    if service.networks == Networks::Other {
        return Some(("it has no network of its own".into(), "give it a network of the project"));
    }
    if service.ports.items.len() > 1 {
        return Some(("it publishes several ports".into(), "leave the one that the site sends requests to"));
    }
    (files.len() != 1).then(|| ("the project has several Compose files".into(), "put them into one"))
}

/// Both places as Compose describes them. Within its networks each is known by the service's own name, too.
fn overlay(on: &Lowering<'_>, service: &Service, target: u16, ends: &[(String, u16); 2], file: &str) -> Content {
    // Text as JSON has it is text as YAML has it, whatever it is.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let networks = match &service.networks {
        Networks::Named(names) => names.as_slice(),
        Networks::Other => &[],
    };
    let mut text = format!("# {}\nservices:\n", on.banner());
    for (colour, (host, port)) in Colour::BOTH.into_iter().zip(ends) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {}:", quoted(&coloured(&service.name, colour)));
        let _ = writeln!(text, "    extends: {{file: {}, service: {}}}", quoted(file), quoted(&service.name));
        let _ = writeln!(text, "    container_name: !reset null");
        let _ = writeln!(text, "    ports: !override [{}]", quoted(&format!("{host}:{port}:{target}")));
        let _ = writeln!(text, "    networks:");
        for network in networks {
            let _ = writeln!(text, "      {}: {{aliases: [{}]}}", quoted(network), quoted(&service.name));
        }
    }
    Content::plain(text.into_bytes())
}

/// What a service is called in one of its places.
fn coloured(service: &str, colour: Colour) -> String {
    format!("{service}-{}", colour.word())
}

/// What sites call a service of a project.
pub fn id(project: &str, service: &str) -> ResourceId {
    ResourceId::new(Kind::Compose, format!("{project}/{service}"))
}

impl Turning {
    /// Services, with both places instead of this one.
    pub fn both(&self, services: &[String]) -> Vec<String> {
        let both = |name: &String| {
            let places = Colour::BOTH.map(|colour| coloured(name, colour)).to_vec();
            if *name == self.service { places } else { vec![name.clone()] }
        };
        services.iter().flat_map(both).collect()
    }

    /// The image of the service is that of both places.
    pub fn rename(&self, used: Vec<Used>) -> Vec<Used> {
        let both = |used: Used| {
            let names = Colour::BOTH.map(|colour| coloured(&used.service, colour));
            names.map(|service| Used { service, ..used.clone() }).to_vec()
        };
        used.into_iter().flat_map(|used| if used.service == self.service { both(used) } else { vec![used] }).collect()
    }

    /// Both places, given what the service is in the project and what follows when its files change.
    pub fn colours(
        &self,
        on: &Lowering<'_>,
        project: &str,
        runs: &ProjectService,
        reactions: Vec<Reaction>,
    ) -> Option<Colours> {
        let signal = |reaction: &Reaction| matches!(reaction.action, Action::Container { signal: Some(_), .. });
        let (signals, replaced): (Vec<Reaction>, Vec<Reaction>) = reactions.into_iter().partition(signal);
        let mut colours = self.rollout.turns.lower(on, &id(project, &self.service), |_, colour, at| {
            let name = coloured(&self.service, colour);
            let of = |mut reaction: Reaction| {
                if let Action::Container { service, .. } = &mut reaction.action {
                    service.clone_from(&name);
                }
                reaction
            };
            Some(Face {
                state: State::default(),
                services: [(name.clone(), runs.clone())].into(),
                reactions: signals.iter().cloned().map(of).collect(),
                checks: Vec::new(),
                at: at.clone(),
            })
        })?;
        colours.alone = Some(self.service.clone());
        colours.watched = replaced.into_iter().flat_map(|reaction| reaction.paths).collect();
        colours.watched.extend(runs.built_from.iter().flatten().cloned());
        Some(colours)
    }
}
