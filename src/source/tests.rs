//! Against real repositories, made with the git program.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;

use super::*;

struct Repo {
    _temp: TempDir,
    dir: Utf8PathBuf,
}

impl Repo {
    fn empty() -> Repo {
        let temp = tempfile::tempdir().expect("a temporary directory");
        let dir = Utf8PathBuf::from_path_buf(temp.path().canonicalize().expect("a path")).expect("UTF-8");
        Repo { _temp: temp, dir: dir.join("infra") }
    }

    fn new() -> Repo {
        let repo = Repo::empty();
        repo.write("stacks/a/stack.kdl", "one");
        repo.write("hosts/h.kdl", "host");
        repo.write("reconcile.kdl", "id");
        repo.write("README.md", "not read");
        repo.write(".gitignore", "ignored\n*.tmp\n");
        repo.git(&["init", "-q", "-b", "main"]);
        for (name, value) in [("user.name", "Ada"), ("user.email", "ada@example.org"), ("commit.gpgsign", "false")] {
            repo.git(&["config", name, value]);
        }
        repo.commit("first");
        repo
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir.join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, text).expect("a file");
    }

    fn link(&self, path: &str, target: &str) {
        std::os::unix::fs::symlink(target, self.dir.join(path)).expect("a link");
    }

    fn git(&self, args: &[&str]) -> String {
        let output = Command::new("git").arg("-C").arg(&self.dir).args(args).output().expect("git runs");
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    }

    fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn cache(&self) -> Utf8PathBuf {
        self.dir.with_file_name("cache")
    }

    fn open(&self, suffix: &str) -> Result<Tree> {
        open(&Spec::parse(&format!("{}{suffix}", self.dir)).expect("a spec"), &self.cache())
    }

    fn open_url(&self, suffix: &str) -> Result<Tree> {
        open(&Spec::parse(&format!("file://{}{suffix}", self.dir)).expect("a spec"), &self.cache())
    }
}

fn names(tree: &Tree) -> Vec<&str> {
    tree.files.keys().map(|path| path.as_str()).collect()
}

fn text<'t>(tree: &'t Tree, path: &str) -> &'t str {
    std::str::from_utf8(&tree.files[Utf8Path::new(path)]).expect("text")
}

#[test]
fn a_plain_directory_works() {
    let repo = Repo::empty();
    repo.write("stacks/a.kdl", "a");
    repo.write("other/b", "b");
    let tree = repo.open("").expect("opens");
    assert_eq!(names(&tree), ["stacks/a.kdl"]);
    assert!(tree.commit.is_none() && tree.dirty.is_clean());
    assert_eq!(repo.open("@HEAD").expect_err("no Git").kind, Kind::Usage);
    assert_eq!(
        open(&Spec::parse("/nowhere/at/all").expect("a spec"), &repo.cache()).expect_err("none").kind,
        Kind::Usage
    );
}

#[test]
fn a_work_tree_says_what_differs() {
    let repo = Repo::new();
    let clean = repo.open("").expect("opens");
    assert_eq!(names(&clean), ["hosts/h.kdl", "reconcile.kdl", "stacks/a/stack.kdl"]);
    assert!(clean.dirty.is_clean());
    let commit = clean.commit.expect("a commit");
    assert_eq!(commit.id, repo.git(&["rev-parse", "HEAD"]));
    assert!(commit.id.starts_with(&commit.short));
    assert_eq!((commit.branch.as_deref(), commit.summary.as_str()), (Some("main"), "first"));
    assert_eq!((commit.author.as_str(), commit.signature), ("Ada <ada@example.org>", Signature::None));

    repo.write("stacks/a/stack.kdl", "two");
    repo.write("stacks/b/new", "new");
    repo.write("stacks/b/x.tmp", "ignored");
    repo.write("stacks/ignored/y", "ignored");
    repo.write("README.md", "changed, and nobody cares");
    std::fs::remove_file(repo.dir.join("hosts/h.kdl")).expect("removed");
    let dirty = repo.open("").expect("opens");
    assert_eq!(names(&dirty), ["reconcile.kdl", "stacks/a/stack.kdl", "stacks/b/new"]);
    assert_eq!(dirty.dirty.tracked, ["hosts/h.kdl", "stacks/a/stack.kdl"]);
    assert_eq!(dirty.dirty.untracked, ["stacks/b/new"]);
    // What is tracked is read, whatever .gitignore says now.
    repo.git(&["add", "-f", "stacks/ignored/y"]);
    assert!(names(&repo.open("").expect("opens")).contains(&"stacks/ignored/y"));
    assert_eq!(text(&repo.open("@HEAD").expect("opens"), "stacks/a/stack.kdl"), "one");
}

