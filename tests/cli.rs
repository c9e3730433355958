//! The command line, as a person or a script meets it: on a small repository with a sandbox host.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const SECRET: &str = "hunter2-very-secret";

const HOSTS: &str = "repo \"demo\"\nhost \"box\" transport=\"local\" root=\".sandbox\"\n";

const STACK: &str = r#"stack "web" {
    on host="box"
    secret "token" env="RECONCILE_TEST_TOKEN"
    file "/etc/motd" {
        content "hello {{ host.name }}\n"
    }
    file "/etc/app/token" {
        content "token = {{ secret.token }}\n"
        mode "0600"
    }
}
"#;

/// A repository in a directory of its own.
fn repository() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "hosts/box.kdl", HOSTS);
    write(directory.path(), "stacks/web/stack.kdl", STACK);
    directory
}

fn write(directory: &Path, path: &str, text: &str) {
    let path = directory.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reconcile"));
    command.current_dir(directory).args(arguments).stdin(Stdio::null());
    command.env_remove("RECONCILE_REPO").env("RECONCILE_TEST_TOKEN", SECRET);
    command.env("RECONCILE_STATE_DIR", directory.canonicalize().unwrap().join(".state"));
    command
}

fn run(directory: &Path, arguments: &[&str]) -> Output {
    command(directory, arguments).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(output)))
}

#[test]
fn what_is_not_understood_is_an_error_and_not_a_change() {
    let repository = repository();
    assert_eq!(code(&run(repository.path(), &["plan", "--nonsense"])), 1);
    let output = run(repository.path(), &["plan", "--nonsense", "--json"]);
    assert_eq!((code(&output), json(&output)["error"]["kind"].clone()), (1, "usage".into()));
    assert_eq!(code(&run(repository.path(), &["--version"])), 0);
}

#[test]
fn problems_are_told_with_their_places() {
    let repository = repository();
    write(repository.path(), "stacks/web/stack.kdl", &STACK.replace("mode", "mood"));
    let output = run(repository.path(), &["check"]);
    assert_eq!(code(&output), 1);
    assert!(text(&output).contains("stacks/web/stack.kdl:9:9"), "{}", text(&output));
    let problem = json(&run(repository.path(), &["check", "--json"]))["error"]["problems"][0].clone();
    assert_eq!((problem["line"].clone(), problem["file"].clone()), (9.into(), "stacks/web/stack.kdl".into()));
}

#[test]
fn a_name_that_matches_nothing_is_an_error() {
    let repository = repository();
    let output = run(repository.path(), &["plan", "--host", "bux"]);
    assert_eq!(code(&output), 1);
    assert!(text(&output).contains("did you mean `box`?"));
}

#[test]
fn g01_apply_does_what_the_plan_said_and_then_nothing() {
    let repository = repository();
    let planned = run(repository.path(), &["plan", "--json", "--detailed-exitcode"]);
    assert_eq!(code(&planned), 2, "{}", text(&planned));
    let digest = json(&planned)["digest"].as_str().unwrap().to_string();
    let wrong = run(repository.path(), &["apply", "--expect", "000000"]);
    assert_eq!(code(&wrong), 1);
    assert!(!repository.path().join(".sandbox/etc/motd").exists());
    let applied = run(repository.path(), &["apply", "--expect", &digest[..12], "--json"]);
    assert_eq!(code(&applied), 0, "{}", text(&applied));
    assert_eq!(json(&applied)["hosts"][0]["outcomes"]["file:/etc/motd"], "applied");
    assert_eq!(fs::read_to_string(repository.path().join(".sandbox/etc/motd")).unwrap(), "hello box\n");
    let again = run(repository.path(), &["plan", "--detailed-exitcode"]);
    assert_eq!(code(&again), 0);
    assert!(text(&again).starts_with("nothing to do: 2 resources on 1 host are as they should be"));
    // What is already as wanted is a no-op, whatever was expected.
    assert_eq!(code(&run(repository.path(), &["apply", "--expect", &digest[..12]])), 0);
}

