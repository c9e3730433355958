//! 1, for Compose projects: the plan lists what happens to each container, and nothing else happens. The witness is the
//! engine's own stream of events.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::kit::{Host, Repo, free};

/// A container as the engine lists it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Container {
    id: String,
    service: String,
    started: String,
}

/// How a host is before or after an apply.
struct Look {
    files: BTreeMap<String, String>,
    containers: BTreeSet<Container>,
    volumes: String,
    networks: String,
    /// The start of units that have nothing to do with it, and the workers of nginx.
    others: String,
    /// The host's clock.
    now: String,
}

impl Look {
    fn at(host: &Host, id: &str) -> Look {
        let said = host.sh(
            "docker ps -aq --no-trunc | xargs -r docker inspect -f '{{.Id}} {{index .Config.Labels \"com.docker.compose.project\"}} {{index .Config.Labels \"com.docker.compose.service\"}} {{.State.StartedAt}}'",
        );
        let containers = said.lines().map(|line| {
            let mut words = line.split(' ').map(String::from);
            let mut word = || words.next().unwrap_or_default();
            let (one, project, service) = (word(), word(), word());
            // Another project's is none that a plan could mean.
            let service = if project == id { service } else { format!("{project}/{service}") };
            Container { id: one, service, started: word() }
        });
        Look {
            files: host.files(&format!("/etc /srv/{id}*")),
            containers: containers.collect(),
            volumes: host.sh("docker volume ls -q"),
            networks: host.sh("docker network ls -q | sort"),
            others: host
                .sh("systemctl show -P InvocationID nginx cron docker ssh; pgrep -f 'nginx: worker process$' | sort"),
            now: host.sh("sleep 0.01; date +%s.%N").trim().into(),
        }
    }
}

/// What happened to containers between two looks, by what there is and by what the engine reported.
fn seen(host: &Host, before: &Look, after: &Look) -> BTreeSet<String> {
    let events =
        host.sh(&format!("docker events --since {} --until {} --format '{{{{json .}}}}'", before.now, after.now));
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).expect("an event")).collect();
    let of = |look: &Look| -> BTreeMap<String, Container> {
        look.containers.iter().map(|container| (container.id.clone(), container.clone())).collect()
    };
    let (was, is) = (of(before), of(after));
    let services = |ids: &BTreeMap<String, Container>, not: &BTreeMap<String, Container>| -> BTreeSet<String> {
        ids.values().filter(|one| !not.contains_key(&one.id)).map(|one| one.service.clone()).collect()
    };
    let (come, gone) = (services(&is, &was), services(&was, &is));
    let mut effects: BTreeSet<String> = BTreeSet::new();
    effects.extend(come.intersection(&gone).map(|service| format!("container recreate {service}")));
    effects.extend(come.difference(&gone).map(|service| format!("container create {service}")));
    effects.extend(gone.difference(&come).map(|service| format!("container remove {service}")));
    for (id, container) in was.iter().filter(|(id, _)| is.contains_key(*id)) {
        let actions: BTreeSet<&str> = events
            .iter()
            .filter(|event| event["Type"] == "container" && event["Actor"]["ID"] == id.as_str())
            .filter_map(|event| event["Action"].as_str())
            .collect();
        let verb = match () {
            () if actions.contains("restart") => "restart",
            () if actions.contains("start") => "start",
            () if actions.contains("unpause") => "unpause",
            () if actions.contains("stop") => "stop",
            () if actions.contains("kill") => "signal",
            () if actions.is_empty() => {
                assert_eq!(is[id].started, container.started);
                continue;
            }
            () => panic!("{}: {actions:?}", container.service),
        };
        effects.insert(format!("container {verb} {}", container.service));
    }
    for event in &events {
        assert!(["container", "network", "volume"].contains(&event["Type"].as_str().unwrap_or_default()), "{event}");
    }
    effects
}

struct Table {
    host: Host,
    repo: Repo,
}

impl Table {
    fn new(host: Host, id: &str) -> Table {
        let repo = Repo::new(id, &[&host]);
        host.sh(&format!("docker volume ls -q | grep '^{id}' | xargs -r docker volume rm >/dev/null"));
        Table { host, repo }
    }

    fn compose(&self, text: &str) {
        self.repo.write("stacks/table/compose.yaml", text);
    }

    fn stack(&self, settings: &str) {
        self.repo.stack("table", &format!("compose \"ID\" {{\nfile \"compose.yaml\"\n{settings}\n}}"));
    }

