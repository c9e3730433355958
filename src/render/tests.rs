//! Whole repositories, written as a list of files, and what rendering makes of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;

use super::compare::{ChangeKind, compare};
use super::*;
use crate::base::diagnostic::Severity;
use crate::host::transport::Nobody;
use crate::load::{Secrets, Selection, load};
use crate::resource::state::PathState;
use crate::sealed::World;

const HOSTS: &str = "repo \"test\"\nhost \"web-1\" address=\"203.0.113.1\" { tags \"web\"; vars region=\"fra1\" level=\"host\" }\n\
                     host \"web-2\" { tags \"web\"; vars region=\"nyc1\" }\nsecret \"db\" env=\"DB\"\n";

fn config(list: &[(&str, &str)]) -> Config {
    let mut files: BTreeMap<Utf8PathBuf, Arc<[u8]>> =
        list.iter().map(|(path, text)| ((*path).into(), text.as_bytes().into())).collect();
    files.entry("hosts/hosts.kdl".into()).or_insert_with(|| HOSTS.as_bytes().into());
    let nothing = |_: &Utf8Path| Err(io::Error::new(io::ErrorKind::NotFound, "no such file"));
    let env = |_: &str| Some("hunter2".to_string());
    let world = World { env: &env, read: &nothing, prompt: &Nobody, identities: &[] };
    match load(&files, world, Secrets::Required) {
        Ok((config, _)) => config,
        Err(error) => panic!("{}", lines(&error.problems).join("\n")),
    }
}

fn one(body: &str) -> Config {
    config(&[("stacks/s/stack.kdl", &format!("stack \"s\" {{\non \"all\"\n{body}\n}}"))])
}

fn host(text: &str) -> HostName {
    HostName::new(text).unwrap()
}

fn lines(problems: &Problems) -> Vec<String> {
    let line = |problem: &crate::base::diagnostic::Problem| {
        let places: Vec<String> =
            problem.places.iter().map(|(span, _)| span.to_string().replace("stacks/s/stack.kdl:", "")).collect();
        let warning = if problem.severity == Severity::Warning { "warning: " } else { "" };
        let hint = problem.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("{}: {warning}{}{hint}", places.join(" & "), problem.message)
    };
    problems.0.iter().map(line).collect()
}

/// What is wrong on `web-1` with a stack of this body.
fn found(body: &str) -> Vec<String> {
    lines(&render(&one(body), &host("web-1"), None).problems)
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem() {
    let body =
        "on \"web-1\"\ncompose \"app\" file=\"compose.yaml\"\nsite \"x.org\" { proxy \"/\" to=\"compose:app/web\" }";
    let config = config(&[
        ("stacks/s/stack.kdl", &format!("stack \"s\" {{\n{body}\n}}")),
        ("stacks/s/compose.yaml", "services:\n  web:\n    image: \"x\n    ports: [\"80:80\"]\n"),
    ]);
    let found = lines(&render(&config, &host("web-1"), None).problems);
    assert!(found.len() == 1 && found[0].starts_with("stacks/s/compose.yaml:"), "{found:?}");
}

/// The text of a file on a host where nothing is wrong.
fn text(config: &Config, name: &str, path: &str) -> String {
    let rendering = render(config, &host(name), None);
    assert_eq!(lines(&rendering.problems), [""; 0]);
    let state = rendering.desired.resources.iter().find_map(|resource| resource.state.paths.get(Utf8Path::new(path)));
    match state {
        Some(PathState::File { content, .. }) => String::from_utf8(content.bytes.to_vec()).unwrap(),
        other => panic!("{path} is {other:?}"),
    }
}

/// Every case with what is wrong with it.
fn table(cases: &[&str], found: impl Fn(&str) -> Vec<String>) -> String {
    let mut all = String::new();
    for case in cases {
        all.extend([case, "\n    ", &found(case).join("\n    "), "\n\n"]);
    }
    all
}

#[test]
fn more_special_names_win() {
    let config = config(&[
        (
            "stacks/s/stack.kdl",
            r#"stack "s" {
    on "all"
    vars level="vars" a="vars" b="{{ a }}+{{ c }}" url="{{ host.name }}.{{ region }}" { deep x=1 y=1 z="{{ host.name }}" }
    values "values.yaml"
    host "web-1" { vars a="override"; values "web-1.yaml" }
    file "/f" { content "{{ level }} {{ a }} {{ b }} {{ url }} {{ deep.x }}{{ deep.y }}{{ deep.z }} {{ hosts | length }} {{ stack.name }} {{ host.address }} {{ host.vars.region }}" }
}"#,
        ),
        ("stacks/s/values.yaml", "level: values\nc: values\ndeep: { y: 2 }\n"),
        ("stacks/s/web-1.yaml", "deep: { x: 9 }\n"),
    ]);
    assert_eq!(text(&config, "web-1", "/f"), "host override override+values web-1.fra1 92web-1 2 s 203.0.113.1 fra1");
    assert_eq!(text(&config, "web-2", "/f"), "values vars vars+values web-2.nyc1 12web-2 2 s web-2 nyc1");
}

