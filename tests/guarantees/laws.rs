//! 4, for whole repositories: the laws that hold for every one, shown on all of `examples/` and on this repository's own
//! stacks, with a host of the lab. `tests/examples.rs` shows them on directories in place of hosts.
//!
//! What the examples find on their servers stands in for itself here: programs that only run, images and packages that
//! have the right names, a certificate of nobody's.

use std::collections::BTreeMap;

use crate::kit::{Host, Repo, free};

/// Where the examples put something. Nothing else may be different there in the end.
const PLACES: &str = "/etc /srv /usr/local /var/backups /var/www";

/// What runs: services with their invocations, timers, containers.
const LIFE: &str = "for unit in $(systemctl list-units --plain --no-legend --type=service,timer --state=running,waiting | cut -d' ' -f1); do
        echo $unit $(systemctl show -P InvocationID $unit); done
    docker ps -aq --no-trunc";

/// Makes programs, packages and images that stand in for those of the examples.
const STAND_INS: &str = r#"
    program() { # PATH, and what it says on standard input
        mkdir -p "${1%/*}"; cat >"$1"; chmod 755 "$1"
    }
    package() { # NAME UNIT: a package of which a unit is all there is
        dpkg -s "$1" >/dev/null 2>&1 && return
        rm -rf /tmp/package; mkdir -p /tmp/package/DEBIAN /tmp/package/usr/lib/systemd/system
        printf 'Package: %s\nVersion: 99\nArchitecture: all\nMaintainer: Lab <lab@example.org>\nDescription: stands in\n' "$1" >/tmp/package/DEBIAN/control
        printf '[Service]\nExecStart=/usr/bin/sleep 9999\n' >"/tmp/package/usr/lib/systemd/system/$1.service"
        dpkg-deb -b /tmp/package /tmp/package.deb && dpkg -i /tmp/package.deb && systemctl daemon-reload && systemctl start "$1"
    } >/dev/null
    image() { # NAME: one that answers on port 80, and ends when it is told to
        from=$(docker create lab/busybox:1)
        docker commit --change 'STOPSIGNAL SIGKILL' --change 'CMD ["httpd", "-f", "-p", "80"]' "$from" "$1"
        docker rm "$from"
    } >/dev/null
    mkdir -p /usr/local/bin /var/www /var/backups
"#;

struct Example {
    place: &'static str,
    /// Which of its hosts is in the lab, with its tags and variables.
    host: &'static str,
    more: &'static str,
    /// Stacks whose containers need images of their own: `tests/systems.rs` has them and their laws.
    elsewhere: &'static [&'static str],
    /// What its server has before anything is applied.
    before: &'static str,
}

fn laws(example: &Example) {
    let host = free();
    let repo = Repo::of(example.place, example.host, &host, example.more);
    for stack in example.elsewhere {
        repo.drop_stack(stack);
    }
    let laws = Laws { host: &host, repo, name: example.host };
    laws.sweep();
    host.sh(&format!("{STAND_INS}\n{}", example.before));
    laws.hold();
}

struct Laws<'a> {
    host: &'a Host,
    repo: Repo,
    name: &'static str,
}

