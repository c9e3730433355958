//! Images that one host of the repository builds for others, with real Engines.

use std::collections::BTreeSet;

use crate::kit::{Host, Plan, Repo, free_three};
use serde_json::Value;

const COMPOSE: &str = "
services:
  web:
    build: {context: web, args: {WORD: '${WORD}'}}
    command: [sleep, '1000000']
    stop_grace_period: 0s
  plain:
    image: lab/busybox:1
    command: [sleep, '1000000']
    stop_grace_period: 0s
";

const DOCKERFILE: &str = "FROM lab/busybox:1\nARG WORD\nENV WORD=$WORD\nCOPY . /web/\n";

/// A repository with one project on two hosts, which a third one builds.
pub struct Fleet {
    pub repo: Repo,
    pub hosts: [Host; 2],
    pub builder: Host,
}

impl Fleet {
    pub fn new(id: &str) -> Fleet {
        let [one, two, builder] = free_three();
        let hosts = [one, two];
        let repo = Repo::new(id, &[&hosts[0], &hosts[1], &builder]);
        for host in hosts.iter().chain([&builder]) {
            host.sh(&format!(
                "docker image ls --format '{{{{.Repository}}}}:{{{{.Tag}}}}' | grep ^reconcile.invalid/{id}/ \
                | xargs -r docker image rm -f >/dev/null"
            ));
        }
        let fleet = Fleet { repo, hosts, builder };
        fleet.repo.write("stacks/app/compose.yaml", COMPOSE);
        fleet.repo.write("stacks/app/web/Dockerfile", DOCKERFILE);
        fleet.repo.write("stacks/app/web/.dockerignore", "notes\n");
        fleet.repo.write("stacks/app/web/text", "one");
        fleet.stack("env WORD=\"a\"");
        fleet
    }

    pub fn stack(&self, more: &str) {
        let id = &self.repo.id;
        let [one, two] = [0, 1].map(|at: usize| &self.hosts[at].name);
        let builder = &self.builder.name;
        let compose = format!("compose \"{id}-app\" {{\nfile \"compose.yaml\"\nbuilder \"{builder}\"\n{more}\n}}");
        self.repo.write("stacks/app/stack.kdl", format!("stack \"app\" {{\non \"{one}\" \"{two}\"\n{compose}\n}}\n"));
    }

    /// The images that were built, on a host.
    pub fn images(&self, host: &Host) -> BTreeSet<String> {
        let said = host.sh("docker image ls --no-trunc --format '{{.Repository}}:{{.Tag}} {{.ID}}'");
        let own = said.lines().filter(|line| line.starts_with(&format!("reconcile.invalid/{}/", self.repo.id)));
        own.map(String::from).collect()
    }

    fn container(&self, host: &Host, service: &str, format: &str) -> String {
        host.sh(&format!("docker inspect -f '{format}' {}-app-{service}-1", self.repo.id)).trim().to_string()
    }

    fn containers(&self, service: &str) -> Vec<String> {
        self.hosts.iter().map(|host| self.container(host, service, "{{.Id}}")).collect()
    }

    /// What a plan does on one of the two.
    pub fn does(&self, plan: &Plan, host: usize) -> Vec<String> {
        let hosts = plan.0["hosts"].as_array().expect("hosts");
        let host = hosts.iter().find(|there| there["host"] == self.hosts[host].name).expect("the host");
        let stacks = host["stacks"].as_array().into_iter().flatten();
        let changes = stacks.flat_map(|stack| stack["changes"].as_array().into_iter().flatten());
        let words = changes.flat_map(|change| change["effects"].as_array().into_iter().flatten());
        let word = |words: &Value| {
            // The name of an image is another one for each content.
            let words = words.as_str().unwrap_or_default().split(' ').filter(|word| !word.contains('…'));
            let words = words.collect::<Vec<_>>().join(" ").replace(&self.builder.name, "the builder");
            words.split(", ").next().unwrap_or_default().to_string()
        };
        words.map(word).collect()
    }

