//! Waves over hosts, and stacks that are held, on sandbox hosts of this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

const DEAD: &str = "host \"dead\" address=\"127.0.0.1\" port=1 user=\"root\" { host-key \"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPYao/ghrjf2j4aETmYpJyep+1AiIlzaHKPdjlnY4AvX\" }\n";

/// A repository with some sandbox hosts and one stack on all of them.
struct Repo(tempfile::TempDir);

impl Repo {
    fn new(hosts: &[&str], rollout: &str) -> Repo {
        let repo = Repo(tempfile::tempdir().unwrap());
        let hosts = hosts.iter().map(|host| format!("host \"{host}\" transport=\"local\" root=\".hosts/{host}\"\n"));
        repo.write("hosts/all.kdl", &format!("repo \"demo\" {{\n{rollout}\n}}\n{}", hosts.collect::<String>()));
        repo.write("stacks/web/stack.kdl", "stack \"web\" {\n    on \"all\"\n    file \"/etc/x\" content=\"x\"\n}\n");
        repo
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Has every apply to a host fail: no lock can be taken there.
    fn spoil(&self, host: &str) {
        fs::create_dir_all(self.path().join(format!(".hosts/{host}/var/lib/reconcile/demo/lock"))).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reconcile"));
        command.current_dir(self.path()).args(arguments).stdin(Stdio::null()).env_remove("RECONCILE_REPO");
        command.env("RECONCILE_STATE_DIR", self.path().join(".state")).env("HOME", self.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), format!("{}{}", text(&output.stdout), text(&output.stderr)))
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.command(&[arguments, &["--json"]].concat()).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    /// `host outcome`, for the one file on each host.
    fn outcomes(report: &Value) -> Vec<String> {
        let hosts = report["hosts"].as_array().unwrap().iter();
        hosts.map(|host| format!("{} {}", host["host"], host["outcomes"]["file:/etc/x"]).replace('"', "")).collect()
    }

    fn file(&self, host: &str) -> PathBuf {
        self.path().join(format!(".hosts/{host}/etc/x"))
    }

    fn changed(&self, host: &str) -> SystemTime {
        fs::metadata(self.file(host)).unwrap().modified().unwrap()
    }
}

#[test]
fn canaries_come_first_then_batches_with_a_pause_between() {
    let repo = Repo::new(&["a", "b", "c", "d", "e"], r#"rollout { canary "d"; batch "50%"; pause "1s" }"#);
    let plan = repo.json(&["plan"]);
    assert_eq!(plan["waves"], serde_json::json!([["d"], ["a", "b"], ["c", "e"]]));
    let (code, text) = repo.run(&["plan"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("wave 1: d\nwave 2: a, b\nwave 3: c, e\n1 s between them; no further"), "{text}");
    assert!(repo.run(&["plan", "--markdown"]).1.contains("- wave 2: a, b\n"));
    let report = repo.json(&["apply", "--yes"]);
    assert_eq!(Repo::outcomes(&report), ["a applied", "b applied", "c applied", "d applied", "e applied"]);
    let gap = |before: &str, after: &str| repo.changed(after).duration_since(repo.changed(before)).unwrap();
    for (before, after) in [("d", "a"), ("d", "b"), ("a", "c"), ("b", "e")] {
        assert!(gap(before, after) >= Duration::from_secs(1), "{before} before {after}: {:?}", gap(before, after));
    }
    assert_eq!(repo.json(&["plan"])["waves"], serde_json::json!([]), "what is as wanted is in no wave");
}

#[test]
fn without_a_rollout_all_hosts_are_done_at_once_whatever_fails() {
    let repo = Repo::new(&["a", "b", "c"], "");
    repo.spoil("a");
    assert_eq!(repo.json(&["plan"])["waves"], serde_json::json!([["a", "b", "c"]]));
    let report = repo.json(&["apply", "--yes"]);
    assert_eq!(Repo::outcomes(&report), ["a failed", "b applied", "c applied"]);
}

#[test]
fn g13_a_failure_stops_the_waves_that_have_not_begun() {
    let repo = Repo::new(&["a", "b", "c"], r#"rollout { batch 1; on-failure "stop" }"#);
    repo.spoil("b");
    let report = repo.json(&["apply", "--yes"]);
    assert_eq!(Repo::outcomes(&report), ["a applied", "b failed", "c skipped"]);
    assert_eq!((&report["exit_code"], &report["hosts"][2]["error"]["kind"]), (&3.into(), &"stopped".into()));
    let why = report["hosts"][2]["error"]["what"].as_str().unwrap();
    assert!(why.contains("it did not go well on b"), "{why}");
    assert!(!repo.file("c").exists());
    // The next run begins with what is left, and a threshold of two lets it go on.
    repo.write(
        "hosts/all.kdl",
        &fs::read_to_string(repo.path().join("hosts/all.kdl")).unwrap().replace(r#"on-failure "stop""#, "threshold 2"),
    );
    assert_eq!(Repo::outcomes(&repo.json(&["apply", "--yes"])), ["a unchanged", "b failed", "c applied"]);
}

#[test]
fn g13_hosts_that_are_done_go_back_where_the_rollout_does() {
    let rollout = r#"rollout { canary "a"; batch 2; on-failure "revert" }"#;
    let repo = Repo::new(&["a", "b", "c", "d"], rollout);
    let kdl = fs::read_to_string(repo.path().join("hosts/all.kdl")).unwrap();
    // First they get something to go back to, from no commit at all.
    assert_eq!(repo.json(&["apply", "--yes"])["exit_code"], 0);
    let before = repo.changed("a");
    repo.write(
        "stacks/web/stack.kdl",
        "stack \"web\" { on \"all\"; file \"/etc/x\" content=\"y\" mode=\"0600\"; file \"/etc/new/z\" content=\"z\" }",
    );
    // The lock of this host cannot be taken any more.
    let lock = repo.path().join(".hosts/c/var/lib/reconcile/demo/lock");
    fs::remove_file(&lock).unwrap();
    repo.spoil("c");
    let (_, text) = repo.run(&["plan"]);
    assert!(text.contains("no further one begins once a host has failed, and those done are brought back"), "{text}");
    let report = repo.json(&["apply", "--yes"]);
    assert_eq!(Repo::outcomes(&report), ["a rolled-back", "b rolled-back", "c failed", "d skipped"], "{report:#}");
    assert_eq!(report["exit_code"], 1, "c is none of those that were brought back");
    let why = &report["hosts"][0]["failures"][0]["what"];
    assert_eq!(why, "the rollout went back because of c");
    for host in ["a", "b", "d"] {
        assert_eq!(fs::read_to_string(repo.file(host)).unwrap(), "x");
        assert!(!repo.path().join(format!(".hosts/{host}/etc/new")).exists());
        let left =
            Command::new("find").arg(repo.path().join(".hosts").join(host)).args(["-name", ".reconcile-*"]).output();
        assert_eq!(String::from_utf8_lossy(&left.unwrap().stdout), "", "nothing is left on {host}");
        let runs = repo.path().join(format!(".hosts/{host}/var/lib/reconcile/demo/run"));
        assert_eq!(fs::read_dir(runs).unwrap().count(), 0, "no journal is left on {host}");
    }
    assert_eq!(repo.changed("a"), before, "the very file is back");
    // Where nothing fails nothing goes back, and nothing is left.
    fs::remove_dir(&lock).unwrap();
    assert_eq!(repo.json(&["apply", "--yes"])["exit_code"], 0);
    assert_eq!(fs::read_dir(repo.path().join(".hosts/a/var/lib/reconcile/demo/run")).unwrap().count(), 0);
    assert!(!repo.run(&["plan"]).1.contains("broke off"));
    // A threshold that is not reached leaves all as it is.
    repo.write("hosts/all.kdl", &kdl.replace("on-failure", "threshold 2; on-failure"));
    repo.write("stacks/web/stack.kdl", "stack \"web\" { on \"all\"; file \"/etc/x\" content=\"z\" }");
    fs::remove_file(&lock).unwrap();
    repo.spoil("c");
    let report = repo.json(&["apply", "--yes"]);
    assert_eq!(Repo::outcomes(&report), ["a applied", "b applied", "c failed", "d applied"]);
}

#[test]
fn g14_a_host_that_cannot_go_back_says_so() {
    let repo = Repo::new(&["a", "b"], r#"rollout { batch 1; pause "2s"; on-failure "revert" }"#);
    repo.spoil("b");
    let child = repo.command(&["apply", "--yes", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let runs = repo.path().join(".hosts/a/var/lib/reconcile/demo/run");
    let kept = || Some(fs::read_dir(&runs).ok()?.next()?.ok()?.path()).filter(|run| run.join("kept").exists());
    let begun = Instant::now();
    let run = loop {
        if let Some(run) = kept() {
            break run;
        }
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(20));
    };
    // As another run does that changes something.
    fs::remove_dir_all(run).unwrap();
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(Repo::outcomes(&report), ["a applied", "b failed"], "{report:#}");
    let error = &report["hosts"][0]["error"];
    assert_eq!((&report["exit_code"], &error["kind"]), (&1.into(), &"host".into()), "{report:#}");
    let what = error["what"].as_str().unwrap();
    assert!(
        what.contains("because of b, but this host could not be brought back, and stays as it was applied"),
        "{what}"
    );
    assert!(error.to_string().contains("another run has been here since"), "{error}");
    assert!(repo.file("a").exists());
}

#[test]
fn g10_nothing_waits_for_a_host_that_is_refused() {
    let repo = Repo::new(&["a", "b", "c"], r#"limits deletions=1; rollout { canary "a"; pause "0s" }"#);
    let aside = |files: &str| {
        repo.write("stacks/aside/stack.kdl", &format!("stack \"aside\" {{\non \"a\"\n{files}}}\n"));
    };
    aside("file \"/etc/1\" content=\"1\"\nfile \"/etc/2\" content=\"2\"\n");
    assert_eq!(repo.json(&["apply", "--yes"])["exit_code"], 0);
    aside("");
    repo.write("stacks/web/stack.kdl", "stack \"web\" {\n    on \"all\"\n    file \"/etc/x\" content=\"y\"\n}\n");
    let begun = Instant::now();
    let report = repo.json(&["apply", "--yes", "--pause", "20s"]);
    assert_eq!(Repo::outcomes(&report), ["a blocked", "b applied", "c applied"], "{report:#}");
    assert_eq!(report["hosts"][0]["error"]["kind"], "refused");
    assert!(begun.elapsed() < Duration::from_secs(20), "there was no wave before that of b and c");
    // The plan is the same one still, and so is the digest that an override names.
    aside("file \"/etc/1\" content=\"1\"\nfile \"/etc/2\" content=\"2\"\n");
    assert_eq!(Repo::outcomes(&repo.json(&["apply", "--yes"])), ["a applied", "b unchanged", "c unchanged"]);
    aside("");
    let digest = repo.json(&["plan"])["digest"].as_str().unwrap().to_string();
    assert_eq!(repo.json(&["apply", "--override", &digest])["exit_code"], 0);
}

#[test]
fn g01_another_way_over_the_hosts_is_another_plan() {
    let repo = Repo::new(&["a", "b", "c"], "");
    let plan = repo.json(&["plan"]);
    let other = repo.json(&["plan", "--canary", "b", "--batch", "1"]);
    assert_eq!(other["waves"], serde_json::json!([["b"], ["a"], ["c"]]));
    assert_ne!(plan["digest"], other["digest"]);
    let expected = &other["digest"].as_str().unwrap()[..12];
    let refused = repo.json(&["apply", "--expect", expected]);
    assert_eq!(refused["error"]["kind"], "stale", "{refused:#}");
    // The plan says with what it is the same again.
    let (_, text) = repo.run(&["plan", "--canary", "b", "--batch", "1", "--pause", "0s"]);
    let said = text.lines().find_map(|line| line.split_once("reconcile apply ")).expect("the command").1;
    assert_eq!(said, format!("--canary b --batch 1 --pause 0s --expect {expected}"));
    let said: Vec<&str> = ["apply"].into_iter().chain(said.split(' ')).collect();
    let report = repo.json(&said);
    assert_eq!(report["exit_code"], 0, "{report:#}");
    assert!(repo.changed("b") < repo.changed("a") && repo.changed("a") < repo.changed("c"));
}

#[test]
fn g13_a_host_that_cannot_be_reached_counts_and_continue_goes_on() {
    let repo = Repo::new(&["a", "b"], "rollout { batch 1; threshold 1 }");
    repo.write("hosts/dead.kdl", DEAD);
    let (_, text) = repo.run(&["plan"]);
    assert!(text.contains("none of them begins: 1 host failed already"), "{text}");
    let report = repo.json(&["apply", "--yes"]);
    assert_eq!(Repo::outcomes(&report), ["a skipped", "b skipped", "dead unreachable"]);
    assert_eq!(report["exit_code"], 1, "nothing was done");
    let kdl = fs::read_to_string(repo.path().join("hosts/all.kdl")).unwrap();
    repo.write("hosts/all.kdl", &kdl.replace("threshold 1", r#"on-failure "continue""#));
    let report = repo.json(&["apply", "--yes"]);
    assert_eq!(Repo::outcomes(&report), ["a applied", "b applied", "dead unreachable"]);
}

#[test]
fn the_command_line_has_the_last_word_and_no_wave_is_larger_than_allowed() {
    let repo = Repo::new(&["a", "b", "c"], r#"rollout { canary "a"; batch 3; max-unavailable 1 }"#);
    let (code, text) = repo.run(&["apply", "--canary", "c", "--batch", "2", "--pause", "0s"]);
    assert_eq!(code, 1, "nobody to ask: {text}");
    let (_, text) = repo.run(&["apply", "--yes", "--canary", "c", "--batch", "2"]);
    assert!(text.contains("wave 1: c\nwave 2: a\nwave 3: b\n"), "{text}");
    for wrong in [&["--canary", "x"], &["--batch", "0"], &["--batch", "101%"], &["--pause", "soon"]] {
        let (code, text) = repo.run(&[&["apply", "--yes"][..], wrong].concat());
        assert_eq!(code, 1, "{wrong:?}: {text}");
    }
}

#[test]
fn ctrl_c_between_waves_skips_the_rest() {
    let repo = Repo::new(&["a", "b", "c"], r#"rollout { batch 1; pause "50s" }"#);
    let begun = Instant::now();
    let child = repo.command(&["apply", "--yes", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    while !repo.path().join(".hosts/a/etc/x").exists() {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(300));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(40), "the pause ends at once");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(Repo::outcomes(&report), ["a applied", "b skipped", "c skipped"]);
    assert_eq!(report["hosts"][1]["error"]["kind"], "interrupted");
}

#[test]
fn what_can_be_wrong_with_a_rollout() {
    for (rollout, message) in [
        (r#"rollout { canary "aa" }"#, "there is no host `aa`"),
        ("rollout { batch 0 }", "`0` is no batch"),
        (r#"rollout { max-unavailable "120%" }"#, "`120%` is no max-unavailable"),
        (r#"rollout { pause "soon" }"#, "`soon` is no pause"),
        (r#"rollout { on-failure "rollback" }"#, "`rollback` is no on-failure"),
        (r#"rollout { on-failure "continue"; threshold 2 }"#, "has no threshold"),
        ("rollout { batches 2 }", "did you mean `batch`"),
    ] {
        let repo = Repo::new(&["a"], rollout);
        let (code, text) = repo.run(&["check"]);
        assert!(code == 1 && text.contains(message) && text.contains("hosts/all.kdl:2:"), "{rollout}: {text}");
    }
}

#[test]
fn g14_a_held_stack_is_planned_and_not_done() {
    let repo = Repo::new(&["a", "b"], "");
    let (code, text) = repo.run(&["hold", "web", "--host", "a", "--until", "2h", "--why", "the audit"]);
    assert!(code == 0 && text.contains("✓ a  web is held by ") && text.contains("UTC: the audit"), "{text}");
    // Another control node knows it from the host.
    fs::remove_dir_all(repo.path().join(".state")).ok();
    let plan = repo.json(&["plan"]);
    let held = plan["hosts"][0]["stacks"][0]["held"].as_str().unwrap();
    assert!(held.starts_with("held by ") && held.ends_with(": the audit"), "{held}");
    assert_eq!((&plan["hosts"][1]["stacks"][0]["held"], &plan["waves"]), (&Value::Null, &serde_json::json!([["b"]])));
    for command in ["plan", "status"] {
        let (_, text) = repo.run(&[command]);
        assert!(text.contains("held by ") && text.contains("UTC: the audit"), "{command}: {text}");
    }
    let report = repo.json(&["apply", "--yes"]);
    assert_eq!((Repo::outcomes(&report), &report["exit_code"]), (vec!["a held".into(), "b applied".into()], &0.into()));
    assert!(!repo.file("a").exists());
    let (_, text) = repo.run(&["release", "web"]);
    assert!(text.contains("✓ a  web is released\n✓ b  web is not held\n"), "{text}");
    assert_eq!(Repo::outcomes(&repo.json(&["apply", "--yes"])), ["a applied", "b unchanged"]);
    let (code, text) = repo.run(&["release", "wbe"]);
    assert!(code == 1 && text.contains("did you mean `web`?"), "{text}");
    let (code, text) = repo.run(&["hold", "web", "--until", "2020-01-01T00:00"]);
    assert!(code == 1 && text.contains("over already"), "{text}");
}

#[test]
fn a_hold_ends_by_itself_and_what_comes_after_it_waits() {
    let repo = Repo::new(&["a"], "");
    repo.write(
        "stacks/later/stack.kdl",
        "stack \"later\" { on \"all\"; after \"web\"; file \"/etc/y\" content=\"y\" }\n",
    );
    repo.write("stacks/other/stack.kdl", "stack \"other\" { on \"all\"; file \"/etc/z\" content=\"z\" }\n");
    assert_eq!(repo.run(&["hold", "web", "--until", "5s"]).0, 0);
    let expected = repo.json(&["plan"])["digest"].clone();
    let report = repo.json(&["apply", "--yes"]);
    let outcome = |report: &Value, name: &str| report["hosts"][0]["outcomes"][format!("file:/etc/{name}")].clone();
    assert_eq!(["x", "y", "z"].map(|name| outcome(&report, name)), ["held", "held", "applied"]);
    std::thread::sleep(Duration::from_secs(6));
    assert_ne!(repo.json(&["plan"])["digest"], expected, "a hold is a part of the plan");
    let report = repo.json(&["apply", "--yes"]);
    assert_eq!(["x", "y", "z"].map(|name| outcome(&report, name)), ["applied", "applied", "unchanged"]);
}
