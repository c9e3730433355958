//! Services with two places.

use camino::Utf8Path;

use crate::resource::Probe;
use crate::resource::colours::Colour;
use crate::resource::tests::{lower, lower_with};

const UNIT: &str = "unit \"api\" {
    exec \"/srv/api --port {{ port }} --name {{ colour }}\"
    restart-on \"/etc/api.conf\"
    health http=\"/up\"
    rollout \"blue-green\" { ports 8081 \"127.0.0.2:8082\"; drain \"1500ms\"; }
}
site \"api.test\" { proxy \"/\" to=\"unit:api\"; }
site \"direct.test\" { proxy \"/\" to=\"http://127.0.0.1:8081\"; }";

#[test]
fn a_unit_in_two_places_is_one_of_two_units() {
    let outcome = lower(UNIT);
    assert_eq!(outcome.problems, []);
    let mut unit = outcome.resources[0].clone();
    for (colour, word, address) in
        [(Colour::Blue, "blue", "127.0.0.1:8081"), (Colour::Green, "green", "127.0.0.2:8082")]
    {
        unit.wear(colour);
        let state = &unit.state;
        let paths: Vec<&str> = state.paths.keys().map(|path| path.as_str()).collect();
        let file = format!("/etc/systemd/system/api-{word}.service");
        assert_eq!(paths, ["/etc/nginx/conf.d/reconcile-unit_api.conf", file.as_str()]);
        assert_eq!(state.units.keys().collect::<Vec<_>>(), [format!("api-{word}.service").as_str(), "nginx.service"]);
        let text = |path: &str| match &state.paths[Utf8Path::new(path)] {
            crate::resource::state::PathState::File { content, .. } => {
                String::from_utf8_lossy(&content.bytes).into_owned()
            }
            other => panic!("{other:?}"),
        };
        let port = address.rsplit_once(':').map(|(_, port)| port).unwrap_or_default();
        assert!(text(&file).contains(&format!("ExecStart=/srv/api --port {port} --name {word}\n")), "{}", text(&file));
        assert!(
            text(paths[0]).contains(&format!("upstream unit_api {{\n    server {address};\n}}")),
            "{}",
            text(paths[0])
        );
        let probes = unit.checks.iter().map(|check| match &check.probe {
            Probe::Http { url, .. } => url.clone(),
            Probe::Active { unit, .. } => unit.clone(),
            other => panic!("{other:?}"),
        });
        assert_eq!(probes.collect::<Vec<_>>(), [format!("http://{address}/up"), format!("api-{word}.service")]);
        assert_eq!(unit.reactions.len(), 3);
    }
    assert_eq!(unit.colours.expect("it has two").watched, [Utf8Path::new("/etc/api.conf")]);
    assert!(
        lower(UNIT).text("/etc/nginx/sites-available/direct.test.conf").contains("proxy_pass http://127.0.0.1:8081;")
    );
    let outcome = lower(&UNIT.replace("direct", "aaa"));
    assert!(outcome.text("/etc/nginx/sites-available/api.test.conf").contains("proxy_pass http://unit_api;"));
}

#[test]
fn what_cannot_take_turns_is_told_where_it_stands() {
    let cases = [
        (("\"blue-green\"", "\"canary\""), "there is no rollout `canary`"),
        (("ports 8081 \"127.0.0.2:8082\"", "ports 8081"), "takes turns on two ports"),
        (("\"127.0.0.2:8082\"", "8081"), "both colours would listen on the same port"),
        (("1500ms", "31m"), "a run does not wait that long"),
        (("health http=\"/up\"", ""), "nothing says how one sees that a new version works"),
        (("{{ port }}", "80"), "nothing in this unit says on which port it listens"),
        (("health http=\"/up\"", "health http=\"/up\"\nlisten 80"), "listens on the ports of its rollout"),
        (("health http=\"/up\"", "health http=\"/up\"\nrunning #false"), "always runs"),
        (("unit \"api\"", "unit \"api@1\""), "only a plain service can"),
    ];
    for ((before, after), what) in cases {
        let complaints = lower(&UNIT.replace(before, after)).complaints();
        assert!(complaints.contains(what), "{after}: {complaints}");
    }
    let tunnel = "tunnel \"t\" { id \"x\"; credentials \"/etc/c.json\"; route \"a.test\" to=\"unit:api\"; }";
    let complaints = lower(&format!("{UNIT}\n{tunnel}")).complaints();
    assert!(complaints.contains("only nginx knows"), "{complaints}");
}

