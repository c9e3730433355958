//! The thread that serves a connection: it alone touches the libssh2 session, and never blocks but in `poll(2)`.
//!
//! What one must know of libssh2 here (1.11, `transport.c`, `channel.c`):
//! * A packet that was sent in part must be completed by the very same call with the same buffer; all other sends
//!   answer "try again" until then. So every job repeats its step until it is done, even after it was given up.
//! * Some packets are built on the stack (end-of-file, keep-alive). These could never be completed, so they are only
//!   sent when the socket has room for them ([`Turn::has_room`]).
//! * Reading for one channel takes in the packets of all others. So before sleeping, all jobs are asked again.
//! * Only one channel can be opened at a time.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use ssh2::{BlockDirections, ErrorCode, Session};
use tokio::sync::oneshot;

use crate::base::error::{Error, Kind};
use crate::host::ssh::run::Run;
use crate::host::ssh::session::{Open, Plan};
use crate::host::ssh::tunnel::Tunnel;

/// How often the host is asked whether it is still there, where the configuration does not say.
const ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// After how many unanswered questions it is gone: OpenSSH's `ServerAliveCountMax`.
const ALIVE_COUNT: u32 = 3;
/// How long a sign of life may take before it is missed.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many passes over the jobs may be made before the inbox is looked at again.
const PASSES: usize = 32;
/// How long to sleep at most while several jobs share the session.
const SHARED_NAP: Duration = Duration::from_millis(50);

/// What the thread is asked to do.
pub enum Command {
    /// Run a command.
    Run(Box<Run>),
    /// Open a stream.
    Tunnel(Box<Tunnel>),
    /// End, and say so.
    Close(Option<oneshot::Sender<()>>),
}

/// The connection is gone, with the reason.
pub struct Lost(pub String);

/// The error of everything that was under way when the connection went.
pub fn gone(label: &str, why: &str) -> Error {
    Error::new(Kind::Unreachable, format!("the connection to {label} is lost: {why}"))
}

/// Whether an error means that the connection is gone, and why. By libssh2's codes.
pub fn lost(cause: &ssh2::Error) -> Option<Lost> {
    let why = match cause.code() {
        ErrorCode::Session(-13) => "the other side closed it".to_string(),
        ErrorCode::Session(-7 | -43 | -45) => format!("the socket failed ({})", cause.message()),
        ErrorCode::Session(-9 | -30) => "it timed out".to_string(),
        ErrorCode::Session(-4 | -12 | -14 | -29 | -40) => format!("the protocol broke ({})", cause.message()),
        _ => return None,
    };
    Some(Lost(why))
}

/// Something that goes on over the session.
enum Job {
    Run(Box<Run>),
    Tunnel(Box<Tunnel>),
}

impl Job {
    fn step(&mut self, turn: &mut Turn<'_>) -> Result<(), Lost> {
        match self {
            Job::Run(run) => run.step(turn),
            Job::Tunnel(tunnel) => tunnel.step(turn),
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Job::Run(run) => run.is_done(),
            Job::Tunnel(tunnel) => tunnel.is_done(),
        }
    }

    fn is_opening(&self) -> bool {
        match self {
            Job::Run(run) => run.is_opening(),
            Job::Tunnel(tunnel) => tunnel.is_opening(),
        }
    }

    /// Whether somebody still waits for it.
    fn is_wanted(&self) -> bool {
        match self {
            Job::Run(run) => run.is_wanted(),
            Job::Tunnel(tunnel) => tunnel.is_wanted(),
        }
    }

    fn wakes_at(&self) -> Option<Instant> {
        match self {
            Job::Run(run) => Some(run.wakes_at()),
            Job::Tunnel(tunnel) => tunnel.wakes_at(),
        }
    }

    fn fail(&mut self, error: Error) {
        match self {
            Job::Run(run) => run.fail(error),
            Job::Tunnel(tunnel) => tunnel.fail(error),
        }
    }

    /// The stream on our side to watch, and for what.
    fn watches(&self) -> Option<(&UnixStream, PollFlags)> {
        match self {
            Job::Run(_) => None,
            Job::Tunnel(tunnel) => tunnel.watches(),
        }
    }
}

/// What is to be waited for after a turn.
#[derive(Default, Clone, Copy)]
struct Next {
    /// Something went forward: there may be more to do at once.
    busy: bool,
    /// Something waits for room in the socket.
    wants_room: bool,
}

