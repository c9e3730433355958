//! Floor 2: the kinds of things that are managed, one file per kind.
//!
//! Each kind has two halves. `decode` reads its node of a stack into a *spec*, whose strings may be templates and which
//! is the same for all hosts. `lower` turns the spec into a [`Resource`] for one host, fully written out. A resource's
//! [`State`] has one normal form, used for what is wanted and for what is seen, so diff is equality.

mod access;
mod body;
mod calendar;
pub mod colours;
pub mod compose;
pub mod compose_build;
mod compose_env;
mod compose_file;
mod compose_link;
mod compose_mount;
mod compose_proxy;
mod compose_rollout;
mod compose_whole;
pub mod directory;
mod dockerignore;
pub mod file;
mod health;
pub mod image;
mod location;
pub mod lowering;
pub mod nginx;
pub mod packages;
pub mod path;
pub mod pool;
mod proxy;
mod reaction;
mod reference;
pub mod registry;
mod service;
mod service_value;
pub mod site;
mod site_file;
mod site_header;
pub mod spec;
pub mod state;
pub mod timer;
pub mod tunnel;
mod tunnel_file;
pub mod unit;
pub mod unit_file;
pub(crate) mod value;
mod yaml;

#[cfg(test)]
mod tests;

use std::time::Duration;

use camino::Utf8PathBuf;
use serde::Serialize;

use crate::base::diagnostic::Span;
use crate::base::id::{HostName, Kind, ResourceId, StackName};
use colours::{Colour, Colours};
use lowering::Lowering;
use pool::Upstream;
use state::State;

/// Everything that one host should be.
#[derive(Debug, Clone)]
pub struct Desired {
    /// The host.
    pub host: HostName,
    /// Every resource, sorted by id.
    pub resources: Vec<Resource>,
}

/// One managed thing on one host, fully written out.
#[derive(Debug, Clone)]
pub struct Resource {
    /// What it is and what it is called; unique on its host.
    pub id: ResourceId,
    /// The stack it comes from.
    pub stack: StackName,
    /// The line of the stack that made it.
    pub origin: Span,
    /// How it should be.
    pub state: State,
    /// The images it runs whose digests are to be found out, before anything is compared.
    pub images: Vec<image::Image>,
    /// Resources of the same host that must be applied before this one.
    pub needs: Vec<ResourceId>,
    /// What must be done on the host when its paths change.
    pub reactions: Vec<Reaction>,
    /// How one sees that it works. All must pass after a change.
    pub checks: Vec<Check>,
    /// Its place on the way of a request.
    pub wiring: Wiring,
    /// Its two places, where new versions take turns. The rest says how it should be in one of them.
    pub colours: Option<Box<Colours>>,
    /// The turn that is to be taken, once it is known which place has taken the requests so far.
    pub handover: Option<Handover>,
}

/// A service leaves one place for the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    /// Where it has been; `None` where it has had no place yet.
    pub from: Option<Colour>,
    /// Where it will be.
    pub to: Colour,
    /// Whether somebody changed the host: then the repository says the same as before.
    pub drift: bool,
}

impl Resource {
    /// A resource about which nothing is said yet.
    fn empty(kind: Kind, name: &str, on: &Lowering<'_>, origin: &Span) -> Self {
        Resource {
            id: ResourceId::new(kind, name),
            stack: on.stack.clone(),
            origin: origin.clone(),
            state: State::default(),
            images: Vec::new(),
            needs: Vec::new(),
            reactions: Vec::new(),
            checks: Vec::new(),
            wiring: Wiring::default(),
            colours: None,
            handover: None,
        }
    }
}

impl Resource {
    /// The same, but it does not run: its files are there. What belongs to somebody else, such as nginx, stays as it is.
    #[must_use]
    pub fn stopped(mut self) -> Self {
        let units = self.state.stop_own();
        if let Some(project) = &mut self.state.project {
            project.running = false;
        }
        if units || self.state.project.is_some() {
            self.checks.clear();
        }
        if let Some(colours) = &mut self.colours {
            colours.stop();
        }
        self
    }

