//! Repositories behind `https://` and `ssh://`: a real Git server behind TLS, and a real sshd.
#![allow(missing_docs)]

mod kit;
#[path = "kit/sshd.rs"]
mod sshd;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use camino::{Utf8Path, Utf8PathBuf};
use kit::Ran;
use sshd::{Agent, Server as Sshd};
use tempfile::TempDir;

const PASSWORD: &str = "hunter2-very-secret";

/// A work tree, a bare copy of it to be served, and a home of its own for the program.
struct Remote {
    _temp: TempDir,
    dir: Utf8PathBuf,
}

impl Remote {
    fn new() -> Remote {
        let temp = tempfile::tempdir().expect("a temporary directory");
        let dir = Utf8PathBuf::from_path_buf(temp.path().canonicalize().expect("a path")).expect("UTF-8");
        let remote = Remote { _temp: temp, dir };
        remote.write("work/hosts/h.kdl", "repo \"git\"\nhost \"here\" transport=\"local\" root=\"/nowhere\"\n");
        std::fs::create_dir(remote.dir.join("home")).expect("a home");
        run(Command::new("git").args(["init", "-q", "-b", "main", "work"]).current_dir(&remote.dir));
        remote.commit("one");
        remote
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir.join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, text).expect("a file");
    }

    fn git(&self, args: &[&str]) -> String {
        let who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"];
        run(Command::new("git").current_dir(self.dir.join("work")).args(who).args(args)).trim().to_string()
    }

    /// Commits a stack with so many files, and publishes it. Gives the commit's id.
    fn commit(&self, files: &str) -> String {
        let body: String = files.split(' ').map(|name| format!("file \"/srv/{name}\" content=\"\"\n")).collect();
        self.write("work/stacks/a/stack.kdl", &format!("stack \"a\" {{\non \"all\"\n{body}}}\n"));
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", files]);
        self.publish();
        self.git(&["rev-parse", "HEAD"])
    }

    /// Lets the bare copy have all branches and tags.
    fn publish(&self) {
        if !self.dir.join("bare/infra.git").exists() {
            run(Command::new("git").args(["clone", "-q", "--bare", "work", "bare/infra.git"]).current_dir(&self.dir));
        }
        self.git(&["push", "-q", "--all", "../bare/infra.git"]);
        self.git(&["push", "-q", "--tags", "../bare/infra.git"]);
    }

    /// What `check` says of this repository, with some variables of the environment set.
    fn check(&self, url: &str, env: &[(&str, &str)]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reconcile"));
        command.args(["check", "--repo", url]).stdin(Stdio::null()).current_dir(&self.dir);
        command.env("HOME", self.dir.join("home")).env("NO_COLOR", "1").env_remove("XDG_CACHE_HOME");
        for name in ["SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR", "https_proxy", "HTTPS_PROXY"] {
            command.env_remove(name);
        }
        command.env("GIT_CONFIG_NOSYSTEM", "1").envs(env.iter().copied());
        Ran::of(&command.output().expect("reconcile runs"))
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// How many resources a check counted, and the rest of what it said.
fn resources(ran: &Ran) -> usize {
    assert_eq!(ran.code, 0, "{ran:?}");
    let words: Vec<&str> = ran.out.split_whitespace().collect();
    let at = words.iter().position(|word| word.starts_with("resource")).unwrap_or_else(|| panic!("{ran:?}"));
    words[at - 1].parse().expect("a number")
}

/// A Git server behind TLS, which ends with the value.
struct Server {
    child: Child,
    port: u16,
    said: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(remote: &Remote, password: Option<&str>) -> Server {
        let dir = &remote.dir;
        if !dir.join("cert.pem").exists() {
            certificate(dir, "cert");
            certificate(dir, "other");
        }
        let program = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kit/git_https.py");
        let mut command = Command::new("python3");
        command.arg(program).args([dir.join("bare"), dir.join("cert.pem"), dir.join("cert.key")]).args(password);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("python3 runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let port = lines.next().expect("a line").expect("UTF-8").parse().expect("a port");
        let said = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&said);
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| into.lock().expect("whole").push(line)));
        Server { child, port, said }
    }

    fn url(&self, rest: &str) -> String {
        format!("https://localhost:{}/infra.git{rest}", self.port)
    }

    /// The requests since the last time.
    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.said.lock().expect("whole"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// A certificate for localhost that has signed itself.
fn certificate(dir: &Utf8Path, name: &str) {
    let (cert, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    let args = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"];
    let names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
    run(Command::new("openssl").args(args).args(names).args(["-keyout", key.as_str(), "-out", cert.as_str()]));
}

#[test]
fn a_repository_behind_https_is_read_at_any_revision() {
    let remote = Remote::new();
    let first = remote.git(&["rev-parse", "HEAD"]);
    remote.git(&["tag", "-a", "v1", "-m", "v1"]);
    remote.git(&["branch", "side/way"]);
    remote.commit("one two");
    let server = Server::start(&remote, None);
    let trusted = remote.dir.join("cert.pem");
    let trusted = [("SSL_CERT_FILE", trusted.as_str())];
    let check = |rest: &str| remote.check(&server.url(rest), &trusted);
    assert_eq!(resources(&check("")), 2);
    assert!(check("").out.contains("main"), "the branch is named: {:?}", check(""));
    for revision in ["v1", "side/way", "main~1", &first, &first[..12]] {
        assert_eq!(resources(&check(&format!("@{revision}"))), 1, "{revision}");
    }
    let unknown = check("@nope");
    assert_eq!(unknown.code, 1);
    assert!(unknown.err.contains("there is no revision `nope`"), "{unknown:?}");
    // The second time only the names are asked for; for a whole id not even those.
    server.requests();
    check("@main");
    server.requests();
    assert_eq!(resources(&check("@main")), 2);
    let asked = server.requests();
    assert_eq!(
        asked.iter().filter(|line| line.starts_with("GET")).count(),
        asked.len(),
        "nothing is fetched: {asked:?}"
    );
    assert_eq!(resources(&check(&format!("@{first}"))), 1);
    assert_eq!(server.requests(), Vec::<String>::new());
    remote.commit("one two three");
    assert_eq!(resources(&check("@main")), 3, "what is new is fetched");
    // Without the server, only what cannot have changed is served.
    let (whole, newest) = (server.url(&format!("@{first}")), server.url("@main"));
    drop(server);
    assert_eq!(resources(&remote.check(&whole, &trusted)), 1);
    let gone = remote.check(&newest, &trusted);
    assert_eq!(gone.code, 1);
    assert!(gone.err.contains("cannot fetch https://localhost") && gone.err.contains("full commit id"), "{gone:?}");
}

#[test]
fn a_certificate_that_is_not_trusted_is_refused() {
    let remote = Remote::new();
    let server = Server::start(&remote, Some(&format!("ada:{PASSWORD}")));
    let other = remote.dir.join("other.pem");
    for env in [&[("SSL_CERT_FILE", other.as_str())][..], &[]] {
        let url = format!("https://ada:{PASSWORD}@localhost:{}/infra.git", server.port);
        let ran = remote.check(&url, env);
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains("certificate") && ran.err.contains("SSL_CERT_FILE"), "{ran:?}");
        assert!(!ran.err.contains(PASSWORD) && !ran.out.contains(PASSWORD), "{ran:?}");
        assert_eq!(server.requests(), Vec::<String>::new(), "no password leaves before the certificate is judged");
    }
}

#[test]
fn a_password_comes_from_the_url_or_a_credential_helper() {
    let remote = Remote::new();
    let server = Server::start(&remote, Some(&format!("ada:{PASSWORD}")));
    let trusted = remote.dir.join("cert.pem");
    let trusted = [("SSL_CERT_FILE", trusted.as_str())];
    let with = |user: &str| format!("https://{user}localhost:{}/infra.git", server.port);
    let none = remote.check(&with(""), &trusted);
    assert_eq!(none.code, 1);
    assert!(none.err.contains("credential"), "{none:?}");
    assert_eq!(resources(&remote.check(&with(&format!("ada:{PASSWORD}@")), &trusted)), 1);
    let wrong = remote.check(&with("ada:wrong-password@"), &trusted);
    assert_eq!(wrong.code, 1);
    assert!(wrong.err.contains("cannot fetch https://ada:‹secret›@localhost"), "{wrong:?}");
    assert!(!wrong.err.contains("wrong-password"), "{wrong:?}");
    assert!(server.requests().len() < 20, "it is not tried for ever");
    // The helper that keeps passwords in a file, and one that is a program of one's own.
    let store = format!("https://ada:{PASSWORD}@localhost:{}\n", server.port);
    remote.write("home/.git-credentials", &store);
    remote.write("elsewhere", &store);
    let script = remote.dir.join("helper");
    remote.write("helper", &format!("#!/bin/sh\n[ \"$1\" = get ] && printf 'username=ada\\npassword={PASSWORD}\\n'\n"));
    run(Command::new("chmod").args(["755", script.as_str()]));
    for helper in ["store".to_string(), format!("store --file {}/elsewhere", remote.dir), script.to_string()] {
        remote.write("home/.gitconfig", &format!("[credential]\n\thelper = \"{helper}\"\n"));
        for user in ["", "ada@"] {
            assert_eq!(resources(&remote.check(&with(user), &trusted)), 1, "{helper} {user}");
        }
    }
    remote.write("home/.git-credentials", &store.replace(PASSWORD, "wrong-password"));
    remote.write("home/.gitconfig", "[credential]\n\thelper = store\n");
    let wrong = remote.check(&with(""), &trusted);
    assert_eq!(wrong.code, 1);
    assert!(wrong.err.contains("credential") && !wrong.err.contains("wrong-password"), "{wrong:?}");
}

#[test]
fn a_repository_behind_ssh_is_read_with_a_key_of_the_agent() {
    let remote = Remote::new();
    let first = remote.git(&["rev-parse", "HEAD"]);
    remote.commit("one two");
    let sshd = Sshd::start();
    let socket = sshd.key("agent.sock");
    let _agent = Agent::start(&socket);
    let agent = [("SSH_AUTH_SOCK", socket.as_str())];
    let bare = remote.dir.join("bare/infra.git");
    let url = format!("ssh://{}@127.0.0.1:{}{bare}", sshd::user(), sshd.port);

    // Nobody knows the host yet: the error has the line that is to be added, and then it works.
    let unknown = remote.check(&url, &agent);
    assert_eq!(unknown.code, 1);
    let key = sshd::read(&sshd.key("host_ed25519.pub"));
    let line = format!("[127.0.0.1]:{} {}", sshd.port, key.trim().trim_end_matches(" test"));
    assert!(unknown.err.contains("is not known") && unknown.err.contains(&line), "{unknown:?}\n{line}");
    remote.write("home/.ssh/known_hosts", &format!("{line}\n"));
    let stranger = remote.check(&url, &agent);
    assert_eq!(stranger.code, 1);
    assert!(stranger.err.contains("cannot fetch") && stranger.err.contains("agent"), "{stranger:?}");
    sshd::add(&socket, &sshd.key("id_stranger"));
    sshd::add(&socket, &sshd.key("id_ed25519"));
    assert_eq!(resources(&remote.check(&url, &agent)), 2);
    assert_eq!(resources(&remote.check(&format!("{url}@{first}"), &agent)), 1);
    assert_eq!(resources(&remote.check(&format!("{url}@main~1"), &agent)), 1);

    // A name of `~/.ssh/config`, with a key file and without an agent.
    let config = format!("Host forge\n  HostName 127.0.0.1\n  Port {}\n  User {}\n", sshd.port, sshd::user());
    remote.write("home/.ssh/config", &format!("{config}  IdentityFile {}\n", sshd.key("id_ed25519")));
    assert_eq!(resources(&remote.check(&format!("forge:{bare}@main"), &[])), 2);
    // The host has another key than it had.
    let other = sshd::read(&sshd.key("id_stranger.pub"));
    remote.write("home/.ssh/known_hosts", &format!("[127.0.0.1]:{} {other}", sshd.port));
    let changed = remote.check(&url, &agent);
    assert!(changed.code == 1 && changed.err.contains("CHANGED"), "{changed:?}");
}
