//! The engine as a program that stays would use it: many plans, over connections that are kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use camino::Utf8Path;
use reconcile::base::event::Silent;
use reconcile::engine::pool::Pool;
use reconcile::engine::{self, Planned, Setup};
use reconcile::host::transport::Nobody;
use reconcile::load::{self, Secrets};
use reconcile::sealed::World;
use reconcile::source::{self, Place, Spec};
use tokio::sync::watch;

/// Plans a repository again and again.
pub struct Planner {
    pub setup: Arc<Setup>,
}

impl Planner {
    pub fn new(directory: &Utf8Path) -> Planner {
        Planner::with(directory, Arc::default())
    }

    /// With what another one has kept.
    pub fn with(directory: &Utf8Path, pool: Arc<Pool>) -> Planner {
        let spec = Spec { place: Place::Directory(directory.to_owned()), revision: None };
        let tree = source::open(&spec, &source::default_cache()).expect("the repository opens");
        let env = |name: &str| std::env::var(name).ok();
        let outside = |path: &Utf8Path| std::fs::read(path);
        let world = World { env: &env, read: &outside, prompt: &Nobody, identities: &[] };
        let loaded = load::load(&tree.files, world, Secrets::Required);
        let (config, _) = loaded.expect("the repository is sound");
        let hosts = config.hosts.keys().cloned().collect();
        let setup = Setup {
            config: Arc::new(config),
            base: Some(directory.to_owned()),
            hosts,
            stacks: None,
            adopt: BTreeSet::new(),
            override_plan: None,
            recover: None,
            rollout: None,
            parallel: 32,
            lock_wait: 120,
            confirm: 0,
            sink: Arc::new(Silent),
            prompt: Arc::new(Nobody),
            pool: Some(pool),
            interrupted: watch::channel(false).1,
        };
        Planner { setup: Arc::new(setup) }
    }

    /// Connects to all hosts, and does nothing there.
    #[allow(dead_code)]
    pub async fn connect(&self) {
        let pool = self.setup.pool.as_ref().expect("a pool");
        for host in &self.setup.hosts {
            let target = &self.setup.config.hosts[host].target;
            pool.connect(host, target, self.setup.prompt.clone()).await.expect("it is reached");
        }
    }

    /// Plans all hosts; each must be reached.
    pub async fn plan(&self) -> Planned {
        let planned = engine::plan(&self.setup).await;
        assert!(planned.failures.is_empty(), "{:?}", planned.failures);
        planned
    }
}
