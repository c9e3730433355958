//! 9: only owned things change.

use crate::kit::{Repo, any};

#[test]
fn g09_what_is_not_ours_is_refused_until_it_is_adopted() {
    let host = any();
    let repo = Repo::new("g09-foreign", &[&host]);
    host.sh(
        "mkdir -p /srv/g09-foreign/dir; chmod 700 /srv/g09-foreign/dir; echo mine >/srv/g09-foreign/x; ln -s nowhere /srv/g09-foreign/link
        printf '[Service]\nExecStart=/usr/bin/sleep 8888\n' >/etc/systemd/system/g09-foreign-a.service
        systemctl daemon-reload; systemctl start g09-foreign-a",
    );
    let picture = || host.picture("/srv/g09-foreign /etc/systemd/system/g09-foreign*", "g09-foreign-a");
    let before = picture();
    let things = [
        ("file:/srv/g09-foreign/x", "file \"/srv/ID/x\" content=\"ours\""),
        ("file:/srv/g09-foreign/link", "file \"/srv/ID/link\" content=\"ours\""),
        ("directory:/srv/g09-foreign/dir", "directory \"/srv/ID/dir\" mode=\"0755\""),
        ("unit:g09-foreign-a", "unit \"ID-a\" exec=\"/usr/bin/sleep 9999\""),
    ];
    for (id, body) in things {
        repo.stack("one", body);
        assert!(!repo.plan().refusal(id).is_empty(), "{id}");
        let ran = repo.fail();
        assert_eq!(ran.outcome(id), "blocked");
        picture().is_as(&before, id);
    }
    repo.stack("one", &things.map(|(_, body)| body).join("\n"));
    let adopt: Vec<&str> = things.iter().flat_map(|(id, _)| ["--adopt", id]).collect();
    let ran = repo.apply_with(&adopt);
    assert_eq!(ran.outcomes().into_iter().collect::<Vec<_>>(), ["applied"]);
    repo.is_settled();
    assert_eq!(host.sh("cat /srv/g09-foreign/x /srv/g09-foreign/link"), "oursours");
}

#[test]
fn g09_what_another_repository_owns_is_refused() {
    let host = any();
    let (ours, theirs) = (Repo::new("g09-ours", &[&host]), Repo::new("g09-theirs", &[&host]));
    theirs.stack("one", "file \"/srv/ID/x\" content=\"theirs\"\nunit \"ID-a\" exec=\"/usr/bin/sleep 9999\"");
    theirs.apply();
    for (id, body) in [
        ("file:/srv/g09-theirs/x", "file \"/srv/g09-theirs/x\" content=\"ours\""),
        ("unit:g09-theirs-a", "unit \"g09-theirs-a\" exec=\"/usr/bin/sleep 8888\""),
    ] {
        ours.stack("one", body);
        let plan = ours.plan_with(&["--adopt", id]);
        assert!(plan.refusal(id).contains("g09-theirs"), "{:#}", plan.0["hosts"]);
        ours.fail();
    }
    // Not even with the same content.
    ours.stack("one", "file \"/srv/g09-theirs/x\" content=\"theirs\"");
    assert!(!ours.plan().refusal("file:/srv/g09-theirs/x").is_empty());
    theirs.is_settled();
}

#[test]
fn g09_without_its_ledger_nothing_is_deleted() {
    let host = any();
    let repo = Repo::new("g09-ledger", &[&host]);
    let stay = "file \"/srv/ID/stays\" content=\"stays\"";
    let go = "file \"/srv/ID/goes\" content=\"goes\"\nunit \"ID-goes\" exec=\"/usr/bin/sleep 9999\"";
    repo.stack("one", &format!("{stay}\n{go}"));
    repo.apply();
    let before = host.picture("/srv/g09-ledger /etc/systemd/system/g09-ledger*", "g09-ledger-goes");
    host.sh("rm -r /var/lib/reconcile/g09-ledger");
    let plan = repo.plan();
    assert!(!plan.refusal("file:/srv/g09-ledger/stays").is_empty(), "lost means adopt: {:#}", plan.0["hosts"]);
    repo.stack("one", stay);
    assert!(repo.plan().changes().all(|change| change["action"] != "remove"), "lost never means delete");
    repo.fail();
    host.picture("/srv/g09-ledger /etc/systemd/system/g09-ledger*", "g09-ledger-goes").is_as(&before, "lost");
}

#[test]
fn g09_what_is_edited_into_a_directory_of_ours_stays() {
    let host = any();
    let repo = Repo::new("g09-inside", &[&host]);
    repo.stack("one", "directory \"/srv/ID\"\ndirectory \"/srv/ID/dir\"\nfile \"/srv/ID/dir/x\" content=\"x\"");
    repo.apply();
    host.sh("echo mine >/srv/g09-inside/dir/mine");
    repo.stack("one", "directory \"/srv/ID\"");
    repo.apply();
    assert_eq!(host.sh("ls /srv/g09-inside/dir"), "mine\n");
    repo.is_settled();
}
