//! A host that goes back and forth between two states, and what must hold whatever interrupts it on the way.
//!
//! By default only some of the points of a matrix are tried, the same each time. `RECONCILE_MATRIX=all` tries all of
//! them, a number N every Nth, and `FROM-TO` those in between. `RECONCILE_LANES=3` tries them on three hosts side by side.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use crate::kit::{Host, Ran, Repo, free_some};

/// The hosts on which a matrix is tried side by side.
pub fn lanes() -> Vec<Host> {
    let count = std::env::var("RECONCILE_LANES").map_or(1, |count| count.parse().expect("RECONCILE_LANES is a number"));
    free_some(count)
}

/// The points to try, of so many, where `few` are enough by default.
pub fn points(count: usize, few: usize) -> impl Iterator<Item = usize> + use<> {
    let number = |text: &str| text.parse().expect("RECONCILE_MATRIX is `all`, a number, or `FROM-TO`");
    let (from, to, stride) = match std::env::var("RECONCILE_MATRIX").as_deref() {
        Ok("all") => (1, count, 1),
        Ok(text) => match text.split_once('-') {
            Some((from, to)) => (number(from), count.min(number(to)), 1),
            None => (1, count, number(text)),
        },
        Err(_) => (1, count, count.div_ceil(few)),
    };
    (from..=to).rev().step_by(stride)
}

/// Tries all points, each in whichever lane is free, also after one that goes wrong, and fails in the end if one did.
#[expect(clippy::print_stdout, reason = "what a matrix has tried is wanted with --nocapture")]
pub fn each<T: Send>(
    what: &str,
    lanes: &mut [T],
    points: impl Iterator<Item = usize> + Send,
    point: impl Fn(&mut T, usize) -> String + Sync,
) {
    let points = Mutex::new(points);
    let next = || points.lock().expect("nobody panics here").next();
    // How many were tried, and which of them were wrong.
    let go = |lane: &mut T| {
        let (mut tried, mut wrong) = (0, Vec::new());
        while let Some(number) = next() {
            tried += 1;
            let begun = Instant::now();
            match catch_unwind(AssertUnwindSafe(|| point(lane, number))) {
                Ok(when) => println!("{what}: {:.1} s, {when}", begun.elapsed().as_secs_f64()),
                Err(_) => wrong.push(number),
            }
        }
        (tried, wrong)
    };
    let ends: Vec<(usize, Vec<usize>)> = thread::scope(|scope| {
        let threads: Vec<_> = lanes.iter_mut().map(|lane| scope.spawn(|| go(lane))).collect();
        threads.into_iter().map(|thread| thread.join().expect("it catches what is wrong")).collect()
    });
    let tried: usize = ends.iter().map(|(tried, _)| tried).sum();
    let wrong: Vec<usize> = ends.into_iter().flat_map(|(_, wrong)| wrong).collect();
    println!("{what}: {tried} points, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{what}: wrong at {wrong:?} of {tried}");
}

/// A host that goes back and forth between two states. Each way brings a new directory, file and unit, a changed file,
/// mode, link, unit and site, and takes away a directory, a file and a unit.
pub struct Seesaw<'a> {
    pub host: &'a Host,
    pub repo: Repo,
    is: &'static str,
    states: BTreeMap<&'static str, BTreeMap<String, String>>,
}

