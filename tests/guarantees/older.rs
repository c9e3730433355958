//! 4, with everything at once, on Debian 13 and on Debian 12: older systemd, nginx and Docker do as well.

use crate::kit::{Host, Repo, alone, free};

const COMPOSE: &str = r#"services:
  web:
    image: lab/python:1
    init: true
    command: ["python3", "-m", "http.server", "8000", "--directory", "/data"]
    environment: { VALUE: "${VALUE}" }
    ports: ["127.0.0.1:7513:8000"]
    volumes: ["./index.html:/data/index.html:ro"]
  side: { image: "lab/busybox:1", init: true, command: [sleep, "9999"] }
"#;

/// A stack with a resource of most kinds; `@` stands for the value.
fn every_kind(value: &str) -> String {
    let body = r#"
        secret "tunnel" env="G04_OLDER"
        directory "/srv/ID" mode="0750" group="www-data"
        file "/srv/ID/conf" content="@" { on-change restart="ID-api" }
        unit "ID-api" {
            exec "/usr/bin/python3" "-m" "http.server" "--bind" "127.0.0.1" "7511"
            workdir "/srv/ID"
            env VALUE="a b 100% @"
            listen "127.0.0.1:7511"
            health http="/conf"
        }
        timer "ID-job" on-calendar="daily" persistent=#true randomized-delay="10min" exec="/bin/true @"
        site "ID.test" {
            listen "127.0.0.1:7512"
            proxy "/" to="unit:ID-api"
            proxy "/shop" to="compose:ID-app/web" strip=#true
            header "X-Value" "@"
        }
        compose "ID-app" {
            file "compose.yaml"
            env VALUE="@"
            health within="20s"
        }
        tunnel "main" {
            id "05362019-2c26-446e-ab4d-8b0f491f966c"
            bin "/srv/ID-bin/cloudflared"
            credentials "{{ secret.tunnel }}"
            route "ID.test" to="site:ID.test"
            route "@.test" to=403
            otherwise 410
        }"#;
    body.replace('@', value)
}

/// What a visitor gets through the tunnel, the site and the unit or the container behind it.
fn serves(host: &Host, value: &str) {
    let get = |name: &str, path: &str| host.sh(&format!("curl -si -H 'Host: {name}' http://127.0.0.1:7844{path}"));
    let conf = get("g04-older.test", "/conf");
    assert!(conf.contains(&format!("X-Value: {value}\r\n")) && conf.ends_with(&format!("\n{value}")), "{conf}");
    assert!(get("g04-older.test", "/shop/").ends_with(&format!("\n{value}")));
    assert!(get(&format!("{value}.test"), "/").contains(" 403 "));
    let env = "docker exec g04-older-app-web-1 python3 -c 'import os; print(os.environ[\"VALUE\"])'; systemctl show -p Environment --value g04-older-api";
    assert_eq!(host.sh(env), format!("{value}\n\"VALUE=a b 100% {value}\"\n"));
}

#[test]
fn g04_everything_at_once() {
    everything_at_once(&free());
}

#[test]
fn g04_everything_at_once_on_an_older_host_too() {
    everything_at_once(&alone("deb12-1"));
}

fn everything_at_once(host: &Host) {
    let mut repo = Repo::new("g04-older", &[host]);
    host.sh("systemctl disable --now --quiet cloudflared; rm -rf /etc/cloudflared /etc/systemd/system/cloudflared.service; systemctl daemon-reload");
    let program = include_str!("../lab/apps/cloudflared");
    host.sh(&format!("mkdir -p /srv/g04-older-bin; cd /srv/g04-older-bin; cat >cloudflared <<'END'\n{program}\nEND\nchmod 755 cloudflared"));
    repo.env("G04_OLDER", "{}");
    for value in ["one", "two"] {
        repo.stack("kinds", &every_kind(value));
        repo.write("stacks/kinds/compose.yaml", COMPOSE);
        repo.write("stacks/kinds/index.html", value);
        repo.apply();
        repo.is_settled();
        serves(host, value);
    }
    // The sudo user sees the same, and can do the same.
    repo.write(
        &format!("hosts/{}.kdl", host.name),
        host.kdl().replace(" user=\"root\"", " user=\"deploy\" sudo=#true"),
    );
    repo.is_settled();
    // While Docker is down, nobody can tell which containers there are to remove.
    repo.drop_stack("kinds");
    host.sh("systemctl stop docker.socket docker");
    let refusal = repo.plan().refusal("compose:g04-older-app");
    host.sh("systemctl start docker");
    assert!(refusal.contains("its containers cannot be removed"), "{refusal}");
    assert_eq!(repo.plan().changes().count(), 7);
    repo.apply_all_the_same();
    repo.is_settled();
    let left = "cd /etc/systemd/system; ls -d g04-older* cloudflared* *.wants/g04-older* *.wants/cloudflared* /etc/nginx/sites-*/g04-older* /etc/cloudflared/* /srv/g04-older /srv/g04-older-app 2>/dev/null; \
        docker ps -aq --filter label=com.docker.compose.project=g04-older-app; \
        systemctl list-units --no-legend 'g04-older*' cloudflared.service; ss -Hltn | grep -E ':75[01]|:7844'";
    assert_eq!(host.try_sh(left).1, "");
}
