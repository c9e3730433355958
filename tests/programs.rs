//! The host programs under every shell they must run under.
#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use reconcile::base::digest::Digest;
use reconcile::base::id::RepoId;
use reconcile::host::observation::{self, Observation, Seen, Thing};
use reconcile::host::program::Program;
use reconcile::host::transport::{Connection, Nobody, Target};
use reconcile::observe::{Place, Questions};

const SHELLS: [&str; 3] = ["dash -c", "bash -c", "busybox sh -c"];

async fn ask(shell: &str, questions: &Questions, place: &Place) -> Observation {
    let target = Target::Local { root: None, sudo: false };
    let connection = Connection::connect(&target, Arc::new(Nobody), Duration::from_secs(5)).await.unwrap();
    let request = questions.to_request(place, &RepoId::new("test").unwrap());
    let mut exchange = Program::Observe.exchange(&request, false, Duration::from_secs(20));
    exchange.command = exchange.command.replacen("sh -c", shell, 1);
    let output = connection.run(exchange, None).await.unwrap();
    assert_eq!(output.status, Ok(0), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{shell}");
    place.translate(observation::parse(&output.stdout).unwrap())
}

#[tokio::test]
async fn every_shell_finds_the_same() {
    let target = Target::Local { root: None, sudo: false };
    let connection = Connection::connect(&target, Arc::new(Nobody), Duration::from_secs(5)).await.unwrap();
    let mut answers = Vec::new();
    for shell in SHELLS {
        let mut exchange = Program::Discover.exchange(b"", false, Duration::from_secs(20));
        exchange.command = exchange.command.replacen("sh -c", shell, 1);
        let output = connection.run(exchange, None).await.unwrap();
        assert_eq!((output.status, String::from_utf8_lossy(&output.stderr).as_ref()), (Ok(0), ""), "{shell}");
        assert!(output.stdout.ends_with(b"[end]\n"), "{shell}");
        answers.push(output.stdout);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn every_shell_sees_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::from_path_buf(dir.path().canonicalize().unwrap()).unwrap();
    let odd = "odd name; $(touch pwned) 'x' \"y\" *";
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::write(root.join("etc").join(odd), "hello\n").unwrap();
    std::fs::set_permissions(root.join("etc").join(odd), std::fs::Permissions::from_mode(0o640)).unwrap();
    symlink("/else where", root.join("etc/link")).unwrap();
    symlink("nowhere", root.join("etc/dangling")).unwrap();
    let place = Place { root: Some(root.clone()) };
    let path = |name: &str| Utf8Path::new("/etc").join(name);
    let mut questions = Questions {
        contents: BTreeSet::from([path(odd)]),
        paths: [odd, "link", "dangling", "missing"].iter().map(|name| path(name)).collect(),
        facts: true,
        ..Questions::default()
    };
    questions.paths.insert("/etc".into());
    let mut answers = Vec::new();
    for shell in SHELLS {
        let mut seen = ask(shell, &questions, &place).await;
        let Some(Seen::Present(file)) = seen.paths.get(&path(odd)) else { panic!("{shell}: {:?}", seen.paths) };
        assert_eq!(file.thing, Thing::File(Some(Digest::of(b"hello\n"))), "{shell}");
        assert_eq!((file.mode, file.size), (0o640, 6), "{shell}");
        let target = |name: &str| match &seen.paths[&path(name)] {
            Seen::Present(link) => link.thing.clone(),
            other => panic!("{shell}: {other:?}"),
        };
        assert_eq!(target("link"), Thing::Link("/else where".into()), "{shell}");
        assert_eq!(target("dangling"), Thing::Link("nowhere".into()), "{shell}");
        assert_eq!(seen.paths[&path("missing")], Seen::Absent, "{shell}");
        assert_eq!(seen.contents[&path(odd)], b"hello\n", "{shell}");
        assert!(!root.join("pwned").exists() && !Utf8Path::new("pwned").exists(), "{shell}");
        assert_eq!(seen.state, root.join("var/lib/reconcile"), "{shell}");
        seen.facts = None;
        answers.push(seen);
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
}

#[tokio::test]
async fn ten_thousand_paths_are_one_exchange() {
    let dir = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::from_path_buf(dir.path().canonicalize().unwrap()).unwrap();
    let place = Place { root: Some(root.clone()) };
    std::fs::create_dir_all(root.join("srv")).unwrap();
    let paths: BTreeSet<Utf8PathBuf> = (0..10_000).map(|n| format!("/srv/file-{n}").into()).collect();
    for path in paths.iter().step_by(2) {
        std::fs::write(place.real(path), path.as_str()).unwrap();
    }
    let questions = Questions { paths: paths.clone(), ..Questions::default() };
    let seen = ask("sh -c", &questions, &place).await;
    assert_eq!(seen.paths.len(), 10_000);
    for (index, path) in paths.iter().enumerate() {
        match (index % 2, &seen.paths[path]) {
            (0, Seen::Present(file)) => assert_eq!(file.digest(), Some(Digest::of(path.as_str().as_bytes()))),
            (1, Seen::Absent) => {}
            (_, other) => panic!("{path}: {other:?}"),
        }
    }
}
