//! From a plan to a session: connect, shake hands, check the host's key, be let in. Blocking, each wait bounded.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ssh2::{ErrorCode, MethodType, Session};

use crate::base::error::{Error, Kind, Result};
use crate::host::ssh::auth;
use crate::host::ssh::clock::Clock;
use crate::host::ssh::config::HostConfig;
use crate::host::ssh::known_hosts::Known;
use crate::host::transport::Prompt;

/// One machine to connect to.
pub struct Plan {
    /// What the machine is called in messages.
    pub label: String,
    /// Where it is and how to get in.
    pub config: HostConfig,
    /// What is known about its keys.
    pub known: Known,
}

/// A session that is let in, and its socket, for `poll(2)`.
pub struct Open {
    /// The session, still blocking.
    pub session: Session,
    /// The same socket as the session's.
    pub socket: OwnedFd,
}

/// Opens a session, over `stream` if there is one (a tunnel through another machine), else over TCP.
pub fn open(plan: &Plan, stream: Option<UnixStream>, prompt: &dyn Prompt, clock: &Clock) -> Result<Open> {
    let mut session = Session::new().map_err(|cause| internal(&cause))?;
    let socket = if let Some(stream) = stream {
        let socket = stream.try_clone().map_err(|cause| unreachable(plan, &cause))?;
        session.set_tcp_stream(stream);
        OwnedFd::from(socket)
    } else {
        let stream = dial(plan, clock)?;
        let socket = stream.try_clone().map_err(|cause| unreachable(plan, &cause))?;
        session.set_tcp_stream(stream);
        OwnedFd::from(socket)
    };
    shake_hands(&mut session, plan, clock)?;
    auth::log_in(&session, plan, prompt, clock)?;
    Ok(Open { session, socket })
}

/// Limits the session's next blocking call to the time that is left. libssh2 takes 0 for "forever".
pub fn bound(session: &Session, clock: &Clock) {
    let left = u32::try_from(clock.left().as_millis()).unwrap_or(u32::MAX);
    session.set_timeout(left.max(1));
}

fn dial(plan: &Plan, clock: &Clock) -> Result<TcpStream> {
    let HostConfig { host_name, port, .. } = &plan.config;
    let found = (host_name.as_str(), *port).to_socket_addrs();
    let addresses: Vec<_> = found.map_err(|cause| unreachable(plan, &cause))?.collect();
    let limit = plan.config.connect_timeout.unwrap_or(Duration::MAX);
    let (mut last, begun) = (None, Instant::now());
    for (index, address) in addresses.iter().enumerate() {
        // Every address gets its share, so that a dead IPv6 route leaves time for IPv4.
        let share = clock.left() / u32::try_from(addresses.len() - index).unwrap_or(1);
        let patience = share.min(limit).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(address, patience) {
            Ok(stream) => {
                // Small packets must not wait for each other; a stream that refuses this works all the same.
                _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(cause) => last = Some(cause),
        }
    }
    let nothing = || std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    let cause = last.unwrap_or_else(nothing);
    Err(if cause.kind() == std::io::ErrorKind::TimedOut {
        silence(plan, begun.elapsed())
    } else {
        unreachable(plan, &cause)
    })
}

/// The error of a machine that says nothing at all for so long.
pub fn silence(plan: &Plan, span: Duration) -> Error {
    let (way, port) = (way(plan), plan.config.port);
    let what = format!("{way} does not answer on port {port} within {} s", span.as_secs_f32().round().max(1.0));
    let hint = format!(
        "is it switched on, and is port {port} open from here? `ConnectTimeout 5` in ~/.ssh/config gives up sooner"
    );
    Error::new(Kind::Unreachable, what).hint(hint)
}

/// A machine, and the name by which it is reached where that is another one.
fn way(plan: &Plan) -> String {
    let (label, host_name) = (&plan.label, &plan.config.host_name);
    if label == host_name { label.clone() } else { format!("{label} ({host_name})") }
}

fn shake_hands(session: &mut Session, plan: &Plan, clock: &Clock) -> Result<()> {
    // Before the handshake, or libssh2 asks for certificates and for whatever type it likes best.
    let supported = session.supported_algs(MethodType::HostKey).map_err(|cause| internal(&cause))?;
    let preference = plan.known.preference(&supported);
    session.method_pref(MethodType::HostKey, &preference).map_err(|cause| internal(&cause))?;
    bound(session, clock);
    session.handshake().map_err(|cause| match cause.code() {
        // LIBSSH2_ERROR_KEX_FAILURE, LIBSSH2_ERROR_KEY_EXCHANGE_FAILURE, LIBSSH2_ERROR_METHOD_NONE
        ErrorCode::Session(-5 | -8 | -17) => {
            Error::new(Kind::Host, format!("no SSH algorithms in common with {}", plan.label))
                .hint("its sshd is very old, or allows very little; `ssh -v` shows what it offers")
                .because(cause)
        }
        // LIBSSH2_ERROR_TIMEOUT, LIBSSH2_ERROR_SOCKET_TIMEOUT
        ErrorCode::Session(-9 | -30) => silence(plan, clock.span),
        _ => Error::new(Kind::Unreachable, format!("{} does not complete the SSH handshake", plan.label))
            .hint("is this the port of an sshd? Too many connections at once (MaxStartups) end so, too")
            .because(cause),
    })?;
    let (blob, _) =
        session.host_key().ok_or_else(|| Error::new(Kind::HostKey, format!("{} shows no host key", plan.label)))?;
    plan.known.check(blob)
}

fn unreachable(plan: &Plan, cause: &std::io::Error) -> Error {
    let what = format!("cannot reach {} on port {}", way(plan), plan.config.port);
    Error::new(Kind::Unreachable, what).because(cause.to_string())
}

fn internal(cause: &ssh2::Error) -> Error {
    Error::new(Kind::Internal, "libssh2 cannot be set up").because(cause.to_string())
}
