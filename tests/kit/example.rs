//! Whole repositories, `examples/` and this one's own, with a host of the lab in place of one of theirs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use camino::Utf8Path;
use kdl::KdlDocument;

use crate::kit::{Host, Repo};

impl Repo {
    /// A copy of a repository, of which the host called `name` is one of the lab. It gets the tags and variables in
    /// `more`, and is reached as a sudo user, as most are.
    pub fn of(place: &str, name: &str, host: &Host, more: &str) -> Repo {
        let root = Utf8Path::new(env!("CARGO_MANIFEST_DIR"));
        let dir = tempfile::tempdir().expect("a temporary directory");
        for part in ["hosts", "secrets", "stacks", "templates"] {
            let from = root.join(place).join(part);
            if from.is_dir() {
                let copied = Command::new("cp").args(["-a", from.as_str()]).arg(dir.path()).status();
                assert!(copied.expect("cp runs").success());
            }
        }
        let id = replaced(&dir.path().join("hosts"), name);
        let mut repo = Repo { id, dir, env: Vec::new() };
        let here = host.kdl().replace(&format!("\"{}\"", host.name), &format!("\"{name}\""));
        let here = here.replace(" user=\"root\"", " user=\"deploy\" sudo=#true").replace("tags \"lab\"", more);
        repo.write("hosts/of-the-lab.kdl", here);
        repo.write(".config/mailer/api-token", "token");
        for secret in ["SHOP_DB_PASSWORD", "MAILER_SMTP_PASSWORD"] {
            repo.env(secret, "secret");
        }
        repo.env("RECONCILE_AGE_IDENTITY_FILE", root.join("examples/secrets/demo-identity").as_str());
        repo
    }

    /// The names of the stacks.
    pub fn stacks(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path().join("stacks")).expect("a folder").map(|entry| entry.expect("an entry"));
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }
}

/// Takes a host out of the files of a folder, and says which id the repository has.
fn replaced(hosts: &Path, name: &str) -> String {
    let (mut id, mut taken) = (None, 0);
    let files: Vec<PathBuf> =
        fs::read_dir(hosts).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    for path in files {
        let mut document = KdlDocument::parse_v2(&fs::read_to_string(&path).expect("a file")).expect("KDL");
        let said = document.get("repo").and_then(|node| node.get(0)).and_then(|value| value.as_string());
        id = id.or(said.map(String::from));
        let before = document.nodes().len();
        document.nodes_mut().retain(|node| {
            node.name().value() != "host" || node.get(0).and_then(|value| value.as_string()) != Some(name)
        });
        taken += before - document.nodes().len();
        fs::write(path, document.to_string()).expect("a file");
    }
    assert_eq!(taken, 1, "one host is called {name}");
    id.expect("a repository has an id")
}
