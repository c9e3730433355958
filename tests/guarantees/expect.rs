//! 1, further: `apply --expect`.

use crate::kit::{Repo, any};

#[test]
fn g01_only_the_expected_plan_is_applied() {
    let host = any();
    let repo = Repo::new("g01-expect", &[&host]);
    repo.stack("one", "file \"/srv/ID/x\" content=\"one\"");
    let expect = |digest: &str| repo.run(&["apply", "--json", "--expect", digest]);
    let there = || host.try_sh("cat /srv/g01-expect/x").1;

    let digest = repo.plan().digest();
    assert_eq!(digest, repo.plan().digest(), "two plans of the same are the same");
    let wrong = expect("0123456789ab");
    assert_eq!(wrong.code, 1, "{wrong:?}");
    repo.stack("one", "file \"/srv/ID/x\" content=\"two\"");
    assert_eq!(expect(&digest).code, 1, "the repository has moved");
    assert!(there().contains("No such file"));
    repo.stack("one", "file \"/srv/ID/x\" content=\"one\"");
    assert_eq!(expect(&digest[..12]).code, 0, "it has moved back");
    assert_eq!(there(), "one");

    let after = expect(&digest);
    assert_eq!(after.code, 0, "what is as wanted is no surprise: {after:?}");
    assert_eq!(after.outcome("file:/srv/g01-expect/x"), "unchanged");

    repo.stack("one", "file \"/srv/ID/x\" content=\"two\"");
    let digest = repo.plan().digest();
    host.sh("echo by hand >/srv/g01-expect/x");
    assert_eq!(expect(&digest).code, 1, "the host has moved");
    assert_eq!(there(), "by hand\n");
    let digest = repo.plan().digest();
    host.sh("chmod 600 /srv/g01-expect/x");
    assert_eq!(expect(&digest).code, 1, "a mode has moved");
    assert_eq!(expect(&repo.plan().digest()).code, 0);
    assert_eq!(there(), "two");
}
