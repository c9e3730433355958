//! What `ssh_config` and `known_hosts` mean, as tables.

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use hmac::{Hmac, Mac as _};
use tempfile::TempDir;

use crate::host::ssh::config::{HostConfig, Place, Proxy, matches_any, resolve};
use crate::host::ssh::known_hosts::Known;
use crate::host::ssh::{connect, hop_target};
use crate::host::transport::Nobody;

struct Home(TempDir);

impl Home {
    fn new(files: &[(&str, &str)]) -> Home {
        let home = Home(tempfile::tempdir().expect("a temporary directory"));
        for (name, text) in files {
            let path = home.path(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            std::fs::write(path, text).expect("a file");
        }
        home
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8PathBuf::from_path_buf(self.0.path().join(name)).expect("a UTF-8 path")
    }

    fn resolve(&self, alias: &str) -> HostConfig {
        let place = Place { home: self.path(""), user: "me".into(), files: vec![self.path(".ssh/config")] };
        resolve(&place, alias, None, None).expect("resolves")
    }
}

fn config(text: &str, alias: &str) -> HostConfig {
    Home::new(&[(".ssh/config", text)]).resolve(alias)
}

#[test]
fn without_a_file_all_is_default() {
    let home = Home::new(&[]);
    let found = home.resolve("web.example.org");
    assert_eq!((found.host_name.as_str(), found.port, found.user.as_str()), ("web.example.org", 22, "me"));
    assert_eq!(found.identities[0], home.path(".ssh/id_ed25519"));
    assert_eq!(found.known_hosts[0], home.path(".ssh/known_hosts"));
    assert!(!found.identities_given && found.proxy == Proxy::None);
}

#[test]
fn the_first_value_wins() {
    let text = "Host web*\n User one\nHost *\n User two\n Port 2200\n\n# a comment\nHost web-1\n Port 1\n";
    let found = config(text, "web-1");
    assert_eq!((found.user.as_str(), found.port), ("one", 2200));
    let home = Home::new(&[(".ssh/config", text)]);
    let place = Place { home: home.path(""), user: "me".into(), files: vec![home.path(".ssh/config")] };
    let given = resolve(&place, "web-1", Some(7), Some("three")).expect("resolves");
    assert_eq!((given.user.as_str(), given.port), ("three", 7));
}

#[test]
fn forms_of_lines() {
    for line in
        ["HostName real", "hostname=real", "HostName = real", "  HOSTNAME\treal  ", "HostName \"real\" # not this"]
    {
        assert_eq!(config(line, "x").host_name, "real", "{line}");
    }
    assert_eq!(config("HostName %h.example.org", "web").host_name, "web.example.org");
    assert_eq!(config("UserKnownHostsFile \"/a b\" /c", "x").known_hosts, ["/a b", "/c"]);
    assert_eq!(
        config("ServerAliveInterval 1m30s\nConnectTimeout 5", "x").alive_interval,
        Some(Duration::from_secs(90))
    );
    assert_eq!(config("Frobnicate yes\nUser me2", "x").user, "me2");
}

#[test]
fn patterns_and_negation() {
    let table = [
        ("*", "web", true),
        ("web-?", "web-1", true),
        ("web-?", "web-10", false),
        ("*.example.org !secret.example.org", "a.example.org", true),
        ("*.example.org !secret.example.org", "secret.example.org", false),
        ("!web *", "web", false),
        ("!other", "web", false),
        ("10.0.*.1", "10.0.77.1", true),
    ];
    for (patterns, name, expected) in table {
        assert_eq!(matches_any(name, patterns.split(' ')), expected, "{patterns} {name}");
    }
}

#[test]
fn match_blocks_are_skipped_except_all() {
    let found = config("Match user root\n User wrong\nMatch all\n Port 5\nHost x\n User right", "x");
    assert_eq!((found.user.as_str(), found.port), ("right", 5));
}

#[test]
fn identities_add_up_and_expand() {
    let home = Home::new(&[(
        ".ssh/config",
        "Host x\n HostName real\n User u\n IdentityFile ~/k1\n IdentityFile %d/%h-%r-100%%\n IdentitiesOnly yes\n",
    )]);
    let found = home.resolve("x");
    assert_eq!(found.identities, [home.path("k1"), home.path("real-u-100%")]);
    assert!(found.identities_only && found.identities_given);
}

#[test]
fn proxies() {
    let jump = |hops: &[&str]| Proxy::Jump(hops.iter().map(ToString::to_string).collect());
    assert_eq!(config("ProxyJump a,u@b:22", "x").proxy, jump(&["a", "u@b:22"]));
    assert_eq!(config("ProxyJump none\nProxyCommand nc", "x").proxy, Proxy::None);
    assert_eq!(config("ProxyCommand nc %h\nProxyJump a", "x").proxy, Proxy::Command("nc %h".into()));
}

#[test]
fn includes_apply_where_they_stand() {
    let home = Home::new(&[
        (".ssh/config", "Host a\n Include conf.d/*.conf\nHost *\n User last\n"),
        (".ssh/conf.d/1.conf", "Port 11\nHost b\n User never\nHost a\n User first\n"),
        (".ssh/conf.d/2.conf", "Port 12\n"),
        (".ssh/conf.d/3.txt", "HostName wrong\n"),
    ]);
    let a = home.resolve("a");
    assert_eq!((a.user.as_str(), a.port, a.host_name.as_str()), ("first", 11, "a"));
    let b = home.resolve("b");
    assert_eq!((b.user.as_str(), b.port), ("last", 22));
}

#[test]
fn wrong_values_say_where() {
    let home = Home::new(&[(".ssh/config", "\nPort many\n"), ("loop", "Include ~/loop\n")]);
    let place = |file| Place { home: home.path(""), user: "me".into(), files: vec![home.path(file)] };
    let error = resolve(&place(".ssh/config"), "x", None, None).expect_err("no port");
    assert!(error.what.ends_with(".ssh/config:2: `many` is no port"), "{error}");
    assert!(resolve(&place("loop"), "x", None, None).is_err());
}

#[test]
fn hops() {
    let parts = |text| hop_target(text).map(|hop| (hop.user, hop.address, hop.port)).ok();
    assert_eq!(parts("gate"), Some((None, "gate".into(), None)));
    assert_eq!(parts("u@gate:2"), Some((Some("u".into()), "gate".into(), Some(2))));
    assert_eq!(parts("ssh://u@[::1]:2/"), Some((Some("u".into()), "::1".into(), Some(2))));
    assert_eq!(parts("::1"), Some((None, "::1".into(), None)));
    assert_eq!(parts("gate:x"), None);
    assert_eq!(parts("u@"), None);
}

const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9dG4kjRhQTtWTVzd2t27+t0DEHBPW7iOD23TUiYLio";
const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHwf2HMM5TRXvo2SQJjsNkiDD5KqiiNjrGVv3UUh+mMT5RHxiRtOnlqvjhQtBq0VpmpCV/PwUdhOig4vkbqAcEc=";

fn blob(key: &str) -> Vec<u8> {
    key.parse::<ssh_key::PublicKey>().and_then(|key| key.to_bytes()).expect("a key")
}

fn hashed(name: &str) -> String {
    use std::io::Write as _;
    let salt = [7; 20];
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(&salt).expect("any length");
    mac.update(name.as_bytes());
    let base64 = |bytes: &[u8]| {
        let mut child = std::process::Command::new("base64")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("base64");
        child.stdin.take().expect("stdin").write_all(bytes).expect("written");
        String::from_utf8(child.wait_with_output().expect("output").stdout).expect("text").trim().to_string()
    };
    format!("|1|{}|{}", base64(&salt), base64(&mac.finalize().into_bytes()))
}

fn check(lines: &str, host: &str, port: u16, shown: &str) -> String {
    let home = Home::new(&[("known_hosts", lines)]);
    let known = Known::read(host, port, &[home.path("known_hosts"), home.path("absent")]).expect("reads");
    match known.check(&blob(shown)) {
        Ok(()) => "ok".into(),
        Err(error) => ["revoked", "CHANGED", "not known"]
            .into_iter()
            .find(|word| error.what.contains(word))
            .expect("one of three")
            .into(),
    }
}

#[test]
fn known_hosts_lines() {
    let plain = hashed("web");
    let with_port = hashed("[web]:2222");
    let table: Vec<(String, u16, &str)> = vec![
        (String::new(), 22, "not known"),
        (format!("web {ONE}"), 22, "ok"),
        (format!("WEB,10.0.0.1 {ONE} comment # more"), 22, "ok"),
        (format!("web {TWO}"), 22, "CHANGED"),
        (format!("web {TWO}\nweb {ONE}"), 22, "ok"),
        (format!("other {ONE}"), 22, "not known"),
        (format!("# web {ONE}"), 22, "not known"),
        (format!("w* {ONE}"), 22, "ok"),
        (format!("w*,!web {ONE}"), 22, "not known"),
        (format!("{plain} {ONE}"), 22, "ok"),
        (format!("{plain} {TWO}"), 22, "CHANGED"),
        (format!("{with_port} {ONE}"), 22, "not known"),
        (format!("{with_port} {ONE}"), 2222, "ok"),
        (format!("[web]:2222 {ONE}"), 2222, "ok"),
        (format!("[web]:* {ONE}"), 2222, "ok"),
        (format!("[web]:2222 {ONE}"), 22, "not known"),
        (format!("web {ONE}"), 2222, "ok"),
        (format!("web {TWO}"), 2222, "not known"),
        (format!("web {ECDSA}"), 22, "CHANGED"),
        (format!("@cert-authority * {ONE}"), 22, "not known"),
        (format!("web {ONE}\n@revoked * {ONE}"), 22, "revoked"),
        (format!("web {ONE}\n@revoked * {TWO}"), 22, "ok"),
        (format!("web\ngarbage here\nweb ssh-ed25519 !!!\nweb\t{ONE}"), 22, "ok"),
    ];
    for (lines, port, expected) in table {
        assert_eq!(check(&lines, "web", port, ONE), expected, "port {port}: {lines}");
    }
}

#[test]
fn known_types_are_asked_for_first_and_certificates_never() {
    let home = Home::new(&[("known_hosts", &format!("web {ECDSA}\n@revoked web {ONE}\n"))]);
    let known = Known::read("web", 22, &[home.path("known_hosts")]).expect("reads");
    let supported = ["ssh-ed25519-cert-v01@openssh.com", "ssh-ed25519", "rsa-sha2-512", "ecdsa-sha2-nistp256"];
    assert_eq!(known.preference(&supported), "ecdsa-sha2-nistp256,ssh-ed25519,rsa-sha2-512");
}

#[tokio::test]
async fn a_machine_that_says_nothing_is_told_of_with_the_way_to_wait_for_less() {
    let mute = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = mute.local_addr().expect("an address").port();
    let home = Home::new(&[]);
    let place = Place { home: home.path(""), user: "me".into(), files: Vec::new() };
    let target = hop_target(&format!("127.0.0.1:{port}")).expect("a machine");
    let error = connect(&place, &target, Arc::new(Nobody), Duration::from_secs(1)).await.err().expect("no answer");
    assert_eq!(error.to_string(), format!("127.0.0.1 does not answer on port {port} within 1 s"));
    assert!(error.hint.as_ref().is_some_and(|hint| hint.contains("ConnectTimeout")), "{error:?}");
}
