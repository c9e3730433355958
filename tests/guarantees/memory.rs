//! 11: what is left of a secret in memory, looked for in the memory of a process that stays.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::os::unix::fs::FileExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use camino::Utf8Path;
use reconcile::engine;

use crate::kit::{Repo, any};
use crate::planner::Planner;

const IDENTITY: &str = include_str!("../../src/sealed/tests/keys/identity");
const COMPOSE: &str = "services:\n  one: { image: \"lab/busybox:1\", init: true, command: [sleep, \"9998\"], environment: { TOKEN: \"${TOKEN}\" } }\n";
const STACK: &str = r#"
secret "file" file="FOLDER/secret.txt"
secret "age" age="one.age"
secrets "secrets.yaml"
values "values.sops.yaml"
file "/srv/ID/secret" content="a={{ secret.file }} b={{ secret.named | upper | lower }} c={{ secret.mail.password }}"
file "/srv/ID/made" template="made.j2"
file "/srv/ID/raw" secret="age"
unit "ID-a" { exec "/usr/bin/sleep 9999"; env TOKEN="{{ secret.named }}" }
compose "ID-app" { file "compose.yaml"; env TOKEN="{{ secret.file }}" }
"#;
const TEMPLATE: &str = "{% set all = secret.file ~ secret.named %}{% for n in range(50) %}{{ all }} {% endfor %}\n";

/// Sixty letters that nothing else has: longer than what a cipher or a digest keeps of its input.
fn marked(which: u8) -> String {
    let random = std::fs::read_to_string("/proc/sys/kernel/random/uuid").expect("the kernel has random numbers");
    let letters: String = random.bytes().filter(u8::is_ascii_hexdigit).map(char::from).collect();
    format!("{}hush{letters}{}", char::from(which), "tail".repeat(6))
}

/// The test below as a process of its own, which stops at each point until it is told to go on.
struct Stays {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
    go: ChildStdin,
}

impl Stays {
    fn begin(repo: &Utf8Path) -> Stays {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["memory::a_process_that_stays", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env("STAYS", repo).env("HOME", repo).env("RECONCILE_AGE_IDENTITY", IDENTITY);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let said = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let go = child.stdin.take().expect("a pipe");
        Stays { child, said, go }
    }

    fn until(&mut self, point: &str) {
        let point = format!("AT {point}");
        assert!(
            self.said.by_ref().map_while(Result::ok).any(|line| line.ends_with(&point)),
            "it never came to {point}"
        );
    }

    fn go_on(&mut self) {
        self.go.write_all(b"\n").expect("it waits");
    }

    /// How often each secret stands in what the process may write to, and what stands around it.
    fn found(&self, secrets: &[String]) -> (Vec<usize>, String) {
        let id = self.child.id();
        let maps = std::fs::read_to_string(format!("/proc/{id}/maps")).expect("its maps");
        let memory = File::open(format!("/proc/{id}/mem")).expect("its memory");
        let (mut counts, mut places) = (vec![0; secrets.len()], String::new());
        for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw"))) {
            let (from, to) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
            let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).expect("an address"));
            let mut bytes = vec![0; usize::try_from(to - from).expect("it fits")];
            // Some of the kernel's own pages cannot be read.
            if memory.read_exact_at(&mut bytes, from).is_err() {
                continue;
            }
            for (secret, count) in secrets.iter().zip(&mut counts) {
                for at in occurrences(&bytes, secret.as_bytes()) {
                    *count += 1;
                    let around = &bytes[at.saturating_sub(40)..(at + secret.len() + 20).min(bytes.len())];
                    let _ = writeln!(places, "{line}: {}", around.escape_ascii());
                }
            }
        }
        (counts, places)
    }
}

