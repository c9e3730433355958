//! `reconcile secret`, as a person meets it; with `age` and `ssh-keygen` themselves as the other side.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const STACK: &str = r#"stack "web" {
    on host="box"
    secrets "secrets.yaml"
    secret "key" age="key.age"
    file "/etc/app" content="{{ secret.db }} {{ secret.token }}"
    file "/etc/app.key" secret="key"
}
"#;

/// A repository, and a home beside it.
struct Place(tempfile::TempDir);

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Place {
    /// With a stack that uses secrets, and nobody who could decrypt any.
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        place.write("repo/hosts/box.kdl", "repo \"demo\"\nhost \"box\" transport=\"local\" root=\".sandbox\"\n");
        place.write("repo/stacks/web/stack.kdl", STACK);
        fs::create_dir(place.path("home")).unwrap();
        place
    }

    /// The same with an identity and secrets.
    fn with_secrets() -> Place {
        let place = Place::new();
        place.must("init", b"");
        place.must("encrypt stacks/web/secrets.yaml db", b"hush-db\n");
        place.must("encrypt stacks/web/secrets.yaml token", b"hush\ntoken\n\n");
        place.must("encrypt stacks/web/key.age", b"hush\0\xff\n");
        place
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reconcile"));
        command.current_dir(self.path("repo")).args(arguments.split(' ')).env_clear();
        command.env("HOME", self.path("home")).env("PATH", std::env::var("PATH").unwrap());
        command.env("XDG_RUNTIME_DIR", self.path("home"));
        command
    }

    fn run(&self, arguments: &str, input: &[u8]) -> Ran {
        feed(self.command(arguments), input)
    }

    /// Runs `reconcile secret`, which must go well.
    fn must(&self, arguments: &str, input: &[u8]) -> Ran {
        let ran = self.run(&format!("secret {arguments}"), input);
        assert_eq!(ran.code, 0, "secret {arguments}: {}{}", ran.out, ran.err);
        ran
    }

    /// Edits with a script in place of an editor.
    fn edit(&self, file: &str, script: &str) -> Ran {
        self.write("home/editor", format!("#!/bin/sh\nset -eu\n{script}\n"));
        let mut command = self.command(&format!("secret edit {file}"));
        command.env("EDITOR", format!("sh {}", self.path("home/editor").display()));
        feed(command, b"")
    }

    fn view(&self, what: &str) -> String {
        self.must(&format!("view stacks/web/{what}"), b"").out
    }

    fn recipient(&self) -> String {
        let list = self.read("repo/secrets/recipients");
        list.lines().last().unwrap().to_string()
    }
}

fn feed(mut command: Command, input: &[u8]) -> Ran {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    // Who does not read has decided already.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn init_makes_an_identity_once_and_lists_its_recipient() {
    let place = Place::new();
    place.must("init", b"");
    let identity = place.path("home/.config/reconcile/identity");
    assert_eq!((mode(&identity), mode(identity.parent().unwrap())), (0o600, 0o700));
    let before = place.read("home/.config/reconcile/identity");
    assert!(before.contains(&place.recipient()));
    let again = place.run("secret init", b"");
    assert_eq!(again.code, 1);
    assert!(again.err.contains("never overwritten") && again.err.contains(&place.recipient()), "{}", again.err);
    assert_eq!(place.read("home/.config/reconcile/identity"), before);
    // A second person, whose name stands in the list by hand.
    place.must(&format!("init --to {}", place.path("home/two").display()), b"");
    let list = place.read("repo/secrets/recipients");
    assert_eq!(list.lines().filter(|line| line.starts_with("age1")).count(), 2, "{list}");
    assert!(!list.contains("SECRET"));
}

#[test]
fn what_is_encrypted_here_is_decrypted_by_age_itself_and_the_other_way_round() {
    let place = Place::with_secrets();
    let identity = place.path("home/.config/reconcile/identity");
    let identity = identity.to_str().unwrap();
    let mut age = Command::new("age");
    age.args(["-d", "-i", identity]).arg(place.path("repo/stacks/web/key.age"));
    assert_eq!(age.output().expect("age is installed: tests/run does so").stdout, b"hush\0\xff\n");
    let sealed = place.read("repo/stacks/web/secrets.yaml");
    let (_, value) = sealed.split_once("db: |").unwrap();
    let value: String = value
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .map(|line| format!("{}\n", line.trim()))
        .collect();
    let mut age = Command::new("age");
    age.args(["-d", "-i", identity]);
    assert_eq!(feed(age, value.as_bytes()).out, "hush-db");
    let mut age = Command::new("age");
    age.args(["-r", &place.recipient(), "-o"]).arg(place.path("repo/stacks/web/key.age"));
    assert_eq!(feed(age, b"from age").code, 0);
    assert_eq!(place.view("key.age"), "from age");
}

