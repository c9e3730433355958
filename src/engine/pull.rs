//! Images come before anything stops: through the host's Engine, side by side, while everything runs as before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;

use crate::base::error::{Error, Result};
use crate::base::event::Event;
use crate::base::id::StackName;
use crate::engine::Setup;
use crate::engine::report::{HostReport, Outcome, StackFailure};
use crate::engine::session::Session;
use crate::load::Extent;
use crate::plan::effect::{Deed, Phase};
use crate::plan::{HostPlan, Transaction};
use crate::provider::docker::{Engine, Wanted};
use crate::provider::registry::Access;
use crate::resource::image::Image;

/// How many images of one host are pulled at the same time.
const PARALLEL: usize = 3;

/// The images that each stack follows.
pub type Images = BTreeMap<StackName, Vec<Image>>;

/// Makes room, and pulls what the transactions that are not refused need. A transaction whose images do not come is taken out of the
/// plan, and so is what comes after it: nothing of them is done.
pub async fn pull(
    setup: &Setup,
    session: &Session,
    images: &Images,
    plan: &mut Arc<HostPlan>,
    report: &mut HostReport,
) {
    let wanted: BTreeSet<(StackName, Deed)> = plan
        .carried_out()
        .flat_map(|transaction| {
            transaction.effects.iter().map(|effect| (transaction.stack.clone(), effect.deed.clone()))
        })
        .filter(|(_, deed)| deed.phase() == Phase::Pull)
        .collect();
    if wanted.is_empty() {
        return;
    }
    let engine = match session.engine().await {
        Ok(engine) => engine,
        Err(error) => {
            let all = wanted.into_iter().map(|(stack, _)| stack).collect::<BTreeSet<_>>();
            let what = error.to_string();
            return all
                .into_iter()
                .for_each(|stack| leave_out(Arc::make_mut(plan), report, &stack, &what, error.hint.as_deref()));
        }
    };
    let (wanted, unwanted): (Vec<_>, Vec<_>) =
        wanted.into_iter().partition(|(_, deed)| matches!(deed, Deed::Pull { .. }));
    for image in
        unwanted.iter().flat_map(|(_, deed)| if let Deed::Discard { images } = deed { &images[..] } else { &[] })
    {
        // That room is not made is no reason not to go on: where there is too little, the pull says so.
        if let Err(error) = engine.discard(image).await {
            tracing::warn!(target: "docker", host = %session.host, %error, "left there");
        }
    }
    // What two stacks want is pulled for each: their logins may differ, and the Engine has it travel once.
    let mut pulling = Vec::new();
    for (stack, deed) in wanted {
        let engine = &engine;
        pulling.push(async move {
            let result = pull_one(setup, session, engine, images.get(&stack), &deed).await;
            (stack, result)
        });
    }
    let pulled: Vec<(StackName, Result<()>)> = stream::iter(pulling).buffer_unordered(PARALLEL).collect().await;
    for (stack, error) in pulled.into_iter().filter_map(|(stack, result)| Some((stack, result.err()?))) {
        leave_out(Arc::make_mut(plan), report, &stack, &error.to_string(), error.hint.as_deref());
    }
}

async fn pull_one(
    setup: &Setup,
    session: &Session,
    engine: &Engine,
    images: Option<&Vec<Image>>,
    deed: &Deed,
) -> Result<()> {
    let Deed::Pull { image: name, digest, platform, bytes, .. } = deed else { return Ok(()) };
    let anonymous = Arc::<Access>::default();
    let known = images.into_iter().flatten().find(|image| image.reference.name() == *name);
    let (access, registry) = known.map_or((&anonymous, ""), |image| (&image.access, image.reference.registry.as_str()));
    let registry = if registry == "docker.io" { "https://index.docker.io/v1/" } else { registry };
    let wanted = Wanted { name, digest, platform: platform.as_deref(), access, registry };
    let mut told = 0;
    let mut note = |done: u64, all: u64| {
        let all = bytes.unwrap_or(0).max(all);
        // Nobody reads more than a hundred lines about one image.
        if done == 0 || done - told.min(done) >= all / 100 {
            told = done;
            let (host, image) = (session.host.clone(), name.clone());
            setup.sink.note(Event::Pulling { host, image, done, all });
        }
    };
    note(0, 0);
    engine.pull(&wanted, &mut note).await
}

/// Takes a transaction out, and those that need it.
fn leave_out(plan: &mut HostPlan, report: &mut HostReport, stack: &StackName, what: &str, hint: Option<&str>) {
    let hint = || hint.map(String::from).into_iter().collect::<Vec<_>>();
    let Some(at) = plan.transactions.iter().position(|transaction| transaction.stack == *stack) else { return };
    settle(report, &plan.transactions.remove(at), Outcome::Failed, what.to_string(), hint());
    let mut gone = BTreeSet::from([stack.clone()]);
    let whole = plan.extent == Extent::Host;
    let why =
        if whole { "another stack of the host did not go well" } else { "a stack it comes after did not go well" };
    let stuck = |transaction: &Transaction, gone: &BTreeSet<StackName>| whole || !transaction.needs.is_disjoint(gone);
    while let Some(at) = plan.transactions.iter().position(|transaction| stuck(transaction, &gone)) {
        let blocked = plan.transactions.remove(at);
        settle(report, &blocked, Outcome::Blocked, why.into(), Vec::new());
        gone.insert(blocked.stack);
    }
}

fn settle(report: &mut HostReport, transaction: &Transaction, outcome: Outcome, what: String, output: Vec<String>) {
    report.outcomes.extend(transaction.changes.iter().map(|change| (change.id.clone(), outcome)));
    report.failures.push(StackFailure { stack: transaction.stack.clone(), outcome, what, output });
}

impl Session {
    /// The Docker Engine of the host.
    async fn engine(&self) -> Result<Engine, Error> {
        Engine::reach(self.connection(), self.is_sudo()).await
    }
}
