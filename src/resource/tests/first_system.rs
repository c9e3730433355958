//! The first system of the seeds, as a stack, and its hand-written files.

use super::{lower, lower_with};
use crate::base::id::{Kind, ResourceId};
use crate::resource::health::{HALF_A_SECOND, Terms};
use crate::resource::{Action, Probe};

const STACK: &str = r#"
packages "nginx" "curl"
directory "/srv/app" mode="0750" owner="www-data"
file "/etc/app.conf" { content "domain = {{ domain }}\n"; on-change reload="go-api" }
unit "go-api" {
    description "Go API"
    exec "/srv/app/main"
    user "www-data"
    workdir "/srv/app"
    env PORT="8080" GREETING="hello world"
    restart "always"
    restart-sec 5
    after "network.target"
    listen 8080
    health http="/health" within="10s"
}
site "api.{{ domain }}" {
    listen "127.0.0.1:8081"
    proxy "/" to="unit:go-api"
    headers "security"
}
tunnel "main" {
    id "05362019-2c26-446e-ab4d-8b0f491f966c"
    credentials "{\"Secret\":\"{{ secret.db }}\"}"
    route "api.{{ domain }}" to="site:api.{{ domain }}"
    otherwise 404
}
"#;

#[test]
fn every_file_is_as_one_would_write_it_by_hand() {
    let outcome = lower(STACK);
    insta::assert_snapshot!("unit", outcome.text("/etc/systemd/system/go-api.service"));
    insta::assert_snapshot!("site", outcome.text("/etc/nginx/sites-available/api.example.org.conf"));
    insta::assert_snapshot!("tunnel", outcome.text("/etc/cloudflared/config.yml"));
    insta::assert_snapshot!("tunnel_unit", outcome.text("/etc/systemd/system/cloudflared.service"));
    assert_eq!(outcome.text("/etc/app.conf"), "domain = example.org\n");
}

#[test]
fn the_way_of_a_request_is_known() {
    let outcome = lower(STACK);
    let by = |kind| outcome.resources.iter().find(|resource| resource.id.kind == kind).expect("there");
    let tunnel = &by(Kind::Tunnel).wiring.routes[0];
    assert_eq!(tunnel.name.as_deref(), Some("api.example.org"));
    assert_eq!(tunnel.to, Some(("127.0.0.1".into(), 8081)));
    assert_eq!(tunnel.reference, Some(ResourceId::new(Kind::Site, "api.example.org")));
    let site = &by(Kind::Site).wiring;
    assert_eq!(site.serves[0].0, "api.example.org");
    assert_eq!(site.listens[0].port, 8081);
    assert_eq!(site.routes[0].to, Some(("127.0.0.1".into(), 8080)));
    assert_eq!(by(Kind::Unit).wiring.listens[0].port, 8080);
}

#[test]
fn what_follows_a_change_is_known() {
    let outcome = lower(STACK);
    let by = |kind| outcome.resources.iter().find(|resource| resource.id.kind == kind).expect("there");
    assert_eq!(by(Kind::Unit).reactions[0].action, Action::ByDirective("go-api.service".into()));
    assert_eq!(by(Kind::Site).reactions[0].action, Action::Reload("nginx.service".into()));
    assert_eq!(by(Kind::File).reactions[0].action, Action::Reload("go-api.service".into()));
    let probes: Vec<_> = by(Kind::Unit).checks.iter().map(|check| check.probe.clone()).collect();
    let http = Probe::Http { url: "http://127.0.0.1:8080/health".into(), host: None };
    assert_eq!(
        probes,
        [http, Probe::Active { unit: "go-api.service".into(), patience: Terms::default().patience(HALF_A_SECOND) }]
    );
    assert_eq!(outcome.resources.iter().filter(|resource| resource.id.kind == Kind::Packages).count(), 2);
}

#[test]
fn the_mistake_in_the_hand_written_site_is_found_with_its_line() {
    let site = "server {****\n    listen 127.0.0.1:8081;\n    server_name api.example.org;\n}\n";
    let outcome = lower_with("site \"api\" file=\"api.conf\"", &[("api.conf", site)]);
    assert_eq!(outcome.complaints(), "api.conf:1:9 not valid for nginx: `****` is not a directive (-)\n");
}

#[test]
fn hand_written_files_are_followed_too() {
    let site = "server {\n  listen 127.0.0.1:8081;\n  server_name api.example.org;\n  location / {\n    proxy_pass http://localhost:8080;\n  }\n}\n";
    let config = "tunnel: x\ncredentials-file: /root/x.json\ningress:\n  - hostname: api.example.org\n    service: http://localhost:8081\n  - service: http_status:404\n";
    let outcome = lower_with(
        "site \"api\" file=\"api.conf\"\ntunnel \"main\" file=\"config.yml\"",
        &[("api.conf", site), ("config.yml", config)],
    );
    assert_eq!(outcome.complaints(), "");
    let site = &outcome.resources[0].wiring;
    assert_eq!(site.routes[0].to, Some(("localhost".into(), 8080)));
    assert_eq!(site.routes[0].span.to_string(), "stacks/demo/api.conf:5:5");
    let tunnel = &outcome.resources[1].wiring.routes;
    assert_eq!(tunnel[0].to, Some(("localhost".into(), 8081)));
    assert_eq!(tunnel[0].span.line_column().0, 4);
}
