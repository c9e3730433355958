//! What a change does to a host besides its files. Effects are data: the plan prints them, apply turns them into
//! commands, and there is nothing in between.

use camino::Utf8PathBuf;
use serde::Serialize;

use crate::base::id::{HostName, ResourceId};
use crate::resource::colours::Colour;
use crate::resource::image::untagged;

/// Something that is done to a host, and which resources are the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Effect {
    /// What is done.
    #[serde(flatten)]
    pub deed: Deed,
    /// The resources that ask for it.
    pub causes: Vec<ResourceId>,
    /// Why, where the causes alone do not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Which of several units each resource asks for. A resource that is not here asks for all of it.
    #[serde(skip)]
    pub shares: Vec<(ResourceId, String)>,
}

impl Effect {
    /// What is done because of some resources: all they ask for, in one.
    pub fn new(deed: Deed, causes: Vec<ResourceId>) -> Self {
        Effect { deed, causes, why: None, shares: Vec::new() }
    }

    /// The part of it that one resource asks for.
    pub fn share(&self, id: &ResourceId) -> Deed {
        let units = self.shares.iter().filter(|(cause, _)| cause == id).map(|(_, unit)| unit.clone());
        let units: Vec<String> = units.collect();
        let mut deed = self.deed.clone();
        if let Some(all) = deed.units_mut().filter(|_| !units.is_empty()) {
            *all = units;
        }
        deed
    }
}