/// Where `what` stands in `bytes`. Pages of zeros, which most are, are passed over.
fn occurrences(bytes: &[u8], what: &[u8]) -> Vec<usize> {
    const PAGE: usize = 4096;
    let mut found = Vec::new();
    for (number, _) in bytes.chunks(PAGE).enumerate().filter(|(_, page)| **page != [0; PAGE]) {
        let from = number * PAGE;
        // What begins here may end on the next one.
        let reach = &bytes[from..bytes.len().min(from + PAGE + what.len() - 1)];
        let here = reach.windows(what.len()).enumerate().filter(|(_, window)| window[0] == what[0] && *window == what);
        found.extend(here.map(|(at, _)| from + at));
    }
    found
}

impl Drop for Stays {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks, plans, applies and forgets, and lets somebody look at its memory in between.
#[test]
#[ignore = "a process for the test below"]
fn a_process_that_stays() {
    let at = |point: &str| {
        writeln!(std::io::stdout(), "\nAT {point}").expect("somebody listens");
        std::io::stdin().read_line(&mut String::new()).expect("somebody waits");
    };
    let planner = Planner::new(Utf8Path::new(&std::env::var("STAYS").expect("a repository")));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    at("loaded");
    let planned = runtime.block_on(planner.plan());
    at("planned");
    let report = runtime.block_on(engine::apply(&planner.setup, planned, "20260101T000000-0-0", "a test"));
    assert!(report.hosts.iter().all(|host| host.failures.is_empty() && host.error.is_none()), "{:?}", report.hosts);
    drop(report);
    at("applied");
    drop(runtime.block_on(planner.plan()));
    at("planned again");
    // Connections stay.
    let pool = planner.setup.pool.clone();
    drop(planner);
    at("forgotten");
    drop(pool);
}

#[test]
fn g11_a_secret_is_in_memory_once_and_gone_when_it_is_not_needed() {
    let host = any();
    let mut repo = Repo::new("g11-memory", &[&host]);
    repo.env("RECONCILE_AGE_IDENTITY", IDENTITY);
    let secrets: Vec<String> = (b'a'..=b'c').map(marked).collect();
    repo.write("secret.txt", format!("{}\n", secrets[0]));
    let recipient = IDENTITY.lines().find_map(|line| line.strip_prefix("# public key: "));
    repo.write("secrets/recipients", recipient.expect("it is written there"));
    repo.write("value", &secrets[1]);
    let encrypt = |words: &[&str]| assert_eq!(repo.run(&[&["secret", "encrypt"], words].concat()).code, 0, "{words:?}");
    let [folder, value] = ["stacks/one", "value"].map(|path| repo.path().join(path));
    encrypt(&[folder.join("secrets.yaml").as_str(), "named", "--from", value.as_str()]);
    repo.write("value", &secrets[2]);
    encrypt(&[folder.join("one.age").as_str(), "--from", value.as_str()]);
    repo.write("stacks/one/values.sops.yaml", include_str!("secrets.sops.yaml"));
    repo.write("stacks/one/compose.yaml", COMPOSE);
    repo.write("stacks/one/made.j2", TEMPLATE);
    repo.stack("one", &STACK.replace("FOLDER", repo.path().as_str()));
    let secrets: Vec<String> = secrets.into_iter().chain(["hush-Sops/0123456789+x".into()]).collect();
    let mut stays = Stays::begin(repo.path());
    for (point, most) in
        [("loaded", 1), ("planned", usize::MAX), ("applied", 1), ("planned again", 1), ("forgotten", 0)]
    {
        stays.until(point);
        // Another thread may be about to give back what it had.
        let begun = Instant::now();
        let (counts, places) = loop {
            let (counts, places) = stays.found(&secrets);
            if counts.iter().all(|count| *count <= most) || begun.elapsed() > Duration::from_secs(10) {
                break (counts, places);
            }
        };
        if point == "planned" {
            assert!(counts.iter().all(|count| *count > 1), "what is in use must be there: {counts:?}");
        }
        assert!(counts.iter().all(|count| *count <= most), "{point}: {counts:?}\n{places}");
        stays.go_on();
    }
    assert!(host.sh("cat /srv/g11-memory/secret").contains(&secrets[0]), "it was written");
}
