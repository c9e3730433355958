//! Hosts are taken out of the pools that they serve in while they are changed, and put back: on the proxies, which
//! need not take part in the run otherwise.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;

use crate::base::error::{Error, Kind, Result};
use crate::base::event::Event;
use crate::base::id::HostName;
use crate::engine::Setup;
use crate::engine::hiding;
use crate::engine::host::{Ready, locked};
use crate::engine::report::{HostReport, Outcome, StackFailure};
use crate::engine::rolling::{Rolling, wait};
use crate::engine::serving::is_written;
use crate::engine::session::Session;
use crate::host::program::Program;
use crate::observe::Questions;
use crate::plan::waves::Drain;

/// The proxies, while a run goes over their servers.
#[derive(Default)]
pub struct Proxies {
    /// One session with each, from its first use on.
    sessions: BTreeMap<HostName, Session>,
    /// What gets no requests now; and why it could not be put back, where that was tried.
    out: BTreeMap<Drain, Option<Error>>,
}

/// What a proxy is told about servers.
#[derive(Debug, Clone, Copy)]
enum Word {
    /// They get no new requests.
    Drain,
    /// They get requests again.
    Fill,
}

/// What a proxy says of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// It gets no new requests.
    Out,
    /// It gets requests.
    In,
    /// It is not known there.
    Absent,
    /// It is the last one that gets requests.
    Last,
    /// Nothing answers there.
    Silent,
}

impl Answer {
    fn parse(word: &str) -> Option<Answer> {
        Some(match word {
            "out" => Answer::Out,
            "in" => Answer::In,
            "absent" => Answer::Absent,
            "last" => Answer::Last,
            "silent" => Answer::Silent,
            _ => return None,
        })
    }
}

impl Rolling<'_> {
    /// Takes hosts out of their pools, and lets the requests that have begun come to their end. Gives the hosts that
    /// could not be taken out, and why; those are in again.
    pub(super) async fn drain(&mut self, hosts: &[HostName]) -> BTreeMap<HostName, Error> {
        let drains: Vec<Drain> = self.waves.drains_of(hosts).cloned().collect();
        let mut refused = BTreeMap::new();
        for (drain, answer) in self.tell(Word::Drain, drains).await {
            let what = match answer {
                Ok(Answer::Out) => {
                    self.proxies.out.insert(drain, None);
                    continue;
                }
                Ok(Answer::Last) => "it is the last one there that gets requests".into(),
                Ok(_) => continue,
                Err(error) => {
                    // Whatever went wrong there, it may be out.
                    if error.kind != Kind::Locked && self.proxies.sessions.contains_key(&drain.proxy) {
                        self.proxies.out.insert(drain.clone(), None);
                    }
                    format!("it could not be taken out: {error}")
                }
            };
            let what = format!("{} was not begun: pool {} on {}: {what}", drain.host, drain.pool, drain.proxy);
            let hint = format!("`reconcile plan --host {}` shows how it is there", drain.proxy);
            refused.insert(drain.host, Error::new(Kind::Host, what).hint(hint));
        }
        let going = |drain: &&Drain| hosts.contains(&drain.host) && !refused.contains_key(&drain.host);
        let span = self.proxies.out.keys().filter(going).map(|drain| drain.wait).max();
        if let Some(span) = span.filter(|span| *span > Duration::ZERO) {
            wait(self.setup, span).await;
        }
        let stay: Vec<HostName> = refused.keys().cloned().collect();
        self.fill(&stay).await;
        refused
    }

    /// Puts hosts back into the pools they were taken out of.
    async fn fill(&mut self, hosts: &[HostName]) {
        let drains = self.proxies.out.keys().filter(|drain| hosts.contains(&drain.host)).cloned().collect();
        for (drain, answer) in self.tell(Word::Fill, drains).await {
            let why = match answer {
                Ok(Answer::Silent) => format!("nothing answers at {} from there", drain.address),
                Err(error) => error.to_string(),
                Ok(_) => {
                    self.proxies.out.remove(&drain);
                    continue;
                }
            };
            let what = format!("{} stays out of pool {} on {}: {why}", drain.host, drain.pool, drain.proxy);
            let hint = format!("once it is well: reconcile apply --host {}", drain.proxy);
            self.proxies.out.insert(drain, Some(Error::new(Kind::Host, what).hint(hint)));
        }
    }

    /// Puts back those of some hosts that may take requests: what was not begun, what went well and what went back.
    pub(super) async fn fill_those_that_are_well(&mut self, hosts: &[HostName]) {
        let reports = self.report.hosts.iter().filter(|report| hosts.contains(&report.host));
        let well = reports.filter(|report| !report.unwell);
        let well: Vec<HostName> = well.map(|report| report.host.clone()).collect();
        self.fill(&well).await;
    }

    /// Says in their reports which hosts stay out of which pools, now that the run is over.
    pub(super) fn say_what_stays_out(&mut self) {
        for (drain, why) in std::mem::take(&mut self.proxies.out) {
            let Some(report) = self.report_of(&drain.host) else { continue };
            match why.filter(|_| !report.unwell) {
                Some(error) if report.error.is_none() => report.error = Some(error),
                // What else went wrong there is not to hide it.
                Some(error) => stays_out(report, drain, error.what, error.hint),
                None => {
                    let Drain { pool, proxy, .. } = &drain;
                    let what = format!("this host stays out of pool {pool} on {proxy}: it is not well");
                    let hint = format!("the next plan of {proxy} puts it back: make it well first");
                    stays_out(report, drain, what, Some(hint));
                }
            }
        }
    }

    /// Tells all proxies of some servers, side by side.
    async fn tell(&mut self, word: Word, drains: Vec<Drain>) -> Vec<(Drain, Result<Answer>)> {
        let mut of: BTreeMap<HostName, Vec<Drain>> = BTreeMap::new();
        for drain in drains {
            of.entry(drain.proxy.clone()).or_default().push(drain);
        }
        let (setup, run, who) = (self.setup, &*self.run, &*self.who);
        let sessions = &mut self.proxies.sessions;
        let told: Vec<_> = of
            .into_iter()
            .map(|(proxy, drains)| (sessions.remove(&proxy), proxy, drains))
            .map(|(session, proxy, drains)| async move {
                let mut session = session;
                let answers = tell_one(setup, &mut session, &proxy, (run, who), word, &drains).await;
                (session, drains, answers)
            })
            .collect();
        let told: Vec<_> = stream::iter(told).buffer_unordered(setup.parallel.max(1)).collect().await;
        let mut all = Vec::new();
        for (session, drains, answers) in told {
            sessions.extend(session.map(|session| (session.host.clone(), session)));
            let answers: Vec<Result<Answer>> = match answers {
                Ok(answers) => answers.into_iter().map(Ok).collect(),
                Err(error) => drains.iter().map(|_| Err(Error::new(error.kind, error.to_string()))).collect(),
            };
            all.extend(drains.into_iter().zip(answers));
        }
        all
    }
}

