//! What tests against real hosts share: the hosts of the lab, repositories to apply to them, and looks at both.
//!
//! Everything a test puts on a host begins with the id of its repository, so that tests can run side by side, and what
//! an earlier run left is swept away first.
#![allow(dead_code, reason = "each test binary uses a part of the kit")]

mod enter;
pub mod example;
mod hold;
mod plan;
pub mod seesaw;
pub mod stop;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;
use tempfile::TempDir;

use enter::Inside;
use hold::Hold;
pub use plan::Plan;

// ---- the lab

/// The state directory of the lab.
fn state() -> &'static Utf8Path {
    static STATE: OnceLock<Utf8PathBuf> = OnceLock::new();
    STATE.get_or_init(|| {
        let set = std::env::var("RECONCILE_LAB").unwrap_or_default();
        assert!(!set.is_empty(), "this test needs the hosts of the lab, and RECONCILE_LAB is not set: run tests/run");
        Utf8PathBuf::from(set)
    })
}

/// Runs `tests/lab/lab`.
pub fn lab(args: &[&str]) {
    let program = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/lab");
    let output = Command::new(program).args(args).env("RECONCILE_LAB_DIR", state()).stdin(Stdio::null()).output();
    let output = output.expect("tests/lab/lab runs");
    assert!(output.status.success(), "lab {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A host of the lab, held until the value is dropped.
pub struct Host {
    pub name: String,
    pub address: String,
    pub container: String,
    inside: Inside,
    _hold: Hold,
}

/// A certain host, which other tests may use at the same time.
pub fn shared(name: &str) -> Host {
    Host::of(Hold::share(name))
}

/// A host that other tests may use at the same time.
pub fn any() -> Host {
    Host::of(Hold::share_one(&hosts()))
}

/// A certain host for this test alone.
pub fn alone(name: &str) -> Host {
    Host::of(Hold::alone(&[name.to_string()], 1).remove(0))
}

/// A host for this test alone: for tests that count what happens on it, or that break it.
pub fn free() -> Host {
    Host::of(Hold::alone(&hosts(), 1).remove(0))
}

/// So many of them.
pub fn free_some(count: usize) -> Vec<Host> {
    Hold::alone(&hosts(), count).into_iter().map(Host::of).collect()
}

/// Two of them.
pub fn free_pair() -> [Host; 2] {
    let mut holds = Hold::alone(&hosts(), 2).into_iter().map(Host::of);
    std::array::from_fn(|_| holds.next().expect("two were asked for"))
}

/// Three of them, in the order of their names.
pub fn free_three() -> [Host; 3] {
    let mut hosts: Vec<Host> = Hold::alone(&hosts(), 3).into_iter().map(Host::of).collect();
    hosts.sort_by(|one, other| other.name.cmp(&one.name));
    std::array::from_fn(|_| hosts.pop().expect("three were asked for"))
}

/// What the lab says of its hosts.
fn inventory() -> Vec<Value> {
    let inventory = std::fs::read_to_string(state().join("inventory.json")).expect("the lab is up");
    serde_json::from_str(&inventory).expect("inventory.json is a list")
}

/// The names of the hosts with everything on them, in order.
fn hosts() -> Vec<String> {
    let names = inventory().into_iter().filter_map(|host| Some(host["name"].as_str()?.to_string()));
    let mut names: Vec<String> = names.filter(|name| name.starts_with("lab-")).collect();
    names.sort_by_key(|name| (name.len(), name.clone()));
    assert!(names.len() >= 3, "the lab has too few hosts: run tests/run");
    names
}

impl Host {
    fn of(hold: Hold) -> Host {
        let entry = inventory().into_iter().find(|host| host["name"] == hold.host.as_str());
        let entry = entry.unwrap_or_else(|| panic!("the lab has no host {}: run tests/run", hold.host));
        let text = |field: &str| entry[field].as_str().expect("a string").to_string();
        let (name, address, container) = (hold.host.clone(), text("address"), text("container"));
        Host { name, address, container, inside: Inside::default(), _hold: hold }
    }

    /// What a script says that runs there as root, not over ssh: so it also works while the link is cut, and is no
    /// session of sshd's.
    pub fn sh(&self, script: &str) -> String {
        let (ok, output) = self.try_sh(script);
        assert!(ok, "on {}: {script}\n{output}", self.name);
        output
    }

    /// Whether a script goes well there, and what it says.
    pub fn try_sh(&self, script: &str) -> (bool, String) {
        let mut child = self.begin(script);
        let mut output = String::new();
        child.stdout.take().expect("piped").read_to_string(&mut output).expect("UTF-8");
        (child.wait().expect("it ends").success(), output)
    }

    /// Starts a script there.
    pub fn begin(&self, script: &str) -> Child {
        let mut command = self.inside.shell(&self.container);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell there");
        child.stdin.take().expect("piped").write_all(script.as_bytes()).expect("the script is taken");
        child
    }

    /// Waits until a script goes well there.
    pub fn until(&self, script: &str) {
        let begun = Instant::now();
        // One process there that looks often is quicker than many that look once.
        let script = format!("n=0; until {{ {script}\n}}; do n=$((n+1)); [ $n -lt 2400 ] || exit 1; sleep 0.05; done");
        let (ok, output) = self.try_sh(&script);
        assert!(ok, "{script}\nnever went well on {} in {:?}: {output}", self.name, begun.elapsed());
    }

    /// The description of this host for a repository, as the lab wrote it.
    pub fn kdl(&self) -> String {
        std::fs::read_to_string(state().join("hosts").join(format!("{}.kdl", self.name))).expect("the host's KDL")
    }

    /// Removes whatever a repository with this id may have left, applied or not.
    pub fn sweep(&self, id: &str) {
        let shared = id.replace('-', "_");
        self.sh(&format!(
            r#"
            cd /etc/systemd/system
            units=$(ls -d {id}*.service {id}*.timer 2>/dev/null)
            if [ -n "$units" ]; then
                systemctl kill --signal=KILL $units 2>/dev/null
                timeout 20 systemctl disable --now --quiet $units 2>/dev/null
            fi
            rm -rf /etc/systemd/system/{id}* /etc/systemd/system/*.wants/{id}* /etc/systemd/system/*.d/{id}*
            if ls /etc/nginx/sites-*/{id}* /etc/nginx/conf.d/reconcile-*_{shared}* 2>/dev/null | grep -q .; then
                rm -f /etc/nginx/sites-*/{id}* /etc/nginx/conf.d/reconcile-*_{shared}*
                systemctl reload nginx
            fi
            [ -z "$units" ] || systemctl daemon-reload
            systemctl reset-failed '{id}*' 2>/dev/null
            for mount in $(grep -oE ' /(srv|var/lib/reconcile)/{id}[^ ]*' /proc/mounts); do umount "$mount"; done
            if ls -d /srv/{id}*/compose.yaml >/dev/null 2>&1; then
                for dir in /srv/{id}*/compose.yaml; do docker compose -f "$dir" down -t 0 --remove-orphans >/dev/null 2>&1; done
            fi
            cat /var/lib/reconcile/{id}/run/*/stages 2>/dev/null | xargs -r rm -rf
            rm -rf /srv/{id}* /etc/{id} /etc/{id}[.-]* /var/lib/reconcile/{id} /home/deploy/{id}*
            "#
        ));
    }

    /// A point in the host's journal.
    pub fn now(&self) -> String {
        let said = self.sh("journalctl --sync; journalctl -q -n 0 --show-cursor");
        said.trim().trim_start_matches("-- cursor: ").to_string()
    }

    /// What the journal says since a point.
    pub fn since(&self, cursor: &str) -> Vec<Value> {
        let said = self.sh(&format!("journalctl --sync; journalctl -q -o json --after-cursor '{cursor}'"));
        said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Files below some places (patterns of the shell): for each path its type, mode, owner, target and digest.
    pub fn files(&self, places: &str) -> BTreeMap<String, String> {
        let said = self.sh(&format!(
            r"cd /; for place in {places}; do [ -e $place ] || [ -L $place ] || continue
                find $place -printf 'is\t%p\t%y %m %u:%g %l\n'
                find $place -type f -exec sha256sum {{}} + | sed 's/^\(.\{{64\}}\)  /sum\t\1\t/'
            done"
        ));
        let mut files = BTreeMap::new();
        for line in said.lines() {
            match line.split('\t').collect::<Vec<_>>()[..] {
                ["is", path, what] => files.entry(path.to_string()).or_insert_with(String::new).insert_str(0, what),
                ["sum", sum, path] => files.entry(path.to_string()).or_insert_with(String::new).push_str(sum),
                _ => {}
            }
        }
        files
    }

    /// Everything that must be back after a rollback: files below places, and how units are.
    pub fn picture(&self, places: &str, units: &str) -> Picture {
        // While systemd reads its files for another test, it says for a moment that it should.
        let show = "systemctl show -p Id,ActiveState,UnitFileState,NeedDaemonReload,ExecStart,Environment --";
        let state = self.sh(&format!(
            "n=0; while said=$({show} {units}); n=$((n + 1)); [ $n -lt 300 ]; do
                case $said in *NeedDaemonReload=yes*) sleep 0.2 ;; *) break ;; esac
            done; printf '%s\\n' \"$said\" | sed 's/start_time=.*//'"
        ));
        let state = state.split("\n\n").map(|block| {
            let mut lines: Vec<&str> = block.trim().lines().collect();
            lines.sort_unstable();
            lines.join(" ")
        });
        let mut picture = self.files(places);
        picture.extend(state.enumerate().map(|(number, block)| (format!("unit {number}"), block)));
        Picture(picture)
    }

    /// The invocation of a unit: another after each start.
    pub fn invocation(&self, unit: &str) -> String {
        self.sh(&format!("systemctl show -p InvocationID --value {unit}")).trim().into()
    }
}

/// How a part of a host is.
#[derive(Clone)]
pub struct Picture(BTreeMap<String, String>);

impl Picture {
    /// Nothing is different from another look.
    pub fn is_as(&self, before: &Picture, name: &str) {
        let (was, is) = (&before.0, &self.0);
        let all: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
        let other = all.into_iter().filter(|key| was.get(*key) != is.get(*key));
        let other: Vec<String> =
            other.map(|key| format!("{key}\n  was {:?}\n  is  {:?}", was.get(key), is.get(key))).collect();
        assert!(other.is_empty(), "{name}:\n{}", other.join("\n"));
    }
}

// ---- repositories

/// A repository in a directory of its own.
pub struct Repo {
    pub id: String,
    dir: TempDir,
    env: Vec<(String, String)>,
}

/// What a run of `reconcile` came to.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Repo {
    /// A repository for some hosts, from which whatever an earlier one with the same id left is swept away.
    pub fn new(id: &str, hosts: &[&Host]) -> Repo {
        for host in hosts {
            host.sweep(id);
        }
        let repo = Repo { id: id.into(), dir: tempfile::tempdir().expect("a temporary directory"), env: Vec::new() };
        repo.write("hosts/repo.kdl", format!("repo \"{id}\"\n"));
        for host in hosts {
            repo.write(&format!("hosts/{}.kdl", host.name), host.kdl());
        }
        repo
    }

    /// Another repository with the same hosts and stacks.
    pub fn copy(&self) -> Repo {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let copied = Command::new("cp").arg("-a").arg(self.dir.path().join(".")).arg(dir.path()).status();
        assert!(copied.expect("cp runs").success());
        Repo { id: self.id.clone(), dir, env: self.env.clone() }
    }

    pub fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.dir.path()).expect("a UTF-8 path")
    }

    /// A file of the repository.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().expect("it has a parent")).expect("a directory");
        std::fs::write(path, content).expect("a file");
    }

    /// A stack for all hosts. `ID` in its body stands for the repository's id.
    pub fn stack(&self, name: &str, body: &str) {
        let body = body.replace("ID", &self.id);
        self.write(&format!("stacks/{name}/stack.kdl"), format!("stack \"{name}\" {{\non \"all\"\n{body}\n}}\n"));
    }

    /// Takes a stack away.
    pub fn drop_stack(&self, name: &str) {
        std::fs::remove_dir_all(self.path().join("stacks").join(name)).expect("the stack was there");
    }

    /// Sets a variable of the environment for all runs.
    pub fn env(&mut self, name: &str, value: &str) {
        self.env.push((name.into(), value.into()));
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reconcile"));
        command.args(["--repo", self.path().as_str()]).args(args).stdin(Stdio::null());
        // Other tests write to the same hosts, one at a time.
        if matches!(args.first(), Some(&("apply" | "hold" | "release"))) && !args.contains(&"--lock-wait") {
            command.args(["--lock-wait", "120"]);
        }
        // Nothing of the person who runs the tests takes part.
        command.env("HOME", self.path()).env("NO_COLOR", "1").env_remove("SSH_AUTH_SOCK").env_remove("RUST_LOG");
        command.env("RECONCILE_STATE_DIR", self.path().join(".state")).envs(self.env.iter().cloned());
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::of(&self.command(args).output().expect("reconcile runs"))
    }

    /// Starts a run that the test wants to interfere with.
    pub fn begin(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("reconcile runs")
    }

    /// The plan, which must come to be.
    pub fn plan(&self) -> Plan {
        self.plan_with(&[])
    }

    pub fn plan_with(&self, args: &[&str]) -> Plan {
        let ran = self.run(&[&["plan", "--json"], args].concat());
        let plan = Plan(ran.json());
        let refused = plan.stacks().any(|stack| !stack["refused"].is_null()) || !plan.held().is_empty();
        assert_eq!(ran.code, i32::from(refused), "{ran:?}");
        plan
    }

    /// Applies with success.
    pub fn apply(&self) -> Ran {
        self.apply_with(&[])
    }

    pub fn apply_with(&self, args: &[&str]) -> Ran {
        let ran = self.run(&[&["apply", "--yes", "--json"], args].concat());
        assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
        ran
    }

    /// Applies without success.
    pub fn fail(&self) -> Ran {
        let ran = self.run(&["apply", "--yes", "--json"]);
        assert_ne!(ran.code, 0, "{}\n{}", ran.out, ran.err);
        ran.is_truthful();
        ran
    }

    /// Applies what nobody does by the way: removing everything, or what is protected.
    pub fn apply_all_the_same(&self) -> Ran {
        let digest = self.plan().digest();
        let ran = self.run(&["apply", "--json", "--override", &digest]);
        assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
        ran
    }

    /// A second run has nothing to do.
    pub fn is_settled(&self) {
        let plan = self.plan();
        assert!(plan.is_empty(), "the second run is not empty: {:#}", plan.0["hosts"]);
    }
}

