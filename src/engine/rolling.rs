//! Carries out a plan, wave after wave, and goes back where the rollout is to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::base::digest::Digest;
use crate::base::error::{Error, Kind};
use crate::base::event::Event;
use crate::base::id::{HostName, StackName};
use crate::engine::back;
use crate::engine::drain::Proxies;
use crate::engine::hiding;
use crate::engine::host::{self, Ready};
use crate::engine::report::{HostReport, Outcome, Report};
use crate::engine::session::Session;
use crate::engine::{Planned, Setup, on_all_hosts};
use crate::load::OnFailure;
use crate::plan::waves::Waves;

/// A run while it goes over its hosts.
pub(super) struct Rolling<'a> {
    pub(super) setup: &'a Arc<Setup>,
    /// Its id, and who runs it.
    pub(super) run: Arc<str>,
    pub(super) who: Arc<str>,
    digest: Digest,
    pub(super) waves: Waves,
    pub(super) report: Report,
    /// The hosts that keep what it takes to go back.
    pub(super) kept: BTreeMap<HostName, Kept>,
    /// The proxies that its hosts serve behind.
    pub(super) proxies: Proxies,
}

/// A host that keeps what it takes to go back.
pub(super) struct Kept {
    pub(super) session: Session,
    /// The stacks of which something served until then, which is stopped for good only once nothing goes back any more.
    /// Where a host could keep nothing, it has been.
    pub(super) retiring: BTreeSet<StackName>,
}

/// Carries out a plan, wave after wave, on the hosts of each side by side. Hosts that could not be planned, or whose turn
/// did not come, are part of the report.
pub async fn apply(setup: &Arc<Setup>, mut planned: Planned, run: &str, who: &str) -> Report {
    let digest = planned.plan.digest();
    let waves = std::mem::take(&mut planned.plan.waves);
    let (run, who): (Arc<str>, Arc<str>) = (run.into(), who.into());
    let (report, kept, proxies) = (Report::default(), BTreeMap::new(), Proxies::default());
    let mut rolling = Rolling { setup, run, who, digest, waves, report, kept, proxies };
    for (host, error) in planned.failures {
        rolling.report.hosts.push(host::not_reached(setup, &host, error));
    }
    rolling.go(planned.ready).await;
    rolling.finish().await;
    rolling.report.hosts.sort_by(|a, b| a.host.cmp(&b.host));
    rolling.report
}

