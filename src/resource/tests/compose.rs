use std::fmt::Write as _;

use super::{Outcome, lower_with};
use crate::base::diagnostic::Severity;
use crate::resource::state::PathState;
use crate::resource::{Action, Probe};

const FILE: &str = "services:
  api:
    image: ghcr.io/acme/api:latest
    ports:
      - \"8080:8080\"
    env_file: api.env
  nginx:
    image: nginx:alpine
    ports: [\"80:80\", \"127.0.0.1:${ADMIN:-9000}:9000/tcp\", \"53:53/udp\", 9999]
    volumes:
      - ./nginx.conf:/etc/nginx/nginx.conf:ro
      - type: bind
        source: ./html
        target: /html
      - data:/data
      - /var/run/docker.sock:/var/run/docker.sock
    configs: [extra]
  tool:
    profiles: [debug]
    image: alpine
    ports:
      - target: 1
        published: \"1000-1000\"
        host_ip: 127.0.0.1
configs:
  extra:
    file: ./extra.conf
volumes:
  data: {}
";

const FILES: [(&str, &str); 6] = [
    ("compose.yaml", FILE),
    ("nginx.conf", "events {}"),
    ("html/index.html", "hello"),
    ("html/deep/a.css", "a {}"),
    ("extra.conf", "x"),
    ("api.env", "A=b"),
];

fn summary(outcome: &Outcome) -> String {
    let resource = outcome.one();
    let mut text = String::new();
    for (path, state) in &resource.state.paths {
        let PathState::File { mode, content, .. } = state else { panic!("a file") };
        let _ = writeln!(text, "{path} {mode:04o}{}", if content.secret { " secret" } else { "" });
    }
    let project = resource.state.project.as_ref().expect("a project");
    let _ = writeln!(
        text,
        "{} in {}, {:?}, profiles {:?}",
        project.name, project.directory, project.files, project.profiles
    );
    for (service, runs) in &project.services {
        let _ = write!(text, "service {service} {:?}", runs.mounts);
        let ties = &runs.ties;
        for (word, services) in [("needs", &ties.needs), ("borrows", &ties.borrows), ("follows", &ties.follows)] {
            if !services.is_empty() {
                let _ = write!(text, " {word} {services:?}");
            }
        }
        text.push('\n');
    }
    for reaction in &resource.reactions {
        let _ = writeln!(text, "on {:?} {:?}", reaction.paths, reaction.action);
    }
    for listen in &resource.wiring.listens {
        let _ = writeln!(
            text,
            "{:?}:{} -> {:?} {:?} at {}",
            listen.address, listen.port, listen.container_port, listen.image, listen.span
        );
    }
    for check in &resource.checks {
        let _ = writeln!(text, "check {:?}", check.probe);
    }
    text
}

#[test]
fn the_users_own_file_goes_with_what_it_mounts() {
    let outcome = lower_with("compose \"app\" { file \"compose.yaml\"; health within=\"60s\"; }", &FILES);
    insta::assert_snapshot!("project", summary(&outcome));
    assert_eq!(outcome.text("/srv/app/compose.yaml"), FILE);
}

#[test]
fn reactions_environment_and_profiles() {
    let outcome = lower_with(
        r#"compose "app" {
    file "compose.yaml"
    directory "/opt/app"
    env TOKEN="{{ secret.db }}" ADMIN="9100"
    profiles "debug"
    when "nginx.conf" changes="recreate" service="nginx"
    when "extra.conf" changes="none"
    health tcp=8080
}"#,
        &FILES,
    );
    insta::assert_snapshot!("project_with_options", summary(&outcome));
    assert!(outcome.text("/opt/app/.env").contains("TOKEN='hunter2 50%'\nADMIN=9100\n"));
    assert_eq!(outcome.one().checks[0].probe, Probe::Tcp { host: "127.0.0.1".into(), port: 8080 });
    assert!(matches!(&outcome.one().reactions[0].action, Action::Recreate { service, .. } if service == "nginx"));
}

#[test]
fn no_signal_has_a_container_read_a_file_that_it_mounts_alone() {
    let files = [
        (
            "compose.yaml",
            "services: {web: {image: a, volumes: ['./a.conf:/a.conf', './conf:/conf']}, other: {image: b}}\n",
        ),
        ("a.conf", "a"),
        ("conf/b.conf", "b"),
    ];
    let with = |when: &str| lower_with(&format!("compose \"app\" {{ file \"compose.yaml\"\n{when}\n}}"), &files);
    for changes in ["reload", "signal:USR1"] {
        let outcome = with(&format!("when \"a.conf\" changes=\"{changes}\""));
        assert!(outcome.problems[0].message.contains("mounts this file alone"), "{:?}", outcome.problems);
        let outcome = with(&format!("when \"conf\" changes=\"{changes}\""));
        assert!(matches!(&outcome.one().reactions[1].action, Action::Container { signal: Some(_), .. }));
        // Whoever does not mount it may be told of it all the same.
        assert_eq!(with(&format!("when \"a.conf\" changes=\"{changes}\" service=\"other\"")).problems.len(), 0);
    }
}