impl Ran {
    pub fn of(output: &std::process::Output) -> Ran {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The exit code is what the outcomes say.
    pub fn is_truthful(&self) {
        let json = self.json();
        let hosts: Vec<&Value> = json["hosts"].as_array().expect("hosts").iter().collect();
        let wrong = |host: &Value| -> BTreeSet<String> {
            let outcomes = host["outcomes"].as_object().expect("outcomes").values();
            let words = outcomes.filter_map(|word| word.as_str().map(String::from));
            words.filter(|word| !["applied", "unchanged", "skipped", "held"].contains(&word.as_str())).collect()
        };
        let good = hosts.iter().filter(|host| host["error"].is_null() && wrong(host).is_empty()).count();
        let back = |host: &Value| {
            let mut words = wrong(host);
            host["error"].is_null() && words.remove("rolled-back") && words.iter().all(|word| word == "blocked")
        };
        let not_begun = |host: &Value| host["error"]["kind"] == "stopped";
        let code = match good {
            good if good == hosts.len() => 0,
            0 if hosts.iter().any(|host| back(host)) && hosts.iter().all(|host| not_begun(host) || back(host)) => 4,
            0 => 1,
            _ => 3,
        };
        assert_eq!((self.code, &json["exit_code"]), (code, &Value::from(code)), "{}", self.out);
    }

    /// How a resource ended on the only host, or on the first.
    pub fn outcome(&self, id: &str) -> String {
        self.outcome_on(0, id)
    }

    pub fn outcome_on(&self, host: usize, id: &str) -> String {
        self.json()["hosts"][host]["outcomes"][id].as_str().unwrap_or("nothing").into()
    }

    /// All outcomes there are on the first host.
    pub fn outcomes(&self) -> BTreeSet<String> {
        let json = self.json();
        let all = json["hosts"][0]["outcomes"].as_object().into_iter().flatten();
        all.map(|(_, outcome)| outcome.as_str().unwrap_or_default().to_string()).collect()
    }
}

/// Waits for a process that was begun, but not forever.
pub fn finish(mut child: Child, within: Duration) -> Ran {
    let begun = Instant::now();
    while child.try_wait().expect("it can be waited for").is_none() {
        if begun.elapsed() > within {
            _ = child.kill();
            panic!("still running after {within:?}: {:?}", child.wait_with_output().map(|output| Ran::of(&output)));
        }
        sleep(Duration::from_millis(20));
    }
    Ran::of(&child.wait_with_output().expect("its output"))
}