#[test]
fn secrets_end_in_their_files_and_check_needs_no_identity() {
    let place = Place::with_secrets();
    let ran = place.run("apply --yes", b"");
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert_eq!(place.read("repo/.sandbox/etc/app"), "hush-db hush\ntoken\n");
    assert_eq!(fs::read(place.path("repo/.sandbox/etc/app.key")).unwrap(), b"hush\0\xff\n", "byte for byte");
    assert_eq!(
        [mode(&place.path("repo/.sandbox/etc/app")), mode(&place.path("repo/.sandbox/etc/app.key"))],
        [0o600; 2]
    );
    fs::remove_dir_all(place.path("home/.config")).unwrap();
    let check = place.run("check", b"");
    assert_eq!((check.code, check.err.as_str()), (0, ""), "{}", check.out);
    assert!(check.out.contains("2 files with secrets"), "{}", check.out);
    let plan = place.run("plan", b"");
    assert_eq!(plan.code, 1);
    for said in ["no identity fits", "an age key", ".config/reconcile/identity: not there", "--identity FILE"] {
        assert!(plan.err.contains(said), "{said}: {}", plan.err);
    }
    assert!(!plan.err.contains("hush"));
}

#[test]
fn what_no_identity_opens_is_told_once_for_each_file() {
    let place = Place::with_secrets();
    fs::remove_dir_all(place.path("home/.config")).unwrap();
    let ran = place.run("plan", b"");
    assert_eq!((ran.code, ran.err.matches("no identity fits").count()), (1, 2), "{}", ran.err);
    assert!(ran.err.contains("2 errors"), "{}", ran.err);
}

#[test]
fn an_edit_changes_what_was_changed_and_nothing_else() {
    let place = Place::with_secrets();
    let before = place.read("repo/stacks/web/secrets.yaml");
    let ran = place.edit("stacks/web/secrets.yaml", "touch -d '2001-01-01' \"$1\"");
    assert!(ran.code == 0 && ran.out.contains("unchanged"), "{}{}", ran.out, ran.err);
    assert_eq!(place.read("repo/stacks/web/secrets.yaml"), before);
    let look = "[ \"$(stat -c %a \"$1\")\" = 600 ]; [ \"$(stat -c %a \"$(dirname \"$1\")\")\" = 700 ]
        case $1 in */dev/shm/* | */home/reconcile-secret.*) ;; *) exit 1 ;; esac";
    let ran = place.edit(
        "stacks/web/secrets.yaml",
        &format!("{look}\nsed -i 's/hush-db/hush-new/' \"$1\"; echo '# why\nmore: \"x: y\"' >>\"$1\""),
    );
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let after = place.read("repo/stacks/web/secrets.yaml");
    let value = |text: &str, name: &str| {
        text.split_once(&format!("{name}: |")).unwrap().1.split("-----END").next().unwrap().to_string()
    };
    assert_eq!(value(&before, "token"), value(&after, "token"), "left alone");
    assert_ne!(value(&before, "db"), value(&after, "db"));
    assert!(after.contains("# why\nmore: |") && !after.contains("x: y"), "{after}");
    assert_eq!(place.view("secrets.yaml db"), "hush-new");
    assert_eq!(place.view("secrets.yaml more"), "x: y");
    assert_eq!(place.view("secrets.yaml token"), "hush\ntoken\n");
    // A file of one secret, and a new file.
    assert_eq!(place.edit("stacks/web/key.age", "printf other >\"$1\"").code, 0);
    assert_eq!(place.view("key.age"), "other");
    assert_eq!(place.edit("stacks/web/new.yaml", "echo 'a: 0123' >>\"$1\"").code, 0);
    assert_eq!(place.view("new.yaml a"), "0123");
}

