//! A repository in a directory of its own, and the program run in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// What the secrets of the examples are in tests. It must show up nowhere but in the files it is for.
pub const SECRET: &str = "hunter2-very-secret";

pub struct Repository {
    directory: tempfile::TempDir,
}

/// How a run of the program ended, and what it said.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Repository {
    /// A copy of the repository at `from`, or an empty one; committed.
    pub fn new(from: Option<&Path>) -> Repository {
        let repository = Repository { directory: tempfile::tempdir().unwrap() };
        for part in ["hosts", "secrets", "stacks", "templates"] {
            match from.map(|from| from.join(part)).filter(|from| from.is_dir()) {
                Some(from) => copy(&from, &repository.path(part)),
                None if ["secrets", "templates"].contains(&part) => {}
                None => fs::create_dir(repository.path(part)).unwrap(),
            }
        }
        repository.write(".gitignore", "/.sandbox\n/home\n");
        repository.write("home/.config/mailer/api-token", SECRET);
        repository.git(&["init", "-q", "-b", "main"]);
        repository.commit();
        repository
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Replaces the one place of a file where `from` stands.
    pub fn edit(&self, path: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(path)).unwrap();
        assert_eq!(text.matches(from).count(), 1, "{from} in {path}");
        self.write(path, &text.replace(from, to));
    }

    pub fn commit(&self) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "test"]);
    }

    fn git(&self, arguments: &[&str]) {
        let who = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"];
        let ran = Command::new("git").current_dir(self.directory.path()).args(who).args(arguments).status().unwrap();
        assert!(ran.success(), "git {arguments:?}");
    }

    /// Runs the program in the repository, with all secrets there.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reconcile"));
        command.current_dir(self.directory.path()).args(arguments).stdin(Stdio::null());
        command.env_remove("RECONCILE_REPO").env("HOME", self.path("home"));
        let identity = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/secrets/demo-identity");
        command.env("RECONCILE_AGE_IDENTITY_FILE", identity);
        command.env("RECONCILE_STATE_DIR", self.path("state"));
        command.env("SHOP_DB_PASSWORD", SECRET).env("MAILER_SMTP_PASSWORD", SECRET);
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().expect("ended by itself");
        Ran { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Runs the program, which must go well.
    pub fn must(&self, arguments: &[&str]) -> Ran {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "reconcile {arguments:?}\n{}", ran.all());
        ran
    }

    /// The plan, which must go well.
    pub fn plan(&self) -> Value {
        let ran = self.must(&["plan", "--json"]);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.all()))
    }

    /// Fails unless everything is as it should be.
    pub fn assert_nothing_to_do(&self) {
        let ran = self.run(&["plan", "--detailed-exitcode"]);
        assert_eq!(ran.code, 0, "the plan is not empty:\n{}", ran.all());
    }
}

impl Ran {
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// All stacks of a plan, each with what changes in it: `web-1/app: [unit:app]`.
pub fn changes(plan: &Value) -> Vec<(String, Vec<String>)> {
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let hosts = plan["hosts"].as_array().unwrap();
    let stacks = hosts.iter().flat_map(|host| {
        let stacks = host["stacks"].as_array().unwrap().iter();
        stacks.map(move |stack| (format!("{}/{}", text(&host["host"]), text(&stack["stack"])), stack))
    });
    let ids = |stack: &Value| stack["changes"].as_array().unwrap().iter().map(|change| text(&change["id"])).collect();
    stacks.map(|(name, stack)| (name, ids(stack))).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