impl Proxies {
    /// Whether a host could not be put back into a pool.
    pub(super) fn miss(&self, host: &HostName) -> bool {
        self.out.iter().any(|(drain, why)| drain.host == *host && why.is_some())
    }

    /// Why a host cannot be changed as planned: a server stays out of a pool whose file is to change there.
    pub(super) fn blocks(&self, ready: &Ready) -> Option<Error> {
        let drain =
            self.out.keys().find(|drain| drain.proxy == ready.plan.host && is_written(&ready.plan, &drain.path))?;
        let Drain { host, proxy, pool, path, .. } = drain;
        let what = format!("{proxy} was not begun: {host} stays out of its pool {pool}, and {path} would put it back");
        Some(Error::new(Kind::Host, what).hint(format!("make {host} well, then apply again")))
    }
}

/// That a host gets no requests is a part of its report.
fn stays_out(report: &mut HostReport, drain: Drain, what: String, hint: Option<String>) {
    let (stack, output) = (drain.stack, hint.into_iter().collect());
    report.failures.push(StackFailure { stack, outcome: Outcome::Failed, what, output });
}

/// Tells one proxy of its servers: one exchange, once there is a session.
async fn tell_one(
    setup: &Setup,
    kept: &mut Option<Session>,
    proxy: &HostName,
    (run, who): (&str, &str),
    word: Word,
    drains: &[Drain],
) -> Result<Vec<Answer>> {
    setup.sink.note(Event::Working { host: proxy.clone(), what: "nginx: servers of a pool".into() });
    let mut session = match kept.take() {
        Some(session) => session,
        None => open(setup, proxy).await?,
    };
    session.renew().await?;
    let session = kept.insert(session);
    let (state, repo, lock_wait) = (&session.seen.state, &setup.config.repo, setup.lock_wait);
    let mut order = format!("state {state}\nrepo {repo}\nrun {run}\nwho {who}\nwait {lock_wait}\n");
    order += match word {
        Word::Drain => "drain\n",
        Word::Fill => "fill\n",
    };
    for Drain { site, stack, upstream, address, path, .. } in drains {
        // Writing to a string cannot fail.
        let _ = writeln!(order, "server {site}\t{stack}\t{upstream}\t{address}\t{path}");
    }
    order += "end\n";
    let answer = session.hear(Program::Drain, order.as_bytes()).await?;
    let answer = String::from_utf8_lossy(&answer);
    if let Some(holder) = answer.lines().find_map(|line| line.strip_prefix("locked ")) {
        return Err(locked(proxy, holder));
    }
    let said = answer.lines().filter_map(|line| line.strip_prefix("server "));
    let said: Vec<Answer> = said.filter_map(|line| Answer::parse(line.split_once(' ')?.1)).collect();
    if said.len() == drains.len() {
        return Ok(said);
    }
    let mask = hiding::mask(setup);
    let output: Vec<String> =
        answer.lines().filter_map(|line| line.strip_prefix("| ")).map(|line| mask.line(line)).collect();
    Err(Error::new(Kind::Host, format!("nginx on {proxy} did not take it: {}", output.join("; "))))
}

async fn open(setup: &Setup, proxy: &HostName) -> Result<Session> {
    let (target, pool) = (&setup.config.hosts[proxy].target, setup.pool.as_deref());
    let mut session = Session::open(proxy, target, setup.base.as_ref(), setup.prompt.clone(), pool).await?;
    let questions = Questions::default().to_request(&session.place, Some(&setup.config.repo));
    session.seen = session.ask(Program::Observe, &questions).await?;
    Ok(session)
}