    /// Whether a secret stands in one of its files, or is said to the registry of one of its images.
    pub fn has_secret(&self) -> bool {
        let faces = self.colours.iter().flat_map(|colours| colours.faces()).map(|face| &face.state);
        let logs_in = self.images.iter().any(|image| image.access.login.is_some());
        logs_in || faces.chain([&self.state]).any(State::has_secret)
    }
}

/// What must be done on the host when one of some paths changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaction {
    /// The paths. Those of `restart-on` may be in the state of another resource of the host, or not managed at all; all
    /// others are in the state of the same resource. A directory stands for itself only.
    pub paths: Vec<Utf8PathBuf>,
    /// What is to be done.
    pub action: Action,
}

/// Something done to a unit or container because files it uses have changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// `systemctl reload`.
    Reload(String),
    /// `systemctl restart`.
    Restart(String),
    /// A signal to the unit's main process.
    Signal {
        /// Full unit name.
        unit: String,
        /// Such as `HUP`.
        signal: String,
    },
    /// The paths are files of this unit itself: what is needed depends on the directives that changed. A unit whose wanted
    /// state does not say that it runs (`active` is not `Some(true)`), such as a job, is never started or restarted for it:
    /// a daemon-reload is enough.
    ByDirective(String),
    /// A container of a Compose project that mounts the path: restart it (`None`) or send it a signal.
    Container {
        /// The Compose project.
        project: String,
        /// The service in it.
        service: String,
        /// The signal; `None` restarts the container.
        signal: Option<String>,
    },
    /// A container of a Compose project that is replaced by a new one of the same configuration.
    Recreate {
        /// The Compose project.
        project: String,
        /// The service in it.
        service: String,
    },
}

/// A proof that a resource works, to be had within some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What must succeed.
    pub probe: Probe,
    /// How long it may take until it does, counted from the activation.
    pub within: Duration,
}

/// What a check does, on the host itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// A GET of this URL answers with a status below 400.
    Http {
        /// The URL, `http://` only.
        url: String,
        /// The Host header, where it differs from the URL's.
        host: Option<String>,
    },
    /// Something listens there.
    Tcp {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// This command exits with 0. Program and arguments; no shell.
    Command(Vec<String>),
    /// This unit is active, and stays so.
    Active {
        /// Full unit name.
        unit: String,
        /// For how long.
        patience: Patience,
    },
    /// The containers of these services work: they are healthy where they have a health check, else they run and go on
    /// running; what ends by itself ends well.
    Containers {
        /// The Compose project.
        project: String,
        /// The services.
        services: Vec<String>,
        /// For how long, where nothing else can be asked.
        patience: Patience,
    },
}

/// How long something that runs must go on before one believes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Patience {
    /// For how long it must run without being started again.
    pub steady: Duration,
    /// How often it may be started again before that: more is a crash loop.
    pub restarts: u32,
}

/// Which ports and names a resource offers and which it uses: from this the way of a request is known and checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wiring {
    /// Where it listens.
    pub listens: Vec<Listen>,
    /// The host names it answers for (nginx `server_name`).
    pub serves: Vec<(String, Span)>,
    /// Where it sends requests.
    pub routes: Vec<Route>,
    /// The pools whose servers are taken out of it while they are changed.
    pub pools: Vec<Upstream>,
}

/// A TCP port that something listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The address; `None` means all.
    pub address: Option<String>,
    /// The port on the host.
    pub port: u16,
    /// The port inside the container, where it is one.
    pub container_port: Option<u16>,
    /// The container image, where it is one.
    pub image: Option<String>,
    /// Where it is written.
    pub span: Span,
}

/// One hop: requests for a name and path go to an address on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The host name, or `None` for all names this resource serves.
    pub name: Option<String>,
    /// The path prefix.
    pub path: String,
    /// The address and port it goes to; `None` for answers made on the spot (a status, static files).
    pub to: Option<(String, u16)>,
    /// The resource it was written as, as in `to="unit:go-api"`.
    pub reference: Option<ResourceId>,
    /// Where it is written.
    pub span: Span,
}
