//! A stream over the session: to a further machine (`direct-tcpip`), to a Unix socket on the host, or to a command
//! that runs there.
//!
//! Our end is one side of a socket pair; this job carries bytes between the other side and the channel.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use ssh2::Channel;
use tokio::sync::oneshot;

use crate::base::error::{Error, Kind, Result};
use crate::host::ssh::actor::{Lost, Turn};
use crate::host::ssh::opening::{MANY, Refused};

/// How much is held in each direction.
const HELD: usize = 64 << 10;

/// Where a stream leads.
pub enum Destination {
    /// A host and port, as seen from the machine at the other end.
    Tcp(String, u16),
    /// A Unix socket on the machine at the other end.
    Socket(String),
    /// A command there, by its standard input and output.
    Command(String),
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Destination::Tcp(host, port) => write!(f, "{host} port {port}"),
            Destination::Socket(path) => f.write_str(path),
            Destination::Command(command) => write!(f, "`{command}`"),
        }
    }
}

/// Bytes on their way in one direction.
struct Flow {
    /// Room for them, made once.
    held: Box<[u8]>,
    /// How many have come in, and how many of those have gone out.
    taken: usize,
    sent: usize,
    /// Nothing more comes in.
    ended: bool,
    /// The end was passed on.
    closed: bool,
}

impl Flow {
    fn new() -> Self {
        Flow { held: vec![0; HELD].into(), taken: 0, sent: 0, ended: false, closed: false }
    }

    fn rest(&self) -> &[u8] {
        &self.held[self.sent..self.taken]
    }

    fn took(&mut self, count: usize) {
        self.sent += count;
        if self.sent == self.taken {
            (self.taken, self.sent) = (0, 0);
        }
    }

    /// Whether all that came in has gone out, and more may come.
    fn wants_more(&self) -> bool {
        self.taken == 0 && !self.ended
    }
}

/// A stream being opened or carried.
pub struct Tunnel {
    label: String,
    to: Destination,
    until: Instant,
    reply: Option<oneshot::Sender<Result<UnixStream>>>,
    channel: Option<Channel>,
    stream: Option<UnixStream>,
    refused: Refused,
    out: Flow,
    back: Flow,
    done: bool,
}

impl Tunnel {
    /// A stream to be opened until then.
    pub fn new(label: &str, to: Destination, until: Instant, reply: oneshot::Sender<Result<UnixStream>>) -> Self {
        Tunnel {
            label: label.to_string(),
            to,
            until,
            reply: Some(reply),
            channel: None,
            stream: None,
            refused: Refused::default(),
            out: Flow::new(),
            back: Flow::new(),
            done: false,
        }
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Whether the channel is yet to be opened.
    pub fn is_opening(&self) -> bool {
        self.channel.is_none() && !self.done
    }

    /// Whether somebody uses it.
    pub fn is_wanted(&self) -> bool {
        !self.done
    }

    /// When something is to be decided even if nothing happens.
    pub fn wakes_at(&self) -> Option<Instant> {
        let again = self.refused.wakes_at();
        self.is_opening().then(|| again.map_or(self.until, |again| again.min(self.until)))
    }

    /// Ends it with an error.
    pub fn fail(&mut self, error: Error) {
        if let Some(reply) = self.reply.take() {
            _ = reply.send(Err(error));
        }
        self.stream = None;
        self.done = true;
    }

    /// Our side's stream, and what it waits for.
    pub fn watches(&self) -> Option<(&UnixStream, PollFlags)> {
        let stream = self.stream.as_ref()?;
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, self.out.wants_more());
        flags.set(PollFlags::OUT, !self.back.rest().is_empty());
        // Even watching for nothing reports a peer that is gone: only where that is acted upon, or it would wake us
        // over and over.
        let waits_for_end = self.out.closed && !self.back.closed;
        (waits_for_end || !flags.is_empty()).then_some((stream, flags))
    }

    /// Goes forward as far as possible.
    pub fn step(&mut self, turn: &mut Turn<'_>) -> Result<(), Lost> {
        if self.channel.is_none() {
            self.open(turn)?;
        }
        if self.reply.is_some() && self.channel.is_some() {
            self.start(turn)?;
        }
        if self.stream.is_some() {
            self.carry_out(turn)?;
            self.drop_errors(turn)?;
            self.carry_back(turn)?;
            self.finish(turn)?;
        }
        Ok(())
    }

    fn open(&mut self, turn: &mut Turn<'_>) -> Result<(), Lost> {
        if Instant::now() >= self.until {
            let what = format!("{} has not connected to {} in time", self.label, self.to);
            self.fail(Error::new(Kind::Unreachable, what));
            return Ok(());
        }
        if self.refused.waits() {
            return Ok(());
        }
        let opened = match &self.to {
            Destination::Tcp(host, port) => turn.session.channel_direct_tcpip(host, *port, None),
            Destination::Socket(path) => turn.session.channel_direct_streamlocal(path, None),
            Destination::Command(_) => turn.session.channel_session(),
        };
        match turn.settle(opened)? {
            Some(Ok(channel)) => {
                turn.opening_taken = false;
                self.channel = Some(channel);
            }
            Some(Err(_)) if matches!(self.to, Destination::Command(_)) && self.refused.may_ask_again() => {
                turn.opening_taken = false;
            }
            Some(Err(cause)) => {
                let kind = if matches!(self.to, Destination::Tcp(..)) { Kind::Unreachable } else { Kind::Host };
                let error = Error::new(kind, format!("{} cannot connect to {}", self.label, self.to));
                let error = error.hint(match &self.to {
                    Destination::Command(_) => MANY.to_string(),
                    _ => format!("is it up, and does the sshd of {} allow forwarding?", self.label),
                });
                self.fail(error.because(cause.to_string()));
            }
            None => {}
        }
        Ok(())
    }

