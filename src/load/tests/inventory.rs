//! Hosts, tags, keys, secrets.

use super::*;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE5p1lQp8qTYO0HUHGJMGPkYvNVVx1l8rGZK2dZvZf0k";

#[test]
fn a_host_with_everything() {
    let text = format!(
        r#"
defaults {{ user "deploy"; sudo; identity "~/.ssh/infra"; tags "managed"; vars region="fra1" tier=2 {{ db {{ host "db"; port 5432 }} }} }}
host "bastion" address="198.51.100.1" user="jump" port=2222
host "web-1" address="2001:db8::1" jump="bastion" {{
    host-key "{KEY} root@web" "{KEY}"
    tags "web" "fra"
    vars url="https://{{{{ host.name }}}}.{{{{ region }}}}" {{ db {{ host "db-{{{{ tier + 1 }}}}" }} }}
}}
host "sandbox" transport="local" root=".sandbox" {{ sudo #false }}
"#
    );
    // The defaults of a file hold for its hosts by SSH; a local one must not inherit what means nothing to it.
    let config = good(&[REPO, ("hosts/x.kdl", &text)]);
    let web = &config.hosts[&name("web-1")];
    assert_eq!(
        web.target,
        Target::Ssh(crate::host::transport::SshTarget {
            address: "2001:db8::1".into(),
            port: None,
            user: Some("deploy".into()),
            sudo: true,
            host_keys: vec![KEY.into(), KEY.into()],
            identities: vec!["~/.ssh/infra".into()],
            jump: Some("jump@198.51.100.1:2222".into()),
        })
    );
    assert_eq!(web.tags, ["fra", "managed", "web"]);
    let vars = serde_json::to_string(&web.vars).unwrap();
    assert_eq!(vars, r#"{"region":"fra1","tier":2,"db":{"host":"db-3","port":5432},"url":"https://web-1.fra1"}"#);
    let sandbox = &config.hosts[&name("sandbox")];
    assert_eq!(sandbox.target, Target::Local { root: Some(".sandbox".into()), sudo: false });
}

#[test]
fn this_machine_is_reached_at_its_own_address() {
    let config = good(&[
        REPO,
        (
            "hosts/x.kdl",
            "defaults { sudo }\nhost \"here\" transport=\"local\"\nhost \"box\" transport=\"local\" root=\"x\"",
        ),
    ]);
    assert_eq!(config.hosts[&name("here")].address(), "127.0.0.1");
    assert!(matches!(config.hosts[&name("here")].target, Target::Local { sudo: true, .. }));
    assert!(matches!(config.hosts[&name("box")].target, Target::Local { sudo: false, .. }), "nothing to be root for");
}

#[test]
fn what_can_be_wrong_with_hosts() {
    let cases = [
        "host",
        "host \"a b\"",
        "host \"all\"",
        "host \"box\" transport=\"local\" root=\"x\" sudo=#true",
        "host \"a\"\nhost \"a\"",
        "host \"a\" address=\"10.0.0.1\"\nhost \"b\" address=\"10.0.0.1\" port=22",
        "host \"a\" port=70000",
        "host \"a\" port=\"ssh\"",
        "host \"a\" address=\"-oProxyCommand=reboot\"",
        "host \"a\" user=\"x; rm -rf /\"",
        "host \"a\" jump=\"a b\"",
        "host \"a\" transport=\"telnet\"",
        "host \"a\" root=\"/srv\"",
        "host \"a\" transport=\"local\" address=\"10.0.0.1\" user=\"x\" port=1 { host-key \"x\" }",
        "host \"a\" { host-key \"AAAA\" }",
        "host \"a\" { host-key \"ssh-ed25519 AAAA!\" }",
        "host \"a\" { host-key \"ssh-foo AAAAC3Nz\" }",
        "host \"a\" { identity \"-----BEGIN OPENSSH PRIVATE KEY-----\" }",
        "host \"a\" { tags \"we b\" }",
        "host \"a\" { sudo \"yes\" }",
        "host \"a\" { vars host=\"x\" a-b=1 for=2 { empty; both 1 { x 2 } } }",
        "host \"a\" { vars a=1 a=2 { a 3 } }",
        "host \"a\" { vars a=\"{{ b }}\" b=\"{{ facts.os }}\" c=\"{{ secret.x }}\" }",
        "host \"a\" adress=\"10.0.0.1\"",
        "defaults { user \"a\" }\ndefaults { user \"b\" }",
        "defaults { host-key \"x\" }",
        "repo \"second\"",
        "repo",
        "tunnel \"x\"",
        "secret \"a\"",
        "secret \"a\" env=\"X\" file=\"/x\"",
        "secret \"a\" env=\"NOT_THERE\"",
        "secret \"a\" env=\"EMPTY\"",
        "secret \"a\" env=\"A B\"",
        "secret \"a\" file=\"/nowhere\"",
        "secret \"a\" file=\"relative\"",
        "secret \"a\" file=\"/binary\"",
        "secret \"a\" file=\"/empty\"",
        "secret \"a-b\" env=\"DB_PASSWORD\"",
        "secret \"a\" env=\"DB_PASSWORD\"\nsecret \"a\" env=\"DB_PASSWORD\"",
        "host \"a\" sudo=true",
        "host \"a\" {",
        "host \"a\" #null",
    ];
    let all = table(&cases, in_hosts);
    insta::assert_snapshot!(all);
}

#[test]
fn the_id_of_the_repository_is_given_exactly_once() {
    assert_eq!(
        problems(&[("hosts/a.kdl", "host \"a\"")]),
        ["repository: the repository has no id, under which it owns what it puts on hosts \
          (write `repo \"my-infra\"` into `hosts/repo.kdl`, and never change it)"]
    );
    assert_eq!(
        problems(&[("hosts/a.kdl", "repo \"a\""), ("hosts/b.kdl", "\nrepo \"b\"")]),
        ["hosts/b.kdl:2:1 & hosts/a.kdl:1:1: the repository has two ids \
          (keep the one under which things were applied)"]
    );
    assert_eq!(
        problems(&[("hosts/a.kdl", "repo \"lock\"")]),
        ["hosts/a.kdl:1:6: `lock` cannot be the id of a repository \
          (hosts keep a file `lock` of their own where the records of repositories are)"]
    );
}

fn one(tree: &SecretTree) -> &str {
    let SecretTree::One(secret) = tree else { panic!("several") };
    secret.expose()
}

#[test]
fn secrets_are_read_and_never_shown() {
    let config = good(&[
        REPO,
        ("hosts/web.kdl", "host \"web-1\"\nsecret \"token\" file=\"~/token\"\nsecret \"db\" file=\"~/token\""),
        ("stacks/s/stack.kdl", "stack \"s\" { on \"all\"; secret \"db\" env=\"DB_PASSWORD\" }"),
    ]);
    let stack = config.stacks.values().next().unwrap();
    assert_eq!(one(&stack.secrets["token"]), "s3cret");
    assert_eq!(one(&stack.secrets["db"]), "hunter2");
    assert!(!format!("{stack:?}").contains("hunter2"));
}

#[test]
fn without_secrets_a_repository_can_still_be_checked() {
    let tree = files(&[
        REPO,
        ("hosts/a.kdl", "host \"a\"\nsecret \"x\" env=\"NOT_THERE\"\nsecret \"y\" file=\"/nowhere\""),
        ("stacks/s/stack.kdl", "stack \"s\" { on \"a\" }"),
    ]);
    let unused = |_: &Utf8Path| -> io::Result<Vec<u8>> { panic!("nothing may be read") };
    let (config, _) = load(&tree, World { env: &|_| None, read: &unused, ..WORLD }, Secrets::Placeholder)
        .unwrap_or_else(|_| panic!("it loads"));
    assert_eq!(one(&config.stacks.values().next().unwrap().secrets["x"]), "placeholder-for-x");
}

#[test]
fn a_host_with_mistakes_makes_no_mistakes_elsewhere() {
    let found = problems(&[
        REPO,
        ("hosts/a.kdl", "host \"web-1\" port=0 transport=\"x\""),
        ("stacks/s/stack.kdl", "stack \"s\" { on \"web-1\"; host \"web-1\" { vars a=1 }; except \"web-1\" }"),
    ]);
    assert_eq!(found, ["hosts/a.kdl:1:21: there is no transport `x` (transports: ssh, local)"]);
}
