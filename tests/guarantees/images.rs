//! Images by digest, with a real registry and a host's real Docker Engine.

use crate::kit::{Host, Plan, Repo, any};
use crate::registry::{PASSWORD, Registry, USER};
use serde_json::Value;

const AMD64: &str = "linux/amd64";

/// A repository with the registry's password.
fn repo(id: &str, host: &Host) -> Repo {
    let mut repo = Repo::new(id, &[host]);
    repo.env("PULL", PASSWORD);
    repo
}

/// A stack with one project of one service, which follows its image as `how` says.
fn project(repo: &Repo, stack: &str, registry: &Registry, address: &str, image: &str, how: &str) {
    repo.write(&format!("stacks/{stack}/ca.pem"), registry.ca());
    let service = format!("image: {address}/{image}\n    command: [sleep, '1000000']\n    stop_grace_period: 0s\n");
    repo.write(&format!("stacks/{stack}/compose.yaml"), format!("services:\n  api:\n    {service}"));
    repo.stack(
        stack,
        &format!(
            "secret \"pull\" env=\"PULL\"
            registry \"{address}\" user=\"{USER}\" password=\"{{{{ secret.pull }}}}\" ca=\"ca.pem\"
            compose \"ID-{stack}\" {{ file \"compose.yaml\"; {how} }}"
        ),
    );
}

/// The pulls of a plan.
fn pulls(plan: &Plan) -> Vec<Value> {
    let stacks = plan.0["hosts"][0]["stacks"].as_array().expect("stacks").clone();
    let effects = stacks.iter().flat_map(|stack| stack["effects"].as_array().into_iter().flatten());
    effects.filter(|effect| effect["deed"] == "pull").cloned().collect()
}

/// What the image of a project's running container says of itself.
fn text(host: &Host, project: &str) -> String {
    host.sh(&format!("docker exec $(docker ps -q --filter label=com.docker.compose.project={project}) cat /text"))
}

