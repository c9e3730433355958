//! 2, 3 and 4: a plan only reads, works on a blank host, and the second one is empty.

use std::collections::{BTreeMap, BTreeSet};

use crate::kit::{Repo, alone, any, free, lab};

const COMPOSE: &str = "services:\n  one:\n    image: lab/busybox:1\n    command: [sleep, \"9999\"]\n    environment:\n      A: \"1\"\n  two:\n    image: lab/busybox:1\n    command: [sleep, \"9999\"]\n";

/// A service of which everything changes: its image, its environment, and a file that it mounts.
const MOUNTS: &str = "services:\n  one:\n    image: lab/busybox:${TAG}\n    init: true\n    command: [sleep, \"9999\"]\n    env_file: [env]\n    volumes: [\"./conf:/conf\"]\n";

/// Something of every kind that needs no engine.
fn every_kind(value: &str) -> String {
    format!(
        "packages \"curl\"
        directory \"/srv/ID\" mode=\"0750\" group=\"www-data\"
        file \"/srv/ID/x\" content=\"{value}\" {{ on-change restart=\"ID-a\" }}
        file \"/srv/ID/link\" link=\"/srv/ID/{value}\"
        file \"/srv/ID/bin\" mode=\"0755\" content=\"#!/bin/sh\\nexec sleep 9999 # {value}\\n\"
        unit \"ID-a\" {{ exec \"/usr/bin/sleep 9999\"\nenv A=\"{value}\" }}
        unit \"ID-off\" exec=\"/usr/bin/sleep 9999\" enabled=#false running=#false
        unit \"cron\" {{ drop-in \"ID\" content=\"[Unit]\\nDescription={value}\\n\" }}
        timer \"ID-job\" on-calendar=\"daily\" exec=\"/usr/bin/true {value}\"
        site \"ID.test\" {{ listen \"127.0.0.1:7501\"\nsnippet \"location / {{ return 200 {value}; }}\" }}"
    )
}

#[test]
fn g04_the_second_run_is_empty_and_a_commit_touches_one_stack_only() {
    let host = any();
    let repo = Repo::new("g04", &[&host]);
    repo.write("stacks/app/compose.yaml", COMPOSE);
    repo.stack("app", "compose \"ID-app\" { file \"compose.yaml\" }");
    repo.stack("kinds", &every_kind("one"));
    repo.stack("other", "file \"/srv/ID-other/x\" content=\"other\"");
    repo.apply();
    repo.is_settled();
    for (stack, body) in [
        ("kinds", every_kind("two")),
        ("other", "file \"/srv/ID-other/x\" content=\"another\"".into()),
        ("app", "compose \"ID-app\" { file \"compose.yaml\"\nenv TAG=\"2\" }".into()),
    ] {
        repo.stack(stack, &body);
        assert_eq!(repo.plan().stack_names(), [stack]);
        repo.apply();
        repo.is_settled();
    }
    repo.write("stacks/app/compose.yaml", COMPOSE.replace("A: \"1\"", "A: \"2\""));
    let before = host.sh("docker inspect -f '{{.Id}}' g04-app-two-1");
    assert_eq!(repo.plan().stack_names(), ["app"]);
    repo.apply();
    repo.is_settled();
    assert_eq!(host.sh("docker inspect -f '{{.Id}}' g04-app-two-1"), before, "the other service is left alone");
    // What is no longer wanted goes, and then that is all.
    for stack in ["app", "kinds"] {
        repo.drop_stack(stack);
    }
    repo.apply_all_the_same();
    repo.is_settled();
    assert_eq!(host.sh("ls /etc/systemd/system /etc/nginx/sites-enabled /srv | grep -x 'g04.*'; docker ps -aq --filter label=com.docker.compose.project=g04-app"), "g04-other\n");
}

