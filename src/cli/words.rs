//! The words and signs that the plan uses in every form.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use anstyle::Style;

use crate::base::error::{self, Error};
use crate::base::id::{HostName, Kind, ResourceId};
use crate::cli::content;
use crate::cli::origin::quoted;
use crate::cli::page::{ADD, CHANGE, EFFECT, OWED, PLAIN, REMOVE, count};
use crate::engine::Planned;
use crate::load::OnFailure;
use crate::plan::effect::{Deed, Effect, short, size};
use crate::plan::guard::{Hazard, Unless};
use crate::plan::waves::{Drain, Waves};
use crate::plan::{Action, Cause, Change, HostPlan, Plan, Transaction};
use crate::resource::{Check, Probe};

/// An image that is pulled.
pub struct Pull {
    /// Its name and tag.
    pub name: String,
    /// `1a2b3c… → 9f8e7d…`.
    pub digests: String,
    /// `pull 34.1 MB`.
    pub weight: String,
}

/// The images that a transaction pulls; none where it is not carried out.
pub fn pulls(transaction: &Transaction) -> impl Iterator<Item = Pull> {
    let effects = transaction.effects.iter().filter(|_| transaction.refusal().is_none());
    effects.filter_map(|effect| {
        let Deed::Pull { image, tag, before, digest, bytes, about, .. } = &effect.deed else { return None };
        let tag = tag.iter().map(|tag| format!(":{tag}")).collect::<String>();
        let before = before.iter().map(|before| format!("{} → ", short(before))).collect::<String>();
        let about = if *about { " about" } else { "" };
        let weight = bytes.map(|bytes| format!("{about} {}", size(bytes))).unwrap_or_default();
        Some(Pull {
            name: format!("{image}{tag}"),
            digests: format!("{before}{}", short(digest)),
            weight: format!("pull{weight}"),
        })
    })
}

/// The effects of a transaction that a resource is a reason for. Images have lines of their own.
fn caused_by<'a>(transaction: &'a Transaction, id: &'a ResourceId) -> impl Iterator<Item = &'a Effect> {
    let own = transaction.effects.iter().filter(move |effect| effect.causes.contains(id));
    own.filter(|effect| !matches!(effect.deed, Deed::Pull { .. }))
}

/// What a resource asks for, in words.
pub fn effects_of<'a>(transaction: &'a Transaction, id: &'a ResourceId) -> impl Iterator<Item = String> + use<'a> {
    caused_by(transaction, id).map(|effect| with_reason(&effect.share(id), effect))
}

/// The sign in front of a change, and its colour.
pub fn sign(transaction: &Transaction, change: &Change) -> (&'static str, Style) {
    let recreates = |effect: &Effect| match &effect.deed {
        Deed::ComposeUp { recreate, .. } => !recreate.is_empty(),
        Deed::ContainerRecreate { .. } => true,
        _ => false,
    };
    match change.action {
        _ if change.refused.is_some() => ("✗", REMOVE),
        Action::Create => ("+", ADD),
        Action::Remove => ("-", REMOVE),
        Action::Adopt => ("=", EFFECT),
        _ if change.cause == Cause::Owed => ("!", OWED),
        _ if change.id.kind == Kind::Compose && caused_by(transaction, &change.id).any(recreates) => ("±", CHANGE),
        Action::Update => ("~", CHANGE),
        Action::Activate => (">", EFFECT),
    }
}

/// Why something changes.
pub fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::New => "new",
        Cause::Repository => "changed in the repository",
        Cause::Drift => "changed on the host",
        Cause::Both => "changed in the repository and on the host",
        Cause::Gone => "no longer in the repository",
        Cause::Owed => "owed since an earlier run",
    }
}

/// What changes of a resource, in a few words.
pub fn what(change: &Change) -> String {
    let mut words: Vec<String> = Vec::new();
    // That a repository changes things is the rule; whatever else is the reason, is worth saying.
    match change.cause {
        Cause::New if change.action == Action::Adopt => words.push("becomes ours".into()),
        Cause::Repository | Cause::Owed => {}
        other => words.push(cause(other).into()),
    }
    words.extend(change.details.iter().cloned());
    match &change.paths[..] {
        [one] if change.details.is_empty() => words.push(content::words(one)),
        [] | [_] => {}
        paths => words.push(count(paths.len(), "path")),
    }
    words.retain(|word| !word.is_empty());
    if words.is_empty() {
        words.push(cause(change.cause).into());
    }
    words.join(", ")
}

/// An effect, with the reason where the causes alone do not say it.
pub fn effect(effect: &Effect) -> String {
    with_reason(&effect.deed, effect)
}

fn with_reason(deed: &Deed, effect: &Effect) -> String {
    match &effect.why {
        Some(why) => format!("{} ({why})", deed.words()),
        None => deed.words(),
    }
}

