//! Who may use which host of the lab: a host is for one test alone, or for several at a time.
//!
//! Tests that share have the first three hosts, which some of them know by name. The others are for tests that are
//! alone, and so is one of the three while nobody is on it. A file that is locked keeps other processes out, too.
//!
//! `RECONCILE_TIMES` names a file to which each test says how long it waited for a host, and how long it had it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Instant;

use crate::kit::state;

/// How many hosts there are for tests that share.
const FOR_SHARING: usize = 3;

/// What holds a host, where something does.
enum Use {
    Alone,
    Shared(usize),
}

static IN_USE: Mutex<BTreeMap<String, Use>> = Mutex::new(BTreeMap::new());
static FREED: Condvar = Condvar::new();

/// A host that is held until the value is dropped.
pub struct Hold {
    pub host: String,
    alone: bool,
    begun: Instant,
    since: Instant,
    _file: File,
}

impl Hold {
    /// Shares a certain host.
    pub fn share(host: &str) -> Hold {
        take(false, |in_use| may_share(in_use, host).is_some().then(|| vec![host.to_string()])).remove(0)
    }

    /// Shares one of the hosts for that, in their order: the one with the fewest tests on it.
    pub fn share_one(hosts: &[String]) -> Hold {
        let pick = |in_use: &BTreeMap<String, Use>| {
            let free = hosts.iter().take(FOR_SHARING).filter_map(|host| Some((may_share(in_use, host)?, host)));
            free.min_by_key(|(sharers, _)| *sharers).map(|(_, host)| vec![host.clone()])
        };
        take(false, pick).remove(0)
    }

    /// Holds so many of some hosts, the last ones first, for one test alone.
    pub fn alone(hosts: &[String], count: usize) -> Vec<Hold> {
        let pick = |in_use: &BTreeMap<String, Use>| {
            let free = hosts.iter().rev().filter(|host| !in_use.contains_key(*host));
            let free: Vec<String> = free.take(count).cloned().collect();
            (free.len() == count).then_some(free)
        };
        take(true, pick)
    }
}

/// How many share a host, unless one test has it alone.
fn may_share(in_use: &BTreeMap<String, Use>, host: &str) -> Option<usize> {
    match in_use.get(host) {
        None => Some(0),
        Some(Use::Shared(sharers)) => Some(*sharers),
        Some(Use::Alone) => None,
    }
}

/// Waits until there is something to pick, all at once: nobody holds one host while waiting for another.
fn take(alone: bool, pick: impl Fn(&BTreeMap<String, Use>) -> Option<Vec<String>>) -> Vec<Hold> {
    let begun = Instant::now();
    let mut in_use = lock();
    let picked = loop {
        match pick(&in_use) {
            Some(picked) => break picked,
            None => in_use = FREED.wait(in_use).expect("nobody panics here"),
        }
    };
    for host in &picked {
        match in_use.get_mut(host) {
            Some(Use::Shared(sharers)) => *sharers += 1,
            _ => _ = in_use.insert(host.clone(), if alone { Use::Alone } else { Use::Shared(1) }),
        }
    }
    drop(in_use);
    let hold = |host: String| {
        let file = File::create(state().join(format!("{host}.hold"))).expect("a file to lock");
        if alone { file.lock() } else { file.lock_shared() }.expect("the host is free in the end");
        Hold { host, alone, begun, since: Instant::now(), _file: file }
    };
    picked.into_iter().map(hold).collect()
}

fn lock() -> MutexGuard<'static, BTreeMap<String, Use>> {
    IN_USE.lock().expect("nobody panics here")
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.tell();
        let mut in_use = lock();
        match in_use.get_mut(&self.host) {
            Some(Use::Shared(sharers)) if *sharers > 1 => *sharers -= 1,
            _ => _ = in_use.remove(&self.host),
        }
        FREED.notify_all();
    }
}

impl Hold {
    fn tell(&self) {
        let Ok(path) = std::env::var("RECONCILE_TIMES") else { return };
        let (waited, held) = ((self.since - self.begun).as_secs_f64(), self.since.elapsed().as_secs_f64());
        let (thread, how) = (std::thread::current(), if self.alone { "alone" } else { "shared" });
        let test = thread.name().unwrap_or_default();
        let line = format!("waited {waited:6.1} s, had it {held:6.1} s  {} {how}  {test}\n", self.host);
        let told = OpenOptions::new().create(true).append(true).open(path);
        _ = told.and_then(|mut file| file.write_all(line.as_bytes()));
    }
}
