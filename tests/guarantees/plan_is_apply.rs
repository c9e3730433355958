//! 1: the plan lists every effect, and nothing else happens.

use std::collections::{BTreeMap, BTreeSet};

use crate::kit::{Host, Plan, Repo, free};

/// How a host is before or after an apply, as far as an effect could show.
struct Look {
    files: BTreeMap<String, String>,
    /// `InvocationID` and `NeedDaemonReload` of each unit.
    units: BTreeMap<String, (String, String)>,
    workers: String,
    cursor: String,
}

impl Look {
    fn at(host: &Host, id: &str) -> Look {
        let said = host.sh(&format!(
            "cd /etc/systemd/system; units=$(ls -d {id}*.service {id}*.timer 2>/dev/null)
            systemctl show -p Id,InvocationID,NeedDaemonReload nginx.service cron.service $units"
        ));
        let mut units = BTreeMap::new();
        for block in said.split("\n\n") {
            let values: BTreeMap<&str, &str> = block.lines().filter_map(|line| line.split_once('=')).collect();
            let value = |key: &str| values.get(key).copied().unwrap_or_default().to_string();
            units.insert(value("Id"), (value("InvocationID"), value("NeedDaemonReload")));
        }
        Look {
            files: host.files("/etc /srv"),
            units,
            workers: host.sh("pgrep -f 'nginx: worker process$' | sort"),
            cursor: host.now(),
        }
    }
}

/// The effects that a host shows: jobs of systemd, daemon-reloads, new workers of nginx, links of enabled units.
fn seen(host: &Host, id: &str, before: &Look, after: &Look) -> BTreeSet<String> {
    let mut jobs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut effects = BTreeSet::new();
    for entry in host.since(&before.cursor) {
        let text = |field: &str| entry[field].as_str().unwrap_or_default().to_string();
        if text("_PID") != "1" {
            continue;
        }
        if text("MESSAGE").starts_with("Reloading.") && text("UNIT").is_empty() {
            assert!(effects.insert("daemon-reload".to_string()), "more than one daemon-reload");
        } else if !text("JOB_RESULT").is_empty()
            && [id, "nginx.", "cron."].iter().any(|ours| text("UNIT").starts_with(ours))
        {
            jobs.entry(text("UNIT")).or_default().push(text("JOB_TYPE"));
        }
    }
    for (unit, jobs) in jobs {
        let jobs: Vec<&str> = jobs.iter().map(String::as_str).collect();
        let verb = match jobs[..] {
            ["restart", "start"] => "restart",
            [one] => one,
            _ => panic!("{unit}: {jobs:?}"),
        };
        effects.insert(format!("{verb} {unit}"));
    }
    // By a signal, of which systemd knows nothing.
    if before.workers != after.workers {
        effects.insert("reload nginx.service".to_string());
    }
    let links = |look: &Look| -> BTreeSet<String> {
        look.files.keys().filter(|path| path.contains(".wants")).cloned().collect()
    };
    let (before, after) = (links(before), links(after));
    let units = |links: &BTreeSet<String>| -> BTreeSet<String> {
        links
            .iter()
            .filter_map(|link| Some(link.rsplit_once('/')?.1.to_string()))
            .filter(|unit| unit.starts_with(id))
            .collect()
    };
    let gone = units(&before.difference(&after).cloned().collect());
    let come = units(&after.difference(&before).cloned().collect());
    effects.extend(come.intersection(&gone).map(|unit| format!("reenable {unit}")));
    effects.extend(come.difference(&gone).map(|unit| format!("enable {unit}")));
    effects.extend(gone.difference(&come).map(|unit| format!("disable {unit}")));
    effects
}

/// What must hold besides the effects: files, invocations and what systemd has read.
fn nothing_else(name: &str, plan: &Plan, effects: &BTreeSet<String>, before: &Look, after: &Look) {
    let paths: BTreeSet<&String> = before.files.keys().chain(after.files.keys()).collect();
    let changed = paths.into_iter().filter(|path| before.files.get(*path) != after.files.get(*path));
    // Links of enabled units are an effect.
    let changed: BTreeSet<String> = changed.filter(|path| !path.contains(".wants")).cloned().collect();
    assert_eq!(changed, plan.paths(), "{name}: other files than the plan says");
    for (unit, (invocation, reload)) in &after.units {
        assert_eq!(reload, "no", "{name}: systemd has not read {unit}");
        let Some((former, _)) = before.units.get(unit) else { continue };
        let expected = ["start", "restart", "stop"].iter().any(|verb| effects.contains(&format!("{verb} {unit}")));
        // A unit that is stopped keeps its last invocation.
        let stopped = effects.contains(&format!("stop {unit}"));
        assert!(stopped || (invocation != former) == expected, "{name}: {unit} {former} {invocation}");
    }
}

