//! New versions take turns with old ones, and no request notices: services in two places behind nginx, on real hosts.

use crate::kit::seesaw::{each, points};
use crate::kit::stop::{How, Stop};
use crate::kit::{Repo, any, finish, free, free_pair};
use crate::versions::{LONG, SERVER, SOCKET, Service, counted};

#[test]
fn no_request_fails_while_versions_take_turns() {
    let host = any();
    let service = Service::new(&host, "turns", 7700, "1s");
    service.version("v1");
    service.repo.apply();
    assert_eq!(service.places(), "blue file enabled runs ");
    let load = service.load();
    for (version, places) in [("v2", "green file enabled runs "), ("v3", "blue file enabled runs ")] {
        service.version(version);
        let plan = service.repo.plan();
        assert!(
            plan.change("unit:turns")["details"].to_string().contains("ExecStart changed"),
            "{:#}",
            plan.0["hosts"]
        );
        service.repo.apply();
        assert_eq!((service.answer(), service.places()), (version.into(), places.into()));
        service.is_settled();
    }
    // A new program is a new version, too, and so is what somebody has changed on the host.
    service.host.sh("echo '# by hand' >>/etc/systemd/system/turns-blue.service; systemctl daemon-reload");
    assert_eq!(service.repo.plan().change("unit:turns")["cause"], "drift");
    service.repo.apply();
    assert_eq!((service.answer(), service.places()), ("v3".into(), "green file enabled runs ".into()));
    service.is_settled();
    let answers = load.end();
    counted("four versions", &answers);
    assert_eq!(answers.keys().collect::<Vec<_>>(), ["v1", "v2", "v3"]);
    assert!(answers.values().all(|count| *count > 20), "{answers:?}");
}

#[test]
fn what_never_gets_healthy_never_takes_a_request() {
    let host = any();
    let service = Service::new(&host, "sick", 7710, "1s");
    service.version("v1");
    service.repo.apply();
    let before = (service.places(), host.invocation("sick-blue"));
    let load = service.load();
    // It answers with an error; it dies at once; it dies a moment later.
    for words in ["v2 sick", "v2 dead", "v2 brief"] {
        service.version(words);
        let ran = service.repo.fail();
        assert_eq!((ran.code, ran.outcome("unit:sick")), (4, "rolled-back".into()), "{words}: {}", ran.out);
        assert_eq!((service.places(), host.invocation("sick-blue")), before, "{words}");
        assert_eq!(host.sh("systemctl show -P LoadState sick-green"), "not-found\n", "{words}");
    }
    let answers = load.end();
    counted("unhealthy versions", &answers);
    assert_eq!(answers.keys().collect::<Vec<_>>(), ["v1"]);
    service.version("v1");
    service.is_settled();
    // Nor is it begun where it would listen at the place of the other.
    let path = service.repo.path().join("stacks/one/stack.kdl");
    let text = std::fs::read_to_string(&path).expect("the stack");
    std::fs::write(path, text.replace("ports 7711 7712", "ports 7712 7711")).expect("written");
    let why = service.repo.plan().refusal("unit:sick");
    assert_eq!(why, "green is to listen at 127.0.0.1:7711, where blue does now");
}

#[test]
fn what_is_open_lives_until_it_ends_or_the_drain_does() {
    let host = any();
    let service = Service::new(&host, "open", 7720, "6s");
    service.version("v1");
    service.repo.apply();
    let socket = |seconds: u8| host.begin(&format!("python3 - 127.0.0.1 7720 {seconds} <<'TEXT'\n{SOCKET}\nTEXT\n"));
    let (short, long) = (socket(6), socket(60));
    host.until("[ $(ss -Htn state established dport = :7721 | wc -l) -ge 2 ]");
    let stream = host.begin("curl -sN 'http://127.0.0.1:7720/stream?4'");
    service.version("v2");
    let run = service.repo.begin(&["apply", "--yes", "--json"]);
    host.until("[ \"$(curl -s http://127.0.0.1:7720/)\" = v2 ]");
    let (stream, short) = (finish(stream, LONG), finish(short, LONG));
    // Both go on with the version that they have begun with, which still runs while the other takes the requests.
    assert!(stream.out.ends_with("v1\nend\n") && !stream.out.contains("v2"), "{stream:?}");
    assert!(short.out.ends_with("open\n") && short.out.starts_with("v1 1\n"), "{short:?}");
    assert_eq!(finish(run, LONG).code, 0);
    // What has not ended by then is cut.
    let long = finish(long, LONG);
    assert!(long.out.ends_with("closed\n") && long.out.contains("v1 30\n"), "{long:?}");
    assert_eq!(service.answer(), "v2");
    service.is_settled();
}