/// System calls that change something, unless they are on what is nobody's state.
fn writes(trace: &str) -> Vec<String> {
    let mut parent: BTreeMap<&str, &str> = BTreeMap::new();
    let mut private = BTreeSet::new();
    let mut shells = BTreeSet::new();
    let pid = |line: &'_ str| {
        line.split_once(' ').map(|(pid, call)| (pid.trim_end_matches(':').to_string(), call.trim_start().to_string()))
    };
    let lines: Vec<(String, String)> = trace.lines().filter_map(pid).collect();
    for (pid, call) in &lines {
        let forked = ["clone", "clone3", "vfork", "fork"]
            .iter()
            .any(|name| call.starts_with(name) || call.starts_with(&format!("<... {name} resumed")));
        if let (true, Some((_, child))) = (forked, call.rsplit_once(" = ")) {
            parent.insert(child.split(' ').next().unwrap_or_default(), pid);
        }
        if call.starts_with("unshare(CLONE_NEWNS") {
            private.insert(pid.as_str());
        }
        if call.starts_with("execve(") && call.contains("\"-c\"") {
            shells.insert(pid.as_str());
        }
    }
    let below = |pid: &str, roots: &BTreeSet<&str>| {
        std::iter::successors(Some(pid), |pid| parent.get(*pid).copied()).take(100).any(|pid| roots.contains(pid))
    };
    let changing = [
        "rename", "unlink", "mkdir", "rmdir", "chmod", "fchmod", "chown", "fchown", "lchown", "symlink", "link",
        "mknod", "truncate", "mount", "utime",
    ];
    assert!(
        lines.iter().any(|(pid, _)| below(pid, &shells)) && !private.is_empty(),
        "the trace shows our program and its namespace"
    );
    let odd = lines.iter().filter(|(pid, call)| {
        let opens =
            call.starts_with("open") && ["O_WRONLY", "O_RDWR", "O_CREAT"].iter().any(|flag| call.contains(flag));
        let harmless = call.contains("\"/dev/null\"")
            || call.contains("/run/motd.dynamic")
            || call.contains("\"/dev/tty\"")
            || call.contains(" = -1 ");
        (opens || changing.iter().any(|name| call.starts_with(name)))
            && !harmless
            && below(pid, &shells)
            && !below(pid, &private)
    });
    odd.map(|(pid, call)| format!("{pid} {call}")).collect()
}

