//! The history of runs and the way back, on a small repository with a sandbox host.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const SECRET: &str = "hunter2-very-secret";

/// A repository in Git, with its sandbox and its history beside it.
struct Repo {
    directory: TempDir,
}

impl Repo {
    fn new() -> Repo {
        let repo = Repo { directory: tempfile::tempdir().unwrap() };
        let root = repo.top().join("sandbox");
        repo.write(
            "hosts/box.kdl",
            &format!("repo \"demo\"\nhost \"box\" transport=\"local\" root=\"{}\"\n", root.display()),
        );
        git2::Repository::init(repo.work_tree()).unwrap();
        repo
    }

    fn top(&self) -> &Path {
        self.directory.path()
    }

    fn work_tree(&self) -> std::path::PathBuf {
        self.top().join("repo")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.work_tree().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn stack(&self, name: &str, body: &str) {
        self.write(&format!("stacks/{name}/stack.kdl"), &format!("stack \"{name}\" {{\non \"all\"\n{body}\n}}\n"));
    }

    /// Commits all there is; the commit's id.
    fn commit(&self) -> String {
        let git = git2::Repository::open(self.work_tree()).unwrap();
        let mut index = git.index().unwrap();
        index.add_all(["*"], git2::IndexAddOption::DEFAULT, None).unwrap();
        index.update_all(["*"], None).unwrap();
        index.write().unwrap();
        let tree = git.find_tree(index.write_tree().unwrap()).unwrap();
        let who = git2::Signature::now("Alice", "alice@example.org").unwrap();
        let parent = git.head().ok().map(|head| head.peel_to_commit().unwrap());
        let parents: Vec<_> = parent.iter().collect();
        git.commit(Some("HEAD"), &who, &who, "change", &tree, &parents).unwrap().to_string()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reconcile"));
        command.current_dir(self.work_tree()).args(arguments).stdin(Stdio::null()).env("NO_COLOR", "1");
        command.env_remove("RECONCILE_REPO").env("RECONCILE_STATE_DIR", self.top().join("state"));
        command.env("RECONCILE_TEST_TOKEN", SECRET);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn bad(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", text(&output));
        text(&output)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.good(arguments)).unwrap()
    }

    /// The id of the last run.
    fn last(&self) -> String {
        self.json(&["history", "last", "--json"])["run"]["id"].as_str().unwrap().into()
    }

    /// Every file of the sandbox, besides our own records.
    fn files(&self) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        let root = self.top().join("sandbox");
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_string();
                if name.starts_with("var/lib/reconcile") {
                    continue;
                }
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.insert(name, fs::read_to_string(&path).unwrap());
                }
            }
        }
        files
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A repository with two applied commits, and the files as they were after the first.
fn two_commits() -> (Repo, [String; 2], BTreeMap<String, String>) {
    let repo = Repo::new();
    repo.stack("web", "file \"/etc/motd\" content=\"one\\n\"\nfile \"/etc/gone\" content=\"goes\\n\"");
    repo.stack("quiet", "file \"/etc/quiet\" content=\"the same\\n\"");
    let first = repo.commit();
    repo.good(&["apply", "--yes"]);
    let files = repo.files();
    repo.stack("web", "file \"/etc/motd\" content=\"two\\n\"\nfile \"/etc/new\" content=\"comes\\n\"");
    repo.stack("later", "file \"/etc/later\" content=\"later\\n\"");
    let second = repo.commit();
    repo.good(&["apply", "--yes"]);
    assert_ne!(repo.files(), files);
    (repo, [first, second], files)
}

#[test]
fn a_repository_has_its_own_history() {
    let (repo, other) = (Repo::new(), Repo::new());
    other.write("hosts/box.kdl", "repo \"other\"\nhost \"box\" transport=\"local\" root=\"../sandbox\"\n");
    let at_other = |arguments: &[&str]| {
        let output = repo.command(arguments).current_dir(other.work_tree()).output().unwrap();
        (output.status.code().unwrap(), text(&output))
    };
    for repo in [&repo, &other] {
        repo.stack("web", "file \"/a\" content=\"1\"");
    }
    repo.commit();
    repo.good(&["apply", "--yes"]);
    assert!(
        at_other(&["history"]).1.contains("no such run of other is recorded here; --all "),
        "{:?}",
        at_other(&["history"])
    );
    let (code, said) = at_other(&["rollback", "last", "--yes"]);
    assert!(code == 1 && said.contains("no run of other is recorded here"), "{said}");
    assert_eq!(at_other(&["apply", "--yes"]).0, 0);
    assert_eq!((at_other(&["history"]).1.lines().count(), at_other(&["history", "--all"]).1.lines().count()), (1, 2));
    assert!(at_other(&["history"]).1.contains("  other, no commit  done: 1 applied"), "{:?}", at_other(&["history"]));
    assert!(repo.last() != at_other(&["history"]).1[..repo.last().len()], "`last` is the last of this repository");
    // Where there is no repository, all there is.
    let outside = repo.command(&["history"]).current_dir(repo.top()).output().unwrap();
    assert_eq!(String::from_utf8(outside.stdout).unwrap().lines().count(), 2);
}

