//! `reconcile plan`: what would change, why, and with what effect.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::base::diagnostic::{Problems, did_you_mean};
use crate::base::error::{Error, Kind, Result};
use crate::base::id::ResourceId;
use crate::cli::args::Plan;
use crate::cli::failure::problems_value;
use crate::cli::origin::Origin;
use crate::cli::plan_json::plan_json;
use crate::cli::plan_markdown::plan_markdown;
use crate::cli::plan_text::{Layout, plan_text};
use crate::cli::wire::{Bounds, Live, Parts, Repository};
use crate::cli::{Call, wire};
use crate::engine::{self, Planned, Setup};
use crate::load::Secrets;
use crate::plan::HostPlan;

/// A plan with all that was needed to make it.
pub struct Planning {
    /// Where it comes from.
    pub origin: Origin,
    /// Warnings of the repository.
    pub warnings: Problems,
    /// What the engine works on, and Ctrl-C.
    pub live: Live,
    /// The plan.
    pub planned: Planned,
}

impl Planning {
    /// Loads the repository and plans the chosen hosts.
    pub async fn begin(call: &Call<'_>, bounds: Bounds) -> Result<Planning> {
        let repository = wire::open(call.common, Secrets::Required)?;
        let chosen = wire::choose(call.common, &repository.config)?;
        Planning::of(call, repository, wire::parts(chosen), bounds).await
    }

    /// Plans these stacks of these hosts.
    pub async fn of(call: &Call<'_>, repository: Repository, chosen: Parts, bounds: Bounds) -> Result<Planning> {
        let (mut origin, warnings) = (repository.origin.clone(), repository.warnings.clone());
        origin.chosen = said_again(call, &bounds);
        let live = wire::go_live(call.common, repository, chosen, bounds)?;
        if !call.common.json {
            call.screen.say_problems(&warnings);
        }
        let setup: Arc<Setup> = live.setup.clone();
        let planned = engine::plan(&setup).await;
        known(&setup, &planned)?;
        Ok(Planning { origin, warnings, live, planned })
    }

    /// The plan as JSON, with the warnings of the repository.
    pub fn json(&self, command: &str) -> Value {
        let mut value = plan_json(command, &self.origin, &self.planned);
        value["warnings"] = problems_value(&self.warnings).into();
        value
    }

    /// Shows the problems of hosts that could not be planned because of the repository, each once.
    pub fn say_problems(&self, call: &Call) {
        let mut problems = self.planned.problems.clone();
        self.planned.failures.iter().for_each(|(_, error)| problems.extend(error.problems.clone()));
        call.screen.say_problems(&problems);
    }
}

/// What is to be taken over must be there to be taken over: a slip of the pen is not passed over. On hosts that could not
/// be planned, anything may be.
fn known(setup: &Setup, planned: &Planned) -> Result<()> {
    let all = || planned.ready.values().flat_map(|ready| ready.resources.keys());
    let strange = |id: &&ResourceId| !all().any(|other| other == *id);
    let Some(id) = setup.adopt.iter().find(strange).filter(|_| planned.failures.is_empty()) else { return Ok(()) };
    let error = Error::new(Kind::Usage, format!("nothing on the chosen hosts is called `{id}`"));
    let names: Vec<String> = all().map(ToString::to_string).collect();
    Err(match did_you_mean(&id.to_string(), names.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("did you mean --adopt {near}?")),
        None => error.hint("--adopt takes the kind and the name that stand in the plan, such as file:/etc/motd"),
    })
}

/// What of the command line another plan needs to be the same.
fn said_again(call: &Call<'_>, bounds: &Bounds) -> Vec<String> {
    let (common, waves) = (call.common, &bounds.waves);
    let adopt: Vec<String> = bounds.adopt.iter().map(ToString::to_string).collect();
    let batch: Vec<String> = waves.batch.iter().map(ToString::to_string).collect();
    let pause: Vec<String> = waves.pause.iter().map(span).collect();
    let all = [
        ("--host", &common.hosts),
        ("--stack", &common.stacks),
        ("--tag", &common.tags),
        ("--adopt", &adopt),
        ("--canary", &waves.canary),
        ("--batch", &batch),
        ("--pause", &pause),
    ];
    all.into_iter().flat_map(|(flag, names)| names.iter().flat_map(move |name| [flag.into(), name.clone()])).collect()
}

/// A span of time as the command line takes it.
fn span(span: &Duration) -> String {
    match span.as_millis() {
        millis if millis % 1000 == 0 => format!("{}s", millis / 1000),
        millis => format!("{millis}ms"),
    }
}

/// Runs the command.
pub fn run(call: &Call, options: &Plan) -> Result<u8> {
    let (adopt, waves) = (options.adopt.clone(), options.waves.clone());
    let planning = wire::block_on(Planning::begin(call, Bounds { adopt, waves, ..Bounds::default() }))?;
    if call.common.json {
        call.screen.show_json(&planning.json("plan"));
    } else {
        planning.say_problems(call);
        if options.markdown {
            call.screen.show_text(&plan_markdown(&planning.origin, &planning.planned));
        } else {
            let layout = Layout { width: call.screen.width, full: options.full };
            call.screen.show(&plan_text(&planning.origin, &planning.planned, layout));
        }
    }
    let changes = !planning.planned.plan.is_empty();
    Ok(exit_code(&planning.planned, options.detailed_exitcode && changes))
}

/// Whether nothing is done on a host until a person overrides what holds it.
fn is_held(host: &HostPlan) -> bool {
    host.held(true).next().is_some()
}

/// 0, or 2 where changes are to be told; 1 where no host could be planned or something was refused, 3 where some hosts
/// could not be planned.
pub fn exit_code(planned: &Planned, changes: bool) -> u8 {
    let refuses = |host: &Arc<HostPlan>| host.changes().any(|change| change.refused.is_some()) || is_held(host);
    if planned.failures.is_empty() && planned.plan.hosts.iter().any(refuses) {
        return 1;
    }
    match (planned.failures.is_empty(), planned.plan.hosts.is_empty()) {
        (true, _) if changes => 2,
        (true, _) => 0,
        (false, true) => 1,
        (false, false) => 3,
    }
}