#[test]
fn g02_a_plan_with_changes_writes_nothing() {
    let host = free();
    // What Debian does by the clock: at midnight it copies what dpkg knows.
    host.sh(
        "systemctl stop dpkg-db-backup.timer apt-daily.timer apt-daily-upgrade.timer logrotate.timer 2>/dev/null; true",
    );
    let repo = Repo::new("g02", &[&host]);
    let app = |value: &str| {
        repo.write("stacks/app/compose.yaml", MOUNTS);
        repo.write("stacks/app/env", format!("A={value}\n"));
        repo.write("stacks/app/conf", value);
        repo.stack("app", &format!("compose \"ID-app\" {{ file \"compose.yaml\"\nenv TAG=\"{value}\" }}"));
    };
    repo.stack("kinds", &every_kind("one"));
    app("1");
    repo.apply();
    repo.stack("kinds", &every_kind("two"));
    app("2");
    repo.stack("new", "unit \"ID-new\" exec=\"/usr/bin/sleep 1\"\nsite \"ID-new.test\" { listen \"127.0.0.1:7502\"\nroot \"/srv/ID\" }");
    // Times of change tell of every write. What sshd, systemd, the journal and containerd write by themselves is left out.
    let all = || {
        host.sh(
            "find / \\( -path /proc -o -path /sys -o -path /dev -o -path /run/log -o -path /var/log/journal -o -path /run/user \
                -o -path /var/log/wtmp -o -path /var/log/lastlog -o -path /var/log/btmp -o -path /run/utmp -o -path /run/systemd \
                -o -path /tmp/g02 -o -path /run/motd.dynamic -o -path /var/lib/systemd -o -path /var/log/wtmp.db -o -path /var/lib/wtmpdb -o -path /var/lib/lastlog -o -path /var/lib/containerd -o -path /run/containerd -o -path /run/docker \\) -prune \
                -o -printf '%p %y %m %U:%G %s %T@ %C@ %l\\n' | grep -v -e '^/tmp d' -e '^/run d' | sort",
        )
    };
    let mut strace = host.begin("rm -f /tmp/g02; exec strace -f -q -s 60 -o /tmp/g02 -e trace=%file,%process,fchmod,fchown,unshare,mount -p $(systemctl show -P MainPID ssh)");
    host.until("[ -e /tmp/g02 ]");
    let before = all();
    let plan = repo.plan();
    let (was, is) = (before, all());
    assert!(plan.effects().contains("container recreate one"), "{:?}", plan.effects());
    host.sh("kill -INT $(pgrep -x strace)");
    _ = strace.wait();
    assert!(
        plan.changes().count() > 8 && plan.changes().all(|change| change["refused"].is_null()),
        "{:#}",
        plan.0["hosts"]
    );
    let (was, is): (BTreeSet<&str>, BTreeSet<&str>) = (was.lines().collect(), is.lines().collect());
    let other: Vec<&&str> = was.symmetric_difference(&is).collect();
    assert!(other.is_empty(), "{other:#?}");
    let odd = writes(&host.sh("cat /tmp/g02; rm /tmp/g02"));
    assert!(odd.is_empty(), "{odd:#?}");
    for args in [&["status"][..], &["drift"], &["plan", "--full"]] {
        let before = all();
        repo.run(args);
        assert_eq!(before, all(), "{args:?}");
    }
}

#[test]
fn g03_a_blank_host_is_planned_and_set_up_in_one_go() {
    let host = alone("blank-1");
    if host.try_sh("command -v nginx").0 {
        lab(&["reset", "blank-1"]);
    }
    let repo = Repo::new("g03", &[&host]);
    repo.stack(
        "web",
        "packages \"nginx-light\"
        directory \"/srv/ID/www\"
        file \"/srv/ID/www/index.html\" content=\"hello\"
        unit \"ID-api\" { exec \"/srv/ID/api\"\nhealth tcp=7601\nlisten 7601 }
        file \"/srv/ID/api\" mode=\"0755\" content=\"#!/bin/sh\\nexec perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(Listen => 5, LocalAddr => qq(127.0.0.1:7601)); while (my $c = $s->accept) { while (<$c>) { last if length($_) < 3 } print $c qq(HTTP/1.0 200 OK\\\\r\\\\n\\\\r\\\\napi); close $c }'\\n\"
        site \"ID.test\" { listen \"127.0.0.1:7602\"\nroot \"/srv/ID/www\"\nproxy \"/api\" to=\"unit:ID-api\" }",
    );
    let before = host.files("/etc /srv /var/lib/dpkg");
    let plan = repo.plan();
    assert!(plan.changes().all(|change| change["refused"].is_null()), "{:#}", plan.0["hosts"]);
    assert!(plan.effects().iter().any(|effect| effect == "install"), "{:?}", plan.effects());
    assert!(repo.run(&["plan"]).out.contains("nginx-light"));
    assert_eq!(host.files("/etc /srv /var/lib/dpkg"), before);
    repo.apply_with(&["--expect", &plan.digest()]);
    repo.is_settled();
    let ask = "exec 3<>/dev/tcp/127.0.0.1/7602; printf 'GET %s HTTP/1.0\\r\\nHost: g03.test\\r\\n\\r\\n' \"$1\" >&3; tail -n 1 <&3";
    let get = |path: &str| host.sh(&format!("cat >/tmp/ask <<'END'\n{ask}\nEND\nbash /tmp/ask {path}"));
    assert_eq!((get("/").trim(), get("/api").trim()), ("hello", "api"));
}