#[test]
fn a_rollback_brings_back_exactly_the_state_before_a_run() {
    let (repo, [first, second], files) = two_commits();
    let undone = repo.last();
    let (after, said) = (repo.files(), repo.good(&["rollback", "last", "--yes"]));
    assert!(said.contains(&format!("back to demo@{} (before run {undone})", &first[..7])), "{said}");
    assert_eq!(repo.files(), files);
    let at_first = format!("{}@{first}", repo.work_tree().display());
    repo.good(&["plan", "--detailed-exitcode", "--repo", &at_first]);
    let run = &repo.json(&["history", "last", "--json"])["run"];
    assert_eq!((&run["before"], &run["commit"], &run["ending"]), (&undone.into(), &first.into(), &"done".into()));
    let parts = run["parts"].as_array().unwrap();
    assert!(parts.iter().all(|part| part["stack"] != "quiet"), "only what the run touched: {parts:#?}");
    // The way back from the way back.
    repo.good(&["rollback", "last", "--yes"]);
    assert_eq!(repo.files(), after);
    assert_eq!(repo.json(&["history", "last", "--json"])["run"]["commit"], second.as_str());
}

#[test]
fn a_rollback_is_a_plan_like_any_other() {
    let (repo, _, files) = two_commits();
    let after = repo.files();
    assert!(repo.bad(&["rollback", "last"]).contains("nobody to ask"));
    assert!(repo.bad(&["rollback", "last", "--expect", "000000"]).contains("no longer plan"));
    assert_eq!(repo.files(), after);
    assert_eq!(repo.json(&["history", "--json"])["runs"][0]["ending"], "refused");
    let run = repo.json(&["history", "--json"])["runs"][1]["id"].as_str().unwrap().to_string();
    // The way back of one stack alone.
    let json = repo.json(&["rollback", &run, "--yes", "--json", "--stack", "web"]);
    assert_eq!((&json["command"], &json["source"]["before"]), (&"rollback".into(), &run.as_str().into()));
    assert!(repo.files().contains_key("etc/later") && !repo.files().contains_key("etc/new"));
    repo.good(&["rollback", &run, "--yes"]);
    assert_eq!(repo.files(), files);
}

#[test]
fn what_cannot_be_gone_back_to_is_said_and_nothing_is_changed() {
    let (repo, ..) = two_commits();
    let runs = repo.json(&["history", "--json"])["runs"].clone();
    let first = runs[1]["id"].as_str().unwrap();
    assert!(repo.bad(&["rollback", first, "--yes"]).contains("no run before"));
    assert!(repo.bad(&["rollback", "nonsense", "--yes"]).contains("no run `nonsense`"));
    assert!(
        repo.bad(&["rollback", "last", "--yes", "--stack", "quiet"]).contains("it changed later on box, web on box")
    );
    repo.good(&["apply", "--yes"]);
    assert!(repo.bad(&["rollback", "last", "--yes"]).contains("changed nothing"));
    // From files that were in no commit there is no way back.
    repo.stack("web", "file \"/etc/motd\" content=\"dirty\\n\"");
    repo.good(&["apply", "--yes"]);
    repo.stack("web", "file \"/etc/motd\" content=\"four\\n\"");
    repo.commit();
    repo.good(&["apply", "--yes"]);
    let files = repo.files();
    assert!(repo.bad(&["rollback", "last", "--yes"]).contains("from files that were in no commit"));
    assert_eq!(repo.files(), files);
    // The repository may be somewhere else by now, and another one may stand where it was.
    repo.write("hosts/box.kdl", "repo \"other\"\nhost \"box\" transport=\"local\" root=\"../sandbox\"\n");
    let other = repo.commit();
    assert!(!other.is_empty() && repo.files() == files);
}

#[test]
fn a_history_that_cannot_be_written_fails_no_run() {
    let repo = Repo::new();
    repo.stack("web", "file \"/etc/motd\" content=\"one\\n\"");
    let output = repo.command(&["apply", "--yes"]).env("RECONCILE_STATE_DIR", "/proc/nothing").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("warning: this run is not recorded"), "{}", text(&output));
    assert_eq!(repo.files()["etc/motd"], "one\n");
}

#[test]
fn runs_are_listed_by_host_and_stack() {
    let (repo, ..) = two_commits();
    let count = |arguments: &[&str]| {
        let json = repo.json(&[&["history", "--json"], arguments].concat());
        json["runs"].as_array().unwrap().len()
    };
    assert_eq!((count(&[]), count(&["--limit", "1"])), (2, 1));
    assert_eq!((count(&["--stack", "later"]), count(&["--stack", "web"]), count(&["--stack", "none"])), (1, 2, 0));
    assert_eq!((count(&["--host", "box"]), count(&["--host", "none"])), (2, 0));
    let said = repo.good(&["history"]);
    assert!(said.lines().count() == 2 && said.contains("done: 1 unchanged, 4 applied"), "{said}");
}

#[test]
fn g11_no_secret_is_in_the_history() {
    let repo = Repo::new();
    let token = "secret \"token\" env=\"RECONCILE_TEST_TOKEN\"\nfile \"/etc/token\" content=\"{{ secret.token }}\\n\"";
    repo.stack("web", token);
    repo.commit();
    repo.good(&["apply", "--yes"]);
    assert_eq!(repo.files()["etc/token"], format!("{SECRET}\n"));
    for file in fs::read_dir(repo.top().join("state")).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()));
    }
    assert!(!repo.good(&["history", "last", "--json"]).contains(SECRET));
}
