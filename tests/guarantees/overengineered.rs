//! The first system of `stacks/`, from end to end on a real host: the programs are stand-ins, everything else is real.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::kit::free;
use crate::shared::{Repository, changes};

const REPO: &str = "test-overengineered";
const HOME: &str = "/var/www/overengineered";
const API: &str = "api-overengineered.example.org";
const WEB: &str = "overengineered.example.org";
const CREDENTIALS: &str = "/root/.cloudflared/05362019-2c26-446e-ab4d-8b0f491f966c.json";
const UNITS: [&str; 3] = ["go-api", "astro-app", "cloudflared"];
/// Where nginx serves the API and the website, and where the tunnel's stand-in serves both.
const NGINX_API: u16 = 8081;
const NGINX_WEB: u16 = 8082;
const TUNNEL: u16 = 7844;

/// The host of the lab that is for this test.
struct Host {
    lab: PathBuf,
    name: String,
    _held: crate::kit::Host,
}

impl Host {
    fn find() -> Host {
        let held = free();
        Host { name: held.name.clone(), lab: PathBuf::from(std::env::var("RECONCILE_LAB").unwrap()), _held: held }
    }

    /// Runs a script on the host and returns what it says.
    fn ssh(&self, script: &str) -> String {
        let mut command = Command::new("ssh");
        command.arg("-F").arg(self.lab.join("ssh_config")).args(["-o", "ConnectTimeout=10", &self.name, script]);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {script}\n{stderr}", self.name);
        String::from_utf8(output.stdout).unwrap().trim_end().to_string()
    }

    /// Copies one of `tests/lab/apps` to the host, as a program.
    fn deploy(&self, app: &str, to: &str) {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/apps").join(app);
        self.ssh(&format!("mkdir -p $(dirname {to})"));
        let mut scp = Command::new("scp");
        scp.arg("-qF").arg(self.lab.join("ssh_config")).arg(from).arg(format!("{}:{to}", self.name));
        assert!(scp.status().unwrap().success(), "{app} to {to}");
        self.ssh(&format!("chmod 755 {to}"));
    }