/// One pass over all jobs, as a job sees it.
pub struct Turn<'a> {
    /// The session.
    pub session: &'a Session,
    socket: &'a OwnedFd,
    next: Next,
    /// A job is at opening its channel.
    pub opening_taken: bool,
    /// The host was asked for a sign of life, and has not given one.
    pub unanswered: bool,
}

impl Turn<'_> {
    /// Sorts out the result of a session call: done, not yet (`None`), refused (`Err` inside), or all is lost.
    pub fn settle<T>(&mut self, result: Result<T, ssh2::Error>) -> Result<Option<Result<T, ssh2::Error>>, Lost> {
        match result {
            Ok(value) => {
                self.next.busy = true;
                Ok(Some(Ok(value)))
            }
            Err(cause) if cause.code() == ErrorCode::Session(-37) => {
                self.blocked();
                Ok(None)
            }
            Err(cause) => match lost(&cause) {
                Some(lost) => Err(lost),
                None => Ok(Some(Err(cause))),
            },
        }
    }

    /// The same for reading and writing, where nothing done is `None` too.
    pub fn settle_io(&mut self, result: std::io::Result<usize>) -> Result<Option<usize>, Lost> {
        match result {
            Ok(0) => Ok(None),
            Ok(count) => {
                self.next.busy = true;
                Ok(Some(count))
            }
            Err(cause) if cause.kind() == std::io::ErrorKind::WouldBlock => {
                self.blocked();
                Ok(None)
            }
            // `ssh2` gives no code here. Asking the session for its last error is its way to tell.
            Err(_) => match ssh2::Error::last_session_error(self.session).as_ref().and_then(lost) {
                Some(lost) => Err(lost),
                None => Ok(None),
            },
        }
    }

    /// Notes that something went forward.
    pub fn moved(&mut self) {
        self.next.busy = true;
    }

    fn blocked(&mut self) {
        if matches!(self.session.block_directions(), BlockDirections::Outbound | BlockDirections::Both) {
            self.next.wants_room = true;
        }
    }

    /// Whether a small packet can be sent whole right now. If not, the thread wakes when it can.
    pub fn has_room(&mut self) -> bool {
        let mut fds = [PollFd::new(self.socket, PollFlags::OUT)];
        let room = matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1..));
        self.next.wants_room |= !room;
        room
    }
}

/// The thread's state.
pub struct Actor {
    label: String,
    session: Session,
    socket: OwnedFd,
    inbox: Receiver<Command>,
    bell: UnixStream,
    why_lost: Arc<Mutex<Option<String>>>,
    jobs: Vec<Job>,
    alive_interval: Duration,
    last_heard: Instant,
    last_asked: Instant,
    /// Who is to be told when it has ended.
    told: Option<oneshot::Sender<()>>,
}

impl Actor {
    /// For a session that is let in. `bell` wakes it when there is something in `inbox`.
    pub fn new(
        open: Open,
        plan: &Plan,
        inbox: Receiver<Command>,
        bell: UnixStream,
        why_lost: Arc<Mutex<Option<String>>>,
    ) -> Self {
        let alive_interval = plan.config.alive_interval.unwrap_or(ALIVE_INTERVAL);
        open.session.set_blocking(false);
        // The shortest interval that libssh2 takes: we keep the time ourselves.
        open.session.set_keepalive(true, 2);
        let now = Instant::now();
        Actor {
            label: plan.label.clone(),
            session: open.session,
            socket: open.socket,
            inbox,
            bell,
            why_lost,
            jobs: Vec::new(),
            alive_interval,
            last_heard: now,
            last_asked: now,
            told: None,
        }
    }