#[test]
fn nothing_is_taken_over_by_a_name_that_is_not_there() {
    let there = repository();
    write(there.path(), ".sandbox/etc/motd", "by hand\n");
    let ran = run(there.path(), &["apply", "--yes", "--adopt", "file:/etc/mtd"]);
    assert!(code(&ran) == 1 && text(&ran).contains("did you mean --adopt file:/etc/motd?"), "{}", text(&ran));
    let refused = run(there.path(), &["plan"]);
    assert!(text(&refused).contains("reconcile plan --adopt file:/etc/motd\n"), "{}", text(&refused));
    assert_eq!(code(&run(there.path(), &["apply", "--yes", "--adopt", "file:/etc/motd"])), 0);
    // By now it is ours, and the name is right all the same.
    assert_eq!(code(&run(there.path(), &["apply", "--yes", "--adopt", "file:/etc/motd"])), 0);
    let held = run(there.path(), &["hold", "web", "--stack", "web"]);
    assert!(code(&held) == 1 && text(&held).contains("by its name alone"), "{}", text(&held));
}

#[test]
fn what_comes_after_something_refused_is_planned_and_reported_as_blocked() {
    let there = repository();
    write(there.path(), ".sandbox/etc/motd", "by hand\n");
    let after = "stack \"later\" {\n on \"box\"\n after \"web\"\n file \"/etc/later\" content=\"x\"\n}\n";
    write(there.path(), "stacks/later/stack.kdl", after);
    let plan = json(&run(there.path(), &["plan", "--json"]));
    assert_eq!(plan["summary"]["changes"]["blocked"], 2, "{plan}");
    let ran = json(&run(there.path(), &["apply", "--yes", "--json"]));
    assert_eq!(ran["summary"]["blocked"], 3, "{ran}");
    assert_eq!(ran["hosts"][0]["outcomes"]["file:/etc/later"], "blocked");
    assert!(!there.path().join(".sandbox/etc/later").exists());
}

#[test]
fn apply_without_anybody_to_ask_asks_for_a_decision() {
    let repository = repository();
    let output = run(repository.path(), &["apply"]);
    assert_eq!(code(&output), 1);
    assert!(text(&output).contains("--yes"));
    assert!(!repository.path().join(".sandbox/etc/motd").exists());
}

#[test]
fn drift_is_what_changed_on_the_host() {
    let repository = repository();
    assert_eq!(code(&run(repository.path(), &["apply", "--yes"])), 0);
    write(repository.path(), "stacks/web/stack.kdl", &STACK.replace("hello", "hallo"));
    assert_eq!(code(&run(repository.path(), &["drift", "--detailed-exitcode"])), 0);
    write(repository.path(), ".sandbox/etc/motd", "someone was here\n");
    let output = run(repository.path(), &["drift", "--detailed-exitcode"]);
    assert_eq!(code(&output), 2);
    assert!(text(&output).contains("-someone was here") && !text(&output).contains("token"), "{}", text(&output));
}

#[test]
fn g11_a_secret_is_in_no_output() {
    let repository = repository();
    let mut commands: Vec<Vec<&str>> = Vec::new();
    for form in [&["plan"][..], &["plan", "--markdown"], &["render"], &["status"], &["drift"], &["apply", "--yes"]] {
        commands.push([form, &["-vv"]].concat());
        if form != ["plan", "--markdown"] {
            commands.push([form, &["--json"]].concat());
        }
    }
    for arguments in commands {
        let output = run(repository.path(), &arguments);
        assert_eq!(code(&output), 0, "{arguments:?}: {}", text(&output));
        assert!(!text(&output).contains(SECRET), "{arguments:?}");
    }
}

#[test]
fn rendered_files_go_below_an_empty_directory_only() {
    let repository = repository();
    assert_eq!(code(&run(repository.path(), &["render", "--out", "out"])), 0);
    assert_eq!(fs::read_to_string(repository.path().join("out/box/etc/motd")).unwrap(), "hello box\n");
    assert_eq!(code(&run(repository.path(), &["render", "--out", "out"])), 1);
}

#[test]
fn colours_are_for_those_who_want_them() {
    let repository = repository();
    assert!(!text(&run(repository.path(), &["plan"])).contains('\u{1b}'));
    assert!(text(&run(repository.path(), &["plan", "--color", "always"])).contains('\u{1b}'));
}

