//! 11: secrets stay in their lane.

use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::going_back::commit;
use crate::kit::{Host, Ran, Repo, any};

/// What all planted secrets have in common.
const MARK: &str = "hush-";
/// What SOPS has encrypted in `secrets.sops.yaml`.
const SOPS: &str = "hush-Sops/0123456789+x";
const COMPOSE: &str = "services:\n  one: { image: \"lab/busybox:1\", init: true, command: [sleep, \"9998\"], environment: { TOKEN: \"${TOKEN}\" } }\n  \
    two: { image: \"lab/busybox:1\", init: true, command: [sleep, \"9998\"] }\n";

/// A secret in all the ways in which it could be seen: as it is, percent-encoded, escaped in JSON, in hexadecimal digits, and
/// as a part of something in base64.
fn forms(secret: &str) -> Vec<String> {
    let percent: String = secret
        .bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || byte == b'-' {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect();
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms =
        vec![secret.to_string(), percent.to_lowercase(), percent, secret.replace('/', "\\/"), hex.to_uppercase(), hex];
    for before in 0..3 {
        let whole = STANDARD_NO_PAD.encode([&vec![0; before][..], secret.as_bytes()].concat());
        // The first and the last digits depend on what stands beside the secret.
        let inner = whole[[0, 2, 3][before]..whole.len() - 2].to_string();
        forms.extend([inner.replace('+', "-").replace('/', "_"), inner]);
    }
    forms
}

/// The form in which a text holds a secret.
fn holds(text: &str, secret: &str) -> Option<String> {
    forms(secret).into_iter().find(|form| text.contains(form.as_str()))
}

#[test]
fn g11_a_secret_is_recognised_in_every_form() {
    let secret = "hush-A/0123456789+x y";
    for text in ["token=hush-A/0123456789+x y;", "?t=hush-A%2F0123456789%2Bx%20y", "hush-A\\/0123456789+x y"] {
        assert!(holds(text, secret).is_some(), "{text}");
    }
    for before in ["", "a", "ab", "abc"] {
        let encoded = STANDARD_NO_PAD.encode(format!("{before}{secret} and more"));
        assert!(holds(&encoded, secret).is_some(), "{encoded}");
    }
    assert!(holds("nothing of the kind", secret).is_none());
}

/// A look at everything that a host and the control side keep, while secrets come and go.
struct Watched<'a> {
    host: &'a Host,
    secrets: Vec<String>,
}