#[test]
fn what_can_be_wrong_with_names() {
    let cases = [
        "vars a=\"{{ b }}\" b=\"{{ c }}\"",
        "vars a=\"{{ secret.db }}\"",
        "vars domain=\"x\"\nfile \"/f\" { content \"{{ domian }}\" }",
        "vars a=\"{{ \"",
        "file \"/f\" { content \"{{ secret.dbb }}\" }",
    ];
    let all = table(&cases, found);
    insta::assert_snapshot!(all);
}

#[test]
fn facts_that_are_not_known_are_waited_for() {
    let config = one("vars cpus=\"{{ facts.cpus }}\"\nfile \"/f\" { content \"{{ cpus }}\" }");
    let rendering = render(&config, &host("web-1"), None);
    assert!(rendering.needs_facts());
    assert_eq!(lines(&rendering.problems), [""; 0]);
    assert!(rendering.into_result().is_err());
    let rendering = render(&config, &host("web-1"), Some(&json!({ "cpus": 4 })));
    assert!(!rendering.needs_facts());
    assert_eq!(rendering.into_result().unwrap().0.resources.len(), 1);

    let config = one("file \"/f\" { content \"{{ facts.cpus }}\" }\nfile \"/g\" { content \"x\" }");
    let rendering = render(&config, &host("web-1"), None);
    assert_eq!((rendering.desired.resources.len(), rendering.waiting.len()), (1, 1));
}

#[test]
fn two_things_cannot_be_the_same_thing() {
    let cases = [
        "file \"/f\" { content \"1\" }\nfile \"/f\" { content \"2\" }",
        "directory \"/a\"\nfile \"/a\" { content \"\" }",
        "file \"/a\" { content \"\" }\nfile \"/a/b/c\" { content \"\" }",
        "unit \"a\" { exec \"/bin/a\" }\nfile \"/etc/systemd/system/a.service\" { content \"\" }",
        "unit \"a\" { exec \"/bin/a\"; listen 8080 }\nunit \"b\" { exec \"/bin/b\"; listen \"127.0.0.1:8080\" }",
        "unit \"a\" { exec \"/bin/a\"; listen \"127.0.0.1:8080\" }\nunit \"b\" { exec \"/bin/b\"; listen \"127.0.0.2:8080\" }",
        "unit \"a\" { exec \"/bin/a\"; listen 80 }\nsite \"x.org\" { listen 80; redirect \"/\" to=\"https://z.org\" }",
        "unit \"nginx\" { exec \"/bin/a\"; listen 80 }\nsite \"x.org\" { listen 80; redirect \"/\" to=\"https://y.org\" }",
        "site \"x.org\" { listen 80; redirect \"/\" to=\"https://z.org\" }\nsite \"y.org\" { server-name \"X.org\"; listen 80; redirect \"/\" to=\"https://z.org\" }",
        "site \"x.org\" { listen 80; redirect \"/\" to=\"https://z.org\" }\nsite \"y.org\" { listen 80; redirect \"/\" to=\"https://z.org\" }",
    ];
    let all = table(&cases, found);
    insta::assert_snapshot!(all);
}

#[test]
fn two_stacks_on_one_host_meet() {
    let stack = |name: &str, hosts: &str| format!("stack \"{name}\" {{ on {hosts}; file \"/f\" {{ content \"x\" }} }}");
    let config =
        config(&[("stacks/a/stack.kdl", &stack("a", "\"all\"")), ("stacks/b/stack.kdl", &stack("b", "\"web-1\""))]);
    assert_eq!(
        lines(&render(&config, &host("web-1"), None).problems),
        ["stacks/b/stack.kdl:1:25 & stacks/a/stack.kdl:1:23: `file:/f` is described twice for the same host \
          (stacks `a` and `b` meet on this host)"]
    );
    assert_eq!(lines(&render(&config, &host("web-2"), None).problems), [""; 0]);
}