    /// Brings the host to a new state, and compares what is wanted, planned and seen.
    fn go(&self, name: &str, wanted: &[&str]) {
        let wanted: BTreeSet<String> = wanted.iter().map(|effect| format!("container {effect}")).collect();
        let before = Look::at(&self.host, &self.repo.id);
        let plan = self.repo.plan();
        assert!(!plan.is_empty(), "{name}: nothing is planned");
        assert_eq!(plan.effects(), wanted, "{name}: what is planned (left) is not what is wanted");
        if plan.held().is_empty() {
            self.repo.apply_with(&["--expect", &plan.digest()]);
        } else {
            self.repo.apply_all_the_same();
        }
        let after = Look::at(&self.host, &self.repo.id);
        let services = |look: &Look| -> BTreeSet<String> {
            let all = look.containers.iter().map(|one| one.service.clone());
            all.filter(|service| !service.contains('/')).collect()
        };
        let wanted = if wanted.contains("container stop all") {
            services(&before).iter().map(|service| format!("container stop {service}")).collect()
        } else {
            wanted
        };
        assert_eq!(seen(&self.host, &before, &after), wanted, "{name}: what happened");
        let paths: BTreeSet<&String> = before.files.keys().chain(after.files.keys()).collect();
        let changed = paths.into_iter().filter(|path| before.files.get(*path) != after.files.get(*path));
        assert_eq!(changed.cloned().collect::<BTreeSet<_>>(), plan.paths(), "{name}: other files than the plan says");
        assert_eq!(before.others, after.others, "{name}: something else was touched");
        if services(&before).is_empty() == services(&after).is_empty() {
            assert_eq!(before.networks, after.networks, "{name}: networks");
        }
        if !services(&before).is_empty() {
            assert_eq!(before.volumes, after.volumes, "{name}: volumes");
        }
        self.repo.is_settled();
    }
}

const COMPOSE: &str = r#"services:
  one:
    image: lab/busybox:1
    init: true
    command: [sh, -c, "trap 'echo hup >>/data/hup' HUP; while :; do sleep 0.1; done"]
    env_file: [one.env]
    volumes: ["./one.conf:/one.conf:ro", "data:/data"]
  two:
    image: lab/busybox:1
    init: true
    command: [sleep, "9999"]
    environment: { X: "${X:-none}" }
volumes:
  data:
"#;

#[test]
fn g01_each_container_of_a_project_gets_what_the_plan_says() {
    let table = Table::new(free(), "g01-compose");
    let mut is = COMPOSE.to_string();
    let mut edit = |from: &str, to: &str| {
        assert!(is.contains(from), "{from}");
        is = is.replace(from, to);
        table.compose(&is);
    };
    let conf = |text: &str| table.repo.write("stacks/table/one.conf", text);
    edit("", "");
    conf("one\n");
    table.repo.write("stacks/table/one.env", "A=1\n");
    table.stack("");
    table.go("new", &["create one", "create two"]);
    edit("  two:\n    image: lab/busybox:1", "  two:\n    image: lab/busybox:2");
    table.go("an image", &["recreate two"]);
    edit("sleep 0.1;", "sleep 0.2;");
    table.go("a command", &["recreate one"]);
    edit("services:", "# a comment\nservices:");
    table.go("a comment", &[]);
    table.repo.write("stacks/table/one.env", "A=2\n");
    table.go("an env_file", &["recreate one"]);
    table.repo.write("stacks/table/one.env", "# two\nA=2\n");
    table.go("a comment in an env_file", &[]);
    table.stack("env X=\"1\"");
    table.go("a variable that one service uses", &["recreate two"]);
    table.stack("env X=\"1\" UNUSED=\"1\"");
    table.go("a variable that no service uses", &[]);
    conf("two\n");
    table.go("a file that is mounted", &["restart one"]);
    table.stack("env X=\"1\"\nwhen \"one.conf\" changes=\"reload\"");
    conf("three\n");
    table.go("a file and a variable that go together", &["signal one"]);
    table.host.until("docker exec g01-compose-one-1 grep -q hup /data/hup");
    table.stack("env X=\"1\"\nwhen \"one.conf\" changes=\"none\"");
    conf("four\n");
    table.go("a file that is only replaced", &[]);
    table.stack("env X=\"1\"");
    conf("five\n");
    edit("sleep 0.2;", "sleep 0.3;");
    table.go("a file and a command", &["recreate one"]);
    let three = "  three: { image: \"lab/busybox:1\", init: true, command: [sleep, \"9999\"] }\nvolumes:";
    edit("volumes:\n  data:", &format!("{three}\n  data:"));
    table.go("a service more", &["create three"]);
    edit(three, "volumes:");
    table.go("a service less", &["remove three"]);
    table.stack("env X=\"1\"\nmount \"one.conf\" mode=\"0600\"");
    table.go("the mode of a file that is mounted", &["restart one"]);
    table.stack("env X=\"1\"\nrunning #false");
    table.go("not running", &["stop all"]);
    table.stack("env X=\"1\"");
    table.go("running", &["start one", "start two"]);
}

