//! Compose files of the kind people publish: whatever Compose accepts is accepted here, and runs, and settles, and goes.
//!
//! Each folder of `tests/compose` is a project. `options.kdl` in it is what a stack would say besides the file's name;
//! `ONLY-CHECKED` says why it cannot run in the lab. What Compose refuses is in `tests/compose/refused`.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use crate::kit::{Host, Repo, any, free_pair};
use camino::{Utf8Path, Utf8PathBuf};

/// A project of the corpus.
struct Case {
    name: String,
    folder: Utf8PathBuf,
    file: String,
    options: String,
    runs: bool,
}

/// All projects of a folder, in order.
fn cases(below: &str) -> Vec<Case> {
    let corpus = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compose").join(below);
    let folders = corpus.read_dir_utf8().unwrap().map(|entry| entry.unwrap().into_path());
    let mut folders: Vec<Utf8PathBuf> = folders.filter(|path| path.is_dir() && !path.ends_with("refused")).collect();
    folders.sort();
    let case = |folder: Utf8PathBuf| {
        let names = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
        Case {
            name: folder.file_name().unwrap().into(),
            file: names.into_iter().find(|name| folder.join(name).exists()).unwrap().into(),
            options: std::fs::read_to_string(folder.join("options.kdl")).unwrap_or_default(),
            runs: !folder.join("ONLY-CHECKED").exists(),
            folder,
        }
    };
    folders.into_iter().map(case).collect()
}

/// A repository in which each case is a stack of its own, each on the host that `on` gives it.
fn repository<'a>(id: &str, hosts: &[&Host], cases: impl IntoIterator<Item = (&'a Case, String)>) -> Repo {
    let repo = Repo::new(id, hosts);
    for (case, on) in cases {
        let Case { name, folder, file, options, .. } = case;
        let to = repo.path().join("stacks").join(name);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        let copied = Command::new("cp").args(["-r", folder.as_str(), to.as_str()]).status().unwrap();
        assert!(copied.success(), "{folder}");
        let body = format!("compose \"{id}-{name}\" {{\nfile \"{file}\"\n{options}\n}}\n");
        repo.write(&format!("stacks/{name}/stack.kdl"), format!("stack \"{name}\" {{\non \"{on}\"\n{body}}}\n"));
    }
    repo
}

fn on_sandbox(id: &str, cases: &[&Case]) -> Repo {
    let repo = repository(id, &[], cases.iter().map(|case| (*case, "sandbox".to_string())));
    repo.write("hosts/sandbox.kdl", "host \"sandbox\" transport=\"local\" root=\".sandbox\"\n");
    repo
}

/// Which of some projects Compose itself refuses, on a host.
fn refused_by_compose(host: &Host, cases: &[Case], to: &str) -> BTreeSet<String> {
    copy(host, cases[0].folder.parent().unwrap(), to);
    let mut refused = BTreeSet::new();
    for case in cases {
        // A second file is the one option that Compose must be told of, too.
        let more = case.options.lines().filter_map(|line| line.strip_prefix("file "));
        let more: String = more.map(|file| format!(" -f {file}")).collect();
        let (went, _) =
            host.try_sh(&format!("cd {to}/{} && docker compose -f {}{more} config -q", case.name, case.file));
        if !went {
            refused.insert(case.name.clone());
        }
    }
    refused
}

fn copy(host: &Host, folder: &Utf8Path, to: &str) {
    host.sh(&format!("rm -rf {to} && mkdir -p {to}"));
    let mut tar = Command::new("tar").args(["-C", folder.as_str(), "-c", "."]).stdout(Stdio::piped()).spawn().unwrap();
    let mut into = Command::new("docker");
    into.args(["exec", "-i", &host.container, "tar", "-C", to, "-x"]).stdin(tar.stdout.take().unwrap());
    assert!(into.status().unwrap().success() && tar.wait().unwrap().success());
}