impl Laws<'_> {
    fn plan(&self) -> crate::kit::Plan {
        self.repo.plan_with(&["--host", self.name])
    }

    fn apply(&self) {
        let ran = self.repo.apply_with(&["--host", self.name]);
        ran.is_truthful();
    }

    /// Takes away what an earlier run has left, by the law that says that this works.
    fn sweep(&self) {
        if self.host.try_sh(&format!("ls /var/lib/reconcile/{}/ledger | grep -q .", self.repo.id)).0 {
            let empty = self.repo.copy();
            Laws { host: self.host, repo: empty, name: self.name }.remove();
        }
    }

    fn remove(&self) {
        for stack in self.repo.stacks() {
            self.repo.drop_stack(&stack);
        }
        let digest = self.plan().digest();
        let ran = self.repo.run(&["apply", "--json", "--host", self.name, "--override", &digest]);
        assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    }

    fn is_settled(&self, when: &str) {
        let plan = self.plan();
        assert!(plan.is_empty(), "{when}: {:#}", plan.0["hosts"]);
    }

    fn hold(&self) {
        let look = || (self.host.files(PLACES), self.host.sh(LIFE));
        let (files, life) = look();
        self.apply();
        self.is_settled("the second plan is empty");

        let stamp = format!("/run/laws-{}", self.name);
        self.host.sh(&format!("touch {stamp}"));
        let running = self.host.sh(LIFE);
        self.apply();
        let touched = self.host.sh(&format!("find {PLACES} -cnewer {stamp}; rm {stamp}"));
        assert_eq!(touched, "", "applied again, it writes nothing");
        assert_eq!(self.host.sh(LIFE), running, "applied again, it starts and stops nothing");

        for stack in self.repo.stacks() {
            let path = format!("stacks/{stack}/stack.kdl");
            let before = std::fs::read_to_string(self.repo.path().join(&path)).expect("a stack");
            let (body, _) = before.rsplit_once('}').expect("it ends with a brace");
            self.repo.write(&path, format!("{body}\nfile \"/etc/more-{stack}\" content=\"more\"\n}}\n"));
            let plan = self.plan();
            assert_eq!(plan.stack_names(), [stack.as_str()], "a commit to {stack} is nothing to the others");
            assert_eq!(plan.paths().into_iter().collect::<Vec<_>>(), [format!("/etc/more-{stack}")]);
            self.repo.write(&path, before);
        }

        self.remove();
        self.is_settled("what is removed is gone");
        let (files_after, life_after) = look();
        assert_eq!(differences(&files, &files_after), Vec::<String>::new(), "all is as it was before");
        let services = |life: &str| {
            life.lines().map(|line| line.split(' ').next().unwrap_or_default().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(services(&life), services(&life_after), "what runs is what ran before");
        assert_eq!(
            self.host.sh(&format!("cd /var/lib/reconcile/{}; ls -A run owed ledger | grep -v :; true", self.repo.id)),
            "\n\n"
        );
    }
}

fn differences(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let paths: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let other = paths.into_iter().filter(|path| before.get(*path) != after.get(*path));
    other.map(|path| format!("{path}: {:?}, then {:?}", before.get(path), after.get(path))).collect()
}

#[test]
fn g04_the_laws_hold_for_adoption() {
    laws(&Example {
        place: "examples/adoption",
        host: "old",
        more: "",
        elsewhere: &[],
        before: "mkdir -p /opt/shop; printf '#!/bin/sh\nexec sleep 9999\n' | program /usr/bin/node",
    });
}

#[test]
fn g04_the_laws_hold_for_compose_app() {
    laws(&Example {
        place: "examples/compose-app",
        host: "app",
        more: "tags \"docker\"",
        elsewhere: &[],
        before: "image nginx:1.27-alpine; image ghcr.io/acme/shop:2.3.1; image postgres:17-alpine",
    });
}

#[test]
fn g04_the_laws_hold_for_the_fleet() {
    // One host plays a balancer and a server at once, so that all of the stacks meet.
    laws(&Example {
        place: "examples/fleet",
        host: "lb-fra",
        more: "tags \"balancer\" \"app\" \"fra\"\nvars ip=\"127.0.0.1\" region=\"fra\"",
        elsewhere: &[],
        before: "rm -f /etc/motd; package chrony; package prometheus-node-exporter
            printf '#!/bin/sh\nexec python3 -m http.server --bind 127.0.0.1 8080 --directory /srv\n' | program /srv/app/main",
    });
}

#[test]
fn g04_the_laws_hold_for_secrets() {
    laws(&Example {
        place: "examples/secrets",
        host: "mail",
        more: "",
        elsewhere: &[],
        before: "printf '#!/bin/sh\nexec sleep 9999\n' | program /usr/local/bin/mailer",
    });
}

#[test]
fn g04_the_laws_hold_for_static_site() {
    laws(&Example {
        place: "examples/static-site",
        host: "web",
        more: "",
        elsewhere: &[],
        before: "cd /etc; mkdir -p letsencrypt/live/example.org; cd letsencrypt/live/example.org
            [ -e privkey.pem ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=example.org -keyout privkey.pem -out fullchain.pem 2>&1",
    });
}

#[test]
fn g04_the_laws_hold_for_this_repository() {
    let before = format!(
        "cat <<'END' | program /usr/bin/cloudflared\n{}\nEND
        echo {{}} | program /root/.cloudflared/05362019-2c26-446e-ab4d-8b0f491f966c.json
        printf '#!/bin/sh\nexec python3 -m http.server --bind 127.0.0.1 4321 --directory /srv\n' | program /usr/local/bin/bun
        printf '#!/bin/sh\nexec python3 -m http.server --bind 127.0.0.1 8080\n' | program /var/www/overengineered/api/main
        mkdir -p /var/www/overengineered/website; cd /var/www/overengineered/api; touch health; chown www-data:www-data .
        true",
        include_str!("../lab/apps/cloudflared"),
    );
    laws(&Example {
        place: ".",
        host: "sandbox",
        more: "tags \"web\" \"docker\"",
        elsewhere: &["fibonacci", "microservices", "overengineered-compose"],
        before: before.leak(),
    });
}