impl<'a> Seesaw<'a> {
    /// Both states are known once it has been in both. `before` runs on the host first.
    pub fn new(host: &'a Host, id: &str, before: &str) -> Seesaw<'a> {
        let repo = Repo::new(id, &[host]);
        // Nothing that an earlier test may have left counts.
        host.sh("find / -xdev -name '.reconcile-*' -prune -exec rm -rf {} +");
        host.sh(before);
        let mut saw = Seesaw { host, repo, is: "first", states: BTreeMap::new() };
        for _ in 0..2 {
            saw.tip();
            saw.repo.apply();
            saw.states.insert(saw.is, saw.files());
        }
        saw
    }

    /// Wants the other state.
    pub fn tip(&mut self) {
        self.is = other(self.is);
        let word = self.is;
        let mode = if word == "first" { "0640" } else { "0600" };
        self.repo.stack(
            "one",
            &format!(
                "directory \"/srv/ID/{word}\" mode=\"0750\"
            file \"/srv/ID/{word}/new\" content=\"{word}\"
            file \"/srv/ID/changed\" content=\"{}\" owner=\"www-data\" mode=\"0640\"
            file \"/srv/ID/mode\" content=\"the same\" mode=\"{mode}\"
            file \"/srv/ID/link\" link=\"/srv/ID/{word}\"
            unit \"ID-a\" {{ exec \"/usr/bin/sleep 9999\"\nenv A=\"{word}\" }}
            unit \"ID-{word}\" exec=\"/usr/bin/sleep 9999\"
            site \"ID.test\" {{ listen \"127.0.0.1:7601\"\nsnippet \"location / {{ return 200 {word}; }}\" }}",
                word.repeat(900)
            ),
        );
    }

    pub fn files(&self) -> BTreeMap<String, String> {
        let id = &self.repo.id;
        self.host.files(&format!(
            "/srv/{id} /etc/systemd/system/{id}* /etc/systemd/system/*.wants/{id}* /etc/nginx/sites-*/{id}*"
        ))
    }

    /// Every path is as in one of the two states: whole, and with its mode and owner.
    pub fn is_whole(&self, when: &str) {
        let files = self.files();
        let paths = files.keys().chain(self.states.values().flat_map(BTreeMap::keys));
        for path in paths.filter(|path| !path.contains("/.reconcile-")) {
            let is = files.get(path);
            // A new directory is nobody's for a moment.
            let being_made = is.is_some_and(|is| is == "d 700 root:root ");
            assert!(being_made || self.states.values().any(|state| state.get(path) == is), "{when}: {path} is {is:?}");
        }
    }

    /// One more apply and all is as wanted, what runs too; nothing is left over. At about every second point of a matrix
    /// the former state is wanted again: which they are goes by the number alone, whatever is left out.
    pub fn repairs(&mut self, number: usize, when: &str) {
        if number.count_ones() % 2 == 1 {
            self.tip();
        }
        let ran = self.repo.run(&["apply", "--yes", "--json", "--confirm", "0", "--lock-wait", "30"]);
        assert_eq!(ran.code, 0, "{when}: {ran:?}");
        let plan = self.repo.plan();
        assert!(plan.is_empty(), "{when}: {:#}", plan.0["hosts"]);
        self.is_as(self.is, when);
    }

    /// Nothing of a try is left.
    pub fn is_back(&self, when: &str) {
        self.is_as(other(self.is), when);
    }

    /// All is as in one state and nothing is left over.
    fn is_as(&self, word: &str, when: &str) {
        let id = &self.repo.id;
        let files = self.files();
        assert!(files == self.states[word], "{when}: {files:#?}");
        let left = format!(
            "ls -A /var/lib/reconcile/{id}/run /var/lib/reconcile/{id}/owed | grep -v :
            find / -xdev -name '.reconcile-*'; true"
        );
        assert_eq!(self.host.sh(&format!("{}\n{left}", self.runs())), format!("{}\n", running(word)), "{when}");
    }

    /// Shows what runs: with which environment, and what it answers; and whether systemd knows all files.
    fn runs(&self) -> String {
        let id = &self.repo.id;
        format!(
            "tr '\\0' '\\n' </proc/$(systemctl show -P MainPID {id}-a)/environ | grep ^A=
            systemctl show -P ActiveState {id}-a {id}-first {id}-again | grep .
            systemctl show -P NeedDaemonReload {id}-a {id}-first {id}-again | sort -u | grep .
            curl -s -H 'Host: {id}.test' http://127.0.0.1:7601/; echo"
        )
    }

    /// A report is never better than what is there. What it calls rolled back is: the end of the journal may be missing,
    /// where the program died after it had said so.
    pub fn reports(&self, ran: &Ran, when: &str) {
        assert!([0, 1, 4].contains(&ran.code), "{when}: {ran:?}");
        ran.is_truthful();
        let outcomes = ran.outcomes();
        let words = ["applied", "blocked", "failed", "rolled-back", "unreachable"];
        assert!(outcomes.iter().all(|word| words.contains(&word.as_str())), "{when}: {ran:?}");
        let back = !outcomes.is_empty() && outcomes.iter().all(|word| word == "rolled-back");
        let word = match ran.code {
            0 => self.is,
            4 => other(self.is),
            _ if back => other(self.is),
            _ => return,
        };
        self.stands(word, &format!("{when}: not as reported: {ran:?}"));
    }

    /// All is as it was before a try, but for what the try has left to the next run.
    pub fn stands_as_before(&self, when: &str) {
        self.stands(other(self.is), when);
    }

    fn stands(&self, word: &str, when: &str) {
        let mut files = self.files();
        files.retain(|path, _| !path.contains("/.reconcile-"));
        assert!(files == self.states[word], "{when}: {files:#?}");
        assert_eq!(self.host.sh(&self.runs()), running(word), "{when}");
    }
}

/// The state that is not this one.
fn other(word: &str) -> &'static str {
    if word == "first" { "again" } else { "first" }
}

/// What `runs` shows in a state.
fn running(word: &str) -> String {
    let [first, again] = ["first", "again"].map(|each| if each == word { "active" } else { "inactive" });
    format!("A={word}\nactive\n{first}\n{again}\nno\n{word}\n")
}
