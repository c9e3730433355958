//! A throw-away OpenSSH server on the loopback interface, and an agent.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;

/// An sshd of our own, with everything it needs in a directory that goes with it.
pub struct Server {
    _temp: TempDir,
    pub dir: Utf8PathBuf,
    pub port: u16,
    pub sshd: Child,
    /// What `ssh_config` says besides where the server is.
    pub config: String,
}

impl Server {
    pub fn start() -> Server {
        Server::with("")
    }

    pub fn with(extra: &str) -> Server {
        let temp = tempfile::tempdir().expect("a temporary directory");
        let dir = Utf8PathBuf::from_path_buf(temp.path().into()).expect("a UTF-8 path");
        for kind in ["ed25519", "ecdsa"] {
            keygen(&dir.join(format!("host_{kind}")), kind, "");
        }
        for kind in ["ed25519", "ecdsa", "rsa"] {
            keygen(&dir.join(format!("id_{kind}")), kind, "");
        }
        keygen(&dir.join("id_locked"), "ed25519", "open sesame");
        keygen(&dir.join("id_stranger"), "ed25519", "");
        let mut authorized = String::new();
        for kind in ["ed25519", "ecdsa", "rsa", "locked"] {
            authorized += &read(&dir.join(format!("id_{kind}.pub")));
        }
        write(&dir.join("authorized_keys"), &authorized);
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let mut text = format!(
            "{extra}\nListenAddress 127.0.0.1\nPort {port}\nPidFile none\nStrictModes no\nUsePAM no\nMaxSessions 40\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        );
        for line in ["HostKey DIR/host_ed25519", "HostKey DIR/host_ecdsa", "AuthorizedKeysFile DIR/authorized_keys"] {
            text += &line.replace("DIR", dir.as_str());
            text.push('\n');
        }
        write(&dir.join("sshd_config"), &text);
        // As root, sshd wants this directory of its package, which its unit makes at boot.
        _ = std::fs::create_dir("/run/sshd");
        let log = std::fs::File::create(dir.join("log")).expect("a log");
        let sshd = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f", dir.join("sshd_config").as_str()])
            .stderr(log)
            .spawn()
            .expect("sshd starts");
        let server = Server { _temp: temp, dir, port, sshd, config: String::new() };
        server.wait();
        server.know("ed25519");
        server
    }

    fn wait(&self) {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "sshd: {}", read(&self.dir.join("log")));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Writes `known_hosts` with the host's key of this kind.
    pub fn know(&self, kind: &str) {
        let key = read(&self.dir.join(format!("host_{kind}.pub")));
        write(&self.dir.join("known_hosts"), &format!("[127.0.0.1]:{} {key}", self.port));
    }

    pub fn key(&self, name: &str) -> Utf8PathBuf {
        self.dir.join(name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.sshd.kill();
        _ = self.sshd.wait();
    }
}

pub fn user() -> String {
    let id = Command::new("id").arg("-un").output().expect("id runs");
    String::from_utf8_lossy(&id.stdout).trim().to_string()
}

pub fn keygen(path: &Utf8Path, kind: &str, passphrase: &str) {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", path.as_str()]);
    if kind == "rsa" {
        command.args(["-b", "2048"]);
    }
    assert!(command.status().expect("ssh-keygen runs").success());
}

pub fn read(path: &Utf8Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

pub fn write(path: &Utf8Path, text: &str) {
    std::fs::write(path, text).expect("a file is written");
}

/// An agent of our own, which ends with the value.
pub struct Agent(Child);

impl Agent {
    /// Starts one that listens at `socket`.
    pub fn start(socket: &Utf8Path) -> Agent {
        let agent = Command::new("ssh-agent").args(["-D", "-a", socket.as_str()]).stdout(Stdio::null()).spawn();
        let mut agent = Agent(agent.expect("ssh-agent starts"));
        while !socket.exists() {
            assert!(agent.0.try_wait().expect("agent").is_none());
            std::thread::sleep(Duration::from_millis(10));
        }
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Gives a key to an agent.
pub fn add(socket: &Utf8Path, key: &Utf8Path) {
    let added = Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", socket).status().expect("ssh-add");
    assert!(added.success());
}
