//! 15, with very many files: still one exchange for a plan without changes, and nothing that is too long for a host.

use crate::kit::{Repo, any};

/// How many files there are; 10,000 take no other ways (see tests/bench/README.md).
const FILES: usize = 2_000;

#[test]
fn g15_thousands_of_files_are_planned_in_one_exchange() {
    let host = any();
    let repo = Repo::new("g15-many", &[&host]);
    // Empty ones too, and names as long as paths become.
    let file = |n: usize| {
        let content = if n.is_multiple_of(10) { String::new() } else { format!("number {n}") };
        format!("file \"/srv/ID/{}/{:0>60}\" content=\"{content}\"\n", n % 50, n)
    };
    repo.stack("one", &(0..FILES).map(file).collect::<String>());
    repo.apply();
    let count = |what: &str| host.sh(&format!("find /srv/g15-many -type f {what} | wc -l")).trim().to_string();
    assert_eq!((count(""), count("-empty")), (FILES.to_string(), (FILES / 10).to_string()));
    let plan = repo.run(&["plan", "-v"]);
    assert!(plan.err.contains("exchanges=1 changes=0"), "{}", plan.err);
    host.sh("cd /srv/g15-many; for file in 1/*01; do echo by hand >$file; done; rm 2/*2");
    assert!(repo.plan().changes().count() > 1);
    repo.apply();
    repo.is_settled();
    // All go at once, too.
    repo.stack("one", "directory \"/srv/ID\"");
    repo.apply_all_the_same();
    assert_eq!(host.sh("ls -A /srv/g15-many"), "");
}
