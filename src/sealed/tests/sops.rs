use serde_json::{Map, Value, json};

use super::*;
use crate::base::secret::SecretTree;
use crate::sealed::Locked;
use crate::sealed::sops::{File, Opened};
use crate::sealed::sops_value::Sealed;

const FILES: [(&str, &str); 7] = [
    ("all.yaml", include_str!("sops/all.yaml")),
    ("regex.yaml", include_str!("sops/regex.yaml")),
    ("maconly.yaml", include_str!("sops/maconly.yaml")),
    ("suffix.yaml", include_str!("sops/suffix.yaml")),
    ("ssh.yaml", include_str!("sops/ssh.yaml")),
    ("all.json", include_str!("sops/all.json")),
    ("regex.json", include_str!("sops/regex.json")),
];
const SSH_HOME: (&str, &str) = ("/home/ann/.ssh/id_ed25519", SSH);

fn file(name: &str, text: &str) -> File {
    let values: Map<String, Value> = serde_yaml::from_str(text).unwrap();
    File::new(&values, name.ends_with("json")).unwrap()
}

fn open(name: &str, text: &str) -> Result<Opened, Locked> {
    with(&[], &[(KEYS, IDENTITY), SSH_HOME], "", |keys| file(name, text).open(keys)).0
}

/// Secrets as plain values, marked as such.
fn shown(tree: &SecretTree) -> Value {
    match tree {
        SecretTree::One(secret) if secret.is_scalar() => serde_json::from_str(secret.expose()).unwrap(),
        SecretTree::One(secret) => secret.expose().into(),
        SecretTree::List(items) => items.iter().map(shown).collect(),
        SecretTree::Map(map) => map.iter().map(|(name, tree)| (name.clone(), shown(tree))).collect(),
    }
}

fn secrets(opened: &Opened) -> Value {
    opened.secrets.iter().map(|(name, tree)| (name.clone(), shown(tree))).collect()
}

#[test]
fn what_sops_wrote_is_read() {
    let mut all = String::new();
    for (name, text) in FILES {
        let opened = open(name, text).unwrap_or_else(|locked| panic!("{name}: {locked:?}"));
        let plain = Value::Object(opened.plain.clone());
        all.extend([format!("{name}\n  plain {plain}\n  secret {}\n", secrets(&opened))]);
    }
    insta::assert_snapshot!(all);
}

#[test]
fn without_a_key_the_names_and_types_are_known() {
    for (name, text) in FILES {
        let (known, opened) = (file(name, text).with_placeholders().unwrap(), open(name, text).unwrap());
        assert_eq!(known.plain, opened.plain, "{name}");
        let form = |opened: &Opened| {
            fn form(tree: &SecretTree) -> Value {
                match tree {
                    SecretTree::One(secret) if secret.is_scalar() && secret.expose().parse::<f64>().is_ok() => json!(0),
                    SecretTree::One(secret) => json!(secret.is_scalar()),
                    SecretTree::List(items) => items.iter().map(form).collect(),
                    SecretTree::Map(map) => map.iter().map(|(name, tree)| (name.clone(), form(tree))).collect(),
                }
            }
            opened.secrets.iter().map(|(name, tree)| (name.clone(), form(tree))).collect::<Value>()
        };
        assert_eq!(form(&known), form(&opened), "{name}");
    }
}

#[test]
fn whatever_is_changed_in_a_file_is_found_out() {
    let (_, text) = FILES[1];
    let bad =
        [
            ("a value in clear", text.replace("example.org", "example.net")),
            ("a value taken away", text.replace("domain: example.org\n", "")),
            ("a name in clear", text.replace("password: ENC", "passwort: ENC")),
            (
                "two values swapped",
                text.replace("password: ENC", "swap: ENC")
                    .replace("port: ENC", "password: ENC")
                    .replace("swap: ENC", "port: ENC"),
            ),
            ("the time", text.replace("lastmodified: \"2026", "lastmodified: \"2025")),
            ("no checksum", text.replace("    mac: ENC", "    mak: ENC")),
            ("another kind of checksum", text.replace("    version:", "    mac_only_encrypted: true\n    version:")),
            (
                "a value in the place of an encrypted one",
                text.lines()
                    .map(|line| {
                        if line.starts_with("    port: ENC") { "    port: 5432\n".into() } else { format!("{line}\n") }
                    })
                    .collect(),
            ),
            ("a bit", text.replace("iv:1", "iv:2")),
            ("a cut", text.replace(",type:int]", "")),
            ("all in clear", format!("password: hush\n{text}")),
            ("the order", {
                let (first, rest) = text.split_once("big: 9007199254740993\n").unwrap();
                format!("big: 9007199254740993\n{first}{rest}")
            }),
        ];
    for (what, changed) in bad {
        assert_ne!(changed, text, "{what}");
        let opened = open("regex.yaml", &changed);
        assert!(matches!(opened, Err(Locked::Damaged(_))), "{what}: {:?}", opened.err());
    }
}

#[test]
fn a_file_for_others_names_them() {
    let Err(Locked::NoIdentity { needed, looked }) = open("x.yaml", include_str!("sops/notours.yaml")) else {
        panic!()
    };
    assert!(needed.len() == 1 && needed[0].starts_with("age1jsptqtc"), "{needed:?}");
    assert!(looked.iter().any(|place| place.contains("keys.txt: age1")), "{looked:?}");
}

#[test]
fn what_is_no_encrypted_value_is_none() {
    for text in ["", "ENC[AES256_GCM,data:,iv:,tag:,type:str]", "ENC[AES256_GCM,data:AA==]", "ENC[x]", "x"] {
        assert_eq!(Sealed::parse(text), None);
    }
}