#[test]
fn an_image_is_followed_by_its_digest() {
    let (id, host) = ("imgtag", any());
    let (repo, registry) = (repo(id, &host), Registry::start(&host));
    let (first, size) = registry.push("acme/api:1.4", "one", 300_000, AMD64);
    project(&repo, "app", &registry, &registry.address(), "acme/api:1.4", "images track=\"tag\"");
    let plan = repo.plan();
    let pull = &pulls(&plan)[0];
    assert_eq!((&pull["tag"], &pull["digest"], &pull["before"]), (&"1.4".into(), &first.as_str().into(), &Value::Null));
    assert!(pull["bytes"].as_u64().expect("known") <= size);
    let ran = repo.run(&["apply", "--yes", "-vv"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let free = ran.err.lines().filter_map(|line| line.strip_prefix("free ")?.trim().parse::<u64>().ok());
    assert!(free.max() > Some(0), "the host tells how much room there is: {}", ran.err);
    // In no form, nowhere.
    for word in [PASSWORD, "cHVsbGVyOmFhPn4/cHVsbC9zZWNyZXQ", "YWE-fj9wdWxsL3NlY3JldA"] {
        assert!(!ran.out.contains(word) && !ran.err.contains(word), "{word}");
        let places = "/srv /var/lib/reconcile /etc/docker /root /home";
        assert_eq!(host.sh(&format!("grep -rlF -- '{word}' {places} || true")), "");
    }
    host.sh("! ls /root/.docker/config.json /home/*/.docker/config.json");
    assert_eq!(text(&host, "imgtag-app"), "one");
    repo.is_settled();
    let looked = repo.run(&["plan", "-v"]);
    assert!(looked.err.contains("exchanges=1 "), "{}", looked.err);

    // The tag moves: what lies below is there already and does not travel.
    let (second, size) = registry.push("acme/api:1.4", "two", 400_000, AMD64);
    let plan = repo.plan();
    let pull = &pulls(&plan)[0];
    assert_eq!((&pull["before"], &pull["digest"]), (&first.as_str().into(), &second.as_str().into()));
    let bytes = pull["bytes"].as_u64().expect("known");
    assert!(pull["about"] == false && bytes > 400_000 && bytes < size - 500_000, "{pull} of {size}");
    let shown = repo.run(&["plan"]).out;
    let row =
        format!("↓ image   {}/acme/api:1.4  {}… → {}…  pull 40", registry.address(), &first[7..13], &second[7..13]);
    assert!(shown.contains(&row), "{shown}");
    assert_eq!(plan.change("compose:imgtag-app")["effects"][0], "recreate api");
    repo.apply();
    assert_eq!(text(&host, "imgtag-app"), "two");
    repo.is_settled();

    // One former image stays besides the one that runs; older ones go.
    registry.push("acme/api:1.4", "three", 1000, AMD64);
    project(&repo, "app", &registry, &registry.address(), "acme/api:1.4", "images keep=1");
    let shown = repo.run(&["plan"]).out;
    assert!(shown.contains(&format!("discard {}/acme/api {}…", registry.address(), &first[7..13])), "{shown}");
    repo.apply();
    assert_eq!(text(&host, "imgtag-app"), "three");
    let there = host.sh("docker images --digests --no-trunc");
    assert!(there.contains(&second) && !there.contains(&first), "{there}");

    // The one before is still there: going back pulls nothing.
    let written = format!("services:\n  api:\n    image: {}/acme/api:1.4@{second}\n", registry.address());
    repo.write("stacks/app/compose.yaml", written + "    command: [sleep, '1000000']\n    stop_grace_period: 0s\n");
    assert_eq!(pulls(&repo.plan()), Vec::<Value>::new());
    repo.apply();
    assert_eq!(text(&host, "imgtag-app"), "two");
    // A digest needs no registry.
    drop(registry);
    repo.is_settled();
}

#[test]
fn what_cannot_be_had_is_an_error_of_the_plan_with_its_line() {
    let (id, host) = ("imgerr", any());
    let (mut repo, registry) = (repo(id, &host), Registry::start(&host));
    let address = registry.address();
    registry.push("acme/api:1", "one", 1000, AMD64);
    registry.push("acme/arm:1", "one", 1000, "linux/arm64");
    project(&repo, "gone", &registry, &address, "acme/api:2", "images");
    project(&repo, "arm", &registry, &address, "acme/arm:1", "images");
    project(&repo, "range", &registry, &address, "acme/api:1", "images track=\"semver:^7\"");
    project(&repo, "down", &registry, "127.0.0.1:1", "acme/api:1", "images");
    project(&repo, "good", &registry, &address, "acme/api:1", "images");
    repo.env("BAD", "wrong");
    project(&repo, "denied", &registry, &address, "acme/api:1", "images");
    let body = std::fs::read_to_string(repo.path().join("stacks/denied/stack.kdl")).expect("text");
    repo.write("stacks/denied/stack.kdl", body.replace("\"PULL\"", "\"BAD\""));
    let plan = repo.plan();
    for (stack, why) in [
        ("gone", format!("the image `{address}/acme/api:2` is not there: ")),
        ("arm", format!("the image `{address}/acme/arm:1` is not for the machine of this host")),
        ("range", "has no version in the range, among 1 tags".to_string()),
        ("down", "nobody can say what the image `127.0.0.1:1/acme/api:1` is: ".to_string()),
        ("denied", "does not let this user have it".to_string()),
        ("good", String::new()),
    ] {
        let refusal = plan.refusal(&format!("compose:imgerr-{stack}"));
        assert!(refusal.contains(&why) && refusal.is_empty() == why.is_empty(), "{stack}: {refusal}");
    }
    let problems = plan.0["problems"].as_array().expect("a list");
    let places: Vec<String> = problems
        .iter()
        .map(|each| format!("{}:{}:{}", each["file"].as_str().unwrap_or(""), each["line"], each["column"]))
        .collect();
    assert!(places.contains(&"stacks/gone/compose.yaml:3:12".to_string()) && places.len() == 5, "{places:?}");
    // What is wrong with one stack is no reason to leave the others.
    let ran = repo.run(&["apply", "--yes", "--json"]);
    assert_eq!(ran.outcome("compose:imgerr-good"), "applied", "{ran:?}");
    assert_eq!(ran.outcome("compose:imgerr-gone"), "blocked");
    assert_ne!(ran.code, 0);
    assert!(!ran.out.contains("wrong"), "{}", ran.out);
}

#[test]
fn what_runs_goes_on_while_its_registry_is_down() {
    let (id, host) = ("imgdown", any());
    let (repo, registry) = (repo(id, &host), Registry::start(&host));
    let address = registry.address();
    registry.push("acme/api:1", "one", 1000, AMD64);
    project(&repo, "app", &registry, &address, "acme/api:1", "images");
    repo.apply();
    project(&repo, "other", &registry, &address, "acme/api:2", "images");
    let file = |tag: &str, grace: &str| {
        let text = format!("services:\n  api:\n    image: {address}/acme/api:{tag}\n    command: [sleep, '1000000']\n");
        repo.write("stacks/app/compose.yaml", text + &format!("    stop_grace_period: {grace}\n"));
    };
    drop(registry);
    // Nothing of it changed, so nothing is done; that the tag may have moved is said, with its line.
    let plan = repo.plan();
    assert_eq!(plan.change("compose:imgdown-app"), &Value::Null);
    let problem = plan.0["problems"].as_array().expect("a list").iter().find(|each| each["severity"] == "warning");
    let problem = problem.expect("a warning");
    assert!(problem["message"].as_str().expect("text").contains("what runs goes on"), "{problem}");
    assert_eq!((&problem["file"], &problem["line"]), (&"stacks/app/compose.yaml".into(), &3.into()));
    assert!(plan.refusal("compose:imgdown-other").contains("nobody can say what the image"));
    repo.drop_stack("other");
    repo.is_settled();
    // It can be changed as long as the image is the same one.
    file("1", "1s");
    assert_eq!(repo.plan().change("compose:imgdown-app")["effects"][0], "recreate api");
    repo.apply();
    assert_eq!(text(&host, "imgdown-app"), "one");
    repo.is_settled();
    file("2", "1s");
    assert!(repo.plan().refusal("compose:imgdown-app").contains("nobody can say what the image"));
}

#[test]
fn an_image_for_which_there_is_no_room_is_not_begun() {
    let (id, host) = ("imgroom", any());
    let (repo, registry) = (repo(id, &host), Registry::start(&host));
    registry.push_as("acme/api:1", "one", 1000, AMD64, Some(900_000_000_000_000));
    project(&repo, "app", &registry, &registry.address(), "acme/api:1", "images");
    let refusal = repo.plan().refusal("compose:imgroom-app");
    assert!(
        refusal.starts_with("Docker has ") && refusal.contains("GB left for images, and this needs about"),
        "{refusal}"
    );
    repo.fail();
    assert_eq!(host.sh("docker ps -aq --filter name=imgroom; ls /srv | grep imgroom || true"), "");
}

#[test]
fn a_pull_that_breaks_off_is_begun_again() {
    let (id, host) = ("imgcut", any());
    let (repo, registry) = (repo(id, &host), Registry::start(&host));
    registry.push("acme/api:1", "whole", 3_000_000, AMD64);
    // What the host asks for breaks off in the middle, a few times.
    let (own, cut) = (host.address.clone(), std::sync::atomic::AtomicUsize::new(0));
    let address = registry.behind(&host, move |_, peer| {
        let again = peer == own && cut.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 2;
        again.then_some(1_000_000)
    });
    project(&repo, "app", &registry, &address, "acme/api:1", "images");
    repo.apply();
    assert_eq!(text(&host, "imgcut-app"), "whole");
    repo.is_settled();
}

#[test]
fn a_pull_that_fails_leaves_everything_as_it_was() {
    let (id, host) = ("imgfail", any());
    let (repo, registry) = (repo(id, &host), Registry::start(&host));
    registry.push("acme/api:1", "one", 1000, AMD64);
    let own = host.address.clone();
    // This side reaches the registry, the host does not.
    let address = registry.behind(&host, move |_, peer| (peer == own).then_some(0));
    project(&repo, "app", &registry, &registry.address(), "acme/api:1", "images");
    repo.apply();
    let place = "/srv/imgfail* /etc/imgfail*";
    let (files, container) = (host.files(place), host.sh("docker ps -q --no-trunc --filter name=imgfail-app"));
    registry.push("acme/api:1", "two", 1000, AMD64);
    project(&repo, "app", &registry, &address, "acme/api:1", "images");
    repo.stack("needs", "after \"app\"\nfile \"/etc/ID-needs\" content=\"x\"");
    let ran = repo.fail();
    assert_eq!(ran.outcome("compose:imgfail-app"), "failed", "{ran:?}");
    assert_eq!(ran.outcome("file:/etc/imgfail-needs"), "blocked", "{ran:?}");
    assert!(ran.out.contains("cannot be pulled"), "{}", ran.out);
    assert_eq!(host.files(place), files);
    assert_eq!(host.sh("docker ps -q --no-trunc --filter name=imgfail-app"), container);
}

#[test]
fn the_engine_is_reached_where_its_socket_is_not() {
    let (id, host) = ("imgway", any());
    let (repo, registry) = (repo(id, &host), Registry::start(&host));
    // One user may not use the socket, for another sshd forwards nothing.
    host.sh("id imgway >/dev/null 2>&1 || useradd -m -s /bin/sh imgway
        mkdir -p /home/imgway/.ssh && cp /home/deploy/.ssh/authorized_keys /home/imgway/.ssh/ && chown -R imgway /home/imgway
        echo 'imgway ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/imgway
        printf 'Match User deploy\\n  AllowStreamLocalForwarding no\\n' >/etc/ssh/sshd_config.d/imgway.conf
        systemctl reload ssh");
    for (user, version) in [("imgway", "one"), ("deploy", "two")] {
        let kdl = host.kdl().replace(" user=\"root\"", &format!(" user=\"{user}\" sudo=#true"));
        repo.write(&format!("hosts/{}.kdl", host.name), kdl);
        registry.push("acme/api:1", version, 1000, AMD64);
        project(&repo, "app", &registry, &registry.address(), "acme/api:1", "images");
        let ran = repo.run(&["apply", "--yes", "-v"]);
        assert!(ran.code == 0 && ran.err.contains("through `docker system dial-stdio`"), "{user}: {ran:?}");
        assert_eq!(text(&host, "imgway-app"), version);
        repo.is_settled();
    }
    host.sh("rm /etc/ssh/sshd_config.d/imgway.conf /etc/sudoers.d/imgway; systemctl reload ssh");
}

#[test]
fn g07_an_image_that_does_not_work_gives_way_to_the_one_before() {
    let (id, host) = ("imgback", any());
    let (repo, registry) = (repo(id, &host), Registry::start(&host));
    let service = "stop_grace_period: 0s\n    command: [sleep, '1000000']\n";
    repo.write("stacks/app/ca.pem", registry.ca());
    repo.write("stacks/app/compose.yaml", format!("services:\n  api:\n    image: lab/busybox:1\n    {service}"));
    let check = "health command=\"sh\" \"-c\" \"docker exec ID-app-api-1 test ! -e /text\" within=\"3s\"";
    repo.stack("app", &format!("compose \"ID-app\" {{ file \"compose.yaml\"; {check} }}"));
    repo.apply();
    let look =
        |host: &Host| (host.files("/srv/imgback*"), host.sh("docker ps --format '{{.Image}}' --filter name=imgback"));
    let before = look(&host);
    registry.push("acme/api:1", "bad", 1000, AMD64);
    let address = registry.address();
    repo.write("stacks/app/compose.yaml", format!("services:\n  api:\n    image: {address}/acme/api:1\n    {service}"));
    repo.stack(
        "app",
        &format!(
            "secret \"pull\" env=\"PULL\"
            registry \"{address}\" user=\"{USER}\" password=\"{{{{ secret.pull }}}}\" ca=\"ca.pem\"
            compose \"ID-app\" {{ file \"compose.yaml\"; images; {check} }}"
        ),
    );
    let ran = repo.fail();
    assert_eq!(ran.outcome("compose:imgback-app"), "rolled-back", "{ran:?}");
    assert_eq!(look(&host), before);
}
