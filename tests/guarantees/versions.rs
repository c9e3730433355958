//! A service that new versions take turns with, and requests that never cease.

use std::collections::BTreeMap;
use std::process::Child;
use std::time::Duration;

use crate::kit::{Host, Repo, finish};

pub const LONG: Duration = Duration::from_mins(5);

pub const SERVER: &str = include_str!("../lab/apps/versioned.py");
const LOAD: &str = include_str!("../lab/apps/load.py");
pub const SOCKET: &str = include_str!("../lab/apps/stays_open.py");

/// A service behind a site.
pub struct Service<'a> {
    pub host: &'a Host,
    pub repo: Repo,
    /// The first of its ports: the site, blue, green.
    pub port: u16,
    pub drain: &'static str,
}

impl<'a> Service<'a> {
    pub fn new(host: &'a Host, id: &str, port: u16, drain: &'static str) -> Self {
        let repo = Repo::new(id, &[host]);
        repo.write("stacks/one/server.py", SERVER);
        Service { host, repo, port, drain }
    }

    /// Wants this version; more words make it behave in another way.
    pub fn version(&self, words: &str) {
        let (port, drain) = (self.port, self.drain);
        let (version, more) = words.split_once(' ').unwrap_or((words, ""));
        self.repo.stack(
            "one",
            &format!(
                "file \"/srv/ID/server.py\" source=\"server.py\"
            unit \"ID\" {{
                exec \"/usr/bin/python3 /srv/ID/server.py {version} {{{{ port }}}} {more}\"
                health http=\"/health\" within=\"5s\"
                rollout \"blue-green\" {{\nports {} {}\ndrain \"{drain}\"\n}}
            }}
            site \"ID.test\" {{ listen \"127.0.0.1:{port}\"\nproxy \"/\" to=\"unit:ID\" }}",
                port + 1,
                port + 2
            ),
        );
    }

    /// Wants this version of the service as one of a Compose project, beside another service in this version.
    pub fn composed(&self, words: &str, other: &str) {
        let port = self.port;
        let command: Vec<String> = words.split(' ').map(|word| format!("\"{word}\"")).collect();
        let (version, more) = command.split_first().expect("a version");
        let more: String = more.iter().map(|word| format!(", {word}")).collect();
        self.repo.write(
            "stacks/one/compose.yaml",
            format!(
                "services:
  web:
    image: lab/python:1
    command: [python3, /server.py, {version}, \"80\", world{more}]
    volumes: [\"./server.py:/server.py:ro\"]
    depends_on: [side]
    ports: [\"{}:80\"]
    stop_grace_period: 1s
  side:
    image: lab/busybox:1
    command: sleep 9999
    environment: {{ V: {other} }}
    stop_grace_period: 0s
",
                port + 3
            ),
        );
        self.repo.stack(
            "one",
            &format!(
                "compose \"ID\" {{
                file \"compose.yaml\"
                rollout \"blue-green\" service=\"web\" {{
                    ports \"127.0.0.1:{}\" \"127.0.0.1:{}\"
                    health http=\"/health\" within=\"10s\"
                    drain \"{}\"
                }}
            }}
            site \"ID.test\" {{ listen \"127.0.0.1:{port}\"\nproxy \"/\" to=\"compose:ID/web\" }}",
                port + 1,
                port + 2,
                self.drain
            ),
        );
    }

    /// The containers of the project: which run, and since when.
    pub fn containers(&self) -> BTreeMap<String, String> {
        let said = self.host.sh(&format!(
            "docker ps --no-trunc --filter label=com.docker.compose.project={} \
            --format '{{{{.Label \"com.docker.compose.service\"}}}} {{{{.ID}}}}'",
            self.repo.id
        ));
        said.lines().filter_map(|line| line.split_once(' ')).map(|(name, id)| (name.into(), id.into())).collect()
    }

    /// Requests that go on until they are ended, or for 100 seconds.
    pub fn load(&self) -> Load<'a> {
        let stop = format!("/run/{}.stop", self.repo.id);
        let url = format!("http://127.0.0.1:{}/", self.port);
        self.host.sh(&format!("rm -f {stop}"));
        let client = self.host.begin(&format!("python3 - '{url}' 100 {stop} <<'TEXT'\n{LOAD}\nTEXT\n"));
        Load { host: self.host, stop, client }
    }

    /// What answers now.
    pub fn answer(&self) -> String {
        self.host.sh(&format!("curl -s http://127.0.0.1:{}/", self.port))
    }

    /// What of the service is on the host: the colours whose units have files, run, and start at boot.
    pub fn places(&self) -> String {
        let id = &self.repo.id;
        self.host.sh(&format!(
            "for colour in blue green; do
                unit={id}-$colour.service
                [ ! -e /etc/systemd/system/$unit ] || printf \"$colour file \"
                [ ! -L /etc/systemd/system/multi-user.target.wants/$unit ] || printf 'enabled '
                [ \"$(systemctl is-active $unit)\" != active ] || printf \"runs \"
            done"
        ))
    }

    /// Nothing is left to do, and nothing is left over.
    pub fn is_settled(&self) {
        self.repo.is_settled();
        let id = &self.repo.id;
        self.host.until(&format!(
            "[ -z \"$(ls -A /var/lib/reconcile/{id}/run /var/lib/reconcile/{id}/owed | grep -v :)\" ]"
        ));
    }
}

/// Requests on their way.
pub struct Load<'a> {
    pub host: &'a Host,
    pub stop: String,
    pub client: Child,
}

impl Load<'_> {
    /// How often each answer came. None may have failed.
    pub fn end(self) -> BTreeMap<String, usize> {
        self.host.sh(&format!("touch {}", self.stop));
        let ran = finish(self.client, LONG);
        self.host.sh(&format!("rm -f {}", self.stop));
        let failures: Vec<&str> = ran.out.lines().filter(|line| !line.starts_with("answer ")).collect();
        let answers = ran.out.lines().filter_map(|line| line.strip_prefix("answer ")?.rsplit_once(' '));
        let answers: BTreeMap<String, usize> =
            answers.map(|(answer, count)| (answer.into(), count.parse().expect("a number"))).collect();
        assert!(
            failures.is_empty(),
            "{} of {answers:?} failed: {:?}",
            failures.len(),
            &failures[..failures.len().min(9)]
        );
        answers
    }
}

#[expect(clippy::print_stdout, reason = "what was counted is wanted with --nocapture")]
pub fn counted(what: &str, answers: &BTreeMap<String, usize>) {
    println!("{what}: {} requests, none failed: {answers:?}", answers.values().sum::<usize>());
}