#[test]
fn what_people_publish_passes_check() {
    let cases = cases("");
    assert!(cases.len() >= 30, "{}", cases.len());
    let repo = on_sandbox("corpus-check", &cases.iter().collect::<Vec<_>>());
    let ran = repo.run(&["check"]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
}

#[test]
fn compose_and_we_accept_and_refuse_the_same() {
    let host = any();
    let (published, wrong) = (cases(""), cases("refused"));
    assert_eq!(refused_by_compose(&host, &published, "/tmp/corpus"), BTreeSet::new());
    let all: BTreeSet<String> = wrong.iter().map(|case| case.name.clone()).collect();
    assert_eq!(refused_by_compose(&host, &wrong, "/tmp/corpus-refused"), all);

    // Here either `check` refuses, with a place, or the plan does, in the words of Compose on the host.
    let mut left = Vec::new();
    for case in &wrong {
        let ran = on_sandbox("corpus-refused", &[case]).run(&["check"]);
        match ran.code {
            0 => left.push(case),
            _ => assert!(ran.err.contains(&format!("stacks/{}/", case.name)), "{}: no place\n{}", case.name, ran.err),
        }
    }
    let repo = repository("corpus-refused", &[&host], left.iter().map(|case| (*case, host.name.clone())));
    let plan = repo.plan();
    for case in &left {
        let why = plan.refusal(&format!("compose:corpus-refused-{}", case.name));
        assert!(why.contains("docker compose config"), "{}: {why}", case.name);
    }
    // What can be known without the host is said without it.
    for early in ["tab", "unknown-volume", "unknown-network", "missing-service", "unknown-secret", "unknown-config"] {
        assert!(!left.iter().any(|case| case.name.ends_with(early)), "{early}");
    }
}

/// Images that stay up whatever they are told to run, and answer the usual health checks, under all names of the corpus.
const STUB: &str = r##"
docker rm -f ID-stub >/dev/null 2>&1
docker run --name ID-stub --entrypoint sh lab/busybox:1 -ec '
    for program in mysqladmin pg_isready redis-cli curl mc wget; do
        rm -f /bin/$program
        printf "#!/bin/sh\necho PONG OK\n" >/bin/$program
    done
    printf "#!/bin/sh\ntrap \"exit 0\" TERM INT QUIT\nsleep 2147483647 &\nwait\n" >/stay
    cp /stay /cron.sh
    chmod 755 /bin/* /stay /cron.sh' || exit 1
docker commit -c 'ENTRYPOINT ["/stay"]' -c 'CMD []' ID-stub ID-stub >/dev/null && docker rm ID-stub >/dev/null || exit 1
docker network inspect web-proxy >/dev/null 2>&1 || docker network create web-proxy >/dev/null || exit 1
for image in IMAGES; do docker tag ID-stub "$image" || exit 1; done
"##;

/// The images of a rendered repository, as Compose on the host names them.
fn images(host: &Host, repo: &Repo, out: &str) -> Vec<String> {
    let out = repo.path().join(out);
    assert_eq!(repo.run(&["render", "--out", out.as_str()]).code, 0);
    copy(host, &out.join(&host.name).join("srv"), "/tmp/corpus-rendered");
    let said = host.sh("cd /tmp/corpus-rendered && for dir in *; do (cd $dir
            files=$(ls | grep -E '^(docker-)?compose\\.ya?ml$' | sed 's/^/-f /')
            docker compose $files --profile '*' config --images 2>/dev/null ||
                sed -n 's/^ *image: *\\([a-z0-9/:.-]*\\)$/\\1/p' *compose.y*ml); done");
    let images: BTreeSet<&str> = said.lines().filter(|line| !line.contains(' ')).collect();
    images.into_iter().map(String::from).collect()
}

/// Removes all that the corpus may have left on a host.
fn sweep(host: &Host, id: &str) {
    host.sh(&format!(
        "all=$(docker ps -aq --filter name={id} --filter label=com.docker.compose.project)
         for dir in /srv/{id}-*; do
            all=\"$all $(docker ps -aq --filter label=com.docker.compose.project=${{dir##*/}})\"
         done
         docker rm -f $all >/dev/null 2>&1
         docker network prune -f >/dev/null
         docker volume ls -q --filter name={id} | xargs -r docker volume rm >/dev/null
         rm -rf /srv/{id}-*"
    ));
}

#[test]
fn what_people_publish_runs_settles_and_goes() {
    const ID: &str = "corpus";
    let hosts = free_pair();
    let all = cases("");
    let runs: Vec<&Case> = all.iter().filter(|case| case.runs).collect();
    assert!(runs.len() >= 30, "{}", runs.len());
    for host in &hosts {
        sweep(host, ID);
    }
    // Half of them on each host: an engine has addresses for some thirty networks.
    let placed = runs.iter().enumerate().map(|(at, case)| (*case, hosts[at % 2].name.clone()));
    let repo = repository(ID, &[&hosts[0], &hosts[1]], placed);
    for (number, host) in hosts.iter().enumerate() {
        let images = images(host, &repo, &format!("out-{number}"));
        assert!(images.len() > 20, "{images:?}");
        let images: Vec<String> = images.into_iter().filter(|image| !image.contains('@')).collect();
        host.sh(&STUB.replace("ID", ID).replace("IMAGES", &images.join(" ")));
    }

    let ran = repo.apply();
    for host in 0..2 {
        let outcomes = &ran.json()["hosts"][host]["outcomes"];
        let applied = outcomes.as_object().into_iter().flatten().filter(|(_, how)| how.as_str() == Some("applied"));
        assert_eq!(applied.count(), runs.len() / 2 + (1 - host) * (runs.len() % 2), "{outcomes:#}");
    }
    repo.is_settled();

    for case in &runs {
        repo.drop_stack(&case.name);
    }
    repo.write(
        "stacks/nothing/stack.kdl",
        "stack \"nothing\" {\n on \"all\"\n file \"/srv/corpus-nothing\" content=\"x\"\n}\n",
    );
    repo.apply_all_the_same();
    repo.is_settled();
    for host in &hosts {
        let left = host.sh(
            "docker ps -a --format '{{.Names}} {{.Label \"com.docker.compose.project\"}}' | grep ' corpus-' || true
             find /srv/corpus-* -type f -name '*compose*'",
        );
        assert_eq!(left, "");
        sweep(host, ID);
    }
}