    fn text(&self, host: &Host) -> String {
        host.sh(&format!("docker exec {}-app-web-1 sh -c 'cat /web/text; echo \" $WORD\"; ls /web'", self.repo.id))
    }
}

#[test]
fn one_host_builds_for_all_that_run_it() {
    let fleet = Fleet::new("bld");
    let (repo, [one, two], builder) = (&fleet.repo, &fleet.hosts, &fleet.builder);
    let new = ["build web on the builder", "transfer web from the builder", "create plain"];
    let plan = repo.plan();
    assert_eq!(fleet.does(&plan, 0), new);
    assert_eq!(fleet.does(&plan, 1), new);
    assert_eq!(plan.0["summary"]["changes"]["effects"]["build"], 1, "for both");
    assert_eq!(fleet.images(builder), BTreeSet::new(), "a plan only reads");
    repo.apply();

    // One image, which was built once, is on all of them and runs.
    let built = fleet.images(builder);
    assert_eq!(built.len(), 1);
    assert_eq!((fleet.images(one), fleet.images(two)), (built.clone(), built.clone()));
    let id = built.first().unwrap().split_once(' ').unwrap().1;
    assert_eq!(fleet.container(one, "web", "{{.Image}}"), id);
    assert_eq!(fleet.text(two), "one a\nDockerfile\ntext\n");
    assert!(!one.try_sh("ls /srv/bld-app/web").0, "what it is built from stays away from those that run it");
    assert_eq!(builder.sh("ls -A /var/lib/reconcile/bld/build"), "lock\nreceive\nstatus\n");
    repo.is_settled();

    // What is no part of it changes nothing; what is, is built and replaced, and the other service goes on.
    repo.write("stacks/app/web/notes", "x");
    repo.is_settled();
    let (web, plain) = (fleet.containers("web"), fleet.containers("plain"));
    repo.write("stacks/app/web/text", "two");
    let plan = repo.plan();
    assert_eq!(fleet.does(&plan, 1), ["build web on the builder", "transfer web from the builder", "recreate web"]);
    repo.apply_with(&["--expect", &plan.digest()]);
    assert_eq!(fleet.text(one), "two a\nDockerfile\ntext\n");
    assert_eq!(fleet.containers("plain"), plain);
    assert!(fleet.containers("web").iter().all(|now| !web.contains(now)));
    repo.is_settled();

    // Removed by hand, it comes again from the builder, and what runs goes on.
    let now = fleet.containers("web");
    let image = fleet.container(two, "web", "{{.Config.Image}}");
    two.sh(&format!("docker image rm -f {image} >/dev/null"));
    let plan = repo.plan();
    assert_eq!(
        (fleet.does(&plan, 0), fleet.does(&plan, 1)),
        (vec![], vec!["transfer web from the builder".to_string()])
    );
    repo.apply();
    assert_eq!(fleet.images(two), fleet.images(builder));
    repo.is_settled();
    // So it does where its name has become another image's.
    two.sh(&format!("docker tag lab/busybox:1 {image}"));
    assert_eq!(fleet.does(&repo.plan(), 1), ["transfer web from the builder"]);
    repo.apply();
    repo.is_settled();
    assert_eq!(fleet.containers("web"), now);

    // Going back builds nothing and brings nothing.
    repo.write("stacks/app/web/text", "one");
    assert_eq!(fleet.does(&repo.plan(), 0), ["recreate web"]);
    builder.sh("systemctl stop docker.socket docker");
    repo.apply();
    assert_eq!(fleet.container(one, "web", "{{.Image}}"), id);
    repo.is_settled();

    // A builder that is down: nothing of the stack is done, and others go on.
    let now = fleet.containers("web");
    fleet.stack("env WORD=\"b\"");
    repo.stack("other", "file \"/srv/ID-other\" content=\"x\"");
    let why = repo.plan().refusal("compose:bld-app");
    assert_eq!(why.replace(&builder.name, "B"), "`web` cannot be had from its builder B: Docker does not answer on B");
    let ran = repo.fail();
    assert_eq!(
        (ran.outcome("compose:bld-app"), ran.outcome("file:/srv/bld-other")),
        ("blocked".into(), "applied".into())
    );
    assert_eq!(fleet.containers("web"), now);
    builder.sh("systemctl start docker");
    repo.apply();
    assert_eq!(fleet.text(one), "one b\nDockerfile\ntext\n");
    repo.is_settled();
}

