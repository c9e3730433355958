//! A host whose Docker or Compose is not as it should be, or is not what it was.

use crate::kit::{Host, Plan, Repo, free};

/// Where Docker looks for Compose before it finds the real one.
const PLUGIN: &str = "/usr/local/lib/docker/cli-plugins/docker-compose";

/// A Compose of another version, which gives each service one more label: so it makes other hashes, and other
/// containers. Docker calls it as `docker-compose compose …`.
const ANOTHER: &str = r#"#!/bin/bash
real=/usr/libexec/docker/cli-plugins/docker-compose
[ "$1" = compose ] || exec $real "$@"
case " $* " in
    *" version --short "*) echo VERSION; exit ;;
    *" -f - "*) exec $real "$@" ;;
    *" -f "*) ;;
    *) exec $real "$@" ;;
esac
shift
global=()
while :; do
    case $1 in
        -p | -f | --project-directory | --profile) global+=("$1" "$2"); shift 2 ;;
        *) break ;;
    esac
done
more=$(mktemp --suffix=.yaml)
echo services: >"$more"
for service in $($real compose "${global[@]}" --profile '*' config --services); do
    echo "  $service: {labels: {another: VERSION}}" >>"$more"
done
$real compose "${global[@]}" -f "$more" "$@"
code=$?
rm -f "$more"
exit $code
"#;

const COMPOSE: &str = "
x-all: &all {image: lab/busybox:1, command: [sleep, '1000000'], stop_grace_period: 0s}
services:
  web: {<<: *all, environment: {WORD: one}, depends_on: [db]}
  db: *all
";

/// A host alone, whose Docker and Compose are as they were once it is done with.
struct Mended(Host);

impl Drop for Mended {
    fn drop(&mut self) {
        mend(&self.0);
    }
}

fn mend(host: &Host) {
    _ = host.try_sh(&format!(
        "rm -f {PLUGIN}
        hidden=/usr/libexec/docker/cli-plugins/docker-compose
        [ ! -e $hidden.away ] || mv $hidden.away $hidden
        systemctl is-active -q docker || systemctl start docker"
    ));
}

impl Mended {
    fn new() -> Mended {
        let host = free();
        mend(&host);
        Mended(host)
    }

    fn compose(&self, version: &str) {
        let program = ANOTHER.replace("VERSION", version);
        self.0.sh(&format!(
            "mkdir -p /usr/local/lib/docker/cli-plugins; cat >{PLUGIN} <<'PLUGIN'\n{program}PLUGIN\nchmod 755 {PLUGIN}"
        ));
    }
}

fn repo(host: &Host, id: &str) -> Repo {
    let repo = Repo::new(id, &[host]);
    repo.write("stacks/app/compose.yaml", COMPOSE);
    repo.stack("app", "compose \"ID-app\" file=\"compose.yaml\"");
    repo.stack("file", "file \"/srv/ID-file\" content=\"one\"");
    repo
}

/// What a plan does to containers and units.
fn does(plan: &Plan) -> Vec<String> {
    let effects = plan.changes().flat_map(|change| change["effects"].as_array().into_iter().flatten());
    effects.map(|words| words.as_str().unwrap_or_default().to_string()).collect()
}

fn containers(host: &Host, id: &str) -> String {
    host.sh(&format!(
        "docker ps -a --no-trunc --filter label=com.docker.compose.project={id}-app \
        --format '{{{{.ID}}}} {{{{.State}}}}' | sort"
    ))
}