#[test]
fn an_edit_that_goes_wrong_leaves_everything_as_it_was() {
    let place = Place::with_secrets();
    let before = place.read("repo/stacks/web/secrets.yaml");
    for script in [
        "sed -i 's/hush-db/hush-new/' \"$1\"; exit 3",
        "echo 'hush: [' >>\"$1\"",
        "rm \"$1\"",
        "echo 'db: again' >>\"$1\"",
    ] {
        let ran = place.edit("stacks/web/secrets.yaml", script);
        assert_eq!(ran.code, 1, "{script}");
        assert!(ran.err.contains("nothing was written"), "{script}: {}", ran.err);
        assert!(!ran.err.contains("hush-"), "{script}: {}", ran.err);
        assert_eq!(place.read("repo/stacks/web/secrets.yaml"), before);
        assert!(left(&place).is_empty(), "{script}: {:?}", left(&place));
    }
}

/// What edits left behind. Other tests edit beside this one, for a moment: what stays was left.
fn left(place: &Place) -> Vec<PathBuf> {
    let begun = Instant::now();
    while !there(place).is_empty() && begun.elapsed() < Duration::from_secs(30) {
        sleep(Duration::from_millis(50));
    }
    there(place)
}

/// What edits have on the disk now.
fn there(place: &Place) -> Vec<PathBuf> {
    let home = fs::read_dir(place.path("home")).unwrap().chain(fs::read_dir("/dev/shm").unwrap());
    let paths = home.map(|entry| entry.unwrap().path());
    let ours = |path: &PathBuf| {
        path.file_name().unwrap().to_str().unwrap().starts_with("reconcile-secret.")
            && fs::read_dir(path)
                .is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name() == "secrets.yaml"))
    };
    paths.filter(ours).collect()
}

#[test]
fn an_edit_that_is_told_to_end_leaves_nothing() {
    for signal in ["TERM", "HUP", "INT"] {
        let place = Place::with_secrets();
        place.write("home/editor", "echo \"$1\" >\"$HOME/where\"; sleep 30 & echo $! >\"$HOME/pid\"; wait");
        let mut command = place.command("secret edit stacks/web/secrets.yaml");
        command.env("VISUAL", format!("sh {}", place.path("home/editor").display())).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while fs::read(place.path("home/pid")).unwrap_or_default().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(10));
            sleep(Duration::from_millis(10));
        }
        let file = PathBuf::from(place.read("home/where").trim());
        assert!(fs::read_to_string(&file).unwrap().contains("hush-db"));
        let kill = |pid: &str, signal: &str| _ = Command::new("kill").args(["-s", signal, pid]).status();
        kill(&child.id().to_string(), signal);
        if signal == "INT" {
            // It is the editor's, which ends by itself.
            sleep(Duration::from_millis(200));
            assert!(child.try_wait().unwrap().is_none());
            kill(place.read("home/pid").trim(), "TERM");
        }
        let code = child.wait().unwrap().code();
        assert_eq!(
            code,
            Some(match signal {
                "TERM" => 143,
                "HUP" => 129,
                _ => 0,
            }),
            "{signal}"
        );
        assert!(!file.parent().unwrap().exists(), "{signal}");
        if signal != "INT" {
            kill(place.read("home/pid").trim(), "KILL");
        }
    }
}

#[test]
fn rekey_is_for_the_present_recipients_and_for_all_files_or_none() {
    let place = Place::with_secrets();
    let key = place.path("home/id_ed25519");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "ann@example.org", "-f"])
        .arg(&key)
        .status();
    assert!(made.unwrap().success());
    let public = place.read("home/id_ed25519.pub");
    place.write("repo/secrets/recipients", format!("# Ann\n{public}"));
    let check = place.run("check", b"");
    assert!(check.code == 0 && check.err.contains("other recipients than those listed"), "{}", check.err);
    assert_eq!(check.err.matches("`stacks/web/secrets.yaml` is encrypted for other").count(), 1, "{}", check.err);
    let key_file = || fs::read(place.path("repo/stacks/web/key.age")).unwrap();
    // Nothing uses it yet.
    fs::copy(place.path("repo/stacks/web/secrets.yaml"), place.path("repo/stacks/web/later.yaml")).unwrap();
    let (before, key_before) = (place.read("repo/stacks/web/secrets.yaml"), key_file());
    // One of them cannot be read: none is written.
    place.write(
        "repo/stacks/web/secrets.yaml",
        format!("{before}gone: |\n  -----BEGIN AGE ENCRYPTED FILE-----\n  YWdl\n  -----END AGE ENCRYPTED FILE-----\n"),
    );
    assert_eq!(place.run("secret rekey", b"").code, 1);
    assert_eq!(key_file(), key_before);
    place.write("repo/stacks/web/secrets.yaml", &before);
    let ran = place.must("rekey", b"");
    assert!(ran.out.contains("stacks/web/key.age") && ran.out.contains("stacks/web/secrets.yaml"), "{}", ran.out);
    let again = place.run("check", b"");
    assert_eq!(again.err, "", "the recipients fit");
    let old = place.run("secret view stacks/web/key.age", b"");
    assert!(old.code == 1 && old.err.contains("an ssh-ed25519 key"), "{}", old.err);
    for file in ["secrets.yaml", "later.yaml"] {
        let new = place.must(&format!("view stacks/web/{file} db --identity {}", key.display()), b"");
        assert_eq!(new.out, "hush-db");
    }
    fs::remove_file(place.path("repo/stacks/web/later.yaml")).unwrap();
    let stray: Vec<_> =
        fs::read_dir(place.path("repo/stacks/web")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(stray.len(), 3, "{stray:?}");
}

