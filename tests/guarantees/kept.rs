//! 15: what stays between two plans of one process.

use crate::kit::{Host, Repo, free};
use crate::planner::Planner;

fn accepted(host: &Host, cursor: &str) -> usize {
    let said =
        |entry: &serde_json::Value| entry["MESSAGE"].as_str().is_some_and(|said| said.contains("Accepted publickey"));
    host.since(cursor).iter().filter(|entry| said(entry)).count()
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
