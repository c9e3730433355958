//! What `docker compose up` does to the containers of a project, service by service, and nothing that it does besides.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::id::ResourceId;
use crate::host::observation::{ContainerSeen, Observation};
use crate::plan::effect::{Deed, Effect, Rested};
use crate::plan::images::all_pinned;
use crate::resource::state::{Project, ProjectService};
use crate::resource::{Check, Probe, Resource};

/// A project that should run, and what is known of it.
pub(crate) struct Wanted<'a> {
    pub project: &'a Project,
    /// The hash each service was last started with, where the project is ours.
    pub recorded: Option<&'a BTreeMap<String, String>>,
    /// The hash Compose gives to each service as it should be, where it was asked.
    pub hashes: &'a BTreeMap<String, String>,
    pub files_change: bool,
    /// The services whose images are built anew, as where a file of their folders changes.
    pub rebuilt: BTreeSet<&'a str>,
}

/// What happens to the containers of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Create,
    Recreate,
    Start,
    Unpause,
}

type Fates<'a> = BTreeMap<&'a str, Fate>;

impl<'a> Wanted<'a> {
    /// What brings the project up, if anything has to be done. Services that are left go later.
    pub(crate) fn up(&self, there: &[&ContainerSeen], left: &[String]) -> Option<Deed> {
        let mut fates: Fates<'_> = BTreeMap::new();
        for (name, service) in self.running() {
            let own: Vec<&ContainerSeen> = there.iter().copied().filter(|seen| seen.service == *name).collect();
            if let Some(fate) = self.fate(name, service, &own) {
                fates.insert(name, fate);
            }
        }
        self.spread(&mut fates, there);
        let remove: BTreeSet<&String> = there.iter().map(|seen| &seen.service).filter(|name| self.goes(name)).collect();
        let remove: BTreeSet<&String> = remove.into_iter().filter(|name| !left.contains(name)).collect();
        if fates.is_empty() && remove.is_empty() {
            return None;
        }
        let all =
            |fate: Fate| fates.iter().filter(|(_, is)| **is == fate).map(|(name, _)| (*name).to_string()).collect();
        // A service that is new may have an image of old.
        let built =
            |name: &&&str| self.project.services.get(**name).is_some_and(|service| service.built_from.is_some());
        let build = fates.iter().filter(|(name, fate)| **fate == Fate::Create || self.rebuilt.contains(*name));
        let build = build.map(|(name, _)| name).filter(built).map(ToString::to_string).collect();
        Some(Deed::ComposeUp {
            project: self.project.name.clone(),
            directory: self.project.directory.clone(),
            files: self.project.files.clone(),
            profiles: self.project.profiles.clone(),
            build,
            create: all(Fate::Create),
            recreate: all(Fate::Recreate),
            start: all(Fate::Start),
            unpause: all(Fate::Unpause),
            remove: remove.into_iter().cloned().collect(),
            built: !self.project.built.is_empty(),
            pulled: all_pinned(self.project),
            new: there.is_empty(),
            before: Vec::new(),
            rested: rested(&fates, there),
        })
    }

    /// The services that run and do not work, with what is wrong: a new start is all that can be tried.
    pub(crate) fn sick(&self, there: &[&ContainerSeen]) -> Vec<(String, String)> {
        let runs = |seen: &&&ContainerSeen| self.running().any(|(name, _)| *name == seen.service);
        let ours = there.iter().filter(runs);
        let sick = ours.filter_map(|seen| Some((seen.service.clone(), format!("{} {}", seen.service, ailment(seen)?))));
        sick.collect::<BTreeMap<_, _>>().into_iter().collect()
    }

    /// The services that should not run, and do.
    pub(crate) fn idle(&self, there: &[&ContainerSeen]) -> Vec<String> {
        let up = |name: &&String| there.iter().any(|seen| seen.service == **name && is_up(seen));
        self.project.stopped.iter().filter(up).cloned().collect()
    }

    fn running(&self) -> impl Iterator<Item = (&'a String, &'a ProjectService)> {
        self.project.services.iter().filter(|(name, _)| !self.project.stopped.contains(*name))
    }

    /// A service that is ours and no longer described.
    fn goes(&self, name: &str) -> bool {
        !self.project.services.contains_key(name) && self.recorded.is_some_and(|services| services.contains_key(name))
    }

    /// What a service's own description and containers ask for.
    fn fate(&self, name: &str, service: &ProjectService, own: &[&ContainerSeen]) -> Option<Fate> {
        if own.is_empty() {
            return Some(Fate::Create);
        }
        let recorded = self.recorded.and_then(|services| services.get(name)).filter(|hash| !hash.is_empty());
        // Where nothing has changed, the hash recorded when it was started serves as well as Compose's own word.
        let wanted = self.hashes.get(name).or(recorded.filter(|_| !self.files_change));
        let differs = match wanted {
            None => self.files_change,
            // The id of the other service's container is part of what Compose has hashed: it must not be compared.
            Some(wanted) if !service.ties.borrows.is_empty() => recorded != Some(wanted),
            Some(wanted) => own.iter().any(|seen| seen.hash != *wanted),
        };
        // `up` would try to start a paused container, and fail.
        let paused = || own.iter().any(|seen| seen.state == "paused");
        let idle = || own.iter().any(|seen| !is_settled(seen, service.for_good));
        match () {
            () if differs || self.rebuilt.contains(name) => Some(Fate::Recreate),
            () if paused() => Some(Fate::Unpause),
            () => idle().then_some(Fate::Start),
        }
    }

