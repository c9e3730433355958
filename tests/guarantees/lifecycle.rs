//! What happens to containers and services in trouble, on a real host: out of memory, frozen, crashed, without what they
//! need at their start, throttled, stopped, taken down; and what reconcile then says and does.

use std::time::{Duration, Instant};

use crate::kit::{Host, Plan, Ran, Repo, any};

/// A minute is allowed; what cannot work must be found out long before, even while others use the host.
const QUICK: f64 = 40.0;

/// All cases side by side. Each waits for its trouble, which comes with a file.
const COMPOSE: &str = r#"
x-all: &all
  image: lab/busybox:1
  restart: unless-stopped
  stop_grace_period: 1s
  mem_limit: 32m
  memswap_limit: 32m
services:
  memory:
    <<: *all
    command: [sh, -c, "while [ ! -e /boom ]; do sleep 0.1; done; rm /boom; exec dd if=/dev/zero of=/dev/null bs=100M count=1"]
  crash:
    <<: *all
    command: [sh, -c, "while [ ! -e /boom ]; do sleep 0.1; done; rm /boom; exit 3"]
  freeze:
    <<: *all
    command: [httpd, -f, -p, "80", -h, /bin]
    healthcheck: {test: [CMD, wget, -q, -T, "1", -O, /dev/null, "http://127.0.0.1/true"], interval: 1s, timeout: 2s, retries: 2}
  pause:
    <<: *all
    command: [sleep, "1000000"]
  late:
    <<: *all
    command: [sh, -c, "sleep 2; touch /ready; exec sleep 1000000"]
    healthcheck: {test: [CMD, test, -e, /ready], interval: 300ms, retries: 2, start_period: 20s}
  needs:
    <<: *all
    command: [sleep, "1000000"]
    depends_on: {late: {condition: service_healthy}}
  throttled:
    <<: *all
    command: [sh, -c, "while :; do :; done"]
    deploy: {resources: {limits: {cpus: "0.1", memory: 32M}, reservations: {memory: 16M}}}
  stopped:
    <<: *all
    stop_signal: SIGUSR1
    command: [sh, -c, "trap 'echo bye; exit 0' USR1; trap '' TERM; while :; do sleep 0.1; done"]
"#;

fn container(host: &Host, service: &str, format: &str) -> String {
    host.sh(&format!("docker inspect -f '{format}' lifec-app-{service}-1")).trim().to_string()
}

/// What a plan does to containers and units.
fn does(plan: &Plan) -> Vec<String> {
    let effects = plan.changes().flat_map(|change| change["effects"].as_array().into_iter().flatten());
    effects.map(|words| words.as_str().unwrap_or_default().to_string()).collect()
}