    /// Does something to the machine itself: `kill`, `start`.
    fn lab(&self, what: &str) {
        let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/lab");
        let mut command = Command::new(lab);
        command.args([what, &self.name]).env("RECONCILE_LAB_DIR", &self.lab).stdin(Stdio::null());
        let output = command.output().unwrap();
        assert!(output.status.success(), "lab {what}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Takes away what an earlier run of this test left.
    fn clean(&self) {
        self.ssh(&format!(
            "systemctl disable -q --now {} 2>/dev/null
             rm -rf /var/lib/reconcile/{REPO} {HOME} /etc/cloudflared /root/.cloudflared /usr/local/bin/bun
             cd /etc/systemd/system && rm -f go-api.service astro-app.service cloudflared.service
             cd /etc/nginx && rm -f sites-*/{API}.conf sites-*/{WEB}.conf
             systemctl daemon-reload && systemctl restart nginx",
            UNITS.join(" ")
        ));
    }

    /// What the host answers to a request for a name: the status and the body.
    fn get(&self, port: u16, name: &str, path: &str) -> (String, String) {
        let url = format!("http://127.0.0.1:{port}{path}");
        let said = self.ssh(&format!("curl -s -m 10 -w ' %{{http_code}}' -H 'Host: {name}' '{url}'"));
        let (body, status) = said.rsplit_once(' ').expect("a body and a status");
        (status.into(), body.trim().into())
    }

    fn assert_answer(&self, port: u16, name: &str, path: &str, body: &str) {
        assert_eq!(self.get(port, name, path), ("200".into(), body.into()), "{name}{path} at port {port}");
    }

    /// Fails unless the website says so, through nginx and through the tunnel.
    fn assert_title(&self, title: &str) {
        for port in [NGINX_WEB, TUNNEL] {
            let (status, page) = self.get(port, WEB, "/");
            assert_eq!(status, "200", "{page}");
            assert!(page.contains(&format!("<h1>{title}</h1>")), "port {port}: {page}");
        }
    }

    /// What tells one start of a unit from the next.
    fn starts(&self, units: &[&str]) -> Vec<String> {
        let show = |unit: &&str| self.ssh(&format!("systemctl show -p InvocationID --value {unit}"));
        units.iter().map(show).collect()
    }
}

/// The root's stacks that are for this host alone.
fn repository(host: &Host) -> Repository {
    let repository = Repository::new(None);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let stack = std::fs::read_to_string(root.join("stacks/overengineered/stack.kdl")).unwrap();
    let host = std::fs::read_to_string(host.lab.join(format!("hosts/{}.kdl", host.name))).unwrap();
    repository.write("stacks/overengineered/stack.kdl", &stack);
    repository.write("hosts/host.kdl", &format!("repo \"{REPO}\"\ndefaults {{ tags \"web\"; }}\n{host}"));
    repository.commit();
    repository
}

#[test]
fn the_first_version_works_from_end_to_end() {
    let host = Host::find();
    host.clean();
    host.deploy("greet_api.py", &format!("{HOME}/api/main"));
    host.deploy("site.py", &format!("{HOME}/website/dist/server/entry.mjs"));
    host.deploy("cloudflared", "/usr/bin/cloudflared");
    host.ssh(&format!(
        "printf '#!/bin/sh\\nexec python3 \"$2\"\\n' >/usr/local/bin/bun && chmod 755 /usr/local/bin/bun
         mkdir -p /root/.cloudflared && echo '{{}}' >{CREDENTIALS}
         chown www-data: {HOME}/api"
    ));
    let repository = repository(&host);

    repository.must(&["apply", "--yes"]);
    repository.assert_nothing_to_do();

    // Each name reaches its own program, and a greeting is stored.
    host.assert_answer(NGINX_API, API, "/greet?name=Ada", "Hello, Ada!");
    host.assert_answer(TUNNEL, API, "/greet?name=Grace", "Hello, Grace!");
    for port in [NGINX_API, TUNNEL] {
        host.assert_answer(port, API, "/count", "2");
    }
    host.assert_title("Hello from the site");
    assert_eq!(host.get(TUNNEL, "elsewhere.example.org", "/").0, "404");

    // Power off, power on: everything is back without us, and nothing is to be done.
    host.lab("kill");
    host.lab("start");
    let up = |name: &str| format!("curl -sfo /dev/null -H 'Host: {name}' 127.0.0.1:{TUNNEL}/health");
    host.ssh(&format!(
        "i=0; until {} && {}; do i=$((i + 1)); [ $i -lt 60 ] || exit 1; sleep 0.5; done",
        up(API),
        up(WEB)
    ));
    host.assert_answer(NGINX_API, API, "/count", "2");
    host.assert_answer(TUNNEL, API, "/greet?name=Linus", "Hello, Linus!");
    host.assert_answer(TUNNEL, API, "/count", "3");
    host.assert_title("Hello from the site");
    repository.assert_nothing_to_do();

    // A commit to the website is about the website only.
    let others = ["go-api", "cloudflared", "nginx"];
    let (others_before, web_before) = (host.starts(&others), host.starts(&["astro-app"]));
    repository.edit("stacks/overengineered/stack.kdl", "env PORT=\"4321\"", "env PORT=\"4321\" TITLE=\"Bonjour\"");
    repository.commit();
    let plan = repository.plan();
    assert_eq!(changes(&plan), [(format!("{}/overengineered", host.name), vec!["unit:astro-app".to_string()])]);
    let effects = plan["hosts"][0]["stacks"][0]["effects"].to_string();
    assert!(effects.contains("astro-app.service") && !effects.contains("go-api"), "{effects}");
    repository.must(&["apply", "--yes", "--stack", "overengineered"]);
    host.assert_title("Bonjour");
    assert_eq!(host.starts(&others), others_before);
    assert_ne!(host.starts(&["astro-app"]), web_before);
    repository.assert_nothing_to_do();

    // Without the stack nothing of it is left, but what was there before.
    std::fs::remove_dir_all(repository.path("stacks/overengineered")).unwrap();
    repository.commit();
    let held = repository.run(&["plan", "--json"]);
    assert_eq!(held.code, 1, "nothing is wanted on the host any more, which a person must say: {}", held.all());
    let plan: Value = serde_json::from_str(&held.stdout).unwrap();
    repository.must(&["apply", "--override", plan["digest"].as_str().unwrap()]);
    repository.assert_nothing_to_do();
    for unit in UNITS {
        assert_eq!(host.ssh(&format!("systemctl show -p LoadState --value {unit}")), "not-found");
    }
    host.ssh(&format!("nginx -t && test -s {HOME}/api/greetings.db && test ! -e /etc/cloudflared"));
}

/// A repository with the files as somebody wrote them by hand.
fn by_hand(site: &str, tunnel: &str) -> Repository {
    let repository = Repository::new(None);
    repository.write("hosts/hosts.kdl", "repo \"by-hand\"\nhost \"vps\" address=\"203.0.113.10\"\n");
    repository.write("stacks/api/api.conf", site);
    repository.write("stacks/api/config.yml", tunnel);
    let stack = format!(
        "stack \"api\" {{\n    on \"vps\"\n    site \"{API}\" file=\"api.conf\"\n    tunnel \"main\" file=\"config.yml\"\n}}\n"
    );
    repository.write("stacks/api/stack.kdl", &stack);
    repository
}

const SITE: &str = "server {
    listen 127.0.0.1:8081;
    server_name api-overengineered.example.org;

    location / {
        return 204;
    }
}
";

const INGRESS: &str = "tunnel: 05362019-2c26-446e-ab4d-8b0f491f966c
credentials-file: /root/.cloudflared/05362019-2c26-446e-ab4d-8b0f491f966c.json

ingress:
  - hostname: api-overengineered.example.org
    service: http://localhost:8081
  - service: http_status:404
";

#[test]
fn what_was_written_by_hand_without_a_mistake_passes() {
    by_hand(SITE, INGRESS).must(&["check"]);
}

#[test]
fn a_tunnel_for_a_name_that_no_site_serves_is_refused() {
    let repository = by_hand(SITE, &INGRESS.replace("api-overengineered", "api.overengineered"));
    let ran = repository.run(&["check"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert!(ran.all().contains("stacks/api/config.yml:5:"), "{}", ran.all());
    assert!(ran.all().contains("api.overengineered.example.org"), "{}", ran.all());
}

#[test]
fn a_server_block_with_stars_is_refused() {
    let repository = by_hand(&SITE.replace("server {", "server {****"), INGRESS);
    let ran = repository.run(&["check"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert!(ran.all().contains("stacks/api/api.conf:1:"), "{}", ran.all());
}