#[test]
fn docker_is_stopped() {
    const ID: &str = "dstop";
    let mended = Mended::new();
    let host = &mended.0;
    let repo = repo(host, ID);
    repo.apply();
    let before = containers(host, ID);
    host.sh("systemctl stop docker.socket docker");
    repo.write("stacks/app/compose.yaml", COMPOSE.replace("one", "two"));
    repo.stack("file", "file \"/srv/ID-file\" content=\"two\"");
    let why = repo.plan().refusal(&format!("compose:{ID}-app"));
    assert!(why.starts_with("Docker: ") && why.contains("Is the docker daemon running"), "{why}");
    let ran = repo.fail();
    assert_eq!(ran.outcome(&format!("compose:{ID}-app")), "blocked");
    assert_eq!(ran.outcome(&format!("file:/srv/{ID}-file")), "applied", "other stacks of the host go on");
    assert!(host.sh(&format!("cat /srv/{ID}-app/compose.yaml")).contains("one"), "nothing is half done");
    host.sh("systemctl start docker");
    let ids = |all: &str| all.lines().map(|line| line[..64].to_string()).collect::<Vec<_>>();
    assert_eq!(ids(&containers(host, ID)), ids(&before));
    repo.apply();
    repo.is_settled();

    // It stops after the plan was made: what was planned is not there any more, or goes back.
    repo.write("stacks/app/compose.yaml", COMPOSE.replace("one", "three"));
    let digest = repo.plan().digest();
    host.sh("systemctl stop docker.socket docker");
    assert_ne!(repo.run(&["apply", "--expect", &digest]).code, 0);
    assert!(host.sh(&format!("cat /srv/{ID}-app/compose.yaml")).contains("two"));
}

#[test]
fn compose_is_missing_or_too_old() {
    const ID: &str = "dmiss";
    let mended = Mended::new();
    let host = &mended.0;
    let repo = repo(host, ID);
    let id = format!("compose:{ID}-app");
    host.sh("cd /usr/libexec/docker/cli-plugins && mv docker-compose docker-compose.away");
    let plan = repo.plan();
    assert_eq!(plan.refusal(&id), "`docker compose` is not there: the host has no Compose v2");
    assert!(plan.change(&id)["refused"]["hint"].as_str().unwrap().contains("docker-compose-plugin"));
    let ran = repo.fail();
    assert_eq!((ran.outcome(&id), ran.outcome(&format!("file:/srv/{ID}-file"))), ("blocked".into(), "applied".into()));
    assert!(!host.try_sh(&format!("ls /srv/{ID}-app")).0);
    mend(host);
    mended.compose("2.3.3");
    assert_eq!(repo.plan().refusal(&id), "Compose 2.3.3 there is too old: it must be 2.17 or newer");
    mend(host);
    repo.apply();
    repo.is_settled();
    // What runs needs no Compose as long as nothing changes.
    host.sh("cd /usr/libexec/docker/cli-plugins && mv docker-compose docker-compose.away");
    repo.is_settled();
}

#[test]
fn another_compose_makes_other_hashes() {
    const ID: &str = "dhash";
    let mended = Mended::new();
    let host = &mended.0;
    let repo = repo(host, ID);
    repo.apply();
    let was = host.sh("docker compose version --short").trim().split('-').next().unwrap().to_string();
    mended.compose("9.9.9");
    // By itself it replaces nothing.
    repo.is_settled();
    let before = containers(host, ID);
    // Nor does a start by name.
    host.sh(&format!("docker stop {ID}-app-web-1"));
    assert_eq!(does(&repo.plan()), ["start web"]);
    repo.apply();
    assert_eq!(containers(host, ID), before);
    repo.is_settled();

    // With a change of one service, Compose replaces the other one too: the plan says so, and why.
    repo.write("stacks/app/compose.yaml", COMPOSE.replace("one", "two"));
    let plan = repo.plan();
    let why = format!("db: Compose {was} → 9.9.9 hashes differently; no file of yours changed");
    assert_eq!(does(&plan), [format!("recreate db, web ({why})")]);
    let change = plan.change(&format!("compose:{ID}-app"));
    assert_eq!(change["cause"], "repository", "it is no drift");
    assert!(repo.run(&["plan"]).out.contains(&why));
    repo.apply_with(&["--expect", &plan.digest()]);
    let label = format!("docker inspect -f '{{{{index .Config.Labels \"another\"}}}}' {ID}-app-db-1");
    assert_eq!(host.sh(&label).trim(), "9.9.9");
    repo.is_settled();
}
