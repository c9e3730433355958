//! A person at a real terminal, who is asked for the passphrase of a key.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::kit::{Host, Ran, Repo, any, shared};

const RIGHT: &str = "open sesame";

/// A repository whose hosts are entered with an encrypted key.
fn locked(id: &str, hosts: &[&Host]) -> Repo {
    let repo = Repo::new(id, hosts);
    let key = repo.path().join("locked");
    for host in hosts {
        let kdl = host.kdl();
        let identity = kdl.split('"').find(|word| word.contains("id_ed25519")).expect("the lab's key").to_string();
        std::fs::copy(&identity, &key).expect("a copy of the key");
        repo.write(&format!("hosts/{}.kdl", host.name), kdl.replace(&identity, key.as_str()));
    }
    let locked = Command::new("ssh-keygen").args(["-q", "-p", "-P", "", "-N", RIGHT, "-f", key.as_str()]).status();
    assert!(locked.expect("ssh-keygen runs").success());
    repo.stack("one", "file \"/srv/ID/x\" content=\"x\"");
    repo
}

/// Runs the program at a terminal, where somebody gives these answers.
fn at_terminal(repo: &Repo, answers: &[&str], args: &[&str]) -> Ran {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kit/terminal.py");
    let inner = repo.command(args);
    let mut command = Command::new("python3");
    command.arg(program).arg("passphrase of ").args(answers).arg("--").arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Ran::of(&command.stdin(Stdio::null()).output().expect("python3 runs"))
}

#[test]
fn a_passphrase_is_asked_for_once_and_not_shown() {
    let (one, two) = (shared("lab-1"), shared("lab-2"));
    let repo = locked("prompt", &[&one, &two]);
    let ran = at_terminal(&repo, &[RIGHT], &["plan"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("2 to add") && !ran.out.contains(RIGHT), "{ran:?}");
    // A slip of the finger is asked about once, too, and an apply's second connection asks nothing.
    let ran = at_terminal(&repo, &["a slip", RIGHT], &["apply", "--yes"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("that was wrong") && ran.out.contains("done on 2 hosts"), "{ran:?}");
    assert!(!ran.out.contains("a slip"), "{ran:?}");
}

#[test]
fn three_wrong_passphrases_are_enough() {
    let (one, two) = (shared("lab-1"), shared("lab-2"));
    let repo = locked("prompt-wrong", &[&one, &two]);
    let ran = at_terminal(&repo, &["one", "two", "three"], &["plan"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("wrong passphrase") && !ran.out.contains("panicked"), "{ran:?}");
    // Whoever just presses return declines.
    let ran = at_terminal(&repo, &[""], &["plan"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("nobody gave one"), "{ran:?}");
}

#[test]
fn without_a_terminal_nobody_is_asked_and_nothing_hangs() {
    let host = any();
    let repo = locked("prompt-none", &[&host]);
    let begun = Instant::now();
    // setsid: no terminal at all. --no-input: one that is not to be used.
    let mut alone = Command::new("setsid");
    let inner = repo.command(&["plan"]);
    alone.arg("--wait").arg(inner.get_program()).args(inner.get_args()).env("HOME", repo.path());
    alone.env("NO_COLOR", "1").env_remove("SSH_AUTH_SOCK").stdin(Stdio::null());
    let alone = Ran::of(&alone.output().expect("setsid runs"));
    let told = at_terminal(&repo, &[], &["plan", "--no-input"]);
    for said in [format!("{}{}", alone.out, alone.err), told.out.clone()] {
        assert!(said.contains("needs a passphrase, and nobody gave one") && said.contains("ssh-add"), "{said}");
    }
    assert_eq!((alone.code, told.code), (1, 1));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