#[test]
fn revisions_and_ranges() {
    let repo = Repo::new();
    repo.write("stacks/a/stack.kdl", "two");
    let second = repo.commit("second");
    let old = repo.open("@HEAD~1").expect("opens");
    assert_eq!(text(&old, "stacks/a/stack.kdl"), "one");
    assert_eq!(old.commit.expect("a commit").branch, None);
    assert_eq!(repo.open("@main").expect("opens").commit.expect("a commit").branch.as_deref(), Some("main"));
    let error = repo.open("@nope").expect_err("no such revision");
    assert!(error.kind == Kind::Usage && error.what.contains("`nope`"), "{error}");
    for spec in [repo.dir.to_string(), format!("file://{}", repo.dir)] {
        let spec = Spec::parse(&spec).expect("a spec");
        for range in ["HEAD~1..HEAD", "main~1..", &format!("{second:.10}~1..{second}")] {
            let (from, to) = revision_pair(&spec, range, &repo.cache()).expect(range);
            assert_eq!((text(&from, "stacks/a/stack.kdl"), text(&to, "stacks/a/stack.kdl")), ("one", "two"), "{range}");
        }
        for range in ["HEAD", "a...b"] {
            assert_eq!(revision_pair(&spec, range, &repo.cache()).expect_err(range).kind, Kind::Usage);
        }
    }
}

#[test]
fn a_directory_within_a_repository() {
    let repo = Repo::new();
    repo.write("sub/stacks/s.kdl", "s");
    repo.write("sub/hosts/h.kdl", "h");
    repo.commit("sub");
    repo.write("sub/stacks/t.kdl", "t");
    let sub = Spec::parse(repo.dir.join("sub").as_str()).expect("a spec");
    let tree = open(&sub, &repo.cache()).expect("opens");
    assert_eq!(names(&tree), ["hosts/h.kdl", "stacks/s.kdl", "stacks/t.kdl"]);
    assert_eq!(tree.dirty.untracked, ["stacks/t.kdl"]);
    let sub = Spec { revision: Some("HEAD".into()), ..sub };
    assert_eq!(names(&open(&sub, &repo.cache()).expect("opens")), ["hosts/h.kdl", "stacks/s.kdl"]);
    // An ignored directory is a world of its own.
    repo.write("ignored/stacks/i.kdl", "i");
    let ignored = open(&Spec::parse(repo.dir.join("ignored").as_str()).expect("a spec"), &repo.cache()).expect("opens");
    assert!(ignored.commit.is_none());
    assert_eq!(names(&ignored), ["stacks/i.kdl"]);
}

#[test]
fn links_are_followed_inside() {
    let repo = Repo::new();
    repo.write("shared/conf/x", "shared");
    repo.link("stacks/a/x", "../../shared/conf/x");
    repo.link("stacks/a/conf", "../../shared/conf");
    repo.link("stacks/a/twice", "conf/x");
    repo.link("stacks/a/out", "../../../etc/passwd");
    repo.link("stacks/a/root", "/etc/passwd");
    repo.link("stacks/a/gone", "nowhere");
    repo.link("stacks/a/self", "self");
    repo.link("stacks/a/above", "..");
    repo.link("stacks/a/git", "../../.git/config");
    repo.commit("links");
    for tree in [repo.open("").expect("opens"), repo.open("@HEAD").expect("opens")] {
        for path in ["stacks/a/x", "stacks/a/conf/x", "stacks/a/twice"] {
            assert_eq!(text(&tree, path), "shared");
        }
        assert!(!names(&tree).iter().any(|name| name.contains("above") || name.contains("passwd")));
        let problems: Vec<&str> = tree.problems.0.iter().map(|problem| problem.message.as_str()).collect();
        for link in ["above", "out", "root", "gone", "self", "git"] {
            assert!(
                problems.iter().any(|problem| problem.contains(&format!("stacks/a/{link} "))),
                "{link}: {problems:?}"
            );
        }
        assert_eq!(problems.len(), 6, "{problems:?}");
    }
}

#[test]
fn limits_are_errors() {
    use std::os::unix::ffi::OsStrExt as _;
    let repo = Repo::new();
    repo.write("stacks/a/large", &"x".repeat(9 << 20));
    for commit in [false, true] {
        if commit {
            repo.commit("large");
        }
        let error = repo.open(if commit { "@HEAD" } else { "" }).expect_err("too large");
        assert!(error.what.contains("stacks/a/large has 9 MB"), "{error}");
    }
    std::fs::remove_file(repo.dir.join("stacks/a/large")).expect("removed");
    let odd = repo.dir.as_std_path().join("stacks").join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    std::fs::write(odd, "x").expect("a file");
    for commit in [false, true] {
        if commit {
            repo.commit("odd");
        }
        let error = repo.open(if commit { "@HEAD" } else { "" }).expect_err("not UTF-8");
        assert!(error.what.contains("stacks/caf\u{fffd}"), "{error}");
    }
}