/// Has the builder say that it is another machine, until it is dropped.
struct OtherMachine<'a>(&'a Host);

impl<'a> OtherMachine<'a> {
    fn new(host: &'a Host) -> Self {
        host.sh("cat >/usr/local/bin/docker <<'END'\n#!/bin/sh\ncase \"$*\" in *OSType*) /usr/bin/docker \"$@\" | sed s/x86_64/aarch64/ ;; \
            *) exec /usr/bin/docker \"$@\" ;; esac\nEND\nchmod 755 /usr/local/bin/docker");
        OtherMachine(host)
    }
}

impl Drop for OtherMachine<'_> {
    fn drop(&mut self) {
        _ = self.0.try_sh("rm -f /usr/local/bin/docker");
    }
}

#[test]
fn what_a_builder_cannot_do_changes_nothing() {
    let fleet = Fleet::new("bldno");
    let (repo, [one, _], builder) = (&fleet.repo, &fleet.hosts, &fleet.builder);
    let id = "compose:bldno-app";
    {
        let _other = OtherMachine::new(builder);
        let ran = repo.run(&["plan"]);
        let why = format!("{} builds `web` for linux/arm64, and this host is linux/amd64", builder.name);
        assert!(ran.out.contains(&why) && ran.err.contains("stacks/app/stack.kdl:5"), "{}\n{}", ran.out, ran.err);
    }
    repo.apply();

    // What the builder has lost as well is built again, for the host that lacks it, and replaces what ran from it.
    let image = fleet.container(one, "web", "{{.Config.Image}}");
    for host in [one, builder] {
        host.sh(&format!("docker image rm -f {image} >/dev/null"));
    }
    let plan = repo.plan();
    let again = ["build web on the builder", "transfer web from the builder", "recreate web"];
    assert_eq!((fleet.does(&plan, 0), fleet.does(&plan, 1)), (again.map(String::from).to_vec(), vec![]));
    repo.apply();
    repo.is_settled();

    // A build that fails: both hosts stay as they are, and say why.
    let now = fleet.containers("web");
    repo.write("stacks/app/web/Dockerfile", format!("{DOCKERFILE}COPY nothing /nothing\n"));
    let ran = repo.fail();
    assert_eq!((ran.outcome_on(0, id), ran.outcome_on(1, id)), ("failed".into(), "failed".into()));
    assert!(ran.out.contains(": the build of web failed with") && ran.out.contains("nothing"), "{}", ran.out);
    assert_eq!(fleet.containers("web"), now);

    // Of former images as many stay as are asked for, on the builder too. A base of its own is built first.
    repo.write("stacks/app/web/Dockerfile", DOCKERFILE.replace("lab/busybox:1", "bldno/base"));
    repo.write("stacks/app/base/Dockerfile", "FROM lab/busybox:1\nENV BASE=1\n");
    let base = "  base: {build: base, image: bldno/base, profiles: [build]}\n";
    repo.write("stacks/app/compose.yaml", format!("{COMPOSE}{base}"));
    for number in 1..4 {
        fleet.stack(&format!("images track=\"none\" keep=1\nenv WORD=\"{number}\""));
        let plan = repo.plan();
        let discards = plan.0.to_string().matches("reconcile.invalid/bldno/bldno-app/web").count();
        assert!(discards > 0, "{plan:#?}", plan = plan.0);
        repo.apply();
    }
    assert_eq!(fleet.text(one), "one 3\nDockerfile\ntext\n");
    assert_eq!(fleet.container(one, "web", "{{json .Config.Env}}").matches("BASE=1").count(), 1);
    let web = |host: &Host| fleet.images(host).iter().filter(|image| image.contains("/web:")).count();
    assert_eq!((web(one), web(builder)), (2, 2));
    repo.is_settled();
}
