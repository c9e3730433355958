//! What is kept from one plan to the next, for a program that stays: connections, who looks at the hosts, and what was
//! rendered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::base::error::Result;
use crate::base::id::HostName;
use crate::engine::session::{CONNECT, is_alive};
use crate::host::observer::Observer;
use crate::host::transport::{Connection, Prompt, Target};
use crate::load::Config;
use crate::render::{Rendering, render};
use crate::resource::Resource;

/// A connection that has been silent for longer is asked for a sign of life before it is used.
const TRUSTED: Duration = Duration::from_secs(20);

/// One connection for each host. Whoever asks for one gets the kept one, as long as it lives and leads to the same place.
#[derive(Default)]
pub struct Pool {
    kept: Mutex<BTreeMap<HostName, Kept>>,
    rendered: Mutex<Rendered>,
}

/// What the hosts of one config should be.
#[derive(Default)]
struct Rendered {
    config: Weak<Config>,
    hosts: BTreeMap<HostName, Rendering>,
}

struct Kept {
    target: Target,
    connection: Arc<Connection>,
    observer: Option<Observer>,
    used: Instant,
}

impl Pool {
    /// The connection to a host: the kept one, or a new one that is kept from now on.
    pub async fn connect(&self, host: &HostName, target: &Target, prompt: Arc<dyn Prompt>) -> Result<Arc<Connection>> {
        if let Some(connection) = self.living(host, target).await {
            return Ok(connection);
        }
        let connection = Arc::new(Connection::connect(target, prompt, CONNECT).await?);
        let (target, used) = (target.clone(), Instant::now());
        let kept = Kept { target, connection: connection.clone(), observer: None, used };
        self.lock().insert(host.clone(), kept);
        Ok(connection)
    }

    /// The kept connection, if it still leads there. One that does not is forgotten.
    async fn living(&self, host: &HostName, target: &Target) -> Option<Arc<Connection>> {
        let kept = self.lock().remove(host).filter(|kept| kept.target == *target && kept.connection.is_open())?;
        if kept.used.elapsed() > TRUSTED && !is_alive(&kept.connection).await {
            return None;
        }
        let connection = kept.connection.clone();
        self.lock().insert(host.clone(), Kept { used: Instant::now(), ..kept });
        Some(connection)
    }

    /// Who stays on a host to look at it, for a user of its kept connection.
    pub fn take_observer(&self, host: &HostName) -> Option<Observer> {
        self.lock().get_mut(host).and_then(|kept| kept.observer.take())
    }

    /// Keeps one for the next look over the same connection.
    pub fn keep_observer(&self, host: &HostName, connection: &Arc<Connection>, observer: Observer) {
        if let Some(kept) = self.lock().get_mut(host).filter(|kept| Arc::ptr_eq(&kept.connection, connection)) {
            kept.observer = Some(observer);
        }
    }

    /// What a host should be, without its facts: rendered once, for as long as the config is the same. Where a secret
    /// stands in it, it is rendered each time, for the copies of the secret to go with it.
    pub fn rendering(&self, config: &Arc<Config>, host: &HostName) -> Rendering {
        let kept = || self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept().of(config).get(host) {
            return known.clone();
        }
        let rendering = render(config, host, None);
        if !rendering.desired.resources.iter().any(Resource::has_secret) {
            kept().of(config).insert(host.clone(), rendering.clone());
        }
        rendering
    }

    /// Forgets the connections to hosts that are not among `hosts`. They end once nobody uses them any more.
    pub fn keep_only(&self, hosts: &[HostName]) {
        self.lock().retain(|host, _| hosts.contains(host));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<HostName, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rendered {
    /// Those of this config; what is known of another one is forgotten.
    fn of(&mut self, config: &Arc<Config>) -> &mut BTreeMap<HostName, Rendering> {
        if !std::ptr::eq(self.config.as_ptr(), Arc::as_ptr(config)) {
            *self = Rendered { config: Arc::downgrade(config), hosts: BTreeMap::new() };
        }
        &mut self.hosts
    }
}