struct Table {
    host: Host,
    repo: Repo,
}

impl Table {
    fn new(host: Host, id: &str) -> Table {
        let repo = Repo::new(id, &[&host]);
        Table { host, repo }
    }

    /// Brings the host to a new state, and compares: the effects that are wanted, planned, and seen.
    fn row(&self, name: &str, body: &str, wanted: &[&str]) {
        self.repo.stack("table", body);
        self.go(name, wanted);
    }

    fn go(&self, name: &str, wanted: &[&str]) {
        let wanted: BTreeSet<String> = wanted.iter().map(|effect| effect.replace("ID", &self.repo.id)).collect();
        let before = Look::at(&self.host, &self.repo.id);
        let plan = self.repo.plan();
        assert!(!plan.is_empty(), "{name}: nothing is planned");
        assert_eq!(plan.effects(), wanted, "{name}: what is planned (left) is not what is wanted");
        self.repo.apply_with(&["--expect", &plan.digest()]);
        let after = Look::at(&self.host, &self.repo.id);
        let seen = seen(&self.host, &self.repo.id, &before, &after);
        assert_eq!(seen, wanted, "{name}: what happened");
        nothing_else(name, &plan, &wanted, &before, &after);
        self.repo.is_settled();
    }
}

#[test]
fn g01_a_unit_gets_what_its_directives_ask_for() {
    let table = Table::new(free(), "g01-unit");
    let other = "unit \"ID-other\" exec=\"/usr/bin/sleep 9999\"\n";
    let unit = |name: &str, settings: &str| format!("{other}unit \"ID-{name}\" {{\n{settings}\n}}");
    let all = |text: &str| text.to_string();
    let mut is: BTreeMap<&str, String> = BTreeMap::from([
        ("exec", all("\"/usr/bin/sleep 9999\"")),
        ("description", all("\"one\"")),
        ("env", all("A=\"1\"")),
        ("restart-sec", all("\"1\"")),
    ]);
    let text = |is: &BTreeMap<&str, String>| {
        unit("a", &is.iter().map(|(key, value)| format!("{key} {value}\n")).collect::<Vec<_>>().concat())
    };
    let new = [
        "daemon-reload",
        "enable ID-a.service",
        "start ID-a.service",
        "enable ID-other.service",
        "start ID-other.service",
    ];
    table.row("new", &text(&is), &new);
    let quiet: &[&str] = &["daemon-reload"];
    let loud: &[&str] = &["daemon-reload", "restart ID-a.service"];
    let install: &[&str] = &["daemon-reload", "reenable ID-a.service"];
    let rows: [(&'static str, &str, &[&str]); 8] = [
        ("description", "\"two words\"", quiet),
        ("env", "A=\"2\"", loud),
        ("exec", "\"/usr/bin/sleep 8888\"", loud),
        ("restart-sec", "\"2\"", quiet),
        ("after", "\"network.target\"", quiet),
        ("wanted-by", "\"basic.target\"", install),
        ("limit-nofile", "1234", loud),
        ("user", "\"www-data\"", loud),
    ];
    for (key, value, wanted) in rows {
        is.insert(key, value.into());
        table.row(key, &text(&is), wanted);
    }
    is.insert("env", "A=\"3\" B=\"4 5\"".into());
    is.insert("wanted-by", "\"multi-user.target\"".into());
    table.row("two at once", &text(&is), &["daemon-reload", "reenable ID-a.service", "restart ID-a.service"]);
    is.insert("enabled", "#false".into());
    table.row("not enabled", &text(&is), &["disable ID-a.service", "daemon-reload"]);
    is.insert("enabled", "#true".into());
    table.row("enabled", &text(&is), &["enable ID-a.service", "daemon-reload"]);
    is.insert("running", "#false".into());
    table.row("not running", &text(&is), &["stop ID-a.service"]);
    is.insert("env", "A=\"5\"".into());
    table.row("changed while it does not run", &text(&is), quiet);
    is.insert("running", "#true".into());
    table.row("running", &text(&is), &["start ID-a.service"]);
    let settings = "exec \"/usr/bin/sleep 9999\"";
    let renamed =
        ["stop ID-a.service", "disable ID-a.service", "daemon-reload", "enable ID-b.service", "start ID-b.service"];
    table.row("renamed", &unit("b", settings), &renamed);
    table.row("removed", other, &["stop ID-b.service", "disable ID-b.service", "daemon-reload"]);
}

/// systemd reads the files of a unit that it does not have in memory when somebody asks for the unit.
#[test]
fn g01_a_unit_that_rests_needs_no_daemon_reload() {
    let table = Table::new(free(), "g01-rests");
    let unit =
        |seconds: u32, more: &str| format!("unit \"ID-a\" exec=\"/usr/bin/sleep {seconds}\" enabled=#false {more}");
    table.row("new", &unit(9999, "running=#false"), &[]);
    table.row("changed", &unit(9998, "running=#false"), &[]);
    table.row("started", &unit(9998, "running=#true"), &["start ID-a.service"]);
    table.row("changed while it runs", &unit(9997, "running=#true"), &["daemon-reload", "restart ID-a.service"]);
    table.row("stopped", &unit(9997, "running=#false"), &["stop ID-a.service"]);
    table.row("changed and started", &unit(9996, "running=#true"), &["start ID-a.service"]);
    table.row("stopped and changed", &unit(9995, "running=#false"), &["daemon-reload", "stop ID-a.service"]);
    // A unit that runs names it, so that systemd has it in memory, though it rests.
    let after = "unit \"ID-b\" exec=\"/usr/bin/sleep 9999\" enabled=#false { after \"ID-a.service\" }\n";
    table.row("named", &format!("{after}{}", unit(9995, "running=#false")), &["start ID-b.service"]);
    let changed = format!("{after}{}", unit(9994, "running=#false"));
    table.row("changed while another names it", &changed, &["daemon-reload"]);
    table.row("removed", after, &["daemon-reload"]);
    table.row("new while another names it", &format!("{after}{}", unit(1, "running=#false")), &["daemon-reload"]);
    table.row("nothing", "directory \"/srv/ID\"", &["stop ID-b.service", "daemon-reload"]);
}

#[test]
fn g01_what_was_done_by_hand_is_undone_and_no_more() {
    let table = Table::new(free(), "g01-hand");
    let body = |more: &str| {
        format!(
            "unit \"ID-a\" {{ content \"# one\\n[Service]\\nExecStart=/usr/bin/sleep 9999\\n[Install]\\nWantedBy=multi-user.target\\n\" }}
            unit \"ID-b\" exec=\"/usr/bin/sleep 9999\"\n{more}"
        )
    };
    let both =
        ["daemon-reload", "enable ID-a.service", "enable ID-b.service", "start ID-a.service", "start ID-b.service"];
    table.row("new", &body(""), &both);
    let hand = |script: &str| table.host.sh(&script.replace("ID", "g01-hand"));
    hand("systemctl stop ID-a");
    table.go("stopped", &["start ID-a.service"]);
    hand("systemctl disable -q ID-a");
    table.go("disabled", &["enable ID-a.service", "daemon-reload"]);
    hand("sed -i 's/one/two/' /etc/systemd/system/ID-a.service; systemctl daemon-reload");
    table.go("a comment", &["daemon-reload"]);
    hand("sed -i 's/9999/9998/' /etc/systemd/system/ID-a.service; systemctl daemon-reload; systemctl restart ID-a");
    table.go("a command", &["daemon-reload", "restart ID-a.service"]);
    hand("sed -i 's/9999/9998/' /etc/systemd/system/ID-b.service");
    table.go("a command, not read", &["daemon-reload", "restart ID-b.service"]);
    hand("chmod 600 /etc/systemd/system/ID-a.service");
    table.repo.apply();
    table.repo.is_settled();
    let drop_in = "unit \"cron\" { drop-in \"ID\" content=\"[Service]\\nNice=1\\n\" }";
    table.row("a drop-in", &body(drop_in), &["daemon-reload", "restart cron.service"]);
    table.row("the unit alone", &body("unit \"cron\" running=#true"), &["daemon-reload", "restart cron.service"]);
    table.row("a drop-in again", &body(drop_in), &["daemon-reload", "restart cron.service"]);
    table.row("no drop-in", &body(""), &["daemon-reload", "restart cron.service"]);
    let all =
        ["stop ID-a.service", "stop ID-b.service", "disable ID-a.service", "disable ID-b.service", "daemon-reload"];
    table.row("nothing", "directory \"/srv/ID\"", &all);
}

#[test]
fn g01_files_sites_and_timers_get_what_they_ask_for() {
    let table = Table::new(free(), "g01-file");
    table.repo.write("stacks/table/a.conf", "one\n");
    let base = "unit \"ID-a\" exec=\"/usr/bin/sleep 9999\"
        unit \"ID-b\" {
            exec \"/bin/sh\" \"-c\" \"trap 'echo hup >/run/ID.hup' HUP; while :; do sleep 0.1; done\"
            exec-reload \"/usr/bin/true\"
        }\n";
    let body = |more: &str| format!("{base}{more}");
    let new =
        ["daemon-reload", "enable ID-a.service", "enable ID-b.service", "start ID-a.service", "start ID-b.service"];
    let file = |more: &str| body(&format!("file \"/srv/ID/x\" {{ source \"a.conf\"\n{more}\n}}"));
    table.row("new", &file(""), &new);
    table.repo.write("stacks/table/a.conf", "two\n");
    table.go("content", &[]);
    table.row("mode", &file("mode \"0600\""), &[]);
    table.row("owner", &file("mode \"0600\"\nowner \"www-data\""), &[]);
    let with = file("on-change restart=\"ID-a\"\non-change reload=\"ID-b\"");
    table.row("back", &with, &["restart ID-a.service", "reload ID-b.service"]);
    table.repo.write("stacks/table/a.conf", "three\n");
    table.go("restart and reload", &["restart ID-a.service", "reload ID-b.service"]);
    let with = file("on-change signal=\"HUP\" unit=\"ID-b\"");
    table.repo.write("stacks/table/a.conf", "four\n");
    table.repo.stack("table", &with);
    let plan = table.repo.plan();
    assert_eq!(plan.effects(), BTreeSet::from(["signal g01-file-b.service".to_string()]));
    let before = table.host.invocation("g01-file-b");
    table.host.sh("rm -f /run/g01-file.hup");
    table.repo.apply();
    table.host.until("[ -s /run/g01-file.hup ]");
    assert_eq!(table.host.invocation("g01-file-b"), before);

    let site = |answer: &str| {
        body(&format!(
            "site \"ID.test\" {{ listen \"127.0.0.1:7101\"\nsnippet \"location / {{ return 200 {answer}; }}\" }}
            site \"ID-other.test\" {{ listen \"127.0.0.1:7101\"\nsnippet \"location / {{ return 200 other; }}\" }}"
        ))
    };
    let reload: &[&str] = &["reload nginx.service"];
    table.row("sites", &site("one"), reload);
    let ask = || table.host.sh("curl -s -H 'Host: g01-file.test' http://127.0.0.1:7101/");
    assert_eq!(ask(), "one");
    table.row("a site changes", &site("two"), reload);
    assert_eq!(ask(), "two");
    table.row("sites go", &body(""), reload);

    let timer = |when: &str, command: &str| {
        body(&format!("timer \"ID-job\" {{ on-calendar \"{when}\"\nexec \"{command}\"\n}}"))
    };
    let new = ["daemon-reload", "enable ID-job.timer", "start ID-job.timer"];
    table.row("a timer", &timer("daily", "/usr/bin/true"), &new);
    table.row("when", &timer("weekly", "/usr/bin/true"), &["daemon-reload", "restart ID-job.timer"]);
    table.row("what", &timer("weekly", "/usr/bin/false"), &["daemon-reload"]);
    let gone = ["stop ID-job.timer", "disable ID-job.timer", "daemon-reload"];
    table.row("no timer", &body(""), &gone);
}
