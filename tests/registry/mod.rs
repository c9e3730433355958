//! A real registry (Debian's `docker-registry`) for tests: with TLS under an authority of its own, and a password.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::kit::Host;

pub const USER: &str = "puller";
/// In the alphabet of base64 it has both letters that differ in the one for addresses.
pub const PASSWORD: &str = "aa>~?pull/secret";
/// `htpasswd -Bbn -C 4 puller PASSWORD`
const HTPASSWD: &str = "puller:$2y$04$4RmykoRZoBdn0Fyu3Mm6DO2pFAc5nKTgJ7IiRbrR1xr3Ssv2w24jy\n";

/// A registry that runs until the value is dropped.
pub struct Registry {
    /// The address under which the host reaches this machine.
    gateway: String,
    port: u16,
    dir: TempDir,
    process: Child,
}

impl Registry {
    /// A registry that `host` reaches and trusts.
    pub fn start(host: &Host) -> Registry {
        let gateway = format!("{}.1", host.address.rsplit_once('.').expect("an IPv4 address").0);
        let dir = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| dir.path().join(name).display().to_string();
        let names = format!("subjectAltName=IP:{gateway}");
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=registry", "-addext", &names, "-keyout", &at("key.pem"), "-out", &at("ca.pem")])
            .stderr(Stdio::null())
            .status();
        assert!(made.expect("openssl runs").success());
        let port = TcpListener::bind("0.0.0.0:0").expect("a port").local_addr().expect("an address").port();
        std::fs::write(at("htpasswd"), HTPASSWD).expect("a file");
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
            storage: {{filesystem: {{rootdirectory: {}}}}}\n\
            http: {{addr: \"0.0.0.0:{port}\", tls: {{certificate: {}, key: {}}}}}\n\
            auth: {{htpasswd: {{realm: lab, path: {}}}}}\n",
            at("data"),
            at("ca.pem"),
            at("key.pem"),
            at("htpasswd")
        );
        std::fs::write(at("config.yml"), config).expect("a file");
        let process = Command::new("docker-registry")
            .args(["serve", &at("config.yml")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed: run tests/run");
        let registry = Registry { gateway, port, dir, process };
        let begun = Instant::now();
        while TcpStream::connect(registry.address()).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the registry does not come up");
            sleep(Duration::from_millis(20));
        }
        registry.trusted_by(host, &registry.address());
        registry
    }

    /// Host and port.
    pub fn address(&self) -> String {
        format!("{}:{}", self.gateway, self.port)
    }

    pub fn ca(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("ca.pem")).expect("a certificate")
    }

    /// Has the host's Engine trust the registry under an address.
    fn trusted_by(&self, host: &Host, address: &str) {
        let ca = self.ca();
        host.sh(&format!(
            "mkdir -p /etc/docker/certs.d/{address}; cat >/etc/docker/certs.d/{address}/ca.crt <<'E'\n{ca}E"
        ));
    }

    /// Pushes an image that says `text` and has so many random bytes: its digest, and its size as it travels.
    pub fn push(&self, name: &str, text: &str, bytes: usize, platform: &str) -> (String, u64) {
        self.push_as(name, text, bytes, platform, None)
    }

    /// The same with a manifest that claims so many bytes for the last layer.
    pub fn push_as(&self, name: &str, text: &str, bytes: usize, platform: &str, claim: Option<u64>) -> (String, u64) {
        let (name, tag) = name.split_once(':').expect("a tag");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/registry/push.py");
        let ca = self.dir.path().join("ca.pem").display().to_string();
        let mut push = Command::new("python3");
        push.args([script, &self.address(), &ca, &format!("{USER}:-"), name, tag, text, &bytes.to_string(), platform]);
        let output = push
            .env("PASSWORD", PASSWORD)
            .envs(claim.map(|size| ("CLAIM", size.to_string())))
            .output()
            .expect("python3 runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).expect("text");
        let (digest, size) = said.trim().split_once(' ').expect("two words");
        (digest.to_string(), size.parse().expect("a number"))
    }

    /// Another address of the registry, through which only what `limit` says comes back: for each connection, in the
    /// order in which they come, the peer's address to how many bytes at most.
    pub fn behind(&self, host: &Host, limit: impl Fn(usize, &str) -> Option<usize> + Send + 'static) -> String {
        let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
        let address = format!("{}:{}", self.gateway, listener.local_addr().expect("an address").port());
        self.trusted_by(host, &address);
        let target = self.address();
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                let peer = stream.peer_addr().map(|peer| peer.ip().to_string()).unwrap_or_default();
                let most = limit(number, &peer).unwrap_or(usize::MAX);
                let Ok(registry) = TcpStream::connect(&target) else { return };
                std::thread::spawn(move || carry(stream, registry, most));
            }
        });
        address
    }
}

/// Carries bytes both ways, back at most so many.
fn carry(stream: TcpStream, registry: TcpStream, most: usize) {
    let (stream, registry) = (Arc::new(stream), Arc::new(registry));
    let (from, to) = (stream.clone(), registry.clone());
    std::thread::spawn(move || {
        _ = std::io::copy(&mut &*from, &mut &*to);
        _ = to.shutdown(Shutdown::Write);
    });
    let (mut left, mut held) = (most, vec![0; 16 << 10]);
    while let Ok(count @ 1..) = (&*registry).read(&mut held) {
        let count = count.min(left);
        if count == 0 || (&*stream).write_all(&held[..count]).is_err() {
            break;
        }
        left -= count;
    }
    _ = stream.shutdown(Shutdown::Both);
    _ = registry.shutdown(Shutdown::Both);
}

impl Drop for Registry {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}