impl Rolling<'_> {
    async fn go(&mut self, mut ready: BTreeMap<HostName, Ready>) {
        let busy: BTreeSet<HostName> = self.waves.each.iter().flatten().cloned().collect();
        // What is refused has no turn to wait for, and nobody takes it out of its pools.
        let aside = |host: &HostName, ready: &mut Ready| {
            !busy.contains(host) || host::hold(self.setup, ready, &self.digest).is_some()
        };
        for (_, ready) in ready.extract_if(.., aside) {
            let (report, _) = host::apply(self.setup, ready, &self.run, &self.who, &self.digest).await;
            self.report.hosts.push(report);
        }
        let all = self.waves.each.len();
        let mut begun = false;
        for (number, hosts) in (1..).zip(self.waves.each.clone()) {
            let ready: Vec<Ready> = hosts.iter().filter_map(|host| ready.remove(host)).collect();
            if ready.is_empty() {
                continue;
            }
            if let Some((what, hint)) = self.stopped() {
                self.skip(ready.iter(), || Error::new(Kind::Stopped, &what).hint(&hint));
                continue;
            }
            let wave = (all > 1).then_some((number, all));
            if let (Some(wave), Some(rollout)) = (wave.filter(|_| begun), &self.waves.rollout) {
                pause(self.setup, wave, rollout.pause).await;
            }
            begun = true;
            self.wave(wave, ready).await;
        }
    }

    /// Carries out the plans of some hosts side by side, while they are out of their pools.
    async fn wave(&mut self, wave: Option<(usize, usize)>, mut ready: Vec<Ready>) {
        if self.interrupted() {
            return self.skip(ready.iter(), interrupted);
        }
        // Nobody is taken out of its pools for what is not going to begin.
        let blocked = ready.iter().filter_map(|ready| Some((ready.plan.host.clone(), self.proxies.blocks(ready)?)));
        let blocked = blocked.collect();
        self.block(&mut ready, blocked);
        let hosts: Vec<HostName> = ready.iter().map(|ready| ready.plan.host.clone()).collect();
        let refused = self.drain(&hosts).await;
        self.block(&mut ready, refused);
        // Nobody waits for those that are out of their pools by now.
        if self.interrupted() {
            self.skip(ready.iter(), interrupted);
        } else {
            self.work(wave, ready).await;
        }
        self.fill_those_that_are_well(&hosts).await;
    }

    /// Hosts that cannot be begun, and why, are no longer ready.
    fn block(&mut self, ready: &mut Vec<Ready>, mut why: BTreeMap<HostName, Error>) {
        ready.retain(|ready| match why.remove(&ready.plan.host) {
            Some(error) => {
                self.report.hosts.push(host::not_begun(ready, Outcome::Blocked, error));
                false
            }
            None => true,
        });
    }

    /// Whether the person wants to stop.
    fn interrupted(&self) -> bool {
        *self.setup.interrupted.borrow()
    }

    /// Hosts that are not begun: what would have changed there is skipped.
    fn skip<'r>(&mut self, ready: impl Iterator<Item = &'r Ready>, why: impl Fn() -> Error) {
        self.report.hosts.extend(ready.map(|ready| host::not_begun(ready, Outcome::Skipped, why())));
    }

    async fn work(&mut self, wave: Option<(usize, usize)>, ready: Vec<Ready>) {
        let hosts: Vec<HostName> = ready.iter().map(|ready| ready.plan.host.clone()).collect();
        let ready: BTreeMap<HostName, Ready> = hosts.iter().cloned().zip(ready).collect();
        let ready = Arc::new(tokio::sync::Mutex::new(ready));
        let (run, who, digest) = (self.run.clone(), self.who.clone(), self.digest);
        let waiting = ready.clone();
        let results = on_all_hosts(self.setup, "apply", wave, hosts, move |setup, host| {
            let (ready, run, who) = (ready.clone(), run.clone(), who.clone());
            async move {
                let mine = ready.lock().await.remove(&host);
                let mine = mine.ok_or_else(|| Error::new(Kind::Internal, format!("{host} was not planned")))?;
                Ok(host::apply(&setup, mine, &run, &who, &digest).await)
            }
        });
        for (host, result) in results.await {
            let report = match result {
                Ok((report, kept)) => {
                    if self.setup.goes_back() {
                        self.kept.insert(host, kept);
                    }
                    report
                }
                Err(error) => match waiting.lock().await.remove(&host) {
                    Some(ready) => host::not_begun(&ready, Outcome::Skipped, error),
                    None => host::not_reached(self.setup, &host, error),
                },
            };
            self.report.hosts.push(report);
        }
    }

    /// The hosts that failed, once they are too many for another wave.
    fn too_many(&self) -> Option<String> {
        let threshold = self.waves.rollout.as_ref()?.on_failure.threshold()?;
        let failed = self.report.hosts.iter().filter(|host| host.has_failed() || self.proxies.miss(&host.host));
        let failed: Vec<&str> = failed.map(|host| host.host.as_str()).collect();
        (failed.len() >= threshold.get()).then(|| failed.join(", "))
    }

    /// Why no further wave begins, and what to do about it.
    fn stopped(&self) -> Option<(String, String)> {
        let failed = self.too_many()?;
        let what = format!("not begun: the rollout has stopped, because it did not go well on {failed}");
        let run = &self.run;
        let hint = if self.setup.goes_back() {
            "see to that and apply again; what this run did on others is brought back".into()
        } else {
            format!("see to that and apply again; `reconcile rollback {run}` takes back what this run did")
        };
        Some((what, hint))
    }

    /// After the last wave: what was kept is taken back, or no longer kept.
    async fn finish(&mut self) {
        let why = self.too_many().filter(|_| self.setup.goes_back());
        if let Some(failed) = why {
            let waves = std::mem::take(&mut self.waves.each);
            for hosts in waves.into_iter().rev() {
                back::take_back(self, hosts, &format!("the rollout went back because of {failed}")).await;
            }
        }
        back::forget(self).await;
        self.say_what_stays_out();
        self.report.hosts.iter_mut().for_each(|report| hiding::in_failures(self.setup, &mut report.failures));
    }

    /// The report of a host.
    pub(super) fn report_of(&mut self, host: &HostName) -> Option<&mut HostReport> {
        self.report.hosts.iter_mut().find(|report| report.host == *host)
    }
}

impl Setup {
    /// Whether what was done is brought back where the rollout fails.
    pub(super) fn goes_back(&self) -> bool {
        self.rollout.as_ref().is_some_and(|rollout| matches!(rollout.on_failure, OnFailure::Revert { .. }))
    }
}

fn interrupted() -> Error {
    Error::new(Kind::Interrupted, "not begun: the run was interrupted")
}

/// Waits between two waves, unless the person wants to stop.
async fn pause(setup: &Setup, wave: (usize, usize), pause: Duration) {
    if !pause.is_zero() {
        setup.sink.note(Event::Pause { wave, seconds: pause.as_secs() });
        wait(setup, pause).await;
        setup.sink.note(Event::End);
    }
}

/// Lets time go by, unless the person wants to stop.
pub(super) async fn wait(setup: &Setup, span: Duration) {
    let mut interrupted = setup.interrupted.clone();
    // Without its other end nobody interrupts, and the time runs out.
    let stop = async {
        if interrupted.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    // Either way it is over.
    let _ = tokio::time::timeout(span, stop).await;
}
