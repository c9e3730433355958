//! The laws that hold for every repository, shown on this one's own stacks and on all of `examples/`. Every host is a
//! directory in place of its server.

mod shared;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kdl::{KdlDocument, KdlEntry, KdlNode};
use shared::{Repository, SECRET, changes};

/// Where every repository is: this one, and the examples.
fn places() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let examples = fs::read_dir(root.join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let mut places: Vec<PathBuf> = examples.filter(|path| path.is_dir()).collect();
    places.sort();
    assert!(places.len() >= 5, "{places:?}");
    places.push(root.into());
    places
}

/// What a directory in place of a host has no use for.
const ONLY_REAL: [&str; 9] = ["address", "port", "user", "jump", "identity", "host-key", "sudo", "transport", "root"];

/// A copy of a repository with a directory in place of each host.
fn sandboxed(place: &Path) -> Repository {
    let repository = Repository::new(Some(place));
    rewrite(&repository, "hosts", |nodes| {
        for node in nodes.iter_mut() {
            let only_real = |name: &str| ONLY_REAL.contains(&name);
            node.entries_mut().retain(|entry| entry.name().is_none_or(|name| !only_real(name.value())));
            if let Some(body) = node.children_mut() {
                body.nodes_mut().retain(|node| !only_real(node.name().value()));
            }
            if node.name().value() == "host" {
                let root = format!(".sandbox/{}", node.get(0).unwrap().as_string().unwrap());
                node.push(KdlEntry::new_prop("transport", "local"));
                node.push(KdlEntry::new_prop("root", root));
            }
        }
    });
    repository.commit();
    repository
}

fn example(name: &str) -> Repository {
    sandboxed(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name))
}

