//! What runs with older files than it should: what of it is written down before files are switched, and what a plan makes
//! of what an earlier run has left.

use crate::host::observation::{ContainerSeen, Owed};
use crate::plan::effect::Deed;
use crate::plan::host::Planner;
use crate::plan::project::{containers, is_at_work};
use crate::plan::wishes::{Verb, Wishes, is_active};
use crate::resource::{Action, Resource};

/// How a note names the containers of a service, before `PROJECT:SERVICE`. No unit has a colon so early.
const CONTAINERS: &str = "docker:";

/// What a deed owes until it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owing {
    /// `restart`, `recreate`, `reload`, or `signal` with its name.
    pub verb: String,
    /// Units, and `docker:PROJECT:SERVICE`.
    pub debtors: Vec<String>,
}

impl Owing {
    /// What a deed owes, if something runs with older files before it.
    pub fn of(deed: &Deed) -> Option<Self> {
        let all = |project: &str, services: &[String]| services.iter().map(|each| debtor(project, each)).collect();
        let (verb, debtors) = match deed {
            Deed::Restart { units } => ("restart".to_string(), units.clone()),
            Deed::Reload { units } => ("reload".to_string(), units.clone()),
            Deed::Signal { unit, signal } => (format!("signal {signal}"), vec![unit.clone()]),
            Deed::ContainerRestart { project, services } => ("restart".to_string(), all(project, services)),
            Deed::ContainerRecreate { project, services, .. } => ("recreate".to_string(), all(project, services)),
            Deed::ContainerSignal { project, service, signal } => {
                (format!("signal {signal}"), vec![debtor(project, service)])
            }
            _ => return None,
        };
        Some(Owing { verb, debtors })
    }

    /// What a reaction owes; nothing where that is for the changed files of a unit to say.
    pub(super) fn to(action: &Action) -> Option<Self> {
        let of = |verb: &str, debtor: String| Owing { verb: verb.into(), debtors: vec![debtor] };
        Some(match action {
            Action::Restart(unit) => of("restart", unit.clone()),
            Action::Reload(unit) => of("reload", unit.clone()),
            Action::Signal { unit, signal } => of(&format!("signal {signal}"), unit.clone()),
            Action::Container { project, service, signal: None } => of("restart", debtor(project, service)),
            Action::Container { project, service, signal: Some(signal) } => {
                of(&format!("signal {signal}"), debtor(project, service))
            }
            Action::Recreate { project, service } => of("recreate", debtor(project, service)),
            Action::ByDirective(_) => return None,
        })
    }

    /// The step that says it is done. What was only told to read its files again may still be owed a restart, and what
    /// was restarted a new container.
    pub fn done(&self) -> &'static str {
        match self.verb.as_str() {
            "recreate" => "paid",
            "restart" => "restarted",
            _ => "reloaded",
        }
    }
}

/// The containers of a service, as those that owe something.
pub(super) fn debtor(project: &str, service: &str) -> String {
    format!("{CONTAINERS}{project}:{service}")
}

/// The project and the service of a debtor that is no unit.
pub(super) fn service_of(debtor: &str) -> Option<(&str, &str)> {
    debtor.strip_prefix(CONTAINERS)?.split_once(':')
}

/// A debtor in words.
pub(super) fn name_of(debtor: &str) -> String {
    service_of(debtor).map_or_else(|| debtor.to_string(), |(project, service)| format!("{service} of {project}"))
}

impl Wishes {
    /// Restarts and reloads that earlier runs did not get to, where the process is still the one from before.
    pub(super) fn debts(&mut self, planner: &Planner<'_>, resource: &Resource) {
        for owed in planner.seen.owed.iter().filter(|owed| owed.why == resource.id.to_string()) {
            let why = format!("owed since run {}", owed.run);
            let stands = match service_of(&owed.unit) {
                Some((project, service)) => self.of_containers(planner, resource, owed, (project, service), &why),
                None => self.of_unit(planner, resource, owed, why),
            };
            if stands {
                self.owed = true;
                self.details.push(format!("{} runs with older files", name_of(&owed.unit)));
            }
        }
    }

    fn of_unit(&mut self, planner: &Planner<'_>, resource: &Resource, owed: &Owed, why: String) -> bool {
        let seen = planner.seen.units.get(&owed.unit);
        if !seen.is_some_and(|seen| is_active(seen) && seen.invocation == owed.invocation) {
            return false;
        }
        // What has two places goes to the other one instead.
        if resource.handover.is_none() {
            let verb = match (owed.verb.as_str(), owed.verb.strip_prefix("signal ")) {
                (_, Some(signal)) => Verb::Signal(signal.to_string()),
                ("reload", _) => Verb::Reload,
                _ => Verb::Restart,
            };
            self.strengthen(&owed.unit, &resource.id, verb);
            self.wish(&owed.unit, &resource.id).why = Some(why);
        }
        true
    }

    /// That they are still the ones from before, the host has seen to.
    fn of_containers(
        &mut self,
        planner: &Planner<'_>,
        resource: &Resource,
        owed: &Owed,
        (project, service): (&str, &str),
        why: &str,
    ) -> bool {
        let is = |container: &&ContainerSeen| container.service == service && is_at_work(container);
        if !planner.is_to_run(project, service) || !containers(planner, project).iter().any(is) {
            return false;
        }
        let (project, service) = (project.to_string(), service.to_string());
        let signal = owed.verb.strip_prefix("signal ").map(String::from);
        let action = match owed.verb.as_str() {
            "recreate" => Action::Recreate { project, service },
            _ => Action::Container { project, service, signal },
        };
        self.container(planner, resource, &action, Some(why.to_string()));
        true
    }
}