/// Kills whatever holds the lock of a repository on the host: our program there, with all of its shells.
fn kill_there(id: &str) -> String {
    format!(
        "for fd in $(find /proc/[0-9]*/fd -lname /var/lib/reconcile/{id}/lock 2>/dev/null); do
            pid=${{fd#/proc/}}; kill -9 ${{pid%%/*}} 2>/dev/null; done; true"
    )
}

#[test]
fn whichever_end_dies_while_the_old_version_drains_the_new_one_stays() {
    let host = any();
    let service = Service::new(&host, "dies", 7730, "4s");
    service.version("v1");
    service.repo.apply();
    let load = service.load();
    for (version, left) in [("v2", "blue"), ("v3", "green")] {
        service.version(version);
        let mut run = service.repo.begin(&["apply", "--yes", "--json"]);
        let drains = "cd /var/lib/reconcile/dies/run/* && [ -f order ] && ! [ -s order ]";
        host.until(drains);
        assert_eq!(service.answer(), version);
        if version == "v2" {
            // Without its control side, the host comes to the end by itself.
            run.kill().expect("it can be killed");
            finish(run, LONG);
            host.until(&format!("! systemctl is-active -q dies-{left} && ! ls /var/lib/reconcile/dies/run/*"));
        } else {
            host.sh(&kill_there("dies"));
            finish(run, LONG);
            assert!(service.places().contains("green file enabled runs "), "{}", service.places());
            assert!(!service.repo.plan().is_empty(), "it is not over yet");
            service.repo.apply();
        }
        assert!(!service.places().contains(left), "{}", service.places());
        service.is_settled();
    }
    let answers = load.end();
    counted("ends that die", &answers);
    assert_eq!(answers.keys().collect::<Vec<_>>(), ["v1", "v2", "v3"]);
}

#[test]
fn what_the_rollout_of_a_dead_run_has_kept_is_brought_to_its_end_by_the_next_run() {
    let hosts = free_pair();
    let repo = Repo::new("keeps", &[&hosts[0], &hosts[1]]);
    repo.write(
        "hosts/repo.kdl",
        format!(
            "repo \"keeps\" {{ rollout {{ canary \"{}\"; pause \"60s\"; on-failure \"revert\" }} }}\n",
            hosts[0].name
        ),
    );
    repo.write("stacks/one/server.py", SERVER);
    let service = Service { host: &hosts[0], repo, port: 7780, drain: "1s" };
    service.version("v1");
    service.repo.apply_with(&["--pause", "0s"]);
    service.version("v2");
    let mut run = service.repo.begin(&["apply", "--yes", "--json"]);
    hosts[0].until("ls /var/lib/reconcile/keeps/run/*/kept");
    run.kill().expect("it can be killed");
    finish(run, LONG);
    assert_eq!(service.places(), "blue file enabled runs green file enabled runs ");
    // The next plan shows what is still to go, and that is what happens.
    assert!(service.repo.plan().effects().iter().any(|effect| effect.contains("retire")));
    service.repo.apply_with(&["--pause", "0s"]);
    assert_eq!((service.answer(), service.places()), ("v2".into(), "green file enabled runs ".into()));
    service.is_settled();
    // What does not go, once the rollout is over, is said.
    service.version("v3");
    hosts[0].sh(
        "cat >/usr/local/bin/keeps <<'TEXT'\n#!/bin/sh\ncase \"$*\" in *disable*keeps-*) exit 1 ;; esac\nexec /usr/bin/systemctl \"$@\"\nTEXT
        chmod 755 /usr/local/bin/keeps; mv /usr/local/bin/keeps /usr/local/bin/systemctl",
    );
    let ran = service.repo.run(&["apply", "--yes", "--json", "--pause", "0s"]);
    hosts[0].sh("rm /usr/local/bin/systemctl");
    let what = ran.json()["hosts"].to_string();
    assert!(what.contains("what served until then stays: run") && ran.code == 3, "{}", ran.out);
    service.repo.apply();
    service.is_settled();
}

#[test]
fn g14_what_is_not_told_that_the_rollout_is_over_is_no_success() {
    let hosts = free_pair();
    let repo = Repo::new("untold", &[&hosts[0], &hosts[1]]);
    let name = &hosts[0].name;
    repo.write(
        "hosts/repo.kdl",
        format!("repo \"untold\" {{ rollout {{ canary \"{name}\"; pause \"5s\"; on-failure \"revert\" }} }}\n"),
    );
    repo.write("stacks/one/server.py", SERVER);
    let service = Service { host: &hosts[0], repo, port: 7783, drain: "1s" };
    service.version("v1");
    service.repo.apply_with(&["--pause", "0s"]);
    service.version("v2");
    let run = service.repo.begin(&["apply", "--yes", "--json", "--lock-wait", "0"]);
    hosts[0].until("ls /var/lib/reconcile/untold/run/*/kept");
    // Somebody else is at work there when the rollout is over.
    hosts[0].sh("touch /srv/untold-busy");
    let other = "exec 9>/var/lib/reconcile/untold/lock; flock 9; while [ -e /srv/untold-busy ]; do sleep 0.1; done";
    let other = hosts[0].begin(other);
    let ran = finish(run, LONG);
    hosts[0].sh("rm /srv/untold-busy");
    finish(other, LONG);
    let report = ran.json();
    let of = |host: &&serde_json::Value| host["host"] == name.as_str();
    let canary = report["hosts"].as_array().expect("hosts").iter().find(of).expect("the canary");
    assert_eq!((ran.code, &canary["outcomes"]["unit:untold"]), (3, &"failed".into()), "{}", ran.out);
    let what = canary["failures"][0]["what"].as_str().unwrap_or_default();
    assert!(what.starts_with("what served until then stays: another run holds the lock"), "{}", ran.out);
    assert_eq!(
        (service.answer(), service.places()),
        ("v2".into(), "blue file enabled runs green file enabled runs ".into())
    );
    // It goes with the next run, whose plan says so.
    let settle = |left: &str| {
        assert!(service.repo.plan().effects().iter().any(|effect| effect.contains("retire")));
        service.repo.apply_with(&["--pause", "0s"]);
        assert_eq!(service.places(), left);
        service.is_settled();
    };
    settle("green file enabled runs ");
    // Somebody else was there meanwhile, and did something else.
    service.version("v3");
    let run = service.repo.begin(&["apply", "--yes", "--json"]);
    hosts[0].until("ls /var/lib/reconcile/untold/run/*/kept");
    service.repo.stack("other", "file \"/srv/ID/other\" content=\"x\"");
    service.repo.apply_with(&["--stack", "other", "--host", name]);
    let ran = finish(run, LONG);
    assert!(
        ran.code == 3 && ran.out.contains("what served until then may run on: what was kept is gone"),
        "{}",
        ran.out
    );
    settle("blue file enabled runs ");
}

#[test]
fn what_a_service_reads_may_be_of_another_stack() {
    let host = any();
    let service = Service::new(&host, "reads", 7790, "1s");
    let conf = |text: &str| service.repo.stack("zone", &format!("file \"/srv/ID/conf\" content=\"{text}\""));
    service.version("v1");
    let path = service.repo.path().join("stacks/one/stack.kdl");
    let text = std::fs::read_to_string(&path).expect("the stack");
    let text = text.replace("health http", "restart-on \"/srv/reads/conf\"\nhealth http");
    std::fs::write(
        &path,
        text.replace(
            "/usr/bin/python3",
            "/bin/sh -c 'cp /srv/reads/conf /srv/reads/runs-with; exec /usr/bin/python3 \\\"$0\\\" \\\"$@\\\"'",
        ),
    )
    .expect("written");
    conf("one");
    service.repo.apply();
    let runs_with = || host.sh("cat /srv/reads/runs-with");
    assert_eq!(runs_with(), "one");
    conf("two");
    assert!(service.repo.plan_with(&["--stack", "one"]).is_empty());
    service.repo.apply();
    assert_eq!((runs_with().as_str(), service.places().as_str()), ("two", "green file enabled runs "));
    service.is_settled();
    // By itself the file asks for a turn that the next run takes.
    conf("three");
    service.repo.apply_with(&["--stack", "zone"]);
    assert_eq!((runs_with().as_str(), service.places().as_str()), ("two", "green file enabled runs "));
    let plan = service.repo.plan();
    assert_eq!(plan.change("unit:reads")["cause"], "owed", "{:#}", plan.0["hosts"]);
    service.repo.apply();
    assert_eq!((runs_with().as_str(), service.places().as_str()), ("three", "blue file enabled runs "));
    service.is_settled();
}

#[test]
fn a_turn_that_nobody_confirms_is_taken_back_and_no_request_fails() {
    let host = any();
    let service = Service::new(&host, "unsure", 7740, "1s");
    service.version("v1");
    service.repo.apply();
    let before = (service.places(), host.invocation("unsure-blue"));
    let load = service.load();
    service.version("v2");
    let mut run = service.repo.begin(&["apply", "--yes", "--json", "--confirm", "3"]);
    // It dies when the new version is up, before it could confirm.
    host.until("systemctl is-active -q unsure-green");
    run.kill().expect("it can be killed");
    finish(run, LONG);
    host.until("! ls /var/lib/reconcile/unsure/run/*");
    assert_eq!((service.places(), host.invocation("unsure-blue")), before);
    // Another thing that fails after the turn: the site itself.
    let body = |more: &str| {
        let path = service.repo.path().join("stacks/one/stack.kdl");
        let text = std::fs::read_to_string(&path).expect("the stack");
        std::fs::write(path, text.replace("to=\"unit:unsure\"", &format!("to=\"unit:unsure\"\n{more}")))
            .expect("written");
    };
    body(
        "health http=\"http://127.0.0.1:7740/x\" host=\"unsure.test\" within=\"1s\"\nredirect \"/x\" to=\"http://127.0.0.1:7749/\"\nhealth tcp=7749 within=\"1s\"",
    );
    let ran = service.repo.fail();
    assert_eq!(ran.code, 4, "{}", ran.out);
    assert_eq!((service.places(), host.invocation("unsure-blue")), before);
    let answers = load.end();
    counted("turns taken back", &answers);
    assert!(answers.contains_key("v2"), "it did take requests: {answers:?}");
    service.version("v1");
    service.is_settled();
}

#[test]
fn a_plain_service_becomes_one_of_two_and_goes_back() {
    let host = any();
    let service = Service::new(&host, "plain", 7750, "1s");
    let plain = |version: &str| {
        service.repo.stack(
            "one",
            &format!(
                "file \"/srv/ID/server.py\" source=\"server.py\"
                unit \"ID\" {{\nexec \"/usr/bin/python3 /srv/ID/server.py {version} 7753\"\nlisten 7753\nhealth http=\"/health\"\n}}
                site \"ID.test\" {{ listen \"127.0.0.1:7750\"\nproxy \"/\" to=\"unit:ID\" }}"
            ),
        );
    };
    plain("v1");
    service.repo.apply();
    let load = service.load();
    service.version("v2");
    service.repo.apply();
    assert_eq!((service.answer(), service.places()), ("v2".into(), "blue file enabled runs ".into()));
    assert_eq!(host.sh("systemctl show -P LoadState plain"), "not-found\n");
    service.is_settled();
    let answers = load.end();
    counted("from one place to two", &answers);
    // The way back takes a moment: what runs is stopped before the only place is taken.
    plain("v3");
    let plan = service.repo.plan();
    assert!(plan.effects().contains("stop plain-blue.service"), "{:#}", plan.0["hosts"]);
    service.repo.apply();
    assert_eq!((service.answer(), service.places()), ("v3".into(), String::new()));
    service.is_settled();
    // What is no longer wanted goes altogether.
    service.version("v4");
    service.repo.apply();
    service.repo.drop_stack("one");
    service.repo.apply_all_the_same();
    assert_eq!(service.places(), "");
    assert_eq!(host.sh("ls /etc/nginx/conf.d /etc/nginx/sites-enabled | grep plain; true"), "");
}

#[test]
fn a_stack_with_two_places_stops_where_it_is_and_runs_there_again() {
    let host = free();
    let service = Service::new(&host, "rests", 7795, "1s");
    let file = service.repo.path().join("stacks/one/stack.kdl");
    let rest = || {
        let stack = std::fs::read_to_string(&file).expect("a stack");
        service.repo.write("stacks/one/stack.kdl", stack.replacen('{', "{\nstate \"stopped\"\n", 1));
    };
    service.version("v1");
    service.repo.apply();
    // What changes meanwhile takes no turn.
    service.version("v2");
    rest();
    assert!(service.repo.plan().effects().contains("stop rests-blue.service"));
    service.repo.apply();
    assert_eq!(service.places(), "blue file ");
    service.is_settled();
    service.version("v2");
    service.repo.apply();
    assert_eq!((service.answer(), service.places()), ("v2".into(), "blue file enabled runs ".into()));
    service.is_settled();
    service.repo.drop_stack("one");
    service.repo.apply_all_the_same();
    service.repo.write("stacks/one/server.py", SERVER);
    service.composed("c1", "1");
    service.repo.apply();
    assert_eq!(service.answer(), "c1");
    rest();
    let stopped = service.repo.plan();
    assert_eq!(stopped.0["hosts"][0]["stacks"][0]["changes"][0]["cause"], "repository", "{:#}", stopped.0["hosts"]);
    service.repo.apply();
    assert_eq!(service.containers().len(), 0);
    service.is_settled();
    service.composed("c1", "1");
    service.repo.apply();
    assert_eq!(service.answer(), "c1");
    service.is_settled();
}

#[test]
fn wherever_the_host_dies_no_request_fails_and_the_next_run_repairs() {
    let host = free();
    let service = Service::new(&host, "everywhere", 7760, "1s");
    service.version("v1");
    service.repo.apply();
    let stop = Stop::on(&host);
    let mut number = 1;
    let mut next = || {
        number += 1;
        service.version(&format!("v{number}"));
        format!("v{number}")
    };
    stop.at(0, "*", How::Kill);
    next();
    service.repo.apply();
    let (count, _) = stop.release();
    let load = service.load();
    each("dies", &mut [next], points(count, 5), |next, number| {
        let version = next();
        stop.at(number, "*", How::Kill);
        let ran = service.repo.run(&["apply", "--yes", "--json", "--confirm", "0"]);
        let (_, place) = stop.release();
        let when = format!("{number} of {count} ({place}): {}", ran.code);
        service.repo.apply_with(&["--confirm", "0"]);
        assert_eq!(service.answer(), version, "{when}");
        assert_eq!(service.places().matches("runs").count(), 1, "{when}: {}", service.places());
        service.is_settled();
        when
    });
    counted("wherever the host dies", &load.end());
}

#[test]
fn services_of_compose_take_turns_as_those_of_systemd_do() {
    let host = free();
    crate::kit::lab(&["docker", &host.name]);
    let service = Service::new(&host, "boats", 7770, "2s");
    service.composed("v1", "one");
    service.repo.apply();
    service.is_settled();
    let names = || service.containers().into_keys().collect::<Vec<_>>().join(" ");
    assert_eq!(names(), "side web-blue");
    let before = service.containers();
    let load = service.load();
    // What is not about it does not move it.
    service.composed("v1", "two");
    assert!(!service.repo.plan().effects().iter().any(|effect| effect.contains("turn")));
    service.repo.apply();
    assert_eq!(service.containers()["web-blue"], before["web-blue"]);
    assert_ne!(service.containers()["side"], before["side"]);
    for (version, runs) in [("v2", "side web-green"), ("v3", "side web-blue")] {
        service.composed(version, "two");
        service.repo.apply();
        assert_eq!((service.answer(), names()), (version.into(), runs.into()));
        service.is_settled();
    }
    // A file that it mounts is a new version, too.
    service.repo.write("stacks/one/server.py", format!("{SERVER}\n# The same.\n"));
    service.repo.apply();
    assert_eq!((service.answer(), names()), ("v3".into(), "side web-green".into()));
    service.is_settled();
    // What is not healthy never takes a request.
    let before = service.containers();
    for words in ["v4 sick", "v4 dead"] {
        service.composed(words, "two");
        let ran = service.repo.fail();
        assert_eq!((ran.code, ran.outcome("compose:boats")), (4, "rolled-back".into()), "{words}: {}", ran.out);
        assert_eq!(service.containers(), before, "{words}");
    }
    // The host dies while the old one drains.
    service.composed("v5", "two");
    let run = service.repo.begin(&["apply", "--yes", "--json"]);
    host.until("cd /var/lib/reconcile/boats/run/* && [ -f order ] && ! [ -s order ]");
    host.sh(&kill_there("boats"));
    finish(run, LONG);
    assert_eq!((service.answer(), names()), ("v5".into(), "side web-blue web-green".into()));
    service.repo.apply();
    assert_eq!(names(), "side web-blue");
    service.is_settled();
    let answers = load.end();
    counted("services of Compose", &answers);
    assert_eq!(answers.keys().collect::<Vec<_>>(), ["v1", "v2", "v3", "v5"]);
    // It rests with all of its project.
    let path = service.repo.path().join("stacks/one/stack.kdl");
    let text = std::fs::read_to_string(&path).expect("the stack");
    std::fs::write(path, text.replace("file \"compose.yaml\"", "file \"compose.yaml\"\nrunning #false"))
        .expect("written");
    service.repo.apply();
    assert_eq!(names(), "");
    service.repo.is_settled();
    service.repo.drop_stack("one");
    service.repo.apply_all_the_same();
    assert_eq!(names(), "");
}