/// Rewrites all KDL files of a part of a repository.
fn rewrite(repository: &Repository, part: &str, change: impl Fn(&mut Vec<KdlNode>)) {
    for path in files_below(&repository.path(part)) {
        if path.extension().is_some_and(|extension| extension == "kdl") {
            let mut document = KdlDocument::parse_v2(&fs::read_to_string(&path).unwrap()).unwrap();
            change(document.nodes_mut());
            document.autoformat();
            fs::write(path, document.to_string()).unwrap();
        }
    }
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// What is on all hosts, besides what the program keeps about itself: content, mode, and when it was written.
fn written(repository: &Repository) -> BTreeMap<PathBuf, (Vec<u8>, u32, SystemTime)> {
    let files = files_below(&repository.path(".sandbox")).into_iter();
    let files = files.filter(|path| !path.to_string_lossy().contains("/var/lib/reconcile/"));
    files
        .map(|path| {
            let seen = fs::symlink_metadata(&path).unwrap();
            let content = match fs::read_link(&path) {
                Ok(target) => target.to_string_lossy().into_owned().into_bytes(),
                Err(_) => fs::read(&path).unwrap(),
            };
            (path, (content, seen.mode(), seen.modified().unwrap()))
        })
        .collect()
}

fn stacks(repository: &Repository) -> Vec<String> {
    let entries = fs::read_dir(repository.path("stacks")).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_repository_is_sound_as_it_stands() {
    for place in places() {
        let ran = Repository::new(Some(&place)).must(&["check"]);
        assert_eq!(ran.stderr, "", "{}: no warnings", place.display());
    }
}

#[test]
fn g04_after_apply_nothing_is_left_to_do_and_applying_again_changes_nothing() {
    for place in places() {
        let repository = sandboxed(&place);
        repository.must(&["apply", "--yes"]);
        repository.assert_nothing_to_do();
        let before = written(&repository);
        assert!(!before.is_empty(), "{}", place.display());
        repository.must(&["apply", "--yes"]);
        assert!(before == written(&repository), "{}: something was written again", place.display());
    }
}

#[test]
fn the_order_of_files_and_nodes_does_not_matter() {
    for place in places() {
        let repository = sandboxed(&place);
        let before = repository.plan();
        rewrite(&repository, "hosts", |nodes| nodes.reverse());
        rewrite(&repository, "stacks", |nodes| {
            for body in nodes.iter_mut().filter_map(|node| node.children_mut().as_mut()) {
                body.nodes_mut().reverse();
            }
        });
        for (number, path) in files_below(&repository.path("hosts")).iter().rev().enumerate() {
            fs::rename(path, path.with_file_name(format!("{number}.kdl"))).unwrap();
        }
        repository.commit();
        let after = repository.plan();
        assert_eq!(changes(&before), changes(&after), "{}", place.display());
        assert_eq!(before["digest"], after["digest"], "{}", place.display());
    }
}

#[test]
fn without_stacks_nothing_is_left_on_the_hosts() {
    for place in places() {
        let repository = sandboxed(&place);
        repository.must(&["apply", "--yes"]);
        for stack in stacks(&repository) {
            fs::remove_dir_all(repository.path("stacks").join(stack)).unwrap();
        }
        repository.commit();
        // That much goes only by an override of this very plan.
        let refused = repository.run(&["apply", "--yes"]);
        assert_eq!(refused.code, 1, "{}", refused.all());
        let plan: serde_json::Value = serde_json::from_str(&repository.run(&["plan", "--json"]).stdout).unwrap();
        repository.must(&["apply", "--override", plan["digest"].as_str().unwrap()]);
        repository.assert_nothing_to_do();
        assert!(written(&repository).is_empty(), "{}: {:?}", place.display(), written(&repository).keys());
        for host in fs::read_dir(repository.path(".sandbox")).unwrap() {
            let host = host.unwrap().path();
            let left: Vec<PathBuf> = fs::read_dir(&host).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert_eq!(left, [host.join("var")], "{}: empty directories that were made are gone too", place.display());
            let own = files_below(&host.join("var/lib/reconcile"));
            let ledgers: Vec<&PathBuf> = own.iter().filter(|path| path.parent().unwrap().ends_with("ledger")).collect();
            assert!(ledgers.is_empty(), "{}: {ledgers:?}", place.display());
        }
    }
}

#[test]
fn g04_a_commit_to_one_stack_changes_nothing_of_the_others() {
    for place in places() {
        let repository = sandboxed(&place);
        repository.must(&["apply", "--yes"]);
        for stack in stacks(&repository) {
            let path = repository.path("stacks").join(&stack).join("stack.kdl");
            let mut document = KdlDocument::parse_v2(&fs::read_to_string(&path).unwrap()).unwrap();
            let more: KdlNode = format!("file \"/etc/more-{stack}\" content=\"more\"").parse().unwrap();
            document.nodes_mut()[0].ensure_children().nodes_mut().push(more);
            document.autoformat();
            fs::write(path, document.to_string()).unwrap();
            repository.commit();
            let planned = changes(&repository.plan());
            assert!(!planned.is_empty(), "{stack}");
            for (name, ids) in planned {
                assert_eq!(name.split_once('/').unwrap().1, stack);
                assert_eq!(ids, [format!("file:/etc/more-{stack}")], "{name}");
            }
            repository.must(&["apply", "--yes"]);
        }
    }
}

#[test]
fn adoption_gives_what_is_there_an_owner_and_writes_nothing() {
    let repository = example("adoption");
    let unit = ".sandbox/old/etc/systemd/system/shop.service";
    let site = ".sandbox/old/etc/nginx/sites-available/shop.example.org.conf";
    for (from, to) in [("stacks/shop/shop.service", unit), ("stacks/shop/shop.conf", site)] {
        repository.write(to, &fs::read_to_string(repository.path(from)).unwrap());
    }
    let times = || [unit, site].map(|path| fs::metadata(repository.path(path)).unwrap().modified().unwrap());
    let before = times();

    let refused = repository.run(&["apply", "--yes"]);
    assert_ne!(refused.code, 0);
    for hint in ["--adopt unit:shop", "--adopt site:shop.example.org"] {
        assert!(refused.all().contains(hint), "{hint}: {}", refused.all());
    }
    assert!(!repository.path(".sandbox/old/etc/systemd/system/nginx.service.d").exists(), "all of the stack waits");

    repository.must(&["apply", "--yes", "--adopt", "unit:shop", "--adopt", "site:shop.example.org"]);
    assert_eq!(times(), before);
    repository.assert_nothing_to_do();

    // From then on the repository decides.
    repository.edit("stacks/shop/shop.service", "PORT=3000", "PORT=3001");
    repository.commit();
    assert_eq!(changes(&repository.plan()), [("old/shop".to_string(), vec!["unit:shop".to_string()])]);
}

#[test]
fn g11_secrets_end_in_the_files_they_are_for_and_nowhere_else() {
    for (name, host, expected) in [
        (
            "secrets",
            "mail",
            &["etc/mailer/config.toml", "etc/mailer/dkim.key", "etc/systemd/system/mailer.service"][..],
        ),
        ("compose-app", "app", &["srv/shop/.env"][..]),
    ] {
        let repository = example(name);
        for arguments in
            [&["plan", "--full"][..], &["plan", "--json"], &["plan", "--markdown"], &["apply", "--yes", "-vv"]]
        {
            let ran = repository.must(arguments);
            assert!(!ran.all().contains(SECRET), "{name}: {arguments:?}");
        }
        let root = repository.path(".sandbox").join(host);
        let mut found = Vec::new();
        for path in files_below(&root) {
            if fs::read(&path).is_ok_and(|content| String::from_utf8_lossy(&content).contains(SECRET)) {
                assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
                found.push(path.strip_prefix(&root).unwrap().to_string_lossy().into_owned());
            }
        }
        found.sort();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn in_the_fleet_each_host_gets_its_own() {
    let repository = Repository::new(Some(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/fleet")));
    repository.must(&["render", "--out", "out"]);
    let read = |path: &str| fs::read_to_string(repository.path("out").join(path)).unwrap_or_default();
    let app = |host: &str| read(&format!("{host}/etc/systemd/system/app.service"));
    assert!(app("app-fra-1").contains("--workers 4\n"));
    assert!(app("app-fra-2").contains("--workers 16\n"));
    assert!(app("app-hel-2").contains("LOG_LEVEL=debug"));
    assert_eq!(app("app-hel-1"), "", "it is left out");
    let balancer = read("lb-fra/etc/nginx/sites-available/app.example.org.conf");
    assert!(balancer.contains("10.1.0.11") && balancer.contains("10.1.0.12") && !balancer.contains("10.2."));
}