#[test]
fn a_reader_who_has_enough_is_no_crash() {
    let repository = repository();
    let mut command = command(repository.path(), &["completions", "zsh"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((code(&output), text(&output)), (0, String::new()));
}

#[test]
fn a_commit_is_compared_without_any_host() {
    let repository = repository();
    let git = git2::Repository::init(repository.path()).unwrap();
    let commit = || {
        let mut index = git.index().unwrap();
        index.add_all(["hosts", "stacks"], git2::IndexAddOption::DEFAULT, None).unwrap();
        let tree = git.find_tree(index.write_tree().unwrap()).unwrap();
        let who = git2::Signature::now("ann", "ann@example.org").unwrap();
        let parent = git.head().ok().map(|head| head.peel_to_commit().unwrap());
        let parents: Vec<_> = parent.iter().collect();
        git.commit(Some("HEAD"), &who, &who, "change", &tree, &parents).unwrap();
    };
    commit();
    write(repository.path(), "stacks/web/stack.kdl", &STACK.replace("hello", "hallo"));
    commit();
    let output = run(repository.path(), &["diff", "HEAD~1..HEAD", "--detailed-exitcode"]);
    assert_eq!(code(&output), 2, "{}", text(&output));
    assert!(text(&output).contains("-hello box\n        +hallo box\n"), "{}", text(&output));
    assert!(text(&output).contains("0 added, 1 changed, 0 removed on 1 host"));
    assert_eq!(code(&run(repository.path(), &["diff", "HEAD..HEAD", "--detailed-exitcode"])), 0);
}

#[test]
fn what_a_commit_changes_on_several_hosts_is_said_once() {
    let repository = repository();
    write(repository.path(), "hosts/two.kdl", "host \"two\" transport=\"local\" root=\".two\"\n");
    let stack = |text: &str| {
        let stack = format!("stack \"web\" {{\non \"all\"\nfile \"/etc/motd\" content=\"{text}\\n\"\n}}\n");
        write(repository.path(), "stacks/web/stack.kdl", &stack);
    };
    let git = |arguments: &str| {
        let mut git = Command::new("git");
        git.current_dir(repository.path()).args(["-c", "user.name=a", "-c", "user.email=a@example.org"]);
        assert!(git.args(arguments.split(' ')).stdout(Stdio::null()).status().unwrap().success(), "{arguments}");
    };
    stack("hello");
    git("init -q");
    git("add hosts stacks");
    git("commit -q -m one");
    stack("hallo");
    git("commit -q -a -m two");
    let said = text(&run(repository.path(), &["diff", "HEAD~1..HEAD"]));
    assert!(said.contains("\nbox, two\n") && said.matches("+hallo").count() == 1, "{said}");
    assert!(said.contains("0 added, 2 changed, 0 removed on 2 hosts"), "{said}");
    let said = text(&run(repository.path(), &["diff", "HEAD~1"]));
    assert!(said.contains("such as HEAD~1..HEAD"), "{said}");
    let said = text(&run(repository.path(), &["diff", "nope..HEAD"]));
    assert!(said.starts_with("error: there is no revision `nope` in ") && !said.contains("class="), "{said}");
}

#[test]
fn a_repository_without_hosts_says_what_comes_next() {
    let empty = tempfile::tempdir().unwrap();
    let said = |arguments: &[&str]| text(&run(empty.path(), arguments));
    assert!(said(&["plan"]).contains("a new one begins with these two directories"), "{}", said(&["plan"]));
    write(empty.path(), "hosts/repo.kdl", "repo \"new\"\n");
    fs::create_dir(empty.path().join("stacks")).unwrap();
    for command in ["check", "plan", "status"] {
        assert!(said(&[command]).contains("hosts/web.kdl"), "{}", said(&[command]));
    }
}

#[test]
fn the_reference_is_told_by_chapters() {
    let repository = repository();
    assert!(text(&run(repository.path(), &["reference"])).contains("resources"));
    assert!(text(&run(repository.path(), &["reference", "resources"])).starts_with("# Resources"));
    assert_eq!(code(&run(repository.path(), &["reference", "nonsense"])), 1);
}

#[test]
fn completions_and_the_manual_are_made() {
    let repository = repository();
    for shell in ["bash", "zsh", "fish"] {
        assert!(text(&run(repository.path(), &["completions", shell])).contains("detailed-exitcode"));
    }
    assert!(text(&run(repository.path(), &["man", "apply"])).contains("reconcile\\-apply"));
    assert_eq!(code(&run(repository.path(), &["man", "aply"])), 1);
}

#[test]
fn its_memory_is_nobody_elses_business() {
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::process::CommandExt as _;
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let somebody = if root { 65534 } else { fs::metadata("/proc/self").unwrap().uid() };
    let mut command = command(Path::new("/"), &["reference"]);
    if root {
        command.uid(somebody).gid(somebody);
    }
    // It waits for whoever would read all that.
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let owner = || fs::metadata(format!("/proc/{}/mem", child.id())).unwrap().uid();
    // What may not be dumped is root's to look at.
    let begun = std::time::Instant::now();
    while owner() == somebody && begun.elapsed().as_secs() < 10 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let seen = owner();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(seen, 0, "others of this user may read its memory, and a core dump has it");
}