    /// What follows for other services.
    fn spread(&self, fates: &mut Fates<'a>, there: &[&ContainerSeen]) {
        let services = || self.running().map(|(name, service)| (name.as_str(), &service.ties));
        let has = |fates: &Fates<'_>, others: &BTreeSet<String>, all: &[Fate]| {
            others.iter().any(|other| fates.get(other.as_str()).is_some_and(|fate| all.contains(fate)))
        };
        // Those that follow the followers as well.
        while let Some((name, _)) = services().find(|(name, ties)| {
            let replaced = has(fates, &ties.borrows, &[Fate::Create, Fate::Recreate])
                || has(fates, &ties.follows, &[Fate::Recreate]);
            replaced && !matches!(fates.get(name), Some(Fate::Create | Fate::Recreate))
        }) {
            fates.insert(name, Fate::Recreate);
        }
        // What is needed comes up before; what was done with its work does it again.
        let done = |name: &str| {
            there.iter().any(|seen| seen.service == name && !matches!(seen.state.as_str(), "running" | "restarting"))
        };
        while let Some((name, _)) = services().find(|(name, _)| {
            let needed = services().any(|(other, ties)| fates.contains_key(other) && ties.needs.contains(*name));
            needed && done(name) && !fates.contains_key(name)
        }) {
            fates.insert(name, Fate::Start);
        }
    }
}

/// Those that are started or go on, and are at rest so far: others of the same service may well run.
fn rested(fates: &Fates<'_>, there: &[&ContainerSeen]) -> Rested {
    let of = |fate: Fate, is: &dyn Fn(&ContainerSeen) -> bool| {
        let those = there.iter().filter(|seen| fates.get(seen.service.as_str()) == Some(&fate) && is(seen));
        those.map(|seen| seen.id.clone()).collect()
    };
    Rested { stopped: of(Fate::Start, &|seen| !is_up(seen)), paused: of(Fate::Unpause, &|seen| seen.state == "paused") }
}

/// What must be so of the containers that some effects start, by project.
pub(crate) fn checks(effects: &[Effect], resources: &[Resource]) -> Vec<(ResourceId, Check)> {
    let mut touched: BTreeMap<&str, BTreeSet<&String>> = BTreeMap::new();
    for (project, services) in effects.iter().filter_map(|effect| effect.deed.starts_containers()) {
        touched.entry(project).or_default().extend(services);
    }
    let check = |resource: &Resource| {
        let project = resource.state.project.as_ref()?;
        let touched = touched.get(project.name.as_str()).filter(|services| !services.is_empty())?;
        let services = touched.iter().map(|service| (*service).clone()).collect();
        let (patience, within) = project.patience;
        let probe = Probe::Containers { project: project.name.clone(), services, patience };
        Some((resource.id.clone(), Check { probe, within }))
    };
    resources.iter().filter_map(check).collect()
}

/// Running, about to run again, or done with its work.
fn is_settled(container: &ContainerSeen, for_good: bool) -> bool {
    let done = || !for_good && container.status.starts_with("Exited (0)");
    matches!(container.state.as_str(), "running" | "restarting") || done()
}

/// Whether a container has to be stopped before it is.
pub(crate) fn is_up(container: &ContainerSeen) -> bool {
    matches!(container.state.as_str(), "running" | "restarting" | "paused")
}

/// What is wrong with a container that runs.
fn ailment(container: &ContainerSeen) -> Option<&'static str> {
    match container.state.as_str() {
        "restarting" => Some("ends again and again"),
        "running" if container.status.ends_with("(unhealthy)") => Some("is unhealthy"),
        _ => None,
    }
}

/// The hash that Compose on a host gives to each service of a candidate project; nothing where it was not asked.
pub(crate) fn hashes_of(seen: &Observation, project: &str) -> BTreeMap<String, String> {
    said_of(seen, &format!("compose {project}"))
}

/// The hash that Compose on a host gives to each service of a project as it lies there; nothing where all containers
/// are of this Compose.
pub(crate) fn former_hashes_of(seen: &Observation, project: &str) -> BTreeMap<String, String> {
    said_of(seen, &format!("former {project}"))
}

fn said_of(seen: &Observation, check: &str) -> BTreeMap<String, String> {
    let verdict = seen.verdicts.checks.iter().find(|(what, status, _)| what == check && *status == 0);
    let lines = verdict.iter().flat_map(|(_, _, output)| output.lines());
    lines.filter_map(|line| line.split_once(' ')).map(|(name, hash)| (name.into(), hash.into())).collect()
}