impl Watched<'_> {
    fn said(&self, ran: Ran, what: &str) -> Ran {
        for secret in &self.secrets {
            for text in [&ran.out, &ran.err] {
                assert_eq!(holds(text, secret), None, "{what}:\n{text}");
            }
        }
        ran
    }

    /// Every command that only reads, telling everything that it can tell.
    fn all(&self, repo: &Repo, when: &str) {
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
            &["secret", "rekey", "--json", "--identity", "/nowhere"],
        ] {
            self.said(repo.run(&[command, &["-vvv"]].concat()), &format!("{command:?} {when}"));
        }
    }

    /// Files of the host that hold a secret and are not where one belongs, or that somebody else may read.
    fn on_the_host(&self, id: &str, when: &str) {
        let places = format!("/srv/{id}* /etc /var/lib/reconcile /var/log /var/tmp /tmp /run /root");
        let found = self.host.sh(&format!(
            "printf '%s\\n' {MARK} | grep -rlF --devices=skip --exclude='*.journal' --exclude-dir=rootfs -f - {places} 2>/dev/null | while IFS= read -r file; do
                dir=$(dirname \"$file\"); inner=no
                while [ \"$dir\" != / ]; do [ \"$(stat -c %a \"$dir\")\" != 700 ] || inner=yes; dir=$(dirname \"$dir\"); done
                echo \"$(stat -c %a \"$file\") $inner $file\"; done"
        ));
        for line in found.lines().filter(|line| !line.contains("/g11-watch")) {
            let [mode, inner, path] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            assert!(mode == "600" || inner == "yes", "{when}: others may read {line}");
            let own = path.starts_with(&format!("/srv/{id}")) || path.starts_with(&format!("/etc/systemd/system/{id}"));
            assert!(own || path.contains("/.reconcile-") || inner == "yes", "{when}: {line}");
        }
    }
}

#[test]
fn g11_secrets_are_seen_nowhere_but_in_their_file() {
    let host = any();
    let mut repo = Repo::new("g11", &[&host]);
    let temporary = tempfile::tempdir().expect("a directory for temporary files");
    let names =
        ["hush-Env/0123456789+x", "hush-File/0123456789+x", "hush-Age/0123456789+x y", "hush-Next/0123456789+x", SOPS];
    let watched = Watched { host: &host, secrets: names.map(String::from).to_vec() };
    repo.env("G11_ENV", names[0]);
    repo.env("TMPDIR", temporary.path().to_str().expect("UTF-8"));
    // Both names under which logs are usually turned on.
    repo.env("RUST_LOG", "trace");
    repo.env("RECONCILE_LOG", "trace");
    repo.env("RECONCILE_AGE_IDENTITY", include_str!("../../src/sealed/tests/keys/identity"));
    repo.write("secret.txt", format!("{}\n", names[1]));
    let recipient = include_str!("../../src/sealed/tests/keys/identity")
        .lines()
        .find_map(|line| line.strip_prefix("# public key: "));
    repo.write("secrets/recipients", recipient.expect("it is written there"));
    repo.write("stacks/one/values.sops.yaml", include_str!("secrets.sops.yaml"));
    repo.write("stacks/one/compose.yaml", COMPOSE);
    let rotate = |value: &str| {
        let file = temporary.path().join("value");
        std::fs::write(&file, value).expect("a file");
        let target = repo.path().join("stacks/one/secrets.yaml");
        let from = file.to_str().expect("UTF-8");
        let ran =
            watched.said(repo.run(&["secret", "encrypt", target.as_str(), "age", "--from", from, "-vvv"]), "encrypt");
        assert_eq!(ran.code, 0, "{ran:?}");
        std::fs::remove_file(file).expect("it was there");
    };
    rotate(names[2]);
    let body = |more: &str, exec: &str| {
        format!(
            "secret \"env\" env=\"G11_ENV\"\nsecret \"file\" file=\"~/secret.txt\"\nsecrets \"secrets.yaml\"\nvalues \"values.sops.yaml\"
            file \"/srv/ID/secret\" content=\"a={{{{ secret.env }}}} b={{{{ secret.file }}}} c={{{{ secret.age }}}} d={{{{ secret.mail.password }}}}\"
            file \"/srv/ID/raw\" secret=\"mail.password\"
            file \"/srv/ID/open\" content=\"{{{{ open }}}} {more}\"
            unit \"ID-a\" {{ exec \"{exec}\"\nenv TOKEN=\"{{{{ secret.age }}}}\" MORE=\"{more}\" }}
            unit \"ID-b\" {{ exec \"/usr/bin/sleep 9999\"\nrestart-on \"/srv/ID/secret\" }}
            unit \"ID-theirs\" {{ drop-in \"more\" content=\"[Service]\\nEnvironment=X_ID={{{{ secret.mail.password }}}}\\n\" }}
            compose \"ID-app\" {{ file \"compose.yaml\"\nenv TOKEN=\"{{{{ secret.age }}}}\" }}"
        )
    };
    let sleeps = "/usr/bin/sleep 9999";
    host.sh("printf '[Service]\\nExecStart=/usr/bin/sleep 9999\\n' >/etc/systemd/system/g11-theirs.service; systemctl daemon-reload; systemctl start g11-theirs");
    // Whoever looks at the processes of the host, all the while: arguments, and whose environment has a secret in it.
    let watch = host.begin(&format!(
        "rm -f /tmp/g11-stop; until [ -e /tmp/g11-stop ]; do
            cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; echo
            grep -lF {MARK} /proc/[0-9]*/environ 2>/dev/null | while IFS= read -r file; do
                echo \"ENVIRON $(tr '\\0' ' ' <\"${{file%environ}}cmdline\" 2>/dev/null)\"; done; done; true"
    ));
    let cursor = host.now();
    let apply = |when: &str| {
        let ran = watched.said(repo.run(&["apply", "--yes", "-vvv"]), &format!("apply {when}"));
        assert_eq!(ran.code, 0, "{when}: {ran:?}");
        watched.on_the_host("g11", when);
        let left = host.sh(&format!("grep -rlF --devices=skip --exclude='*.journal' --exclude-dir=containerd --exclude-dir=docker -e {MARK} /var/lib/reconcile /var/log /tmp /run 2>/dev/null; true"));
        assert_eq!(left, "", "{when}: in our state on the host");
    };
    repo.stack("one", &body("one", sleeps));
    watched.all(&repo, "before");
    apply("first");
    let files = "/srv/g11/secret /srv/g11/raw /srv/g11-app/.env /etc/systemd/system/g11-a.service /etc/systemd/system/g11-theirs.service.d/*";
    let modes = || host.sh(&format!("stat -c '%a %U' {files} | sort -u"));
    assert_eq!(modes(), "600 root\n");
    assert_eq!(host.sh("cat /srv/g11/secret"), format!("a={} b={} c={} d={SOPS}", names[0], names[1], names[2]));
    assert_eq!(host.sh("cat /srv/g11/raw /srv/g11/open"), format!("{SOPS}not secret one"));
    repo.is_settled();
    // What is beside a secret changes, and the secret itself: then whoever has it is started anew.
    repo.stack("one", &body("two", sleeps));
    watched.said(repo.run(&["plan", "--full", "-vvv"]), "beside a change");
    apply("beside a change");
    let started = || {
        let one = host.sh("docker inspect -f '{{.State.StartedAt}}' $(docker ps -q --filter name=g11-app-one)");
        let two = host.sh("docker inspect -f '{{.State.StartedAt}}' $(docker ps -q --filter name=g11-app-two)");
        [host.invocation("g11-a"), host.invocation("g11-b"), one, two]
    };
    let before = started();
    rotate(names[3]);
    watched.all(&repo, "with a new secret");
    apply("with a new secret");
    let after = started();
    let anew: Vec<bool> = before.iter().zip(&after).map(|(before, after)| before != after).collect();
    assert_eq!(anew, [true, true, true, false], "the users of the secret, and nobody else");
    assert_eq!(
        host.sh("docker exec $(docker ps -q --filter name=g11-app-one) sh -c 'printf \"%s\\n\" \"$TOKEN\"'"),
        format!("{}\n", names[3])
    );
    // By hand, readable for everyone.
    host.sh("chmod 644 /srv/g11/secret; echo \"more hush-Next/0123456789+x\" >>/srv/g11/secret");
    watched.said(repo.run(&["plan", "--full", "-vvv"]), "after drift");
    apply("after drift");
    assert_eq!(modes(), "600 root\n");
    // A run that is taken back, and one that is killed on the host in the middle.
    repo.stack("one", &body("three", "/bin/false"));
    let ran = watched.said(repo.run(&["apply", "--yes", "-vvv"]), "a run that is taken back");
    assert!(ran.code == 4 && ran.out.contains("rolled-back"), "{ran:?}");
    watched.on_the_host("g11", "after a rollback");
    repo.stack("one", &body("four", sleeps).replace("MORE=\"four\"", "MORE=\"four\"\nexec-pre \"/usr/bin/sleep 5\""));
    let ran = std::thread::scope(|scope| {
        // Somebody must listen to all that it says, or it stands still.
        let run = scope.spawn(|| repo.run(&["apply", "--yes", "-vvv", "--confirm", "3"]));
        host.until("[ \"$(cat /srv/g11/open)\" = 'not secret four' ]");
        watched.on_the_host("g11", "in the middle of a run");
        host.sh(&crate::crash::kill_there("g11"));
        run.join().expect("it ends")
    });
    watched.said(ran, "a run that is killed");
    assert_ne!(host.sh("ls /var/lib/reconcile/g11/run"), "", "its journal is left");
    watched.on_the_host("g11", "after a run that was killed");
    watched.all(&repo, "after a run that was killed");
    repo.stack("one", &body("five", sleeps));
    apply("after a run that was killed");
    // The place of the secret becomes an ordinary file: the former content is still nobody's business.
    repo.stack("one", "values \"values.sops.yaml\"\nfile \"/srv/ID/secret\" content=\"nothing\"");
    watched.said(repo.run(&["plan", "--full", "-vvv"]), "when the secret goes");
    apply("when the secret goes");
    host.sh("touch /tmp/g11-stop");
    let seen = watch.wait_with_output().expect("it ends");
    let seen = String::from_utf8_lossy(&seen.stdout);
    assert!(seen.len() > 1000);
    let (environ, arguments): (Vec<&str>, Vec<&str>) = seen.lines().partition(|line| line.starts_with("ENVIRON"));
    assert!(!arguments.iter().any(|line| line.contains(MARK)), "in an argument of a process");
    // The processes that are to have it, and those that become them.
    let users = ["sleep", "runc", "docker-init", "/sbin/docker-init", "/bin/false", "(sleep)", "(false)"];
    let others = environ.iter().filter(|line| {
        let program = line.split(' ').nth(1).unwrap_or_default();
        !program.is_empty() && !users.contains(&program.rsplit_once('/').map_or(program, |(_, name)| name))
    });
    assert_eq!(others.collect::<Vec<_>>(), Vec::<&&str>::new(), "in the environment of others");
    let journal = host.since(&cursor).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    for secret in &watched.secrets {
        assert_eq!(holds(&journal, secret), None, "in the journal");
    }
    let control = std::fs::read_dir(temporary.path()).expect("it is there").count();
    assert_eq!(control, 0, "temporary files of the control side");
}

/// The commands that the program tells of in its help.
fn commands(repo: &Repo, of: &[&str]) -> Vec<String> {
    let help = repo.run(&[of, &["--help"]].concat()).out;
    let all = help.split_once("Commands:\n").expect("it has commands").1.lines().take_while(|line| !line.is_empty());
    let names = all.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    let names: Vec<String> = names.map(String::from).collect();
    assert!(names.len() > 3, "{help}");
    names
}

/// How a command is called once a run has failed, and what it ends with: all the ways in which it tells of something.
/// `HOST` and `OUT` stand for the host and a place beside the repository's files.
fn calls(command: &str) -> &'static [(i32, &'static [&'static str])] {
    match command {
        "check" | "status" | "man" | "reference" => &[(0, &[]), (0, &["--json"])],
        "completions" => &[(0, &["bash"])],
        "render" => &[(0, &[]), (0, &["--json"]), (0, &["--out", "OUT"])],
        "diff" => &[(0, &["HEAD~1..HEAD", "--full"]), (0, &["HEAD~2..HEAD", "--json"])],
        "plan" => &[(0, &["--full"]), (0, &["--json"]), (0, &["--markdown"])],
        "drift" => &[(0, &["--full"]), (0, &["--json"])],
        "apply" => &[(4, &["--yes", "--full"]), (4, &["--yes", "--json"])],
        "adopt" => &[(0, &["HOST", "--stack", "taken", "--only", "unit:every-secret-plain", "--json"])],
        "history" => &[(0, &[]), (0, &["--json"]), (0, &["last"]), (0, &["last", "--json"])],
        "rollback" => &[(0, &["last", "--yes", "--full"]), (1, &["last", "--yes", "--json"])],
        "hold" => &[(0, &["one", "--why", "the audit"])],
        "release" => &[(0, &["one", "--json"])],
        // Its own commands come one by one.
        "secret" => &[],
        "secret init" => &[(0, &["--to", "OUT-identity"])],
        "secret encrypt" => &[(0, &["OUT.yaml", "more", "--from", "OUT-value"])],
        "secret edit" => &[(0, &["OUT.yaml"])],
        // That one is there to show it.
        "secret view" => &[],
        "secret rekey" => &[(0, &[]), (0, &["--json"])],
        other => panic!("`{other}` is a command that nobody has looked at: may it show a secret?"),
    }
}

#[test]
fn g11_no_command_shows_a_secret() {
    // Another mark than that of a test which looks for its own on the whole host.
    const MUTE: &str = "mute-";
    let host = any();
    let id = "every-secret";
    let mut repo = Repo::new(id, &[&host]);
    let names = ["mute-Env/9876543210+x", "mute-File/9876543210+x", "mute-Theirs/9876543210+x"];
    let watched = Watched { host: &host, secrets: names.map(String::from).to_vec() };
    repo.env("G11_ENV", names[0]);
    repo.env("EDITOR", "true");
    repo.env("RUST_LOG", "trace");
    repo.env("RECONCILE_LOG", "trace");
    let identity = include_str!("../../src/sealed/tests/keys/identity");
    repo.env("RECONCILE_AGE_IDENTITY", identity);
    let recipient = identity.lines().find_map(|line| line.strip_prefix("# public key: ")).expect("it is written there");
    repo.write("secrets/recipients", format!("{recipient}\n"));
    repo.write("secret.txt", names[1]);
    host.sh(&format!(
        "cd /etc/systemd/system; printf '[Service]\\nEnvironment=TOKEN={}\\nExecStart=/usr/bin/sleep 9999\\n' >{id}-theirs.service
        chmod 600 {id}-theirs.service; printf '[Service]\\nExecStart=/usr/bin/sleep 9999\\n' >{id}-plain.service
        systemctl daemon-reload; systemctl start {id}-theirs {id}-plain",
        names[2]
    ));
    let said = |code: i32, words: &[&str]| {
        let ran = watched.said(repo.run(&[words, &["-vvv"]].concat()), &format!("{words:?}"));
        assert_eq!(ran.code, code, "{words:?}: {ran:?}");
        // What the history has of it.
        for file in files_below(repo.path().join(".state").as_std_path()) {
            let bytes = String::from_utf8_lossy(&std::fs::read(&file).expect("a file of ours")).into_owned();
            for secret in &watched.secrets {
                assert_eq!(holds(&bytes, secret), None, "{words:?}: in {}", file.display());
            }
        }
        ran
    };
    let (file, from) = (repo.path().join("stacks/one/secrets.yaml"), repo.path().join("secret.txt"));
    said(0, &["secret", "encrypt", file.as_str(), "age", "--from", from.as_str()]);
    let body = |word: &str, exec: &str| {
        repo.stack(
            "one",
            &format!(
                "secret \"env\" env=\"G11_ENV\"\nsecrets \"secrets.yaml\"
                file \"/srv/ID/secret\" content=\"{word} a={{{{ secret.env }}}} b={{{{ secret.age }}}}\"
                unit \"ID-a\" {{ exec \"{exec}\"\nenv TOKEN=\"{{{{ secret.age }}}}\" WORD=\"{word}\" }}"
            ),
        );
        commit(&repo);
    };
    for word in ["one", "two"] {
        body(word, "/usr/bin/sleep 9999");
        said(0, &["apply", "--yes", "--json"]);
    }
    body("three", "/bin/sh -c 'env; echo $$TOKEN | base64; exit 1'");
    assert!(!files_below(repo.path().join(".state").as_std_path()).is_empty());
    let failed = said(4, &["apply", "--yes", "--json"]);
    assert!(failed.out.contains("‹secret›"), "{}", failed.out);
    let out = repo.path().join("out").into_string();
    repo.write("out-value", names[1]);
    let inner = commands(&repo, &["secret"]).into_iter().map(|name| format!("secret {name}"));
    for command in commands(&repo, &[]).into_iter().chain(inner) {
        for (code, more) in calls(&command) {
            let words = command.split(' ').chain(more.iter().copied());
            let words: Vec<String> = words.map(|word| word.replace("HOST", &host.name).replace("OUT", &out)).collect();
            said(*code, &words.iter().map(String::as_str).collect::<Vec<_>>());
        }
        if command == "adopt" {
            // Nothing secret of theirs came into the repository.
            for file in files_below(repo.path().join("stacks").as_std_path()) {
                let text = String::from_utf8_lossy(&std::fs::read(&file).expect("it is ours")).into_owned();
                assert!(!text.contains(MUTE), "{}", file.display());
            }
            repo.drop_stack("taken");
        }
    }
    // What was rendered has the values, for nobody else to read.
    let rendered = files_below(std::path::Path::new(&out));
    assert!(rendered.len() > 1, "{rendered:?}");
    for file in rendered {
        let holds = String::from_utf8_lossy(&std::fs::read(&file).expect("it is ours")).contains(MUTE);
        let mode = std::fs::metadata(&file).expect("it is there").permissions().mode() & 0o777;
        assert!(!holds || mode == 0o600, "{} is {mode:o}", file.display());
    }
}

fn files_below(top: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(top).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

#[test]
fn g11_what_others_say_of_a_secret_is_masked() {
    const SECRET: &str = "hush0Said0123456789";
    let host = any();
    let mut repo = Repo::new("g11-said", &[&host]);
    repo.env("RUST_LOG", "trace");
    repo.env("RECONCILE_LOG", "trace");
    repo.write("secret.txt", SECRET);
    let secret = format!("secret \"x\" file=\"{}/secret.txt\"\n", repo.path());
    repo.write("stacks/one/compose.yaml", "services:\n  one: { image: \"lab/busybox:1\", ports: [\"${TOKEN}\"] }\n");
    let commands: [&[&str]; 8] = [
        &["plan"],
        &["plan", "--json"],
        &["plan", "--markdown"],
        &["drift"],
        &["status", "--json"],
        &["apply", "--yes"],
        &["apply", "--yes", "--json"],
        &["history", "--json"],
    ];
    for (what, body, said) in [
        (
            "nginx",
            "file \"/etc/nginx/conf.d/ID.conf\" content=\"server { listen {{ secret.x }}; }\\n\"",
            "`nginx -t` on the host",
        ),
        (
            "compose",
            "compose \"ID-app\" { file \"compose.yaml\"; env TOKEN=\"{{ secret.x }}\" }",
            "`docker compose config` on the host",
        ),
        (
            "a unit",
            "unit \"ID-a\" { exec \"/bin/sh -c 'env; echo $$A | base64; echo app:$$A | base64; exit 1'\"\nenv A=\"{{ secret.x }}\" }",
            "",
        ),
    ] {
        repo.stack("one", &format!("{secret}{body}"));
        for command in commands {
            let ran = repo.run(&[command, &["-vvv"]].concat());
            for text in [&ran.out, &ran.err] {
                assert_eq!(holds(text, SECRET), None, "{what}, {command:?}:\n{text}");
            }
            if command[0] == "apply" {
                assert_ne!(ran.code, 0, "{what}: {ran:?}");
                assert!(ran.out.contains("‹secret›") && ran.out.contains(said), "{what}, {command:?}: {ran:?}");
            }
        }
    }
}

#[test]
fn g11_a_missing_secret_stops_a_plan_but_no_check() {
    let host = any();
    let repo = Repo::new("g11-missing", &[&host]);
    repo.stack("one", "secret \"x\" env=\"G11_NOT_SET\"\nfile \"/srv/ID/x\" content=\"{{ secret.x }}\"");
    assert_eq!(repo.run(&["check"]).code, 0);
    assert_eq!(repo.run(&["plan"]).code, 1);
    repo.stack("one", "secret \"x\" env=\"G11_NOT_SET\"\nfile \"/srv/ID/x\" content=\"{{ secret.x }}\" mode=\"0644\"");
    assert_eq!(repo.run(&["check"]).code, 1, "a secret in a file that all may read");
}