/// What must not be done just like that, and what makes it bearable.
pub fn hazard(hazard: &Hazard) -> String {
    match hazard.unless {
        Unless::Overridden => format!("refused: {}", hazard.what),
        Unless::Confirmed => format!("guarded: {}: the host goes back if it is not reached again", hazard.what),
    }
}

/// How a person who calls `command` says that a plan is to be done all the same; nothing where no host is held.
pub fn override_hint(plan: &Plan, command: &str) -> Option<String> {
    let held = plan.hosts.iter().any(|host| host.held(true).next().is_some());
    held.then(|| format!("reconcile {command} --override {}", short_digest(plan)))
}

/// How a person sees what it would be to take over all that is in the way of a plan; nothing where nothing is.
pub fn adopt_hint(plan: &Plan, command: &str) -> Option<String> {
    let chosen = command.strip_prefix("apply")?;
    let refused = plan.hosts.iter().flat_map(|host| host.changes()).filter(|change| {
        change.refused.as_ref().is_some_and(|refusal| refusal.hint.starts_with("to take it over: --adopt"))
    });
    let ids: BTreeSet<&ResourceId> = refused.map(|change| &change.id).collect();
    let adopts: String = ids.iter().map(|id| format!(" --adopt {}", quoted(&id.to_string()))).collect();
    (!ids.is_empty()).then(|| format!("reconcile plan{chosen}{adopts}"))
}

/// So many hosts are named of which the same is said; of more the first.
const MOST_HOSTS: usize = 8;

/// `web-1, web-2, web-3`; of very many the first.
pub fn hosts(hosts: &[&str], full: bool) -> String {
    if full || hosts.len() <= MOST_HOSTS {
        return hosts.join(", ");
    }
    format!("{} and {} more hosts", hosts[..MOST_HOSTS].join(", "), hosts.len() - MOST_HOSTS)
}

/// Notes that something is said of a host: what is the same of several is said once, in the order in which it came.
pub fn say_once<'h, T: PartialEq>(said: &mut Vec<(T, Vec<&'h str>)>, what: T, host: &'h HostName) {
    match said.iter_mut().find(|(known, _)| *known == what) {
        Some((_, hosts)) => hosts.push(host.as_str()),
        None => said.push((what, vec![host.as_str()])),
    }
}

/// What the reader should know of each host; the same of several is said once. That a stack is held stands with it.
pub fn notes(planned: &Planned) -> Vec<(&str, Vec<&str>)> {
    let mut notes: Vec<(&str, Vec<&str>)> = Vec::new();
    for host in &planned.plan.hosts {
        let held: Vec<&String> = host.transactions.iter().filter_map(|each| each.held.as_ref()).collect();
        for note in host.notes.iter().filter(|note| !held.iter().any(|held| note.ends_with(held.as_str()))) {
            say_once(&mut notes, note.as_str(), &host.host);
        }
    }
    notes
}

/// What goes on between and after waves of hosts.
pub fn rollout(planned: &Planned) -> String {
    // Waves may come of pools alone: then no host has to do with another.
    let Some(rollout) = &planned.plan.waves.rollout else { return "they go on whatever fails".into() };
    let pause = if rollout.pause.is_zero() {
        String::new()
    } else {
        format!("{} s between them; ", rollout.pause.as_secs_f64())
    };
    let Some(threshold) = rollout.on_failure.threshold() else { return format!("{pause}they go on whatever fails") };
    let aside = |error: &Error| matches!(error.kind, error::Kind::Interrupted | error::Kind::Locked);
    let failed = planned.failures.iter().filter(|(_, error)| !aside(error)).count();
    if failed >= threshold.get() {
        return format!("none of them begins: {} failed already, and they stop at {threshold}", count(failed, "host"));
    }
    let back = matches!(rollout.on_failure, OnFailure::Revert { .. });
    let back = if back { ", and those done are brought back" } else { "" };
    let already = if failed == 0 { String::new() } else { format!(", and {failed} has already") };
    format!(
        "{pause}no further one begins once {} failed{already}{back}",
        if threshold.get() == 1 { "a host has".into() } else { format!("{threshold} hosts have") }
    )
}

/// `1: web-1`, for each wave where there are several, and what is out of service during it.
pub fn waves(planned: &Planned) -> impl Iterator<Item = (String, Vec<String>)> {
    let waves = &planned.plan.waves;
    let alone = waves.rollout.is_some() && !planned.failures.is_empty() || !waves.drains.is_empty();
    let several = waves.each.len() > 1 || alone || is_reverted(waves);
    let each = waves.each.iter().filter(move |_| several).enumerate();
    each.map(|(number, hosts)| {
        let names: Vec<&str> = hosts.iter().map(HostName::as_str).collect();
        (format!("{}: {}", number + 1, names.join(", ")), waves.drains_of(hosts).map(drain).collect())
    })
}

