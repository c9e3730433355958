use super::*;
use crate::base::diagnostic::Source;
use crate::sealed::header::{self, Stanza};
use crate::sealed::{Locked, Recipients, identity};

const ONE: &[u8] = include_bytes!("one.age");
const MANY: &[u8] = include_bytes!("many.age");
const LOCKED_FILE: &[u8] = include_bytes!("locked.age");

fn recipients(text: &str) -> Result<Recipients, Vec<String>> {
    let source = Source::new("secrets/recipients", text);
    Recipients::parse(&source).map_err(|problems| {
        let line = |(span, _): &(crate::base::diagnostic::Span, String)| span.to_string();
        problems.0.iter().map(|problem| format!("{} {}", line(&problem.places[0]), problem.message)).collect()
    })
}

#[test]
fn identities_are_found_where_people_have_them() {
    let usual = [KEYS, "/home/ann/.config/reconcile/identity"];
    for path in usual {
        let (opened, _) = with(&[], &[(path, IDENTITY)], "", |keys| keys.open(ONE));
        assert_eq!(opened.unwrap().as_slice(), b"from age\n", "{path}");
    }
    for name in ["RECONCILE_AGE_IDENTITY", "SOPS_AGE_KEY"] {
        let (opened, _) = with(&[(name, IDENTITY)], &[], "", |keys| keys.open(ONE));
        assert_eq!(opened.unwrap().as_slice(), b"from age\n", "{name}");
    }
    let (opened, _) = with(&[("SOPS_AGE_KEY_FILE", "/k")], &[("/k", IDENTITY)], "", |keys| keys.open(ONE));
    assert!(opened.is_ok());
    let (opened, _) =
        with(&[("XDG_CONFIG_HOME", "/x")], &[("/x/sops/age/keys.txt", IDENTITY)], "", |keys| keys.open(ONE));
    assert!(opened.is_ok());
    for key in [("/home/ann/.ssh/id_ed25519", SSH), ("/home/ann/.ssh/id_rsa", RSA)] {
        let (opened, asked) = with(&[], &[key], "open sesame", |keys| keys.open(MANY));
        assert_eq!((opened.unwrap().as_slice(), asked), (&b"bin\0\xff"[..], 0), "{}", key.0);
    }
}

#[test]
fn nobody_is_asked_for_a_passphrase_unless_that_key_is_what_is_needed() {
    let locked = ("/home/ann/.ssh/id_ed25519", LOCKED);
    let twice = |keys: &Identities<'_>| (keys.open(LOCKED_FILE).is_ok(), keys.open(LOCKED_FILE).is_ok());
    assert_eq!(with(&[], &[locked], "open sesame", twice), ((true, true), 1), "asked once");
    assert_eq!(with(&[], &[locked], "wrong", |keys| keys.open(LOCKED_FILE).is_ok()), (false, 3));
    assert_eq!(with(&[], &[locked, (KEYS, IDENTITY)], "open sesame", |keys| keys.open(MANY).is_ok()), (true, 0));
    assert_eq!(
        with(&[], &[locked], "open sesame", |keys| keys.open(MANY).is_ok()),
        (false, 0),
        "it is not for that key"
    );
}

#[test]
fn where_no_identity_fits_the_error_says_whose_would_and_where_we_looked() {
    let other = identity::generate().1;
    let (opened, _) =
        with(&[("SOPS_AGE_KEY", &other)], &[("/home/ann/.ssh/id_rsa", LOCKED)], "", |keys| keys.open(MANY));
    let Err(locked @ Locked::NoIdentity { .. }) = opened else { panic!("{opened:?}") };
    let public = identity::public(&other).unwrap();
    let all = format!("{}\n{}", locked.why(), locked.hint()).replace(&public, "THAT ONE");
    insta::assert_snapshot!(all);
    assert!(!all.contains("AGE-SECRET-KEY"));
}

#[test]
fn damage_is_told_from_a_missing_identity() {
    let armored = String::from_utf8(ONE.to_vec()).unwrap();
    let damaged: Vec<Vec<u8>> = vec![
        ONE[..ONE.len() - 40].to_vec(),
        armored.replacen('Y', "Z", 1).into_bytes(),
        MANY[..MANY.len() - 1].to_vec(),
        MANY[..60].to_vec(),
        [MANY, b"x"].concat(),
        {
            let mut bytes = MANY.to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            bytes
        },
        b"age-encryption.org/v1\n".to_vec(),
        b"plain".to_vec(),
    ];
    for (number, bytes) in damaged.iter().enumerate() {
        let (opened, _) = with(&[], &[(KEYS, IDENTITY)], "", |keys| keys.open(bytes));
        assert!(matches!(opened, Err(Locked::Damaged(_))), "{number}: {opened:?}");
    }
}

#[test]
fn an_identity_that_cannot_be_used_is_told_without_showing_it() {
    for (name, text) in [("SOPS_AGE_KEY", "AGE-SECRET-KEY-1HUSH"), ("RECONCILE_AGE_IDENTITY", "hush hush")] {
        let (opened, _) = with(&[(name, text)], &[], "", |keys| keys.open(ONE));
        let said = opened.map_err(|locked| locked.hint()).unwrap_err();
        assert!(said.contains(&format!("{name}: line 1 is no age identity")), "{said}");
        assert!(!said.to_lowercase().contains("hush"), "{said}");
    }
}

#[test]
fn what_is_encrypted_for_several_opens_with_each_of_them() {
    let ssh = include_str!("keys/id_ed25519.pub");
    let rsa = include_str!("keys/id_rsa.pub");
    let list = recipients(&format!("# the team\n{}\n\n  {ssh}{rsa}", identity::public(IDENTITY).unwrap())).unwrap();
    assert_eq!(list.count(), 3);
    for armored in [true, false] {
        let sealed = list.encrypt(b"hush \0\xff", armored).unwrap();
        assert_eq!(sealed.starts_with(header::ARMOR), armored);
        let stanzas = header::stanzas(&header::dearmored(&sealed).unwrap()).unwrap();
        assert!(list.fit(&stanzas) && matches!(stanzas[..], [Stanza::Age, Stanza::Ssh { .. }, Stanza::Ssh { .. }]));
        assert!(!recipients(ssh).unwrap().fit(&stanzas));
        for key in [(KEYS, IDENTITY), ("/home/ann/.ssh/id_ed25519", SSH), ("/home/ann/.ssh/id_rsa", RSA)] {
            let (opened, _) = with(&[], &[key], "", |keys| keys.open(&sealed));
            assert_eq!(opened.unwrap().as_slice(), b"hush \0\xff");
        }
    }
}

#[test]
fn every_line_that_is_no_recipient_is_told() {
    let found = recipients(
        "age1qqqq\nage1yubikey1qqqq\nssh-ed25519 AAAA\nssh-dss AAAA\nsomebody\nAGE-SECRET-KEY-1QQQQ\n# nobody\n",
    );
    insta::assert_snapshot!(found.err().unwrap().join("\n"));
    assert!(recipients("# nobody\n").is_err());
}
