//! The SSH transport against real, throw-away OpenSSH servers on the loopback interface.

use std::io::Read as _;
use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use reconcile::base::error::{Error, Kind};
use reconcile::base::secret::Secret;
use reconcile::host::ssh::config::Place;
use reconcile::host::transport::{Connection, Exchange, Nobody, Output, Prompt, SshTarget, Target};

#[path = "kit/sshd.rs"]
mod sshd;

use sshd::{Agent, Server, add, keygen, read, user, write};

const LONG: Duration = Duration::from_mins(1);

/// Connects with a configuration of the server's own.
trait Connects {
    fn place(&self) -> Place;
    async fn connect(&self, target: SshTarget) -> Result<Connection, Error>;
    async fn connect_asking(&self, target: SshTarget, prompt: Arc<dyn Prompt>) -> Result<Connection, Error>;
}

impl Connects for Server {
    fn place(&self) -> Place {
        let file = self.dir.join("ssh_config");
        write(
            &file,
            &format!(
                "{}\nHost box\n  HostName 127.0.0.1\n  Port {}\n  UserKnownHostsFile {dir}/known_hosts\n\
                 Host *\n  IdentityAgent none\n  IdentityFile {dir}/id_ed25519\n",
                self.config,
                self.port,
                dir = self.dir
            ),
        );
        Place { home: self.dir.clone(), user: user(), files: vec![file] }
    }

    async fn connect(&self, target: SshTarget) -> Result<Connection, Error> {
        self.connect_asking(target, Arc::new(Nobody)).await
    }

    async fn connect_asking(&self, target: SshTarget, prompt: Arc<dyn Prompt>) -> Result<Connection, Error> {
        Connection::connect_from(&self.place(), &Target::Ssh(target), prompt, Duration::from_secs(30)).await
    }
}

fn target() -> SshTarget {
    SshTarget {
        address: "box".into(),
        port: None,
        user: None,
        sudo: false,
        host_keys: Vec::new(),
        identities: Vec::new(),
        jump: None,
    }
}

fn with_key(key: Utf8PathBuf) -> SshTarget {
    SshTarget { identities: vec![key], ..target() }
}

fn exchange(command: &str, input: Vec<u8>) -> Exchange {
    Exchange { command: command.into(), input, deadline: LONG }
}

async fn sh(connection: &Connection, command: &str) -> Output {
    connection.run(exchange(command, Vec::new()), None).await.expect("the command runs")
}

fn failure<T>(result: Result<T, Error>) -> Error {
    result.err().expect("it fails")
}

#[tokio::test]
async fn all_types_of_keys_are_let_in() {
    let server = Server::start();
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let connection = server.connect(with_key(server.key(&format!("id_{kind}")))).await.expect(kind);
        let output = sh(&connection, "echo in; echo err >&2; exit 3").await;
        assert_eq!(output, Output { stdout: b"in\n".into(), stderr: b"err\n".into(), status: Ok(3) });
        connection.close().await;
    }
}

#[tokio::test]
async fn a_stranger_is_not_let_in() {
    let server = Server::start();
    let error = failure(server.connect(with_key(server.key("id_stranger"))).await);
    assert_eq!(error.kind, Kind::Auth, "{error}");
    assert!(error.what.contains("id_stranger: not accepted"), "{error}");
}

