//! Images come before anything stops: through the host's Engine, side by side, while everything runs as before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;

use crate::base::error::{Error, Kind, Result};
use crate::base::event::Event;
use crate::base::id::StackName;
use crate::engine::Setup;
use crate::engine::builder::{Builders, Fault};
use crate::engine::report::{HostReport, Outcome, StackFailure};
use crate::engine::session::{Session, is_alive};
use crate::load::Extent;
use crate::plan::effect::{Deed, Phase};
use crate::plan::{HostPlan, Transaction};
use crate::provider::docker::{Engine, Wanted};
use crate::provider::registry::Access;
use crate::resource::Resource;
use crate::resource::compose_build::Recipe;
use crate::resource::image::Image;

/// How many images of one host are pulled at the same time.
const PARALLEL: usize = 3;

/// Where the images of a host come from.
pub struct Supply {
    /// The images that each stack follows.
    followed: BTreeMap<StackName, Vec<Image>>,
    /// Those that other hosts build, by their names.
    recipes: BTreeMap<String, Arc<Recipe>>,
    builders: Arc<Builders>,
}

impl Supply {
    /// Where the images of these resources come from.
    pub fn of(resources: &[Resource], builders: Arc<Builders>) -> Self {
        let mut followed: BTreeMap<StackName, Vec<Image>> = BTreeMap::new();
        for resource in resources.iter().filter(|resource| !resource.images.is_empty()) {
            followed.entry(resource.stack.clone()).or_default().extend(resource.images.clone());
        }
        let built = resources.iter().filter_map(|resource| resource.state.project.as_ref()).flat_map(|all| &all.built);
        let recipes = built.map(|built| (built.recipe.image.clone(), built.recipe.clone())).collect();
        Supply { followed, recipes, builders }
    }
}

/// Makes room, and pulls what the transactions that are not refused need. A transaction whose images do not come is taken
/// out of the plan, and so is what comes after it: nothing of them is done. It is an error where the host itself is out
/// of reach by then.
pub async fn pull(
    setup: &Setup,
    session: &Session,
    supply: &Supply,
    plan: &mut Arc<HostPlan>,
    report: &mut HostReport,
) -> Result<()> {
    let faults = pull_all(setup, session, supply, plan).await;
    if !faults.is_empty() && !is_alive(session.connection()).await {
        let what = format!("the connection to {} was lost while images came", session.host);
        return Err(Error::new(Kind::Unreachable, what).hint("apply again; everything runs as before"));
    }
    for (stack, fault) in faults {
        leave_out(Arc::make_mut(plan), report, &stack, &fault);
    }
    Ok(())
}

/// Pulls what a plan needs, and says which stacks cannot have it, and why.
async fn pull_all(setup: &Setup, session: &Session, supply: &Supply, plan: &HostPlan) -> Vec<(StackName, Fault)> {
    let wanted: BTreeSet<(StackName, Deed)> = plan
        .carried_out()
        .flat_map(|transaction| {
            transaction.effects.iter().map(|effect| (transaction.stack.clone(), effect.deed.clone()))
        })
        .filter(|(_, deed)| deed.phase() == Phase::Pull)
        .collect();
    if wanted.is_empty() {
        return Vec::new();
    }
    let engine = match session.engine().await {
        Ok(engine) => engine,
        Err(error) => {
            let all = wanted.into_iter().map(|(stack, _)| stack).collect::<BTreeSet<_>>();
            let fault = Fault::from(error);
            return all.into_iter().map(|stack| (stack, fault.clone())).collect();
        }
    };
    let (wanted, unwanted): (Vec<_>, Vec<_>) =
        wanted.into_iter().partition(|(_, deed)| !matches!(deed, Deed::Discard { .. }));
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
            let result = match &deed {
                Deed::Build { .. } | Deed::Transfer { .. } => bring(setup, session, engine, supply, &deed).await,
                _ => pull_one(setup, session, engine, supply.followed.get(&stack), &deed).await.map_err(Fault::from),
            };
            (stack, result)
        });
    }
    let pulled: Vec<(StackName, Result<(), Fault>)> = stream::iter(pulling).buffer_unordered(PARALLEL).collect().await;
    pulled.into_iter().filter_map(|(stack, result)| Some((stack, result.err()?))).collect()
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
    let mut note = telling(setup, session, name, *bytes);
    note(0, 0);
    engine.pull(&wanted, &mut note).await
}

/// Has an image built, or brought from where it was built.
async fn bring(setup: &Setup, session: &Session, engine: &Engine, supply: &Supply, deed: &Deed) -> Result<(), Fault> {
    let (Deed::Build { image, .. } | Deed::Transfer { image, .. }) = deed else { return Ok(()) };
    let Some(recipe) = supply.recipes.get(image) else { return Ok(()) };
    let built = |discard: &[String]| {
        let (host, what) = (session.host.clone(), format!("{} builds {}", recipe.builder, recipe.service));
        setup.sink.note(Event::Working { host, what });
        let discard = discard.to_vec();
        async move { supply.builders.build(setup, recipe, &discard).await }
    };
    match deed {
        Deed::Build { discard, .. } => built(discard).await,
        Deed::Transfer { id, bytes, service, .. } => {
            // Its build is another deed of the same plan, and done once.
            if id.is_none() {
                built(&[]).await?;
            }
            let mut note = telling(setup, session, service, *bytes);
            note(0, 0);
            supply.builders.bring(setup, recipe, engine, &mut note).await
        }
        _ => Ok(()),
    }
}

/// Tells how far an image is. Nobody reads more than a hundred lines about one.
fn telling(setup: &Setup, session: &Session, image: &str, bytes: Option<u64>) -> impl FnMut(u64, u64) + Send {
    let (sink, host, image) = (setup.sink.clone(), session.host.clone(), image.to_string());
    let mut told = 0;
    move |done: u64, all: u64| {
        let all = bytes.unwrap_or(0).max(all);
        if done == 0 || done - told.min(done) >= all / 100 {
            told = done;
            sink.note(Event::Pulling { host: host.clone(), image: image.clone(), done, all });
        }
    }
}

/// Takes a transaction out, and those that need it.
pub(super) fn leave_out(plan: &mut HostPlan, report: &mut HostReport, stack: &StackName, fault: &Fault) {
    let Some(at) = plan.transactions.iter().position(|transaction| transaction.stack == *stack) else { return };
    settle(report, &plan.transactions.remove(at), Outcome::Failed, fault.what.clone(), fault.output.clone());
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
    report.outcomes.extend(transaction.changes.iter().map(|change| (change.key(), outcome)));
    report.failures.push(StackFailure { stack: transaction.stack.clone(), outcome, what, output });
}

impl Session {
    /// The Docker Engine of the host.
    async fn engine(&self) -> Result<Engine, Error> {
        Engine::reach(self.connection(), self.is_sudo()).await
    }
}