#[test]
fn containers_in_trouble() {
    let host = any();
    let repo = Repo::new("lifec", &[&host]);
    repo.write("stacks/app/compose.yaml", COMPOSE);
    let stack = |more: &str| repo.stack("app", &format!("compose \"ID-app\" {{ file \"compose.yaml\"; {more} }}"));
    stack("");
    let begun = Instant::now();
    repo.apply();
    // What it needs at its start was waited for, and so was its own health.
    assert!(begun.elapsed() > Duration::from_secs(2));
    let late = "{{.State.Health.Status}} {{.RestartCount}}";
    assert_eq!(
        (container(&host, "late", late), container(&host, "needs", "{{.State.Status}}")),
        ("healthy 0".into(), "running".into())
    );
    repo.is_settled();

    // Out of memory, and crashed: Docker starts them again, and nothing is left to do. Docker remembers few events, so
    // one listens.
    host.sh("(timeout 120 docker events --filter event=die --filter event=oom --filter container=lifec-app-memory-1 \
            --filter container=lifec-app-crash-1 \
            --format '{{.Actor.Attributes.name}} {{.Action}} {{.Actor.Attributes.exitCode}}' &) \
            >/run/lifec-events 2>&1 </dev/null
        sleep 1; for s in memory crash; do docker exec lifec-app-$s-1 touch /boom; done");
    for (service, died) in [("memory", "137"), ("crash", "3")] {
        let again = "docker inspect -f '{{.RestartCount}} {{.State.Status}}'";
        host.until(&format!("[ \"$({again} lifec-app-{service}-1)\" = '1 running' ]"));
        host.until(&format!("grep -q '^lifec-app-{service}-1 die {died}$' /run/lifec-events"));
    }
    host.until("grep -q '^lifec-app-memory-1 oom' /run/lifec-events");
    repo.is_settled();

    // Throttled: slow, and all is well.
    let group = container(&host, "throttled", "{{.Id}} {{.HostConfig.NanoCpus}} {{.HostConfig.MemoryReservation}}");
    let words: Vec<&str> = group.split(' ').collect();
    assert_eq!(words[1..], ["100000000", "16777216"]);
    host.until(&format!(
        "cat $(find /sys/fs/cgroup -path '*{}*' -name cpu.stat) | grep -q 'nr_throttled [1-9]'",
        words[0]
    ));

    // Frozen, in two ways; stopped by hand, with the signal it asks for: it ended well, and still is to run.
    host.sh(
        "docker kill -s STOP lifec-app-freeze-1 && docker pause lifec-app-pause-1 && docker stop lifec-app-stopped-1",
    );
    assert_eq!(container(&host, "stopped", "{{.State.ExitCode}}"), "0");
    assert_eq!(host.sh("docker logs lifec-app-stopped-1").trim(), "bye");
    host.until("docker ps --filter name=lifec-app-freeze --format '{{.Status}}' | grep -q '(unhealthy)'");
    let plan = repo.plan();
    assert_eq!(does(&plan), ["restart freeze of lifec-app (freeze is unhealthy)", "start stopped; unpause pause"]);
    let details = plan.change("compose:lifec-app")["details"].to_string();
    assert!(details.contains("freeze is unhealthy"), "{details}");
    let status = repo.run(&["status"]).out;
    assert!(status.contains("1 changed on the host"), "{status}");
    // Held, it stays as it is.
    assert_eq!(repo.run(&["hold", "app"]).code, 0);
    assert_eq!(repo.apply().outcome("compose:lifec-app"), "held");
    assert_eq!(container(&host, "pause", "{{.State.Status}}"), "paused");
    assert_eq!(repo.run(&["release", "app"]).code, 0);
    repo.apply();
    assert_eq!(container(&host, "freeze", late), "healthy 0");
    assert_eq!(container(&host, "stopped", "{{.State.Status}}"), "running");
    repo.is_settled();

    // Taken down by hand: Docker starts nothing again, the next apply does.
    host.sh("docker compose -p lifec-app rm -s -f -v crash memory >/dev/null 2>&1");
    assert_eq!(does(&repo.plan()), ["create crash, memory"]);
    repo.apply();

    // Stopped as the repository says: one service, then the project, then the stack.
    stack("stopped \"crash\"");
    assert_eq!(does(&repo.plan()), ["stop crash of lifec-app"]);
    repo.apply();
    repo.is_settled();
    host.sh("docker start lifec-app-crash-1");
    assert_eq!(does(&repo.plan()), ["stop crash of lifec-app"], "what is to be stopped is stopped again");
    stack("running #false");
    repo.apply();
    assert_eq!(host.sh("docker ps -q --filter name=lifec-app"), "");
    repo.is_settled();
    repo.stack("app", "state \"stopped\"\ncompose \"ID-app\" file=\"compose.yaml\"");
    repo.is_settled();
    stack("stopped \"late\"");
    let refused = repo.run(&["check"]).err;
    assert!(refused.contains("`needs` needs `late`, and Compose would start it again"), "{refused}");
}

#[test]
fn services_in_trouble() {
    let host = any();
    // Its systemd may have been started since by another test, and would limit nothing.
    crate::kit::lab(&["docker", &host.name]);
    let repo = Repo::new("lifes", &[&host]);
    let wait = "while [ ! -e /run/lifes-boom ]; do sleep 0.1; done; rm /run/lifes-boom;";
    let notify = "import os, socket, time\nwhile True:\n    link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n    \
        link.connect(os.environ['NOTIFY_SOCKET'])\n    link.send(b'READY=1\\nWATCHDOG=1')\n    time.sleep(0.3)\n";
    repo.write("stacks/units/notify.py", notify);
    let memory = format!(
        "exec \"/bin/sh\" \"-c\" \"{} exec dd if=/dev/zero of=/dev/null bs=100M count=1\"",
        wait.replace("boom", "memory")
    );
    let crash = format!("exec \"/bin/sh\" \"-c\" \"{} exit 3\"", wait.replace("boom", "crash"));
    let units = format!(
        r#"
        unit "ID-memory" {{ {memory}; memory-max "32M"; memory-low "16M"; restart "always" }}
        unit "ID-crash" {{ {crash}; restart "on-failure" }}
        unit "ID-freeze" {{ exec "/usr/bin/python3" "/srv/ID/notify.py"; type "notify"; watchdog "1s"; restart "always" }}
        unit "ID-late" {{
            exec "/bin/sh" "-c" "[ -e /run/lifes-dependency ] || exit 1; exec sleep 1000000"
            restart "always"; restart-sec "300ms"; start-limit-interval "0"
            health within="20s" restarts=50
        }}
        unit "ID-throttled" {{ exec "/bin/sh" "-c" "while :; do :; done"; cpu-quota "10%"; cpu-weight 50 }}
        unit "ID-stopped" {{
            exec "/bin/sh" "-c" "trap 'echo bye; exit 0' INT; trap '' TERM; while :; do sleep 0.1; done"
            kill-signal "SIGINT"; kill-mode "mixed"; timeout-stop "1s"; restart "on-failure"
        }}
        file "/srv/ID/notify.py" source="notify.py"
        "#
    );
    repo.stack("units", &units);
    // What it needs comes while it is tried again and again.
    host.sh("rm -f /run/lifes-*");
    let apply = repo.begin(&["apply", "--yes", "--json"]);
    host.until("systemctl show -P NRestarts lifes-late | grep -q '^[3-9]'");
    host.sh("touch /run/lifes-dependency");
    let ran = crate::kit::finish(apply, Duration::from_mins(1));
    assert_eq!(ran.code, 0, "{ran:?}");
    repo.is_settled();

    // Out of memory, crashed, frozen: systemd starts them again.
    let show =
        |unit: &str, of: &str| host.sh(&format!("systemctl show --value -p {of} lifes-{unit}")).trim().to_string();
    host.sh("touch /run/lifes-memory /run/lifes-crash; systemctl kill -s STOP lifes-freeze");
    for (unit, died) in [("memory", "oom-kill|status=9/KILL"), ("crash", "status=3"), ("freeze", "Watchdog timeout")] {
        host.until(&format!(
            "systemctl show -P NRestarts lifes-{unit} | grep -q 1 && systemctl -q is-active lifes-{unit}"
        ));
        host.until(&format!("journalctl --sync; journalctl -q -u lifes-{unit} | grep -qE '{died}'"));
    }
    repo.is_settled();
    assert_eq!(show("memory", "MemoryMax"), (32 << 20).to_string());

    // Throttled: slow, and all is well.
    assert_eq!(show("throttled", "CPUQuotaPerSecUSec"), "100ms");
    host.until("cat $(find /sys/fs/cgroup -path '*lifes-throttled*' -name cpu.stat) | grep -q 'nr_throttled [1-9]'");

    // Stopped by hand, with the signal it asks for: it comes back.
    host.sh("systemctl stop lifes-stopped");
    host.until("journalctl --sync; journalctl -q -u lifes-stopped | grep -q bye");
    assert_eq!(show("stopped", "Result"), "success");
    assert_eq!(does(&repo.plan()), ["start lifes-stopped"]);
    repo.apply();

    // Stopped as the repository says, until it says otherwise.
    repo.stack("units", &format!("state \"stopped\"\n{units}"));
    repo.apply();
    let running = host.sh("systemctl list-units --no-legend --state=running 'lifes-*'");
    assert_eq!(running, "");
    assert_eq!(show("crash", "UnitFileState"), "disabled");
    repo.is_settled();
}

/// How long an apply took that failed, and that everything was brought back and said so.
fn rolled_back(repo: &Repo, resource: &str, says: &[&str]) -> f64 {
    let begun = Instant::now();
    let ran: Ran = repo.fail();
    let took = begun.elapsed().as_secs_f64();
    assert_eq!((ran.code, ran.outcome(resource)), (4, "rolled-back".to_string()), "{ran:?}");
    let said = ran.json()["hosts"][0]["failures"].to_string();
    for words in says {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
    assert!(!ran.err.contains("hunter2"), "{}", ran.err);
    let run = ran.json()["run"].as_str().expect("its id").to_string();
    assert!(!repo.run(&["history", &run]).out.contains("hunter2"));
    took
}

#[test]
fn g07_a_container_that_does_not_come_up_gives_way_to_the_former() {
    let host = any();
    let mut repo = Repo::new("lifeb", &[&host]);
    repo.env("TOKEN", "hunter2-hunter2");
    repo.stack(
        "app",
        "secret \"token\" env=\"TOKEN\"
        compose \"ID-app\" { file \"compose.yaml\"; env TOKEN=\"{{ secret.token }}\"; health within=\"60s\" }",
    );
    let service = |command: &str, more: &str| {
        let all = "image: lab/busybox:1\n    stop_grace_period: 0s\n    restart: always\n    environment: [TOKEN]";
        format!("services:\n  api:\n    {all}\n    command: [sh, -c, \"{command}\"]\n    {more}\n")
    };
    let write = |text: String| repo.write("stacks/app/compose.yaml", text);
    write(service("exec sleep 1000000", ""));
    repo.apply();
    let look = || {
        (
            host.files("/srv/lifeb*"),
            host.sh("docker ps --no-trunc --format '{{.Image}} {{.Command}}' --filter name=lifeb"),
        )
    };
    let before = look();
    let loops = service("echo token $$TOKEN; exit 3", "");
    let unhealthy = "healthcheck: {test: [CMD, sh, -c, 'echo not $$TOKEN; exit 1'], interval: 1s, retries: 2}";
    let waits = "\n  needs:\n    image: lab/busybox:1\n    command: [sleep, '1000000']\n    stop_grace_period: 0s\n    depends_on: {api: {condition: service_healthy}}\n";
    let slow = "healthcheck: {test: [CMD, 'false'], interval: 30s}";
    // How it ended is known only while it is down, and that it was the memory Docker may say too late.
    for (case, text, says) in [
        ("crash loop", loops.clone(), &["ends again and again", "token ‹secret›"][..]),
        (
            "out of memory again and again",
            service("exec dd if=/dev/zero of=/dev/null bs=100M count=1", "mem_limit: 16m\n    memswap_limit: 16m"),
            &["ends again and again"],
        ),
        (
            "unhealthy",
            service("exec sleep 1000000", unhealthy),
            &["api is unhealthy", "health check, exit 1: not ‹secret›"],
        ),
        // Compose may give up first, at a moment when it runs.
        ("another waits for its health", service("echo $$TOKEN; sleep 0.2; exit 5", &(slow.to_string() + waits)), &[]),
    ] {
        write(text);
        let took = rolled_back(&repo, "compose:lifeb-app", says);
        assert!(took < QUICK, "{case}: {took} s");
        assert_eq!(look(), before, "{case}");
    }
    // Below a time of its own that is too short, it is the time.
    write(service("exec sleep 1000000", slow));
    let stack = std::fs::read_to_string(repo.path().join("stacks/app/stack.kdl")).expect("text");
    repo.write("stacks/app/stack.kdl", stack.replace("60s", "3s"));
    let took = rolled_back(&repo, "compose:lifeb-app", &["is running and not healthy after 3 s"]);
    assert!((3.0..QUICK).contains(&took), "{took}");
    assert_eq!(look(), before);
}

#[test]
fn g07_a_service_that_crashes_is_not_waited_for() {
    let host = any();
    let mut repo = Repo::new("lifeu", &[&host]);
    repo.env("TOKEN", "hunter2-hunter2");
    let unit = |exec: &str, more: &str| {
        let body = format!("exec \"/bin/sh\" \"-c\" \"{exec}\"; {more}");
        let env = "env TOKEN=\"{{ secret.token }}\"; health http=\"http://127.0.0.1:9/\" within=\"60s\"";
        repo.stack("app", &format!("secret \"token\" env=\"TOKEN\"\nunit \"ID-app\" {{ {body}; {env} }}"));
    };
    repo.stack("app", "unit \"ID-app\" exec=\"/bin/sleep 1000000\"");
    repo.apply();
    let before = host.picture("/etc/systemd/system/lifeu*", "lifeu-app.service");
    for (case, exec, more, says) in [
        (
            "crash loop",
            "echo token $TOKEN; exit 3",
            "restart \"always\"; start-limit-interval 0; restart-sec \"500ms\"",
            &["token ‹secret›", "status=3"][..],
        ),
        ("start limit", "exit 4", "restart \"always\"; restart-sec \"10ms\"", &["status=4", "lifeu-app.service"]),
        ("it fails after a while", "sleep 1; exit 5", "restart \"no\"", &["status=5"]),
    ] {
        unit(exec, more);
        let took = rolled_back(&repo, "unit:lifeu-app", says);
        assert!(took < QUICK, "{case}: {took} s");
        host.picture("/etc/systemd/system/lifeu*", "lifeu-app.service").is_as(&before, case);
    }
    // What takes its time may.
    repo.stack("app", "unit \"ID-app\" { exec \"/bin/sleep\" \"1000001\"; health within=\"20s\" steady=\"3s\" }");
    let begun = Instant::now();
    repo.apply();
    assert!(begun.elapsed() > Duration::from_secs(3));
}