/// A service, and those that Compose restarts whenever it restarts this one.
pub(crate) fn with_followers(project: &Project, service: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::from([service.to_string()]);
    while let Some((name, _)) =
        project.services.iter().find(|(name, service)| !all.contains(*name) && !service.ties.follows.is_disjoint(&all))
    {
        all.insert(name.clone());
    }
    all
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::resource::Patience;
    use crate::resource::state::Ties;

    fn words(list: &str) -> BTreeSet<String> {
        list.split_whitespace().map(String::from).collect()
    }

    /// `app` needs `migrate` and follows `db`; `side` borrows from `db`, `last` from `side`.
    fn project() -> Project {
        let ties = |needs: &str, borrows: &str, follows: &str| ProjectService {
            ties: Ties { needs: words(needs), borrows: words(borrows), follows: words(follows) },
            ..ProjectService::default()
        };
        let services = [
            ("app", ties("db migrate", "", "db")),
            ("db", ties("", "", "")),
            ("last", ties("side", "side", "")),
            ("migrate", ties("", "", "")),
            ("side", ties("db", "db", "")),
        ];
        Project {
            name: "p".into(),
            directory: "/srv/p".into(),
            files: Vec::new(),
            profiles: Vec::new(),
            services: services.map(|(name, service)| (name.to_string(), service)).into(),
            running: true,
            stopped: BTreeSet::new(),
            pins: Vec::new(),
            built: Vec::new(),
            keep: 2,
            patience: (Patience { steady: Duration::from_secs(2), restarts: 2 }, Duration::from_mins(1)),
        }
    }

    #[test]
    fn only_what_is_at_rest_comes_to_rest_again() {
        let (project, none) = (project(), BTreeMap::new());
        let wanted =
            Wanted { project: &project, recorded: None, hashes: &none, files_change: false, rebuilt: BTreeSet::new() };
        let of = |service: &str, id: &str, state: &str| {
            let (service, id, state) = (service.to_string(), id.to_string(), state.to_string());
            ContainerSeen { id, service, state, ..ContainerSeen::default() }
        };
        let there = [
            of("app", "1", "running"),
            of("app", "2", "exited"),
            of("db", "3", "running"),
            of("db", "4", "paused"),
            of("last", "5", "running"),
            of("migrate", "6", "running"),
            of("side", "7", "running"),
        ];
        let Some(Deed::ComposeUp { start, unpause, rested, .. }) = wanted.up(&there.iter().collect::<Vec<_>>(), &[])
        else {
            panic!("something is to be done")
        };
        assert_eq!((start, unpause), (vec!["app".to_string()], vec!["db".to_string()]));
        assert_eq!(rested, Rested { stopped: vec!["2".into()], paused: vec!["4".into()] });
    }

    #[test]
    fn what_happens_to_one_service_happens_to_those_that_are_tied_to_it() {
        let table = [
            // What is not as it was when all was well, and what is done.
            ("", "nothing"),
            ("app=gone", "create app; start migrate"),
            ("app=exited", "start app, migrate"),
            ("app=paused", "start migrate; unpause app"),
            ("app=new", "recreate app; start migrate"),
            ("migrate=new", "recreate migrate"),
            ("db=new", "recreate app, db, last, side; start migrate"),
            ("db=gone", "create db; recreate last, side"),
            ("side=new", "recreate last, side"),
            ("other=ours", "remove other"),
            ("other=theirs", "nothing"),
        ];
        for (differs, done) in table {
            let project = project();
            let is = |name: &str, what: &str| differs == format!("{name}={what}");
            let mut hashes: BTreeMap<String, String> =
                project.services.keys().map(|name| (name.clone(), format!("hash of {name}"))).collect();
            let mut recorded = hashes.clone();
            let mut there: Vec<ContainerSeen> = Vec::new();
            for name in project.services.keys().map(String::as_str).chain(["other"]) {
                let other = name == "other";
                if is(name, "gone") || (other && !is(name, "ours") && !is(name, "theirs")) {
                    continue;
                }
                if is(name, "ours") {
                    recorded.insert(name.into(), String::new());
                }
                if is(name, "new") {
                    hashes.insert(name.into(), "another".into());
                }
                let (state, status) = match () {
                    () if is(name, "paused") => ("paused", "Up (Paused)"),
                    () if is(name, "exited") => ("exited", "Exited (137)"),
                    () if name == "migrate" => ("exited", "Exited (0)"),
                    () => ("running", "Up"),
                };
                // The hash of one that borrows is made with the id of another container.
                let hash = if ["side", "last"].contains(&name) { "odd".into() } else { format!("hash of {name}") };
                there.push(ContainerSeen {
                    project: "p".into(),
                    service: name.into(),
                    hash,
                    compose: String::new(),
                    state: state.into(),
                    status: status.into(),
                    id: String::new(),
                    image: String::new(),
                });
            }
            let wanted = Wanted {
                project: &project,
                recorded: Some(&recorded),
                hashes: &hashes,
                files_change: false,
                rebuilt: BTreeSet::new(),
            };
            let deed = wanted.up(&there.iter().collect::<Vec<_>>(), &[]);
            assert_eq!(deed.map_or("nothing".into(), |deed| deed.words()), done, "{differs}");
        }
    }
}