    /// Starts the command, where the stream leads to one; then the stream is ready.
    fn start(&mut self, turn: &mut Turn<'_>) -> Result<(), Lost> {
        let (Some(channel), Destination::Command(command)) = (&mut self.channel, &self.to) else {
            self.hand_over();
            return Ok(());
        };
        match turn.settle(channel.exec(command))? {
            Some(Ok(())) => self.hand_over(),
            Some(Err(cause)) => {
                let error = Error::new(Kind::Host, format!("{} starts no command", self.label));
                self.fail(error.because(cause.to_string()));
            }
            None => {}
        }
        Ok(())
    }

    /// What a command says on standard error is nobody's here, but undrained it stops standard output too.
    fn drop_errors(&mut self, turn: &mut Turn<'_>) -> Result<(), Lost> {
        let (Some(channel), Destination::Command(command)) = (&mut self.channel, &self.to) else { return Ok(()) };
        let mut held = [0; 1024];
        while let Some(count) = turn.settle_io(channel.stderr().read(&mut held))? {
            tracing::debug!(target: "ssh", host = %self.label, %command, said = %String::from_utf8_lossy(&held[..count]));
        }
        Ok(())
    }

    fn hand_over(&mut self) {
        let pair = UnixStream::pair().and_then(|(ours, theirs)| ours.set_nonblocking(true).map(|()| (ours, theirs)));
        match pair {
            Ok((ours, theirs)) => {
                self.stream = Some(ours);
                if let Some(reply) = self.reply.take() {
                    // If nobody takes it, it closes, and that is seen as its end.
                    _ = reply.send(Ok(theirs));
                }
            }
            Err(cause) => self.fail(Error::new(Kind::Internal, "cannot make a socket pair").because(cause)),
        }
    }

    /// From our side to the host.
    fn carry_out(&mut self, turn: &mut Turn<'_>) -> Result<(), Lost> {
        let (Some(channel), Some(stream)) = (&mut self.channel, &mut self.stream) else { return Ok(()) };
        let flow = &mut self.out;
        if flow.wants_more() {
            let count = stream.read(&mut flow.held);
            flow.taken = *count.as_ref().unwrap_or(&0);
            flow.ended = match &count {
                Ok(count) => *count == 0,
                Err(cause) => cause.kind() != std::io::ErrorKind::WouldBlock,
            };
        }
        while !flow.rest().is_empty() {
            let Some(count) = turn.settle_io(channel.write(flow.rest()))? else { return Ok(()) };
            flow.took(count);
        }
        if flow.ended && !flow.closed && turn.has_room() {
            flow.closed = turn.settle(channel.send_eof())?.is_some();
        }
        Ok(())
    }

    /// From the host to our side.
    fn carry_back(&mut self, turn: &mut Turn<'_>) -> Result<(), Lost> {
        let (Some(channel), Some(stream)) = (&mut self.channel, &mut self.stream) else { return Ok(()) };
        let flow = &mut self.back;
        if flow.wants_more() {
            flow.taken = turn.settle_io(channel.read(&mut flow.held))?.unwrap_or(0);
            flow.ended = flow.taken == 0 && channel.eof();
        }
        if !flow.rest().is_empty() {
            match stream.write(flow.rest()) {
                Ok(count) => {
                    flow.took(count);
                    turn.moved();
                }
                Err(cause) if cause.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    // Our side is gone: what comes back has no reader.
                    flow.took(flow.taken - flow.sent);
                    (flow.ended, self.out.ended) = (true, true);
                }
            }
        }
        if flow.ended && !flow.closed && flow.rest().is_empty() {
            flow.closed = true;
            _ = stream.shutdown(Shutdown::Write);
        }
        Ok(())
    }

    /// Closes the channel when both directions have ended.
    fn finish(&mut self, turn: &mut Turn<'_>) -> Result<(), Lost> {
        let (Some(channel), Some(stream)) = (&mut self.channel, &self.stream) else { return Ok(()) };
        // Our side may have closed for writing only, and still read; or be gone altogether.
        if self.out.closed && !self.back.closed && is_gone(stream) {
            self.back.closed = true;
        }
        // The other end takes no more of what there is still to say, and nobody waits for that.
        if self.back.closed && !self.out.closed && is_gone(stream) && turn.has_room() {
            self.out.closed = true;
        }
        if self.out.closed && self.back.closed && turn.has_room() && turn.settle(channel.close())?.is_some() {
            self.channel = None;
            self.stream = None;
            self.done = true;
        }
        Ok(())
    }
}

fn is_gone(stream: &UnixStream) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::empty())];
    matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1..)) && fds[0].revents().contains(PollFlags::HUP)
}