struct Answers(Vec<&'static str>, AtomicUsize);

impl Prompt for Answers {
    fn passphrase(&self, key: &Utf8Path, wrong: Option<&Secret>) -> Option<Secret> {
        assert!(key.as_str().ends_with("id_locked"));
        let index = self.1.fetch_add(1, Ordering::SeqCst);
        assert_eq!(wrong.map(Secret::expose), index.checked_sub(1).map(|last| self.0[last]));
        self.0.get(index).map(|answer| Secret::new((*answer).into()))
    }
}

#[tokio::test]
async fn an_encrypted_key_is_asked_for() {
    let server = Server::start();
    let key = || with_key(server.key("id_locked"));
    let prompt = Arc::new(Answers(vec!["wrong", "open sesame"], AtomicUsize::new(0)));
    let connection = server.connect_asking(key(), prompt.clone()).await.expect("the second answer is right");
    assert_eq!(sh(&connection, "true").await.status, Ok(0));
    assert_eq!(prompt.1.load(Ordering::SeqCst), 2);
    let error = failure(server.connect(key()).await);
    assert_eq!(error.kind, Kind::Auth);
    assert!(error.what.contains("needs a passphrase"), "{error}");
}

#[tokio::test]
async fn the_agent_opens_what_nobody_types() {
    let mut server = Server::start();
    let socket = server.key("agent.sock");
    let _agent = Agent::start(&socket);
    // More keys than sshd takes tries, the right one last: it must still come first.
    for index in 0..7 {
        let key = server.key(&format!("other{index}"));
        keygen(&key, "ed25519", "");
        add(&socket, &key);
    }
    Command::new("ssh-keygen")
        .args(["-q", "-p", "-P", "open sesame", "-N", "", "-f", server.key("id_locked").as_str()])
        .status()
        .expect("ssh-keygen");
    add(&socket, &server.key("id_locked"));
    Command::new("ssh-keygen")
        .args(["-q", "-p", "-N", "open sesame", "-f", server.key("id_locked").as_str()])
        .status()
        .expect("ssh-keygen");
    server.config = format!("Host box\n  IdentityAgent {socket}\n");
    let connection = server.connect(with_key(server.key("id_locked"))).await.expect("by the agent");
    assert_eq!(sh(&connection, "true").await.status, Ok(0));
}

#[tokio::test]
async fn host_keys_are_known_unknown_changed_or_pinned() {
    let server = Server::start();
    // Only the less preferred type is known: that is no change.
    server.know("ecdsa");
    server.connect(target()).await.expect("known by ecdsa");

    write(&server.key("known_hosts"), "");
    let error = failure(server.connect(target()).await);
    let key = read(&server.key("host_ed25519.pub"));
    let key = key.trim().trim_end_matches(" test");
    assert_eq!(error.kind, Kind::HostKey);
    assert!(error.what.contains("ssh-ed25519 SHA256:"), "{error}");
    let hint = error.hint.unwrap_or_default();
    assert!(hint.contains(&format!("[127.0.0.1]:{} {key}", server.port)), "{hint}");
    assert!(hint.contains(&format!("host-key \"{key}\"")), "{hint}");

    let stranger = read(&server.key("id_stranger.pub"));
    write(&server.key("known_hosts"), &format!("# one\n[127.0.0.1]:{} {stranger}", server.port));
    let error = failure(server.connect(target()).await);
    assert_eq!(error.kind, Kind::HostKey);
    assert!(error.what.contains("CHANGED") && error.what.contains("known_hosts:2"), "{error}");

    let pinned = |key: &str| SshTarget { host_keys: vec![key.into()], ..target() };
    server.connect(pinned(key)).await.expect("pinned");
    server.connect(pinned(&read(&server.key("host_ecdsa.pub")))).await.expect("pinned by the other type");
    assert_eq!(failure(server.connect(pinned(&stranger)).await).kind, Kind::HostKey);
    assert_eq!(failure(server.connect(pinned("ssh-ed25519 nonsense")).await).kind, Kind::Config);

    write(&server.key("known_hosts"), &format!("* {key}\n@revoked * {key}\n"));
    let error = failure(server.connect(target()).await);
    assert!(error.what.contains("revoked"), "{error}");
}

#[tokio::test]
async fn one_session_at_a_time_is_enough() {
    let server = Server::with("MaxSessions 1");
    let connection = server.connect(target()).await.expect("connects");
    for _ in 0..3 {
        // What has just been left still takes up the only place.
        drop(connection.open_command("cat", Duration::from_secs(5)).await.expect("opens"));
        assert_eq!(connection.run(exchange("echo well", Vec::new()), None).await.expect("runs").stdout, b"well\n");
    }
    let stays = connection.open_command("cat", Duration::from_secs(5)).await.expect("opens");
    let refused = connection.run(exchange("true", Vec::new()), None).await.expect_err("no place");
    assert!(refused.hint.as_ref().is_some_and(|hint| hint.contains("MaxSessions")), "{refused}");
    drop(stays);
}

#[tokio::test]
async fn much_output_on_both_streams_does_not_block() {
    let server = Server::start();
    let connection = server.connect(target()).await.expect("connects");
    let seen = Arc::new(Mutex::new(0));
    let count = seen.clone();
    let on_stdout = Box::new(move |piece: &[u8]| *count.lock().expect("lock") += piece.len());
    let command = "head -c 5000000 /dev/zero >&2; head -c 3000000 /dev/zero; echo end >&2";
    let output = connection.run(exchange(command, Vec::new()), Some(on_stdout)).await.expect("runs");
    assert_eq!(output.stdout.len(), 3_000_000);
    assert_eq!(*seen.lock().expect("lock"), 3_000_000);
    assert_eq!(output.stderr.len(), 64 << 10);
    assert!(output.stderr.ends_with(b"end\n"));
}

#[tokio::test]
async fn much_input_arrives_whole() {
    let server = Server::with("RekeyLimit 3M");
    let connection = server.connect(target()).await.expect("connects");
    let input: Vec<u8> = (0..20_u32 << 20).map(|index| (index % 251) as u8).collect();
    let output = connection.run(exchange("cat", input.clone()), None).await.expect("runs");
    assert!(output.stdout == input);
    // A command that reads none of it ends all the same.
    let output = connection.run(exchange("exit 4", input), None).await.expect("runs");
    assert_eq!(output.status, Ok(4));
    assert_eq!(sh(&connection, "echo still here").await.stdout, b"still here\n");
}

#[tokio::test]
async fn a_signal_is_not_success() {
    let server = Server::start();
    let connection = server.connect(target()).await.expect("connects");
    assert_eq!(sh(&connection, "kill -TERM $$").await.status, Err("TERM".into()));
    assert_eq!(sh(&connection, "exit 200").await.status, Ok(200));
}

#[tokio::test]
async fn a_deadline_ends_the_command_and_not_the_connection() {
    let server = Server::start();
    let connection = server.connect(target()).await.expect("connects");
    let begun = Instant::now();
    let slow = Exchange { command: "cat; sleep 30".into(), input: vec![0; 9 << 20], deadline: Duration::from_secs(1) };
    let error = failure(connection.run(slow, None).await);
    assert_eq!(error.kind, Kind::Host, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(3));
    let slow = Exchange { command: "sleep 30".into(), input: vec![0; 9 << 20], deadline: Duration::from_secs(1) };
    failure(connection.run(slow, None).await);
    assert_eq!(sh(&connection, "echo next").await.stdout, b"next\n");
}

#[tokio::test]
async fn an_abandoned_command_leaves_the_connection_whole() {
    let server = Server::start();
    let connection = server.connect(target()).await.expect("connects");
    for milliseconds in [0, 1, 5, 20, 100] {
        let run = connection.run(exchange("sleep 30", vec![0; 9 << 20]), None);
        assert!(tokio::time::timeout(Duration::from_millis(milliseconds), run).await.is_err());
    }
    assert_eq!(sh(&connection, "echo next").await.stdout, b"next\n");
}

#[tokio::test]
async fn many_runs_follow_each_other_and_run_side_by_side() {
    let server = Server::start();
    let connection = server.connect(target()).await.expect("connects");
    for index in 0..30 {
        assert_eq!(sh(&connection, &format!("echo {index}")).await.stdout, format!("{index}\n").into_bytes());
    }
    let connection = Arc::new(connection);
    let mut tasks = Vec::new();
    for index in 0..8_u8 {
        let connection = connection.clone();
        tasks.push(tokio::spawn(async move {
            let input = vec![index; 2 << 20];
            let output = connection.run(exchange("tee /dev/stderr", input.clone()), None).await.expect("runs");
            assert!(output.stdout == input, "{index}: {} bytes", output.stdout.len());
        }));
    }
    for task in tasks {
        task.await.expect("side by side");
    }
}

#[tokio::test]
async fn a_jump_host_is_passed_through() {
    let mut server = Server::start();
    let gate = Server::start();
    write(&server.key("authorized_keys"), &read(&gate.key("id_ed25519.pub")));
    let gate_config = format!(
        "Host gate\n  HostName 127.0.0.1\n  Port {}\n  UserKnownHostsFile {}/known_hosts\n",
        gate.port, gate.dir
    );
    let identity = format!("Host *\n  IdentityFile {}\n  IdentitiesOnly yes\n", gate.key("id_ed25519"));
    server.config = format!("Host box\n  ProxyJump gate\n{gate_config}{identity}");
    let connection = server.connect(target()).await.expect("through the gate");
    let output = sh(&connection, "echo \"$SSH_CONNECTION\"").await;
    assert!(String::from_utf8_lossy(&output.stdout).contains(&format!(" {}", server.port)));
    let input = vec![7; 6 << 20];
    let output = connection.run(exchange("cat", input.clone()), None).await.expect("runs");
    assert!(output.stdout == input);
    assert_eq!(read(&gate.key("log")).matches("Accepted publickey").count(), 1);
    connection.close().await;

    server.config = format!("{gate_config}{identity}");
    let jump = SshTarget { jump: Some(format!("{}@gate", user())), ..target() };
    server.connect(jump).await.expect("by the target's own jump");

    // What the gate cannot reach is unreachable, and said so.
    let nowhere = SshTarget { jump: Some("gate".into()), port: Some(1), ..target() };
    let error = failure(server.connect(nowhere).await);
    assert_eq!(error.kind, Kind::Unreachable, "{error}");
    assert!(error.what.contains("gate"), "{error}");
}

#[tokio::test]
async fn proxy_command_is_refused_only_where_it_applies() {
    let mut server = Server::start();
    server.config = "Host other\n  ProxyCommand nc %h %p\n".into();
    server.connect(target()).await.expect("does not apply");
    server.config = "Host box\n  ProxyCommand nc %h %p\n".into();
    let error = failure(server.connect(target()).await);
    assert!(error.what.contains("ProxyCommand nc"), "{error}");
}

#[tokio::test]
async fn connections_that_the_user_shares_are_left_alone() {
    let mut server = Server::start();
    // What is left of one that died is still there. (A listener that is dropped leaves its socket behind.)
    let path = server.dir.join("control");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
    server.config = format!("Host *\n  ControlMaster auto\n  ControlPath {path}\n  ControlPersist 10m\n");
    let connection = server.connect(target()).await.expect("it connects by itself");
    assert_eq!(sh(&connection, "echo hello").await.stdout, b"hello\n");
    connection.close().await;
    assert!(path.exists(), "it is not ours to remove");
}

#[tokio::test]
async fn a_unix_socket_is_reached() {
    let server = Server::start();
    let path = server.key("echo.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut copy = stream.try_clone().expect("a copy");
        std::io::copy(&mut stream, &mut copy).expect("an echo")
    });
    let connection = server.connect(target()).await.expect("connects");
    let mut stream = connection.open_socket(&path, LONG).await.expect("the socket opens");
    let sent = vec![9; 4 << 20];
    let mut writer = stream.try_clone().expect("a copy");
    let bytes = sent.clone();
    let written = std::thread::spawn(move || {
        std::io::Write::write_all(&mut writer, &bytes).expect("written");
        writer.shutdown(std::net::Shutdown::Write).expect("shut");
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).expect("read");
    written.join().expect("writer");
    assert!(back == sent);
    assert_eq!(echo.join().expect("echo"), 4 << 20);
    let error = failure(connection.open_socket(&server.key("none.sock"), LONG).await);
    assert_eq!(error.kind, Kind::Host);
    assert_eq!(sh(&connection, "true").await.status, Ok(0));
}

#[tokio::test]
async fn a_killed_server_is_unreachable() {
    let server = Server::start();
    let connection = server.connect(target()).await.expect("connects");
    // The command's grandparent is the sshd of this session alone.
    let output = sh(&connection, "echo $PPID").await;
    let session = String::from_utf8_lossy(&output.stdout).trim().to_string();
    let run = connection.run(exchange("sleep 30", Vec::new()), None);
    let kill = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(Command::new("kill").args(["-9", &session]).status().expect("kill").success());
    };
    let begun = Instant::now();
    let (ended, ()) = tokio::join!(run, kill);
    let error = failure(ended);
    assert_eq!(error.kind, Kind::Unreachable, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(failure(connection.run(exchange("true", Vec::new()), None).await).kind, Kind::Unreachable);
}

#[tokio::test]
async fn a_host_that_falls_silent_is_unreachable() {
    let mut server = Server::start();
    server.config = "Host box\n  ServerAliveInterval 1\n".into();
    let connection = server.connect(target()).await.expect("connects");
    let output = sh(&connection, "echo $PPID").await;
    let session = String::from_utf8_lossy(&output.stdout).trim().to_string();
    let signal = |name: &str| Command::new("kill").args([name, &session]).status().expect("kill").success();
    // A quiet command on a living host is no reason to give up.
    assert_eq!(sh(&connection, "sleep 6").await.status, Ok(0));
    assert!(signal("-STOP"));
    let begun = Instant::now();
    let error = failure(connection.run(exchange("true", Vec::new()), None).await);
    assert!(signal("-KILL"));
    assert_eq!(error.kind, Kind::Unreachable, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let mut server = Server::start();
    _ = server.sshd.kill();
    _ = server.sshd.wait();
    assert_eq!(failure(server.connect(target()).await).kind, Kind::Unreachable);
    // Somebody who accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a listener");
    server.port = silent.local_addr().expect("an address").port();
    let begun = Instant::now();
    let connected =
        Connection::connect_from(&server.place(), &Target::Ssh(target()), Arc::new(Nobody), Duration::from_secs(1))
            .await;
    assert_eq!(failure(connected).kind, Kind::Unreachable);
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn dropping_ends_the_thread_and_the_session() {
    let server = Server::start();
    let connection = server.connect(target()).await.expect("connects");
    assert_eq!(sh(&connection, "true").await.status, Ok(0));
    drop(connection);
    let begun = Instant::now();
    while !read(&server.key("log")).contains("disconnect") {
        assert!(begun.elapsed() < Duration::from_secs(5), "{}", read(&server.key("log")));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Opens `$SPEC` with the environment that `git_is_fetched_over_ssh` gives to a process of its own.
#[test]
#[allow(clippy::print_stdout, reason = "that is how the parent process sees it")]
fn open_spec() {
    use reconcile::source;
    let Ok(spec) = std::env::var("SPEC") else { return };
    let spec = source::Spec::parse(&spec).expect("parses");
    match source::open(&spec, &source::default_cache()) {
        Ok(tree) => println!("files: {:?}", tree.files.keys().collect::<Vec<_>>()),
        Err(error) => println!("{:?}: {error}", error.kind),
    }
}

#[test]
fn git_is_fetched_over_ssh() {
    let server = Server::start();
    let place = server.place();
    let repository = server.key("infra");
    std::fs::create_dir_all(repository.join("stacks")).expect("a directory");
    write(&repository.join("stacks/s.kdl"), "s");
    for args in [
        &["init", "-q"][..],
        &["add", "-A"],
        &["-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "-q", "--no-gpg-sign", "-m", "m"],
    ] {
        let done = Command::new("git").arg("-C").arg(&repository).args(args).status().expect("git");
        assert!(done.success());
    }
    let git = |args: &[&str]| {
        let output = Command::new("git").arg("-C").arg(&repository).args(args).output().expect("git");
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    };
    let first = git(&["rev-parse", "HEAD"]);
    let second = ["-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "-q", "--no-gpg-sign"];
    git(&[&second[..], &["--allow-empty", "-m", "second"]].concat());
    let open = |spec: &str| {
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "open_spec", "--nocapture"])
            .env("SPEC", spec)
            .env("HOME", &server.dir)
            .env("XDG_CACHE_HOME", server.key("cache"))
            .env("RECONCILE_SSH_CONFIG", &place.files[0])
            .env_remove("SSH_AUTH_SOCK")
            .output()
            .expect("a child");
        String::from_utf8_lossy(&child.stdout).into_owned()
    };
    let found = "files: [\"stacks/s.kdl\"]";
    // First the newest commit alone, then what needs more of the same cache.
    let url = format!("ssh://box{repository}");
    for spec in [url.clone(), format!("{url}@{first}"), format!("{url}@HEAD~1"), format!("box:{repository}")] {
        let said = open(&spec);
        assert!(said.contains(found), "{said}");
    }
    write(&server.key("known_hosts"), "");
    let said = open(&format!("ssh://box{repository}"));
    assert!(said.contains("HostKey: the host key of [127.0.0.1]:"), "{said}");
    server.know("ed25519");
    write(&server.key("authorized_keys"), "");
    let said = open(&format!("ssh://box{repository}"));
    assert!(said.contains("Auth: "), "{said}");
}