/// What is done. Several units in one deed are handed to one call of `systemctl`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "deed", rename_all = "kebab-case")]
pub enum Deed {
    /// An image is pulled, by its digest: before anything else, while everything still runs.
    Pull {
        /// Its name without tag and digest.
        image: String,
        /// The tag that the digest was found under.
        #[serde(skip_serializing_if = "Option::is_none")]
        tag: Option<String>,
        /// The digest that runs so far, where it is known.
        before: Option<String>,
        /// The digest that is to run.
        digest: String,
        /// The platform, where it is not the host's own.
        #[serde(skip_serializing_if = "Option::is_none")]
        platform: Option<String>,
        /// How many bytes travel.
        bytes: Option<u64>,
        /// Whether that is an estimate.
        about: bool,
    },
    /// An image is built on a host that the repository names for that, before anything else.
    Build {
        /// Its name, which says what it is made from.
        image: String,
        /// The service that describes it.
        service: String,
        /// The host that builds it.
        on: HostName,
        /// The platform, where it asks for one.
        #[serde(skip_serializing_if = "Option::is_none")]
        platform: Option<String>,
        /// Former images of that name that the builder need not keep.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        discard: Vec<String>,
    },
    /// An image is brought from the host that built it, while everything still runs.
    Transfer {
        /// Its name.
        image: String,
        /// The service that describes it.
        service: String,
        /// The host that has it by then.
        from: HostName,
        /// Its id, where it is built already.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// How many bytes travel, where that is known.
        bytes: Option<u64>,
    },
    /// Images that were pulled for a project once, and that it need not go back to, are removed. One that somebody
    /// uses stays.
    Discard {
        /// As `NAME@DIGEST`.
        images: Vec<String>,
    },
    /// Packages are installed.
    Install {
        /// Their names.
        packages: Vec<String>,
    },
    /// Units are stopped (before files change).
    Stop {
        /// Full unit names.
        units: Vec<String>,
    },
    /// Units no longer start at boot.
    Disable {
        /// Full unit names.
        units: Vec<String>,
    },
    /// A project's containers and networks are removed. Its volumes stay.
    ComposeDown {
        /// The project.
        project: String,
        /// Its directory on the host.
        directory: Utf8PathBuf,
        /// Its compose files on the host.
        files: Vec<Utf8PathBuf>,
        /// Its active profiles.
        profiles: Vec<String>,
        /// The containers' services.
        services: Vec<String>,
    },
    /// A project's containers are stopped and stay.
    ComposeStop {
        /// The project.
        project: String,
        /// The services; none means all.
        services: Vec<String>,
    },
    /// From here on a service takes its requests in another place, where it has come up and is healthy. nginx is told by
    /// its reload, which comes next.
    Turn {
        /// The service.
        service: String,
        /// The place it leaves.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<Colour>,
        /// The place it goes to.
        to: Colour,
        /// Where that listens.
        address: String,
        /// How long requests that the former place has begun may take.
        drain: u64,
    },
    /// What served until the turn is stopped for good, once nothing goes back any more and it has had time to end what
    /// it had begun.
    Retire {
        /// Full unit names.
        units: Vec<String>,
        /// Their files, which go too.
        files: Vec<Utf8PathBuf>,
        /// Services of a Compose project, whose containers are removed.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        services: Vec<String>,
        /// That project.
        #[serde(skip_serializing_if = "Option::is_none")]
        project: Option<String>,
        /// How long it has, in seconds.
        drain: u64,
    },
    /// systemd reads its unit files again.
    DaemonReload,
    /// Units start at boot.
    Enable {
        /// Full unit names.
        units: Vec<String>,
    },
    /// The links of units' `[Install]` sections are made anew.
    Reenable {
        /// Full unit names.
        units: Vec<String>,
    },
    /// Units are started.
    Start {
        /// Full unit names.
        units: Vec<String>,
    },
    /// Units are restarted: a moment of downtime.
    Restart {
        /// Full unit names.
        units: Vec<String>,
    },
    /// Units read their configuration again, without downtime.
    Reload {
        /// Full unit names.
        units: Vec<String>,
    },
    /// A unit whose package comes with this very run: reloaded if it runs by then, else started.
    Bring {
        /// Full unit names.
        units: Vec<String>,
    },
    /// A unit's main process gets a signal.
    Signal {
        /// Full unit name.
        unit: String,
        /// Such as `HUP`.
        signal: String,
    },
    /// Compose brings services up.
    ComposeUp {
        /// The project.
        project: String,
        /// Its directory on the host.
        directory: Utf8PathBuf,
        /// Its compose files on the host.
        files: Vec<Utf8PathBuf>,
        /// Its active profiles.
        profiles: Vec<String>,
        /// Services whose image is built first.
        build: Vec<String>,
        /// Services that have no container yet.
        create: Vec<String>,
        /// Services whose container is replaced.
        recreate: Vec<String>,
        /// Services whose container exists and is started.
        start: Vec<String>,
        /// Services whose container is paused and goes on.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        unpause: Vec<String>,
        /// Services no longer described, whose containers are removed.
        remove: Vec<String>,
        /// Images come from a builder: Compose builds nothing.
        #[serde(skip)]
        built: bool,
        /// Every image is there by then: Compose pulls nothing.
        #[serde(skip)]
        pulled: bool,
        /// It has no container at all yet: the way back takes its networks, too.
        #[serde(skip)]
        new: bool,
        /// Its compose files on the host as they were, for the way back.
        #[serde(skip)]
        before: Vec<Utf8PathBuf>,
        /// The ids of containers that come to rest again on the way back: stopped, or paused.
        #[serde(skip)]
        rested: Rested,
    },
    /// Containers are restarted, because a file they mount has been replaced.
    ContainerRestart {
        /// The project.
        project: String,
        /// The services.
        services: Vec<String>,
    },
    /// Containers are replaced by new ones of the same configuration, because files they mount have changed.
    ContainerRecreate {
        /// The project.
        project: String,
        /// Its directory on the host.
        directory: Utf8PathBuf,
        /// Its compose files on the host.
        files: Vec<Utf8PathBuf>,
        /// Its active profiles.
        profiles: Vec<String>,
        /// The services.
        services: Vec<String>,
    },
    /// Containers get a signal.
    ContainerSignal {
        /// The project.
        project: String,
        /// The service.
        service: String,
        /// Such as `HUP`.
        signal: String,
    },
}

/// Containers that do not run, by their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rested {
    /// They have ended, or were never started.
    pub stopped: Vec<String>,
    /// They are paused.
    pub paused: Vec<String>,
}