#[test]
fn a_mounted_folder_has_the_action_that_is_declared() {
    let files = [
        ("compose.yaml", "services:\n  web: {image: a, volumes: ['./conf:/etc/conf:ro']}\n  other: {image: b}\n"),
        ("conf/a.conf", "a"),
        ("conf/sub/b.conf", "b"),
    ];
    let with = |when: &str| lower_with(&format!("compose \"app\" {{ file \"compose.yaml\"\n{when}\n}}"), &files);
    assert_eq!(with("").one().reactions, [], "a folder is seen through as it is");
    let outcome = with("when \"conf\" changes=\"recreate\"");
    let [reaction] = &outcome.one().reactions[..] else { panic!("one reaction") };
    assert_eq!(reaction.action, Action::Recreate { project: "app".into(), service: "web".into() });
    assert_eq!(reaction.paths, ["/srv/app/conf/a.conf", "/srv/app/conf/sub/b.conf"]);
    let outcome = with("when \"conf/sub/b.conf\" changes=\"signal:USR1\" service=\"other\"");
    let signal = Action::Container { project: "app".into(), service: "other".into(), signal: Some("USR1".into()) };
    assert_eq!(outcome.one().reactions[0].action, signal);
    let nobody = with("mount \"conf\"\nwhen \"compose.yaml\" changes=\"restart\"");
    assert!(!nobody.problems.is_empty());
}

#[test]
fn whatever_compose_accepts_is_accepted() {
    let odd = "name: x\nversion: 3.10\nx-any: &any {restart: always}\ninclude:\n  - other.yaml\nservices:\n  a:\n    <<: *any\n    build: .\n    \
               ports: !override\n      - \"${PORT:?set it}:80\"\n      - \"3000-3001:3000-3001\"\n      - \"[::1]:81:81\"\n    extends: {file: base.yaml, service: z}\n  \
               b: null\n";
    let files = [
        ("odd.yaml", odd),
        ("other.yaml", "services: {c: {image: c, ports: ['90:90']}}\n"),
        ("base.yaml", "services: {z: {}}\n"),
    ];
    let outcome = lower_with("compose \"odd\" file=\"odd.yaml\"", &files);
    insta::assert_snapshot!("odd", summary(&outcome));
}

#[test]
fn rendered_files_and_several_of_them() {
    let files = [
        ("a.yaml.j2", "services:\n  a: {image: \"x:{{ replicas }}\", ports: [\"{{ nested.port }}:80\"]}\n"),
        ("b.yaml", "services: {a: {restart: always}}\n"),
    ];
    let outcome = lower_with("compose \"app\" { template \"a.yaml.j2\"; file \"b.yaml\"; }", &files);
    insta::assert_snapshot!("rendered", summary(&outcome));
}

#[test]
fn mistakes() {
    let files = [
        ("compose.yaml", "services: {a: {image: x, volumes: ['../out.conf:/x']}}\n"),
        ("twice.yaml", "services:\n  a: {}\n  a: {}\n"),
        ("bad.yaml.j2", "services: [{{ secret.db }}\n"),
        ("../out.conf", ""),
    ];
    let outcome = lower_with(
        "compose \"A B\" file=\"compose.yaml\"\ncompose \"b\"\ncompose \"c\" file=\"compose.yml\"\ncompose \"d\" file=\"twice.yaml\"\n\
         compose \"e\" template=\"bad.yaml.j2\"\ncompose \"f\" { file \"compose.yaml\"; when \"x.conf\" changes=\"restart\"; }\n\
         compose \"g\" { file \"compose.yaml\"; mount \"nope\"; }\ncompose \"h\" { file \"compose.yaml\"; directory \"/proc/x\"; }\n",
        &files,
    );
    let text = outcome.complaints();
    assert!(!text.contains("hunter2"), "{text}");
    insta::assert_snapshot!("compose_mistakes", text);
    assert!(outcome.problems.iter().any(|problem| problem.severity == Severity::Error));
}

#[test]
fn what_dockerignore_leaves_out_of_a_build_is_not_sent() {
    let compose = "services:\n  a:\n    build: ./app\n    volumes: [./app/mounted.log:/x]\n";
    let files = [
        ("compose.yaml", compose),
        ("app/Dockerfile", "FROM scratch"),
        ("app/.dockerignore", "*.log\nDockerfile\nnode_modules\n"),
        ("app/main.js", "x"),
        ("app/a.log", "x"),
        ("app/mounted.log", "x"),
        ("app/node_modules/x/y.js", "x"),
    ];
    let outcome = lower_with("compose \"app\" file=\"compose.yaml\"", &files);
    let paths: Vec<&str> = outcome.one().state.paths.keys().map(|path| path.as_str()).collect();
    let sent = [".dockerignore", "Dockerfile", "main.js", "mounted.log"].map(|name| format!("/srv/app/app/{name}"));
    assert_eq!(paths, [&sent[..], &["/srv/app/compose.yaml".to_string()]].concat());
}

#[test]
fn a_service_that_is_to_be_stopped_is_one_that_runs_and_that_nobody_needs() {
    let compose =
        "services:\n  web:\n    image: x\n    ports: [\"80:80\"]\n    depends_on: [db]\n  db:\n    image: y\n";
    let lower = |stopped: &str| {
        lower_with(
            &format!("compose \"app\" {{ file \"compose.yaml\"; stopped {stopped} }}"),
            &[("compose.yaml", compose)],
        )
    };
    let outcome = lower("\"web\"");
    let project = outcome.one().state.project.as_ref().expect("a project");
    assert!(project.stopped.contains("web") && project.services.contains_key("web") && project.running);
    assert!(outcome.one().wiring.listens.is_empty());
    assert!(lower("\"db\"").problems[0].message.contains("`web` needs `db`"));
    assert!(lower("\"wep\"").problems[0].hint.as_deref().is_some_and(|hint| hint.contains("`web`")));
}

#[test]
fn a_project_without_services_is_an_error() {
    let outcome =
        lower_with("compose \"app\" { file \"compose.yaml\"; }", &[("compose.yaml", "service:\n  web: {image: a}\n")]);
    assert!(outcome.complaints().contains("this project has no services"), "{}", outcome.complaints());
}
