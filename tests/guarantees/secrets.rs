//! 11: secrets stay in their lane.

use base64::Engine as _;

use crate::kit::{Ran, Repo, shared};

/// Whether a text holds a secret: as it is, or in base64 as contents travel.
fn holds(text: &str, secret: &str) -> bool {
    let decoded = |word: &str| {
        let whole = word.get(..word.len() / 4 * 4).unwrap_or_default();
        base64::engine::general_purpose::STANDARD.decode(whole).unwrap_or_default()
    };
    let inside = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
    let base64 = |c: char| !(c.is_ascii_alphanumeric() || "+/=".contains(c));
    let unescaped = text.replace("\\n", "\n");
    inside(text.as_bytes())
        || unescaped.split(base64).filter(|word| word.len() >= 16).any(|word| inside(&decoded(word)))
}

#[test]
fn g11_secrets_are_seen_nowhere_but_in_their_file() {
    let host = shared("lab-2");
    let mut repo = Repo::new("g11", &[&host]);
    let secrets = ["hush-Env-0123456789", "hush-File-0123456789", "hush-Next-0123456789"];
    repo.env("G11_ENV", secrets[0]);
    repo.write("secret.txt", format!("{}\n", secrets[1]));
    let body = |more: &str, mode: &str| {
        format!(
            "secret \"env\" env=\"G11_ENV\"\nsecret \"file\" file=\"~/secret.txt\"
            file \"/srv/ID/secret\" content=\"a={{{{ secret.env }}}} b={{{{ secret.file }}}}\" {mode}
            file \"/srv/ID/open\" content=\"nothing {more}\"
            unit \"ID-a\" {{ exec \"/usr/bin/sleep 9999\"\nenv TOKEN=\"{{{{ secret.file }}}}\" MORE=\"{more}\" }}"
        )
    };
    let said = |ran: Ran, what: &str| {
        for secret in secrets {
            assert!(!holds(&ran.out, secret), "{what}: on standard output\n{}", ran.out);
            assert!(!holds(&ran.err, secret), "{what}: on standard error\n{}", ran.err);
        }
        ran
    };
    let all = |when: &str| {
        for command in [
            &["check"][..],
            &["render"],
            &["plan"],
            &["plan", "--full"],
            &["plan", "--json"],
            &["plan", "--markdown"],
            &["status"],
            &["drift", "--full"],
            &["drift", "--json"],
        ] {
            for loud in [&[][..], &["-vvv"]] {
                said(repo.run(&[command, loud].concat()), &format!("{command:?} {loud:?} {when}"));
            }
        }
    };
    // Whoever looks at the processes of the host, all the while.
    let watch = host.begin("rm -f /tmp/g11-stop; until [ -e /tmp/g11-stop ]; do cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; done; true");
    let apply = |when: &str| {
        let ran = said(repo.run(&["apply", "--yes", "-vvv"]), &format!("apply {when}"));
        assert_eq!(ran.code, 0, "{when}: {ran:?}");
        let left =
            host.sh("grep -rlF hush- /var/lib/reconcile /var/log /run/log /tmp 2>/dev/null | grep -v journal; true");
        assert_eq!(left, "", "{when}: in our state on the host");
    };
    repo.stack("one", &body("one", ""));
    all("before");
    apply("first");
    let modes = || host.sh("stat -c '%a %U %n' /srv/g11/secret /etc/systemd/system/g11-a.service");
    assert_eq!(modes(), "600 root /srv/g11/secret\n600 root /etc/systemd/system/g11-a.service\n");
    assert_eq!(host.sh("cat /srv/g11/secret"), format!("a={} b={}", secrets[0], secrets[1]));
    repo.is_settled();
    // What is beside a secret changes, and the secret itself.
    repo.stack("one", &body("two", ""));
    all("beside a change");
    apply("beside a change");
    repo.write("secret.txt", secrets[2]);
    all("with a new secret");
    apply("with a new secret");
    // By hand, readable for everyone.
    host.sh("chmod 644 /srv/g11/secret; echo \"more hush-Next-0123456789\" >>/srv/g11/secret");
    all("after drift");
    apply("after drift");
    assert_eq!(host.sh("stat -c %a /srv/g11/secret"), "600\n");
    // The place of the secret becomes an ordinary file: the former content is still nobody's business.
    repo.stack("one", "file \"/srv/ID/secret\" content=\"nothing\"");
    all("when the secret goes");
    apply("when the secret goes");
    host.sh("touch /tmp/g11-stop");
    let seen = watch.wait_with_output().expect("it ends");
    assert!(seen.stdout.len() > 1000);
    assert!(!String::from_utf8_lossy(&seen.stdout).contains("hush-"), "in an argument of a process");
}

#[test]
fn g11_a_missing_secret_stops_a_plan_but_no_check() {
    let host = shared("lab-2");
    let repo = Repo::new("g11-missing", &[&host]);
    repo.stack("one", "secret \"x\" env=\"G11_NOT_SET\"\nfile \"/srv/ID/x\" content=\"{{ secret.x }}\"");
    assert_eq!(repo.run(&["check"]).code, 0);
    assert_eq!(repo.run(&["plan"]).code, 1);
    repo.stack("one", "secret \"x\" env=\"G11_NOT_SET\"\nfile \"/srv/ID/x\" content=\"{{ secret.x }}\" mode=\"0644\"");
    assert_eq!(repo.run(&["check"]).code, 1, "a secret in a file that all may read");
}
