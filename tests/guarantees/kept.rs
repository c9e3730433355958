//! 15: what stays between two plans of one process.

use reconcile::engine;

use crate::kit::{Host, Repo, free};
use crate::planner::Planner;

fn accepted(host: &Host, cursor: &str) -> usize {
    let said =
        |entry: &serde_json::Value| entry["MESSAGE"].as_str().is_some_and(|said| said.contains("Accepted publickey"));
    host.since(cursor).iter().filter(|entry| said(entry)).count()
}

/// The processes that stay there to look again; not those that look for them.
fn observers(host: &Host) -> String {
    host.sh("pgrep -f '^sh -c program=' || true")
}

#[tokio::test]
async fn g15_who_looks_stays_on_the_host_and_sees_what_is_there_now() {
    let host = free();
    let repo = Repo::new("g15-stays", &[&host]);
    repo.stack("one", "file \"/srv/ID/x\" content=\"1\"\nunit \"ID-a\" exec=\"/usr/bin/sleep 9999\"");
    repo.apply();
    let planner = Planner::new(repo.path());
    assert!(planner.plan().await.plan.is_empty());
    let stays = observers(&host);
    assert_eq!(stays.lines().count(), 1, "{stays}");
    assert!(planner.plan().await.plan.is_empty());
    assert_eq!(observers(&host), stays, "the same one");
    // Where something is to be done, it makes room for that.
    host.sh("cp /srv/g15-stays/x /run/g15-stays; echo x >/srv/g15-stays/x; systemctl stop g15-stays-a");
    assert_eq!(planner.plan().await.plan.hosts[0].changes().count(), 2);
    host.until("! pgrep -f '^sh -c program='");
    host.sh("cat /run/g15-stays >/srv/g15-stays/x; systemctl start g15-stays-a");
    assert!(planner.plan().await.plan.is_empty());
    // One that was killed is missed by nobody, and what is asked of it may change.
    host.sh(&format!("kill -9 {}", observers(&host)));
    for _ in 0..2 {
        assert!(planner.plan().await.plan.is_empty());
    }
    let stays = observers(&host);
    let pool = planner.setup.pool.clone().expect("a pool");
    let file = "file \"/srv/ID/x\" content=\"1\" { on-change reload=\"cron\"; }";
    repo.stack("one", &format!("{file}\nunit \"ID-a\" exec=\"/usr/bin/sleep 9999\""));
    let other = Planner::with(repo.path(), pool.clone());
    assert!(other.plan().await.plan.is_empty());
    assert_eq!(observers(&host), stays);
    pool.keep_only(&[]);
    host.until("! pgrep -f '^sh -c program='");
}

#[tokio::test]
async fn g15_a_second_plan_needs_no_second_connection() {
    let host = free();
    let repo = Repo::new("g15-kept", &[&host]);
    repo.stack("one", "file \"/srv/ID/x\" content=\"1\"\nunit \"ID-a\" exec=\"/usr/bin/sleep 9999\"");
    repo.apply();
    let planner = Planner::new(repo.path());
    let cursor = host.now();
    for _ in 0..3 {
        assert!(planner.plan().await.plan.is_empty());
    }
    assert_eq!(accepted(&host, &cursor), 1, "one connection for three plans");
    // What is kept hides no drift.
    host.sh("echo x >/srv/g15-kept/x; systemctl stop g15-kept-a");
    assert_eq!(planner.plan().await.plan.hosts[0].changes().count(), 2);
    // Nor does it hide that the repository says something else now.
    let pool = planner.setup.pool.clone().expect("a pool");
    repo.stack("two", "file \"/srv/ID/y\" content=\"1\"");
    assert_eq!(Planner::with(repo.path(), pool).plan().await.plan.hosts[0].changes().count(), 3);
    assert_eq!(accepted(&host, &cursor), 1, "one connection for all plans");
    assert_eq!(planner.plan().await.plan.hosts[0].changes().count(), 2);
    // A connection that has ended is opened again.
    // One of them may go by itself meanwhile.
    host.sh("kill $(pgrep -f 'sshd-session: root') 2>/dev/null; true");
    host.until("! pgrep -f 'sshd-session: root'");
    let cursor = host.now();
    assert_eq!(planner.plan().await.plan.hosts[0].changes().count(), 2);
    assert_eq!(accepted(&host, &cursor), 1);
    // A host that is no longer wanted is not kept.
    planner.setup.pool.as_ref().expect("a pool").keep_only(&[]);
    host.until("! pgrep -f 'sshd-session: root'");
}

#[test]
fn g15_one_session_at_a_time_is_enough_for_a_whole_apply() {
    let host = free();
    let repo = Repo::new("g15-one", &[&host]);
    host.sh("echo 'MaxSessions 1' >/etc/ssh/sshd_config.d/g15.conf; systemctl reload ssh");
    let body = |word: &str| {
        format!(
            "file \"/srv/ID/x\" content=\"{word}\"\nunit \"ID-a\" {{ exec \"/usr/bin/sleep 9999\"\nenv A=\"{word}\" }}
            site \"ID.test\" {{ listen \"127.0.0.1:7911\"\nsnippet \"location / {{ return 200 {word}; }}\" }}"
        )
    };
    for word in ["one", "two"] {
        repo.stack("one", &body(word));
        repo.apply();
        assert_eq!(host.sh("cat /srv/g15-one/x"), word);
    }
    repo.stack("one", &body("three").replace("sleep 9999", "false"));
    let ran = repo.fail();
    assert_eq!(ran.outcomes().into_iter().collect::<Vec<_>>(), ["rolled-back"], "{}", ran.out);
    repo.stack("one", &body("two"));
    repo.is_settled();
    host.sh("rm /etc/ssh/sshd_config.d/g15.conf; systemctl reload ssh");
}

/// Between a plan and its apply somebody may have ended who stayed there.
#[tokio::test]
async fn g15_an_apply_does_without_who_stayed_there() {
    let host = free();
    let repo = Repo::new("g15-gone", &[&host]);
    repo.stack("one", "file \"/srv/ID/x\" content=\"1\"");
    let planner = Planner::new(repo.path());
    let planned = planner.plan().await;
    let stays = observers(&host);
    assert_eq!(stays.lines().count(), 1, "{stays}");
    host.sh(&format!("kill -9 {stays}"));
    let report = engine::apply(&planner.setup, planned, "20260101T000000-0-0", "a test").await;
    assert!(report.hosts.iter().all(|host| host.failures.is_empty() && host.error.is_none()), "{:?}", report.hosts);
    assert_eq!(host.sh("cat /srv/g15-gone/x"), "1");
}