#[test]
fn g01_what_was_done_to_containers_by_hand_is_undone_and_no_more() {
    let table = Table::new(free(), "g01-byhand");
    table.compose(COMPOSE);
    table.repo.write("stacks/table/one.conf", "one\n");
    table.repo.write("stacks/table/one.env", "A=1\n");
    table.stack("");
    table.go("new", &["create one", "create two"]);
    let hand = |script: &str| table.host.sh(&format!("cd /srv/g01-byhand; exec >/dev/null 2>&1; {script}"));
    hand("docker stop g01-byhand-one-1");
    table.go("stopped", &["start one"]);
    hand("docker kill g01-byhand-two-1");
    table.go("killed", &["start two"]);
    hand("docker rm -f g01-byhand-one-1");
    table.go("removed", &["create one"]);
    hand("docker pause g01-byhand-two-1");
    table.go("paused", &["unpause two"]);
    hand("sed -i 's/9999/9998/' compose.yaml; docker compose up -d");
    table.go("edited and brought up", &["recreate two"]);
    hand("sed -i 's/9999/9998/' compose.yaml");
    table.go("edited and not brought up", &[]);
    hand("chmod 600 compose.yaml");
    table.go("the mode of the Compose file", &[]);
    hand("echo two >one.conf");
    table.go("a mounted file", &["restart one"]);
    hand(
        "docker run -d --name g01-byhand-extra --label com.docker.compose.project=g01-byhand --label com.docker.compose.service=extra lab/busybox:1 sleep 9999",
    );
    hand("docker stop g01-byhand-two-1");
    table.go("a container of somebody else in the project", &["start two"]);
    let more = "  three: { image: \"lab/busybox:1\", init: true, command: [sleep, \"9999\"] }\nvolumes:";
    table.compose(&COMPOSE.replace("volumes:\n  data:", &format!("{more}\n  data:")));
    table.go("a service more", &["create three"]);
    table.compose(COMPOSE);
    table.go("a service less", &["remove three"]);
    hand("docker rm -f g01-byhand-extra");
    table.host.sh("docker exec g01-byhand-one-1 sh -c 'echo kept >/data/kept'");
    table.repo.stack("table", "directory \"/srv/ID-dir\"");
    table.go("the project goes", &["remove one", "remove two"]);
    table.stack("");
    table.go("and comes again", &["create one", "create two"]);
    assert_eq!(table.host.sh("docker exec g01-byhand-one-1 cat /data/kept"), "kept\n", "volumes stay");
    table.repo.drop_stack("table");
    table.repo.stack("other", "directory \"/srv/ID-dir\"");
    table.go("the stack goes", &["remove one", "remove two"]);
}

const CHAIN: &str = r#"services:
  migrate:
    image: lab/busybox:1
    command: ["true"]
    environment: { V: "1" }
  db:
    image: lab/busybox:1
    init: true
    command: [sleep, "9999"]
    environment: { V: "1" }
  app:
    image: lab/busybox:1
    init: true
    command: [sleep, "9999"]
    environment: { V: "1" }
    depends_on:
      migrate: { condition: service_completed_successfully }
      db: { condition: service_started, restart: true }
  side:
    image: lab/busybox:1
    init: true
    command: [sleep, "9999"]
    network_mode: "service:db"
  other:
    image: lab/busybox:1
    init: true
    command: [sleep, "9999"]
"#;

#[test]
fn g01_services_that_need_each_other_get_what_the_plan_says() {
    let table = Table::new(free(), "g01-chain");
    let change = |service: &str, value: &str| {
        let (before, after) = CHAIN.split_once(&format!("  {service}:\n")).expect("a service");
        let after = after.replacen("V: \"1\"", &format!("V: \"{value}\""), 1);
        table.compose(&format!("{before}  {service}:\n{after}"));
    };
    table.compose(CHAIN);
    table.stack("");
    table.go("new", &["create app", "create db", "create migrate", "create other", "create side"]);
    change("app", "2");
    table.go("what needs others", &["recreate app", "start migrate"]);
    change("migrate", "2");
    table.go("and back, and what is done at once", &["recreate app", "recreate migrate"]);
    change("db", "2");
    table.go("what others need", &["recreate db", "recreate migrate", "recreate app", "recreate side"]);
    table.host.sh("docker rm -f g01-chain-db-1");
    table.go("what others use goes by hand", &["create db", "recreate side"]);
}