/// One wave alone goes back, too, as a whole.
fn is_reverted(waves: &Waves) -> bool {
    waves.rollout.as_ref().is_some_and(|rollout| matches!(rollout.on_failure, OnFailure::Revert { .. }))
}

/// A server that is taken out of its pool meanwhile.
fn drain(drain: &Drain) -> String {
    let Drain { host, proxy, pool, wait, .. } = drain;
    let wait = wait.as_secs_f64();
    format!("{host} is out of pool {pool} on {proxy} meanwhile ({wait} s to drain; reload nginx there, twice)")
}

/// Resources as a reader names them: `unit go-api, file x`.
pub fn names(ids: &[ResourceId]) -> String {
    ids.iter().map(|id| format!("{} {}", id.kind, id.name)).collect::<Vec<_>>().join(", ")
}

/// What must be so after a change.
pub fn check(check: &Check) -> String {
    let what = match &check.probe {
        Probe::Http { url, host: Some(host) } => format!("{url} answers as {host}"),
        Probe::Http { url, host: None } => format!("{url} answers"),
        Probe::Tcp { host, port } => format!("{host}:{port} listens"),
        Probe::Command(command) => format!("`{}` succeeds", command.join(" ")),
        Probe::Active { unit, .. } => format!("{} is active", unit.strip_suffix(".service").unwrap_or(unit)),
        Probe::Containers { services, .. } => {
            let verb = if services.len() == 1 { "works" } else { "work" };
            format!("{} {verb}", services.join(", "))
        }
    };
    format!("{what} within {} s", check.within.as_secs())
}

/// How many changes of each sort a plan has, and what it does to what runs.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// What comes into being.
    pub add: usize,
    /// What changes.
    pub change: usize,
    /// What goes away.
    pub remove: usize,
    /// What is only activated.
    pub activate: usize,
    /// What becomes ours.
    pub adopt: usize,
    /// What is refused.
    pub refused: usize,
    /// What is not done because something of the same stack is refused.
    pub blocked: usize,
    /// What is held back on purpose.
    pub held: usize,
    /// How many bytes of images travel, as far as is known.
    pub pull_bytes: u64,
    /// What is done to what runs, by noun.
    pub effects: BTreeMap<&'static str, usize>,
}

impl Totals {
    /// The totals of one transaction on a host.
    pub fn of_transaction(host: &HostPlan, transaction: &Transaction) -> Self {
        let mut totals = Totals::default();
        let refused = !host.carried_out().any(|done| done.stack == transaction.stack);
        for change in &transaction.changes {
            *match change.action {
                _ if transaction.held.is_some() => &mut totals.held,
                _ if change.refused.is_some() => &mut totals.refused,
                _ if refused => &mut totals.blocked,
                Action::Create => &mut totals.add,
                Action::Update => &mut totals.change,
                Action::Remove => &mut totals.remove,
                Action::Activate => &mut totals.activate,
                Action::Adopt => &mut totals.adopt,
            } += 1;
        }
        if refused {
            return totals;
        }
        for (noun, number) in transaction.effects.iter().flat_map(|effect| nouns(&effect.deed)) {
            *totals.effects.entry(noun).or_default() += number;
        }
        let pulled = transaction.effects.iter().filter_map(|effect| match &effect.deed {
            Deed::Pull { bytes, .. } => *bytes,
            _ => None,
        });
        totals.pull_bytes = pulled.sum();
        totals.effects.retain(|_, number| *number > 0);
        totals
    }

    /// The totals of a whole plan.
    pub fn of(plan: &Plan) -> Self {
        let mut totals = plan.hosts.iter().map(|host| Totals::of_host(host)).fold(Totals::default(), Totals::plus);
        // An image is built once for all hosts that want it.
        let effects =
            plan.hosts.iter().flat_map(|host| host.carried_out()).flat_map(|transaction| &transaction.effects);
        let built = effects.filter_map(|effect| match &effect.deed {
            Deed::Build { image, .. } => Some(image),
            _ => None,
        });
        let mut once = BTreeSet::new();
        let again = built.filter(|image| !once.insert(*image)).count();
        if let Some(builds) = totals.effects.get_mut("build") {
            *builds -= again;
        }
        totals
    }

    /// The totals of one host.
    pub fn of_host(host: &HostPlan) -> Self {
        let each = host.transactions.iter().map(|transaction| Totals::of_transaction(host, transaction));
        each.fold(Totals::default(), Totals::plus)
    }