/// When a deed is done, counted from the start of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Before the host is handed anything: from this side, through its Docker Engine.
    Pull,
    /// Before anything else: what files and units may need to exist.
    Prepare,
    /// Before files are switched.
    Before,
    /// After files are switched.
    After,
    /// When the whole run has gone well, and nothing goes back any more.
    Parting,
}

impl Deed {
    /// When it is done.
    pub fn phase(&self) -> Phase {
        match self {
            Deed::Build { .. } | Deed::Transfer { .. } | Deed::Pull { .. } | Deed::Discard { .. } => Phase::Pull,
            Deed::Install { .. } => Phase::Prepare,
            Deed::Stop { .. } | Deed::Disable { .. } | Deed::ComposeDown { .. } | Deed::ComposeStop { .. } => {
                Phase::Before
            }
            Deed::Retire { .. } => Phase::Parting,
            _ => Phase::After,
        }
    }

    /// The units it is about.
    pub fn units(&self) -> &[String] {
        match self {
            Deed::Stop { units }
            | Deed::Disable { units }
            | Deed::Enable { units }
            | Deed::Reenable { units }
            | Deed::Start { units }
            | Deed::Restart { units }
            | Deed::Reload { units }
            | Deed::Retire { units, .. }
            | Deed::Bring { units } => units,
            Deed::Signal { unit, .. } => std::slice::from_ref(unit),
            _ => &[],
        }
    }

    /// The project and the services whose containers it starts, or signals.
    pub fn starts_containers(&self) -> Option<(&str, Vec<&String>)> {
        match self {
            Deed::ComposeUp { project, create, recreate, start, unpause, .. } => {
                Some((project, create.iter().chain(recreate).chain(start).chain(unpause).collect()))
            }
            Deed::ContainerRestart { project, services } | Deed::ContainerRecreate { project, services, .. } => {
                Some((project, services.iter().collect()))
            }
            Deed::ContainerSignal { project, service, .. } => Some((project, vec![service])),
            _ => None,
        }
    }

    /// The services that go on, each after its project.
    pub(crate) fn unpauses(&self) -> impl Iterator<Item = (String, String)> {
        let of = match self {
            Deed::ComposeUp { project, unpause, .. } => Some((project, unpause)),
            _ => None,
        };
        of.into_iter().flat_map(|(project, all)| all.iter().map(|service| (project.clone(), service.clone())))
    }

    /// The services whose containers are restarted, replaced or signalled, each after its project.
    pub(crate) fn again(&self) -> impl Iterator<Item = (String, String)> {
        let of = match self {
            Deed::ContainerRestart { project, services } | Deed::ContainerRecreate { project, services, .. } => {
                Some((project, services.as_slice()))
            }
            Deed::ContainerSignal { project, service, .. } => Some((project, std::slice::from_ref(service))),
            _ => None,
        };
        of.into_iter().flat_map(|(project, all)| all.iter().map(|service| (project.clone(), service.clone())))
    }

    /// The list of units it is about, where it has one.
    pub(crate) fn units_mut(&mut self) -> Option<&mut Vec<String>> {
        match self {
            Deed::Stop { units }
            | Deed::Disable { units }
            | Deed::Enable { units }
            | Deed::Reenable { units }
            | Deed::Start { units }
            | Deed::Restart { units }
            | Deed::Reload { units }
            | Deed::Bring { units } => Some(units),
            _ => None,
        }
    }