#[test]
fn a_secret_in_clear_is_refused_and_not_shown() {
    let place = Place::with_secrets();
    let sealed = place.read("repo/stacks/web/secrets.yaml");
    for (path, text) in [
        ("stacks/web/secrets.yaml", format!("{sealed}clear: hush-clear\n")),
        ("stacks/web/secrets.yaml", "db: hush-clear\ntoken: hush-clear\n".into()),
        ("stacks/web/key.age", "hush-clear".into()),
        ("stacks/web/unused.age", "hush-clear".into()),
        ("stacks/web/unused.age.yaml", "a: hush-clear".into()),
        ("stacks/web/unused.sops.yaml", "a: hush-clear".into()),
    ] {
        let there = fs::read(place.path("repo").join(path));
        place.write(&format!("repo/{path}"), text);
        for command in ["check", "check --json", "plan"] {
            let ran = place.run(command, b"");
            let all = format!("{}{}", ran.out, ran.err);
            assert!(ran.code == 1 && all.contains("not encrypted") && all.contains(path), "{path}: {all}");
            assert!(!all.contains("hush"), "{path}: {all}");
        }
        match there {
            Ok(bytes) => place.write(&format!("repo/{path}"), bytes),
            Err(_) => fs::remove_file(place.path("repo").join(path)).unwrap(),
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_a_way_out() {
    let place = Place::new();
    let none = place.run("secret encrypt stacks/web/key.age", b"x");
    assert!(none.code == 1 && none.err.contains("reconcile secret init"), "{}", none.err);
    place.must("init", b"");
    for (arguments, input, said) in [
        ("encrypt stacks/web/key.age", &b"\n"[..], "the secret is empty"),
        ("encrypt ../outside.age", b"x", "not in the repository"),
        ("encrypt stacks/web/s.yaml a-b", b"x", "cannot be called"),
        ("encrypt stacks/web/stack.kdl", b"x", "is not encrypted"),
        ("encrypt stacks/web/s.yaml a", b"\xff", "not text"),
        ("view stacks/web/nothing.age", b"", "no file"),
    ] {
        let ran = place.run(&format!("secret {arguments}"), input);
        assert!(ran.code == 1 && ran.err.contains(said), "{arguments}: {}", ran.err);
    }
    assert_eq!(place.read("repo/stacks/web/stack.kdl"), STACK);
}

#[test]
fn every_command_answers_in_json_when_asked() {
    let place = Place::with_secrets();
    place.write("repo/secrets/gone.yaml", place.read("repo/stacks/web/secrets.yaml"));
    let json = |ran: Ran, what: &str| -> serde_json::Value {
        let value =
            serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{what}: {error}: {}{}", ran.out, ran.err));
        assert_eq!(ran.err, "", "{what}: all of it is JSON");
        value
    };
    let other = place.path("home/other");
    for (arguments, input, answer) in [
        (
            "view stacks/web/secrets.yaml --json",
            "",
            r#"{"file":"stacks/web/secrets.yaml","secrets":{"db":"hush-db","token":"hush\ntoken\n"}}"#,
        ),
        (
            "view stacks/web/secrets.yaml db --json",
            "",
            r#"{"file":"stacks/web/secrets.yaml","name":"db","secret":"hush-db"}"#,
        ),
        ("view stacks/web/key.age --json", "", r#"{"file":"stacks/web/key.age","base64":"aHVzaAD/Cg=="}"#),
        ("encrypt stacks/web/text.age --json", "x\n", r#"{"file":"stacks/web/text.age","name":null,"recipients":1}"#),
        (
            "encrypt stacks/web/secrets.yaml more --json",
            "x",
            r#"{"file":"stacks/web/secrets.yaml","name":"more","recipients":1}"#,
        ),
        ("view stacks/web/text.age --json", "", r#"{"file":"stacks/web/text.age","secret":"x\n"}"#),
        (
            "rekey --json",
            "",
            r#"{"files":["secrets/gone.yaml","stacks/web/key.age","stacks/web/secrets.yaml","stacks/web/text.age"],"left":[],"recipients":1}"#,
        ),
    ] {
        let mut expected: serde_json::Value = serde_json::from_str(answer).unwrap();
        expected["version"] = 1.into();
        expected["command"] = format!("secret {}", arguments.split(' ').next().unwrap()).into();
        assert_eq!(json(place.must(arguments, input.as_bytes()), arguments), expected);
    }
    let edited = json(place.edit("stacks/web/secrets.yaml --json", "true"), "edit");
    assert_eq!((&edited["command"], &edited["changed"]), (&"secret edit".into(), &false.into()));
    let made = json(place.must(&format!("init --to {} --json", other.display()), b""), "init");
    assert_eq!(made["recipient"], place.recipient());
    // And what goes wrong, with the way out.
    place.write("repo/stacks/web/empty.age", "");
    place.write("repo/stacks/web/clear.age", "hush");
    place.write("home/bad", "no identity");
    fs::remove_file(place.path("home/.config/reconcile/identity")).unwrap();
    for (arguments, kind, what) in [
        ("view stacks/web/secrets.yaml", "config", "no identity fits"),
        ("view stacks/web/key.age --identity HOME/other", "config", "no identity fits"),
        ("view stacks/web/key.age --identity HOME/bad", "config", "no identity fits"),
        ("view stacks/web/key.age --identity HOME/none", "config", "no identity fits"),
        ("view stacks/web/empty.age", "config", "is empty"),
        ("view stacks/web/clear.age", "config", "is not encrypted"),
        ("view stacks/web", "usage", "a directory"),
        ("edit stacks/web", "usage", "a directory"),
        ("encrypt stacks/web", "usage", "a directory"),
        ("view stacks/web/none.age", "usage", "no file"),
        ("view stacks/web/key.age db", "usage", "without names"),
        ("rekey", "config", "not encrypted"),
    ] {
        let arguments = format!("{} --json", arguments.replace("HOME", place.path("home").to_str().unwrap()));
        let ran = place.run(&format!("secret {arguments}"), b"x");
        assert_eq!(ran.code, 1, "{arguments}: {}{}", ran.out, ran.err);
        let error = json(ran, &arguments);
        let said = error.to_string();
        assert!(error["version"] == 1 && error["error"]["kind"] == kind && said.contains(what), "{arguments}: {said}");
        assert!(!said.contains("hush"), "{arguments}: {said}");
    }
}

#[test]
fn nothing_is_written_anew_while_a_secret_or_a_recipient_cannot_be_read() {
    let place = Place::with_secrets();
    let before = [place.read("repo/stacks/web/secrets.yaml"), place.read("repo/secrets/recipients")];
    for (list, said) in
        [("", "no recipient is listed"), ("age1nonsense\n", "age1nonsense"), ("# none\n", "no recipient is listed")]
    {
        place.write("repo/secrets/recipients", list);
        let ran = place.run("secret rekey", b"");
        assert!(ran.code == 1 && ran.err.contains(said), "{list:?}: {}", ran.err);
    }
    fs::remove_file(place.path("repo/secrets/recipients")).unwrap();
    assert_eq!(place.run("secret rekey", b"").code, 1);
    place.write("repo/secrets/recipients", &before[1]);
    place.write("repo/stacks/web/zzz.age", "age-encryption.org/v1\nbroken");
    assert_eq!(place.run("secret rekey", b"").code, 1);
    assert_eq!(place.read("repo/stacks/web/secrets.yaml"), before[0]);
}