#[test]
fn a_url_is_fetched_into_the_cache() {
    let repo = Repo::new();
    let first = repo.git(&["rev-parse", "HEAD"]);
    repo.git(&["tag", "-a", "v1", "-m", "v1"]);
    repo.git(&["branch", "side/way"]);
    repo.write("stacks/a/stack.kdl", "two");
    repo.commit("second");
    let newest = repo.open_url("").expect("fetched");
    assert_eq!(text(&newest, "stacks/a/stack.kdl"), "two");
    assert_eq!(newest.commit.expect("a commit").branch.as_deref(), Some("main"));
    for revision in ["@v1", "@side/way", "@main~1", &format!("@{first}"), &format!("@{first:.12}")] {
        assert_eq!(text(&repo.open_url(revision).expect(revision), "stacks/a/stack.kdl"), "one", "{revision}");
    }
    assert_eq!(repo.open_url("@nope").expect_err("none").kind, Kind::Usage);
    repo.write("stacks/a/stack.kdl", "three");
    repo.commit("third");
    assert_eq!(text(&repo.open_url("@main").expect("fetched again"), "stacks/a/stack.kdl"), "three");

    // Without the remote, only what cannot change is served.
    std::fs::rename(&repo.dir, repo.dir.with_file_name("away")).expect("renamed");
    assert_eq!(text(&repo.open_url(&format!("@{first}")).expect("cached"), "stacks/a/stack.kdl"), "one");
    assert!(repo.open_url("@main").is_err());
}

#[test]
fn ssh_signatures_are_verified() {
    let repo = Repo::new();
    let key = repo.dir.with_file_name("key");
    let made =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "c", "-f", key.as_str()]).status();
    assert!(made.expect("ssh-keygen").success());
    let allowed = repo.dir.with_file_name("allowed");
    for (name, value) in
        [("gpg.format", "ssh"), ("user.signingkey", key.as_str()), ("gpg.ssh.allowedSignersFile", allowed.as_str())]
    {
        repo.git(&["config", name, value]);
    }
    repo.git(&["commit", "-q", "--allow-empty", "-S", "-m", "signed"]);
    let public = std::fs::read_to_string(format!("{key}.pub")).expect("a key");
    let signature = |allow: &str| {
        std::fs::write(&allowed, allow.replace("KEY", public.trim())).expect("written");
        repo.open("@HEAD").expect("opens").commit.expect("a commit").signature
    };
    let good = |allow: &str| match signature(allow) {
        Signature::Good { signer, key } => key.starts_with("SHA256:") && signer == "ada@example.org",
        _ => false,
    };
    assert!(good("# comment\n\nada@example.org KEY\n"));
    assert!(good("ada@example.org namespaces=\"file,git\",valid-after=\"20200101Z\" KEY"));
    for allow in [
        "",
        "ada@example.org cert-authority KEY",
        "ada@example.org namespaces=\"file\" KEY",
        "ada@example.org valid-before=\"20200101\" KEY",
        "ada@example.org valid-after=\"garbage\" KEY",
    ] {
        assert!(matches!(signature(allow), Signature::Unverified { key: Some(_), .. }), "{allow}");
    }

    // The same signature on another commit.
    let raw = repo.git(&["cat-file", "commit", "HEAD"]).replace("\n\nsigned", "\n\nforged");
    let file = repo.dir.with_file_name("forged");
    std::fs::write(&file, raw + "\n").expect("written");
    let forged = repo.git(&["hash-object", "-t", "commit", "-w", file.as_str()]);
    let commit = repo.open(&format!("@{forged}")).expect("opens").commit.expect("a commit");
    assert!(matches!(commit.signature, Signature::Bad { .. }), "{:?}", commit.signature);

    let raw = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n abc\n -----END PGP SIGNATURE-----\n\nby PGP\n";
    let head = repo.git(&["cat-file", "commit", "HEAD~1"]);
    let (head, _) = head.split_once("\n\n").expect("a header");
    std::fs::write(&file, format!("{head}\n{raw}")).expect("written");
    let pgp = repo.git(&["hash-object", "-t", "commit", "-w", file.as_str()]);
    let commit = repo.open(&format!("@{pgp}")).expect("opens").commit.expect("a commit");
    assert!(matches!(commit.signature, Signature::Unverified { key: None, .. }), "{:?}", commit.signature);
}

#[test]
fn the_root_is_found_from_below() {
    let repo = Repo::new();
    assert_eq!(find_root(&repo.dir.join("stacks/a")), Some(repo.dir.clone()));
    assert_eq!(find_root(&repo.dir), Some(repo.dir.clone()));
    assert_eq!(find_root(repo.dir.parent().expect("a parent")), None);
}