    /// The deed in a few words, such as `restart go-api`.
    pub fn words(&self) -> String {
        let list = |units: &[String]| {
            units.iter().map(|unit| unit.strip_suffix(".service").unwrap_or(unit)).collect::<Vec<_>>().join(", ")
        };
        match self {
            Deed::Pull { image, tag, digest, bytes, about, .. } => {
                let tag = tag.iter().map(|tag| format!(":{tag}")).collect::<String>();
                format!("pull {image}{tag} {}{}", short(digest), weight(*bytes, *about))
            }
            Deed::Build { image, service, on, discard, .. } => {
                let former = match discard.len() {
                    0 => String::new(),
                    1 => ", discard a former one".to_string(),
                    number => format!(", discard {number} former ones"),
                };
                format!("build {service} {} on {on}{former}", short(tag(image)))
            }
            Deed::Transfer { image, service, from, bytes, .. } => {
                format!("transfer {service} {} from {from}{}", short(tag(image)), weight(*bytes, false))
            }
            Deed::Discard { images } => {
                let images = images.iter().map(|image| format!("{} {}", untagged(image), short(tag(image))));
                format!("discard {}", images.collect::<Vec<_>>().join(", "))
            }
            Deed::Install { packages } => format!("install {}", packages.join(", ")),
            Deed::Stop { units } => format!("stop {}", list(units)),
            Deed::Disable { units } => format!("disable {}", list(units)),
            Deed::ComposeDown { project, services, .. } => format!("remove {project}: {}", services.join(", ")),
            Deed::ComposeStop { project, services } if services.is_empty() => format!("stop {project}"),
            Deed::ComposeStop { project, services } => format!("stop {} of {project}", services.join(", ")),
            Deed::Turn { service, from, to, address, .. } => {
                let from = from.iter().map(|from| format!(" from {}", from.word())).collect::<String>();
                format!("turn {service}{from} to {} at {address}", to.word())
            }
            Deed::Retire { units, services, project, drain, .. } => {
                let of = project.iter().map(|project| format!(" of {project}")).collect::<String>();
                let units = units.iter().map(|unit| list(std::slice::from_ref(unit)));
                let all = units.chain(services.iter().map(|service| format!("{service}{of}")));
                let all = all.collect::<Vec<_>>().join(", ");
                if *drain == 0 { format!("retire {all}") } else { format!("drain {drain} s, then retire {all}") }
            }
            Deed::DaemonReload => "daemon-reload".into(),
            Deed::Enable { units } => format!("enable {}", list(units)),
            Deed::Reenable { units } => format!("reenable {}", list(units)),
            Deed::Start { units } => format!("start {}", list(units)),
            Deed::Restart { units } => format!("restart {}", list(units)),
            Deed::Reload { units } => format!("reload {}", list(units)),
            Deed::Bring { units } => format!("reload or start {}", list(units)),
            Deed::Signal { unit, signal } => format!("send {signal} to {unit}"),
            Deed::ComposeUp { build, create, recreate, start, unpause, remove, .. } => {
                let parts = [
                    ("build", build),
                    ("create", create),
                    ("recreate", recreate),
                    ("start", start),
                    ("unpause", unpause),
                    ("remove", remove),
                ];
                let parts: Vec<String> = parts
                    .into_iter()
                    .filter(|(_, services)| !services.is_empty())
                    .map(|(verb, services)| format!("{verb} {}", services.join(", ")))
                    .collect();
                parts.join("; ")
            }
            Deed::ContainerRestart { project, services } => {
                format!("restart {} of {project}", services.join(", "))
            }
            Deed::ContainerRecreate { project, services, .. } => {
                format!("recreate {} of {project}", services.join(", "))
            }
            Deed::ContainerSignal { project, service, signal } => {
                format!("send {signal} to {service} of {project}")
            }
        }
    }
}

/// What stands behind an image's name: a digest or a tag.
fn tag(image: &str) -> &str {
    image.strip_prefix(untagged(image)).unwrap_or_default().trim_start_matches(['@', ':'])
}

/// The first digits of a digest, by which people tell it from others.
pub fn short(digest: &str) -> String {
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    format!("{}…", hex.get(..6).unwrap_or(hex))
}

fn weight(bytes: Option<u64>, about: bool) -> String {
    let about = if about { "about " } else { "" };
    bytes.map(|bytes| format!(", {about}{}", size(bytes))).unwrap_or_default()
}

/// `34.1 MB`.
pub fn size(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}
