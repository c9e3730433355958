//! 9: what was set up by hand is taken over as it is.

use crate::kit::{Repo, free};

const SETUP: &str = r#"
    set -e
    cd /etc/systemd/system
    printf '[Unit]\nDescription=Än "old" one\n\n# by hand\n[Service]\nExecStart=/usr/bin/sleep 77777\n\n[Install]\nWantedBy=multi-user.target\n' >g09-adopt-a.service
    mkdir -p g09-adopt-a.service.d
    printf '[Service]\nLimitNOFILE=4096\n' >g09-adopt-a.service.d/10-limits.conf
    printf '[Service]\nExecStart=/usr/bin/sleep 77778\n[Install]\nWantedBy=multi-user.target\n' >g09-adopt-idle.service
    printf '[Service]\nExecStart=/bin/true\n' >g09-adopt-tick.service
    printf '[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n' >g09-adopt-tick.timer
    printf '[Service]\nEnvironment=TOKEN=hunter2-of-g09\nExecStart=/usr/bin/sleep 77779\n' >g09-adopt-closed.service
    chmod 600 g09-adopt-closed.service
    printf '[Service]\nExecStart=/usr/bin/sleep 77780\n' >g09-adopt-odd.service
    chmod 755 g09-adopt-odd.service
    systemctl daemon-reload
    systemctl enable --now --quiet g09-adopt-a g09-adopt-tick.timer
    cd /etc/nginx
    printf 'server { listen 7951; server_name adopt.test; location / { return 200 "hi"; } }\n' >sites-available/g09-adopt.test
    ln -s ../sites-available/g09-adopt.test sites-enabled/g09-adopt.test
    printf 'server { listen 7952; location / { return 200 "in"; } }\n' >conf.d/g09-adopt.conf
    printf 'client_body_timeout 61s;\n' >conf.d/g09-adopt-global.conf
    nginx -t -q
    systemctl reload nginx
    mkdir -p /srv/g09-adopt-dir/conf
    cd /srv/g09-adopt-dir
    printf 'name: g09-adopt-app\nservices:\n  web:\n    image: lab/busybox:1\n    init: true\n    command: sleep 9999\n    environment: {WORD: "${WORD}"}\n    volumes: ["./conf/app.conf:/app.conf:ro", "./data:/data"]\n' >compose.yaml
    echo WORD=hunter2-of-g09 >.env
    echo 'a = 1' >conf/app.conf
    chown -R deploy:deploy .
    docker compose up -d --quiet-pull
"#;

/// What runs, and since when; and which files are there, by their inodes.
const RUNNING: &str = r"
    systemctl show -p Id,InvocationID,ActiveState,UnitFileState g09-adopt-a g09-adopt-idle g09-adopt-tick g09-adopt-tick.timer nginx
    docker inspect -f '{{.Id}} {{.State.StartedAt}}' g09-adopt-app-web-1
    ps -o pid=,lstart= --ppid $(cat /run/nginx.pid)
    find /etc/systemd/system /etc/nginx /srv/g09-adopt-dir -printf '%p %m %u %g %i %T@ %l\n' | sort";

const ONLY: [&str; 8] = [
    "unit:g09-adopt-a",
    "unit:g09-adopt-idle",
    "unit:g09-adopt-tick",
    "unit:g09-adopt-tick.timer",
    "unit:g09-adopt-odd",
    "site:g09-adopt.test",
    "site:g09-adopt",
    "compose:g09-adopt-app",
];

#[test]
fn g09_what_was_set_up_by_hand_is_adopted_and_nothing_is_touched() {
    let host = free();
    let (name, adopted) = (host.name.as_str(), format!("adopted-{}", host.name));
    let sweep = "rm -f /etc/nginx/conf.d/g09-adopt*; systemctl reload nginx";
    let repo = Repo::new("g09-adopt", &[&host]);
    host.sh(sweep);
    host.sh(SETUP);
    let before = host.sh(RUNNING);
    let only: Vec<&str> = ONLY.iter().flat_map(|id| ["--only", id]).collect();
    let ran = repo.run(
        &[&["adopt", name, "--json", "--only", "file:/etc/nginx/conf.d/g09-adopt-global.conf"], &only[..]].concat(),
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    let json = ran.json();
    assert_eq!(json["adopted"].as_array().map(Vec::len), Some(8), "{json:#}");
    assert!(
        json["left_out"].to_string().contains("it is 0755 root:root there"),
        "what cannot be said as it is is left out: {json:#}"
    );
    // The bytes are the same, and secrets stay where they are.
    let copied =
        |path: &str| std::fs::read_to_string(repo.path().join(format!("stacks/{adopted}")).join(path)).unwrap();
    for (copy, path) in [
        ("systemd/g09-adopt-a.service", "/etc/systemd/system/g09-adopt-a.service"),
        ("nginx/sites-available/g09-adopt.test", "/etc/nginx/sites-available/g09-adopt.test"),
        ("compose/g09-adopt-app/conf/app.conf", "/srv/g09-adopt-dir/conf/app.conf"),
    ] {
        assert_eq!(copied(copy), host.sh(&format!("cat {path}")));
    }
    let grep = std::process::Command::new("grep").args(["-r", "hunter2", repo.path().as_str()]).output().unwrap();
    assert!(grep.stdout.is_empty() && !ran.out.contains("hunter2") && !ran.err.contains("hunter2"));
    // Written is not adopted.
    let plan = repo.plan();
    assert!(
        ONLY.iter().filter(|id| !id.contains("odd")).all(|id| !plan.refusal(id).is_empty()),
        "{:#}",
        plan.0["hosts"]
    );
    let next: Vec<&str> = json["next"].as_str().unwrap().split(' ').skip(1).collect();
    let ran = repo.run(&[&next[..], &["--yes", "--json"]].concat());
    assert_eq!((ran.code, ran.outcomes().into_iter().collect::<Vec<_>>()), (0, vec!["applied".into()]), "{ran:?}");
    repo.is_settled();
    assert_eq!(host.sh(RUNNING), before, "nothing is restarted, nothing written anew");
    // What is described is not described again, and nothing is overwritten.
    assert_eq!(repo.run(&["adopt", name]).code, 1);
    let again = repo.run(&[&["adopt", name, "--stack", "again", "--json"], &only[..]].concat()).json();
    assert_eq!((again["written"].as_array().map(Vec::len), repo.plan().is_empty()), (Some(0), true), "{again:#}");
    // A change is from now on exactly that change.
    let changed = copied("systemd/g09-adopt-a.service").replace("77777", "77787");
    repo.write(&format!("stacks/{adopted}/systemd/g09-adopt-a.service"), changed);
    let plan = repo.plan();
    assert_eq!(plan.paths().into_iter().collect::<Vec<_>>(), ["/etc/systemd/system/g09-adopt-a.service"]);
    let effects: Vec<String> = plan.effects().into_iter().collect();
    assert_eq!(effects, ["daemon-reload", "restart g09-adopt-a.service"]);
    repo.apply();
    repo.is_settled();
    // In one go, where the person says so beforehand.
    repo.drop_stack(&adopted);
    host.sh("rm -r /var/lib/reconcile/g09-adopt");
    let before = host.sh(RUNNING);
    let ran = repo.run(&[&["adopt", name, "--yes"], &only[..]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    repo.is_settled();
    assert_eq!(host.sh(RUNNING), before);
    host.sh(sweep);
}