    /// Serves until the connection is closed or lost.
    pub fn serve(mut self) {
        let end = loop {
            if !self.take_commands() {
                break Ok(());
            }
            match self.work().and_then(|next| self.sleep(next)) {
                Ok(()) => {}
                Err(lost) => break Err(lost),
            }
        };
        let why = match end {
            Ok(()) => {
                _ = self.session.disconnect(None, "done", None);
                "it has been closed".to_string()
            }
            Err(Lost(why)) => why,
        };
        *self.why_lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.clone());
        for job in &mut self.jobs {
            job.fail(gone(&self.label, &why));
        }
        // Whatever still lies in the inbox is dropped, and its sender finds out by that.
        if let Some(told) = self.told.take() {
            _ = told.send(());
        }
    }

    /// Whether to go on.
    fn take_commands(&mut self) -> bool {
        let mut rings = [0; 64];
        while matches!(std::io::Read::read(&mut &self.bell, &mut rings), Ok(1..)) {}
        loop {
            let job = match self.inbox.try_recv() {
                Ok(Command::Run(run)) => Job::Run(run),
                Ok(Command::Tunnel(tunnel)) => Job::Tunnel(tunnel),
                Ok(Command::Close(told)) => {
                    self.told = told;
                    return false;
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            };
            if self.jobs.is_empty() {
                // While nothing went on, nothing was read: silence is counted from now.
                self.last_heard = Instant::now();
            }
            self.jobs.push(job);
        }
    }

    fn turn(&self) -> Turn<'_> {
        let asked = self.last_asked > self.last_heard && self.last_asked.elapsed() > PATIENCE;
        Turn {
            session: &self.session,
            socket: &self.socket,
            next: Next::default(),
            opening_taken: false,
            unanswered: asked,
        }
    }

    /// Lets all jobs go forward until none can, or the inbox should be looked at again.
    fn work(&mut self) -> Result<Next, Lost> {
        let mut passes = 0;
        loop {
            passes += 1;
            // Lent to the turn apart from the session that it borrows.
            let mut jobs = std::mem::take(&mut self.jobs);
            let mut turn = self.turn();
            let mut outcome = Ok(());
            for job in &mut jobs {
                if job.is_opening() && turn.opening_taken {
                    continue;
                }
                turn.opening_taken |= job.is_opening();
                outcome = job.step(&mut turn);
                if outcome.is_err() {
                    break;
                }
            }
            let next = turn.next;
            jobs.retain(|job| !job.is_done());
            self.jobs = jobs;
            outcome?;
            let once_more = passes == 1 && self.jobs.len() > 1;
            if !next.busy && !once_more || passes == PASSES {
                return Ok(next);
            }
        }
    }

    fn sleep(&mut self, next: Next) -> Result<(), Lost> {
        let nap = self.keep_alive()?;
        let nap = if next.busy { Duration::ZERO } else { nap };
        let mut on_socket = PollFlags::RDHUP;
        // Without a job nobody would read, and what the host says unasked would keep us awake.
        on_socket.set(PollFlags::IN, !self.jobs.is_empty());
        on_socket.set(PollFlags::OUT, next.wants_room);
        let mut fds = vec![PollFd::new(&self.socket, on_socket), PollFd::new(&self.bell, PollFlags::IN)];
        fds.extend(self.jobs.iter().filter_map(Job::watches).map(|(stream, flags)| PollFd::new(stream, flags)));
        let nap = Timespec::try_from(nap).unwrap_or_default();
        match poll(&mut fds, Some(&nap)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(cause) => return Err(Lost(format!("poll failed ({cause})"))),
        }
        let seen = fds[0].revents();
        if seen.contains(PollFlags::IN) {
            self.last_heard = Instant::now();
        }
        let ended = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        if self.jobs.is_empty() && seen.intersects(ended) {
            return Err(Lost("the other side closed it".into()));
        }
        Ok(())
    }

    /// Asks the host for a sign of life when it is time to; gives how long to sleep.
    fn keep_alive(&mut self) -> Result<Duration, Lost> {
        let now = Instant::now();
        let silence = now.saturating_duration_since(self.last_heard);
        if self.jobs.iter().any(Job::is_wanted) && silence > self.alive_interval * (ALIVE_COUNT + 1) {
            return Err(Lost(format!("no sign of life for {} s", silence.as_secs())));
        }
        let due = self.last_asked.max(self.last_heard) + self.alive_interval;
        if now >= due {
            if self.turn().has_room() {
                // It says nothing of "try again", and all else shows at the next read.
                _ = self.session.keepalive_send();
            }
            self.last_asked = now;
        }
        let mut until = self.last_asked.max(self.last_heard) + self.alive_interval;
        for wake in self.jobs.iter().filter_map(Job::wakes_at) {
            until = until.min(wake);
        }
        let nap = until.saturating_duration_since(now);
        Ok(if self.jobs.len() > 1 { nap.min(SHARED_NAP) } else { nap })
    }
}