const COMPOSE: &str = "compose \"shop\" {
    file \"compose.yaml\"
    when \"conf.d\" changes=\"reload\"
    rollout \"blue-green\" service=\"web\" { ports 8081 8082; health http=\"/up\"; }
}
site \"shop.test\" { proxy \"/\" to=\"compose:shop/web\"; }";

const FILE: &str = "services:
  web:
    image: shop/web:1
    networks: [front, back]
    volumes: ['./conf.d:/conf.d:ro', './other.conf:/other.conf:ro']
    ports: ['8080:80']
  db:
    image: shop/db:1
    networks: [back]
networks: { front: {}, back: {} }
";

fn compose(file: &str) -> crate::resource::tests::Outcome {
    lower_with(COMPOSE, &[("compose.yaml", file), ("conf.d/web.conf", "a"), ("other.conf", "b")])
}

#[test]
fn a_service_in_two_places_is_one_of_two_services() {
    let outcome = compose(FILE);
    insta::assert_snapshot!(outcome.text("/srv/shop/compose.rollout.yaml"));
    let mut shop = outcome.resources[0].clone();
    for (colour, word) in [(Colour::Blue, "blue"), (Colour::Green, "green"), (Colour::Blue, "blue")] {
        shop.wear(colour);
        let project = shop.state.project.as_ref().expect("a project");
        assert_eq!(project.services.keys().collect::<Vec<_>>(), ["db", format!("web-{word}").as_str()]);
        assert_eq!(project.files.last().map(|path| path.as_str()), Some("/srv/shop/compose.rollout.yaml"));
        // A file that can be read again is; one that a container keeps as it was leads to a new container.
        let actions = format!("{:?}", shop.reactions);
        assert!(actions.contains(&format!("service: \"web-{word}\", signal: Some(\"HUP\")")), "{actions}");
        assert_eq!(shop.reactions.len(), 2, "{actions}");
    }
    assert_eq!(shop.colours.expect("it has two").watched, [Utf8Path::new("/srv/shop/other.conf")]);
}

#[test]
fn a_service_that_cannot_run_beside_itself_is_refused() {
    let cases = [
        ("    image: shop/db:1\n", "    image: shop/db:1\n    depends_on: [web]\n", "`db` depends on it"),
        ("['8080:80']", "['8080:80', '8443:443']", "several ports"),
        ("    ports: ['8080:80']\n", "", "on which port `web` listens in its container"),
        ("    networks: [front, back]\n", "    network_mode: host\n", "no network of its own"),
        ("  web:\n", "  weg:\n", "no service that runs is called `web`"),
    ];
    for (before, after, what) in cases {
        let complaints = compose(&FILE.replacen(before, after, 1)).complaints();
        assert!(complaints.contains(what), "{after}: {complaints}");
    }
}

#[test]
fn what_is_stopped_runs_in_neither_place() {
    let mut unit = lower(UNIT).resources[0].clone().stopped();
    let project = COMPOSE.replace("rollout", "running #false\n    rollout");
    let files = [("compose.yaml", FILE), ("conf.d/web.conf", "a"), ("other.conf", "b")];
    let mut shops = [compose(FILE).resources[0].clone().stopped(), lower_with(&project, &files).resources[0].clone()];
    for colour in Colour::BOTH {
        unit.wear(colour);
        let own = unit.state.units[format!("api-{}.service", colour.word()).as_str()];
        assert_eq!((own.enabled, own.active), (Some(false), Some(false)));
        assert_eq!(unit.checks, []);
        for shop in &mut shops {
            shop.wear(colour);
            assert!(!shop.state.project.as_ref().expect("a project").running);
            assert_eq!(shop.checks, []);
        }
    }
}