#[test]
fn needs_are_known_without_being_said() {
    let config = config(&[
        (
            "stacks/base/stack.kdl",
            "stack \"base\" { on \"all\"; packages \"nginx-light\" \"docker.io\"; directory \"/srv\" }",
        ),
        ("stacks/gap/stack.kdl", "stack \"gap\" { on \"web-2\"; after \"base\"; file \"/gap\" { content \"\" } }"),
        (
            "stacks/app/stack.kdl",
            "stack \"app\" { on \"web-1\"; after \"gap\"; directory \"/srv/app\"; file \"/srv/app/a/b\" { content \"\" }\n\
             site \"x.org\" { listen 80; redirect \"/\" to=\"https://z.org\" } }",
        ),
    ]);
    let rendering = render(&config, &host("web-1"), None);
    assert_eq!(lines(&rendering.problems), [""; 0]);
    let needs: Vec<String> = rendering
        .desired
        .resources
        .iter()
        .map(|resource| {
            let needs: Vec<String> = resource.needs.iter().map(ToString::to_string).collect();
            format!("{} <- {}", resource.id, needs.join(" "))
        })
        .collect();
    insta::assert_snapshot!(needs.join("\n"));
}

/// The first system of `seeds/`: nginx serves `api-overengineered…`, the tunnel asks for `api.overengineered…`.
#[test]
fn a_tunnel_for_a_name_that_no_site_serves() {
    let body = r#"
unit "go-api" { exec "/var/www/overengineered/api/main"; env PORT="8080"; listen 8080 }
site "api-overengineered.kishans.in" { listen "127.0.0.1:8081"; proxy "/" to="unit:go-api" }
tunnel "main" {
    id "6ff42ae2-765d-4adf-8112-31c55c1551ef"
    route "api.overengineered.kishans.in" to="http://localhost:8081"
    otherwise 404
}"#;
    insta::assert_snapshot!(found(body).join("\n"));
}

#[test]
fn what_can_be_wrong_on_the_way_of_a_request() {
    let tunnel = |rules: &str| {
        format!(
            "site \"a.org\" {{ server-name \"*.b.org\"; listen \"127.0.0.1:81\"; redirect \"/\" to=\"https://z.org\" }}\n\
             site \"c.org\" {{ listen \"127.0.0.1:82\"; redirect \"/\" to=\"https://z.org\" }}\n\
             tunnel \"t\" {{ id \"x\"\n{rules}\n}}"
        )
    };
    let cases = [
        "route \"a.org\" to=\"http://localhost:81\"",
        "route \"x.b.org\" to=\"http://localhost:81\"",
        "route \"*.b.org\" to=\"http://localhost:81\"",
        "route \"b.org\" to=\"http://localhost:81\"",
        "route \"elsewhere.net\" to=\"http://localhost:81\"",
        "route \"c.org\" to=\"http://localhost:81\"",
        "route \"other.org\" to=\"http://localhost:81\" origin-host=\"a.org\"",
        "route \"a.org\" to=\"http://localhost:99\"",
        "route \"a.org\" to=\"http://10.0.0.1:99\"",
        "route \"a.org\" to=\"site:a.org\"\nroute \"a.org\" to=\"site:a.org\"",
        "route \"*.b.org\" to=\"site:a.org\"\nroute \"x.b.org\" to=\"site:a.org\"",
        "route \"a.org\" path=\"/api\" to=\"site:a.org\"\nroute \"a.org\" path=\"/api/v2\" to=\"site:a.org\"",
        "route \"a.org\" path=\"/api/v2\" to=\"site:a.org\"\nroute \"a.org\" path=\"/api\" to=\"site:a.org\"\nroute \"a.org\" to=\"site:a.org\"",
    ];
    let all = table(&cases, |case| found(&tunnel(case)));
    insta::assert_snapshot!(all);
}

#[test]
fn a_port_where_nothing_listens_is_warned_of_once() {
    let site = |name: &str| {
        let server = "server { listen 80; server_name NAME; location / { proxy_pass http://127.0.0.1:99; }\n\
                      location /x { proxy_pass http://127.0.0.1:99; } }\n";
        server.replace("NAME", name)
    };
    let config = config(&[
        ("stacks/s/stack.kdl", "stack \"s\" { on \"all\"; site \"a\" file=\"a.conf\"; site \"b\" file=\"b.conf\" }"),
        ("stacks/s/a.conf", &site("a.org")),
        ("stacks/s/b.conf", &site("b.org")),
    ]);
    let (_, warnings) = render_all(&config, &Selection::default().select(&config).unwrap()).unwrap();
    let said = lines(&warnings);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("leave it as it is"), "a file has no `to`: {said:?}");
}

#[test]
fn a_database_that_is_open_to_the_world() {
    let compose = "services:\n  db:\n    image: postgres:16\n    ports: ['5432:5432']\n  cache:\n    image: redis\n    ports: ['127.0.0.1:6379:6379']\n  \
                   web:\n    image: nginx\n    ports: ['80:80']\n  odd:\n    image: ghcr.io/acme/thing\n    ports: ['13306:3306']\n";
    let config = config(&[
        ("stacks/s/stack.kdl", "stack \"s\" { on \"all\"; compose \"app\" { file \"compose.yaml\" } }"),
        ("stacks/s/compose.yaml", compose),
    ]);
    insta::assert_snapshot!(lines(&render(&config, &host("web-1"), None).problems).join("\n"));
}

