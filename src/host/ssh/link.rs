//! The asynchronous side of a connection: it hands commands to the thread and waits for answers.

use std::os::unix::net::UnixStream;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use camino::Utf8Path;
use tokio::sync::oneshot;

use crate::base::error::{Error, Kind, Result};
use crate::host::ssh::actor::{self, Actor, Command};
use crate::host::ssh::clock::Clock;
use crate::host::ssh::run::Run;
use crate::host::ssh::session::{self, Plan};
use crate::host::ssh::tunnel::{Destination, Tunnel};
use crate::host::transport::{Exchange, OnStdout, Output, Prompt};

/// How much longer than its deadline an answer may take, for the thread to notice.
const GRACE: Duration = Duration::from_secs(2);

/// One open connection. Dropping it ends its thread.
pub struct Link {
    label: String,
    commands: Sender<Command>,
    bell: Arc<Bell>,
    /// Why the connection ended, once it has.
    lost: Arc<Mutex<Option<String>>>,
    /// The connection that this one goes through.
    _via: Option<Box<Link>>,
}

/// Wakes the thread from `poll(2)`.
pub struct Bell(UnixStream);

impl Bell {
    fn ring(&self) {
        // A full buffer means that it rings already.
        _ = std::io::Write::write(&mut &self.0, b"!");
    }
}

/// Rings when dropped, so that the thread sees that nobody waits any more.
struct RingAtEnd<'a>(&'a Bell);

impl Drop for RingAtEnd<'_> {
    fn drop(&mut self) {
        self.0.ring();
    }
}

impl Link {
    /// Connects as planned, on a thread of its own, which then serves the connection.
    pub async fn start(
        plan: Plan,
        stream: Option<UnixStream>,
        via: Option<Link>,
        prompt: Arc<dyn Prompt>,
        clock: Clock,
    ) -> Result<Link> {
        let (label, silence) = (plan.label.clone(), session::silence(&plan, clock.span));
        let internal = |cause| Error::new(Kind::Internal, format!("cannot serve {}", plan.label)).because(cause);
        let (bell, hears) = UnixStream::pair().map_err(internal)?;
        bell.set_nonblocking(true).and_then(|()| hears.set_nonblocking(true)).map_err(internal)?;
        let lost = Arc::new(Mutex::new(None));
        let (commands, inbox) = std::sync::mpsc::channel();
        let (ready, is_ready) = oneshot::channel();
        let thread = std::thread::Builder::new().name(format!("ssh {label}"));
        let (why, limit) = (lost.clone(), clock.clone());
        thread
            .spawn(move || match session::open(&plan, stream, &*prompt, &limit) {
                Ok(open) => {
                    if ready.send(Ok(())).is_ok() {
                        Actor::new(open, &plan, inbox, hears, why).serve();
                    }
                }
                Err(error) => _ = ready.send(Err(error)),
            })
            .map_err(|cause| Error::new(Kind::Internal, "cannot start a thread").because(cause))?;
        match clock.wait(is_ready).await {
            Some(Ok(ended)) => ended?,
            Some(Err(_)) => return Err(Error::new(Kind::Internal, format!("the thread for {label} ended early"))),
            None => return Err(silence),
        }
        Ok(Link { label, commands, bell: Arc::new(Bell(bell)), lost, _via: via.map(Box::new) })
    }

    /// Runs one command.
    pub async fn run(&self, exchange: Exchange, on_stdout: Option<OnStdout>) -> Result<Output> {
        let (reply, answer) = oneshot::channel();
        let deadline = exchange.deadline;
        self.ask(Command::Run(Box::new(Run::new(&self.label, exchange, on_stdout, reply))), answer, deadline).await
    }

    /// A stream to a Unix socket on the host.
    pub async fn open_socket(&self, path: &Utf8Path, deadline: Duration) -> Result<UnixStream> {
        self.open(Destination::Socket(path.to_string()), deadline).await
    }

    /// A stream to a command on the host.
    pub async fn open_command(&self, command: &str, deadline: Duration) -> Result<UnixStream> {
        self.open(Destination::Command(command.to_string()), deadline).await
    }

    /// A stream to a TCP port that the host reaches.
    pub async fn open_tcp(&self, host: &str, port: u16, clock: &Clock) -> Result<UnixStream> {
        self.open(Destination::Tcp(host.to_string(), port), clock.left()).await
    }

    async fn open(&self, to: Destination, deadline: Duration) -> Result<UnixStream> {
        let (reply, answer) = oneshot::channel();
        let until = Instant::now() + deadline;
        let tunnel = Tunnel::new(&self.label, to, until, reply);
        self.ask(Command::Tunnel(Box::new(tunnel)), answer, deadline).await
    }

    /// Whether the thread still serves.
    pub fn is_open(&self) -> bool {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Ends the connection, and waits for a moment until it has ended.
    pub async fn close(self) {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::Close(Some(reply))).is_ok() {
            self.bell.ring();
            _ = tokio::time::timeout(GRACE, answer).await;
        }
    }

    async fn ask<T>(&self, command: Command, answer: oneshot::Receiver<Result<T>>, deadline: Duration) -> Result<T> {
        let _wake = RingAtEnd(&self.bell);
        self.commands.send(command).map_err(|_| self.gone())?;
        self.bell.ring();
        match tokio::time::timeout(deadline.saturating_add(GRACE), answer).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(_)) => Err(self.gone()),
            Err(_) => Err(Error::new(Kind::Unreachable, format!("the connection to {} is stuck", self.label))),
        }
    }

    fn gone(&self) -> Error {
        let why = self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone();
        actor::gone(&self.label, &why.unwrap_or_else(|| "it has been closed".into()))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Nobody is there to take it if the thread has ended already.
        _ = self.commands.send(Command::Close(None));
        self.bell.ring();
    }
}