    /// Two totals as one.
    #[must_use]
    pub fn plus(mut self, other: Totals) -> Self {
        self.add += other.add;
        self.change += other.change;
        self.remove += other.remove;
        self.activate += other.activate;
        self.adopt += other.adopt;
        self.refused += other.refused;
        self.blocked += other.blocked;
        self.held += other.held;
        self.pull_bytes += other.pull_bytes;
        for (noun, number) in other.effects {
            *self.effects.entry(noun).or_default() += number;
        }
        self
    }

    /// `1 to add, 3 to change, 0 to remove · 2 restarts, 1 reload`.
    pub fn words(&self) -> String {
        let mut words = format!("{} to add, {} to change, {} to remove", self.add, self.change, self.remove);
        for (number, what) in [
            (self.activate, "to activate"),
            (self.adopt, "to adopt"),
            (self.refused, "refused"),
            (self.blocked, "blocked"),
            (self.held, "held"),
        ] {
            if number > 0 {
                // Writing to a string cannot fail.
                let _ = write!(words, ", {number} {what}");
            }
        }
        let effects = self.effect_words();
        if effects.is_empty() { words } else { format!("{words} · {effects}") }
    }

    /// `2 restarts, 1 reload`.
    pub fn effect_words(&self) -> String {
        let order = NOUNS.iter().filter_map(|noun| {
            let words = count(*self.effects.get(noun)?, noun);
            let weighs = *noun == "pull" && self.pull_bytes > 0;
            Some(if weighs { format!("{words} ({})", size(self.pull_bytes)) } else { words })
        });
        order.collect::<Vec<_>>().join(", ")
    }
}

/// Effects in the order of how much they disturb.
const NOUNS: [&str; 18] = [
    "restart",
    "recreate",
    "turn",
    "stop",
    "removal",
    "reload",
    "start",
    "creation",
    "signal",
    "daemon-reload",
    "install",
    "build",
    "transfer",
    "pull",
    "discard",
    "enable",
    "disable",
    "reload or start",
];

/// What a deed counts as.
fn nouns(deed: &Deed) -> Vec<(&'static str, usize)> {
    match deed {
        Deed::Build { .. } => vec![("build", 1)],
        Deed::Transfer { .. } => vec![("transfer", 1)],
        Deed::Pull { .. } => vec![("pull", 1)],
        Deed::Discard { images } => vec![("discard", images.len())],
        Deed::Install { packages } => vec![("install", packages.len())],
        Deed::Stop { units } => vec![("stop", units.len())],
        Deed::Disable { units } => vec![("disable", units.len())],
        Deed::ComposeDown { services, .. } => vec![("removal", services.len())],
        Deed::ComposeStop { services, .. } => vec![("stop", services.len().max(1))],
        Deed::Turn { .. } => vec![("turn", 1)],
        Deed::Retire { units, services, .. } => vec![("stop", units.len() + services.len())],
        Deed::DaemonReload => vec![("daemon-reload", 1)],
        Deed::Enable { units } | Deed::Reenable { units } => vec![("enable", units.len())],
        Deed::Start { units } => vec![("start", units.len())],
        Deed::Restart { units } => vec![("restart", units.len())],
        Deed::Reload { units } => vec![("reload", units.len())],
        Deed::Bring { units } => vec![("reload or start", units.len())],
        Deed::Signal { .. } | Deed::ContainerSignal { .. } => vec![("signal", 1)],
        Deed::ContainerRestart { services, .. } => vec![("restart", services.len())],
        Deed::ContainerRecreate { services, .. } => vec![("recreate", services.len())],
        Deed::ComposeUp { build, create, recreate, start, unpause, remove, .. } => vec![
            ("build", build.len()),
            ("creation", create.len()),
            ("recreate", recreate.len()),
            ("start", start.len() + unpause.len()),
            ("removal", remove.len()),
        ],
    }
}

/// The colour of an effect: what interrupts service stands out.
pub fn effect_style(effect: &Effect) -> Style {
    match effect.deed {
        Deed::Stop { .. } | Deed::ComposeDown { .. } | Deed::ComposeStop { .. } => REMOVE,
        Deed::Restart { .. }
        | Deed::ComposeUp { .. }
        | Deed::ContainerRestart { .. }
        | Deed::ContainerRecreate { .. } => EFFECT,
        _ => PLAIN,
    }
}

/// `0.31 s`.
pub fn seconds(elapsed: Duration) -> String {
    format!("{:.2} s", elapsed.as_secs_f64())
}

/// The first digits of a plan's digest, by which people name it.
pub fn short_digest(plan: &Plan) -> String {
    format!("{:.12}", plan.digest())
}

/// Whether a planning found nothing to do and nothing wrong.
pub fn is_nothing(planned: &Planned) -> bool {
    planned.plan.is_empty() && planned.failures.is_empty()
}