#[test]
fn all_hosts_say_the_same_problem_once() {
    let config = one("file \"/f\" { content \"{{ domian }}\" }");
    let chosen = Selection::default().select(&config).unwrap();
    let Err(error) = render_all(&config, &chosen) else { panic!("it renders") };
    assert_eq!(error.problems.0.len(), 1);
}

#[test]
fn two_renderings_are_the_same_or_their_difference_is_known() {
    let body = |content: &str, more: &str| {
        one(&format!(
            "file \"/f\" {{ content \"{content}\" }}\npackages \"curl\" {more}\nfile \"/{more}x\" {{ content \"\" }}"
        ))
    };
    let (old, new) = (body("a", "\"jq\"".trim_matches('"')), body("b", ""));
    let [old, new] = [&old, &new].map(|config| render(config, &host("web-1"), None).desired);
    assert_eq!(compare(&old, &old), []);
    let changes: Vec<String> = compare(&old, &new)
        .iter()
        .map(|change| {
            let paths: Vec<_> = change.paths.iter().map(|(path, _)| path.as_str()).collect();
            format!(
                "{:?} {} {paths:?} +{:?} -{:?}",
                change.kind, change.id, change.packages_added, change.packages_removed
            )
        })
        .collect();
    insta::assert_snapshot!(changes.join("\n"));
    assert!(compare(&old, &new).iter().any(|change| change.kind == ChangeKind::Removed));
}

/// A hundred hosts with a hundred templated files each: rendering must not be what one waits for.
#[test]
fn many_hosts_render_quickly() {
    let (mut hosts, mut body) = ("repo \"x\"\n".to_string(), String::new());
    for n in 0..100 {
        let _ = writeln!(hosts, "host \"h{n}\" {{ vars n={n} }}");
        let _ = writeln!(body, "file \"/f{n}\" {{ content \"{{{{ host.name }}}} {{{{ n }}}} {n}\" }}");
    }
    let config = config(&[
        ("hosts/hosts.kdl", &hosts),
        ("stacks/s/stack.kdl", &format!("stack \"s\" {{\non \"all\"\n{body}\n}}")),
    ]);
    let chosen = Selection::default().select(&config).unwrap();
    let start = std::time::Instant::now();
    let (renderings, _) = render_all(&config, &chosen).unwrap_or_else(|error| panic!("{:?}", lines(&error.problems)));
    let took = start.elapsed();
    assert_eq!(renderings.values().map(|rendering| rendering.desired.resources.len()).sum::<usize>(), 10_000);
    assert!(took < std::time::Duration::from_secs(20), "took {took:?}");
}

#[test]
fn a_few_lines_do_not_fill_the_memory() {
    // Each variable is the one before it, twice.
    let doubling = |count: usize| {
        let vars =
            (1..count).map(|n| format!("vars a{n}=\"{{{{ a{before} }}}}{{{{ a{before} }}}}\"\n", before = n - 1));
        format!(
            "vars a0=\"{}\"\n{}file \"/x\" content=\"{{{{ a{} }}}}\"",
            "x".repeat(1 << 10),
            vars.collect::<String>(),
            count - 1
        )
    };
    assert_eq!(found(&doubling(15)), [""; 0], "16 MiB");
    let all = found(&doubling(40));
    assert!(all[0].starts_with("18:11: this makes a text of more than 16 MiB"), "{}", all[0]);
    // Text that a loop repeats, in a file of the stack.
    let loops = format!("{}\n{{% for i in range(90000) %}}{}{{% endfor %}}", "first", "x".repeat(1 << 10));
    let body = "stack \"s\" {\non \"all\"\nfile \"/x\" template=\"x.j2\"\n}";
    let config = config(&[("stacks/s/stack.kdl", body), ("stacks/s/x.j2", &loops)]);
    let problems = lines(&render(&config, &host("web-1"), None).problems);
    assert!(problems[0].contains("x.j2:1:1 & 3:") && problems[0].contains("more than 16 MiB"), "{problems:?}");
    // Many texts, none of which is too large.
    let many: String = (0..40).map(|n| format!("\nfile \"/{n}\" content=\"{{{{ a12 }}}}{{{{ a12 }}}} {n}\"")).collect();
    let all = found(&(doubling(13) + &many));
    assert!(all[0].contains("the texts of this stack are more than 128 MiB on one host"), "{all:?}");
}
