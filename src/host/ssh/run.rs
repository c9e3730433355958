//! One command on one channel, as a machine that goes forward a step at a time.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use ssh2::Channel;
use tokio::sync::oneshot;

use crate::base::error::{Error, Kind, Result};
use crate::host::ssh::actor::{Lost, Turn};
use crate::host::ssh::opening::{MANY, Refused};
use crate::host::transport::{Exchange, OnStdout, Output, too_much, too_slow, trim_stderr};

/// How much is offered to libssh2 at once.
const PIECE: usize = 64 << 10;
/// How many pieces one job may move before others have their turn.
const PIECES: usize = 32;
/// How long the goodbye of a channel may take.
const GOODBYE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Starting,
    Running,
    /// Nobody waits any more. What was begun must be finished, then the channel closed.
    Leaving,
    Done,
}

/// A command that runs on the host.
pub struct Run {
    label: String,
    exchange: Exchange,
    on_stdout: Option<OnStdout>,
    reply: Option<oneshot::Sender<Result<Output>>>,
    phase: Phase,
    channel: Option<Channel>,
    until: Instant,
    refused: Refused,
    written: usize,
    /// The last write is to be repeated as it was.
    write_pending: bool,
    eof_sent: bool,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    buffer: Vec<u8>,
}

impl Run {
    /// A command to be run, and where its output goes.
    pub fn new(
        label: &str,
        exchange: Exchange,
        on_stdout: Option<OnStdout>,
        reply: oneshot::Sender<Result<Output>>,
    ) -> Self {
        let until = Instant::now() + exchange.deadline;
        Run {
            label: label.to_string(),
            exchange,
            on_stdout,
            reply: Some(reply),
            phase: Phase::Opening,
            channel: None,
            until,
            refused: Refused::default(),
            written: 0,
            write_pending: false,
            eof_sent: false,
            stdout: Vec::new(),
            stderr: Vec::new(),
            buffer: vec![0; PIECE],
        }
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Whether the channel is yet to be opened.
    pub fn is_opening(&self) -> bool {
        self.channel.is_none() && self.phase != Phase::Done
    }

    /// Whether somebody waits for it.
    pub fn is_wanted(&self) -> bool {
        self.reply.is_some()
    }

    /// When something is to be decided even if nothing happens.
    pub fn wakes_at(&self) -> Instant {
        let again = self.refused.wakes_at().filter(|_| self.phase == Phase::Opening);
        again.map_or(self.until, |again| again.min(self.until))
    }

    /// Ends it with an error.
    pub fn fail(&mut self, error: Error) {
        self.answer(Err(error));
        self.phase = Phase::Done;
    }

    fn answer(&mut self, result: Result<Output>) {
        if let Some(reply) = self.reply.take() {
            // Whoever asked may have gone.
            _ = reply.send(result);
        }
    }

    /// Goes forward as far as possible.
    pub fn step(&mut self, turn: &mut Turn<'_>) -> Result<(), Lost> {
        self.check_wanted(turn);
        if self.phase == Phase::Leaving {
            return self.leave(turn);
        }
        if self.phase == Phase::Opening {
            self.open(turn)?;
        }
        if self.phase == Phase::Starting {
            self.start(turn)?;
        }
        if self.phase == Phase::Running {
            self.write(turn)?;
            self.read(turn)?;
            self.end(turn)?;
        }
        Ok(())
    }

    /// Gives the command up at its deadline, or when nobody waits for it any more.
    fn check_wanted(&mut self, turn: &Turn<'_>) {
        if matches!(self.phase, Phase::Leaving | Phase::Done) {
            return;
        }
        let late = Instant::now() >= self.until;
        if late {
            let late = too_slow(&format!("a command on {}", self.label), self.exchange.deadline);
            let kind = if turn.unanswered { Kind::Unreachable } else { late.kind };
            self.answer(Err(Error { kind, ..late }));
        }
        if late || self.reply.as_ref().is_none_or(oneshot::Sender::is_closed) {
            self.leave_from_now();
        }
    }

    /// Drops what was to be written. It may be large, and have secrets in it, and the host may take long now.
    fn forget_input(&mut self) {
        (self.exchange.input, self.written) = (Vec::new(), 0);
    }

    fn leave_from_now(&mut self) {
        if !self.write_pending {
            self.forget_input();
        }
        self.reply = None;
        self.phase = Phase::Leaving;
        self.until = Instant::now() + GOODBYE;
    }

    fn open(&mut self, turn: &mut Turn<'_>) -> Result<(), Lost> {
        if self.refused.waits() {
            return Ok(());
        }
        match turn.settle(turn.session.channel_session())? {
            Some(Ok(channel)) => {
                turn.opening_taken = false;
                self.channel = Some(channel);
                self.phase = Phase::Starting;
            }
            Some(Err(_)) if self.refused.may_ask_again() => turn.opening_taken = false,
            Some(Err(cause)) => {
                let error = Error::new(Kind::Host, format!("{} opens no further session", self.label))
                    .hint(MANY)
                    .because(cause.to_string());
                self.fail(error);
            }
            None => {}
        }
        Ok(())
    }

    fn start(&mut self, turn: &mut Turn<'_>) -> Result<(), Lost> {
        let Some(channel) = &mut self.channel else { return Ok(()) };
        match turn.settle(channel.exec(&self.exchange.command))? {
            Some(Ok(())) => self.phase = Phase::Running,
            Some(Err(cause)) => {
                let error = Error::new(Kind::Host, format!("{} starts no command", self.label))
                    .hint("does the account have a shell, and may it run commands over SSH?")
                    .because(cause.to_string());
                self.answer(Err(error));
                self.leave_from_now();
            }
            None => {}
        }
        Ok(())
    }

    fn write(&mut self, turn: &mut Turn<'_>) -> Result<(), Lost> {
        let Some(channel) = &mut self.channel else { return Ok(()) };
        for _ in 0..PIECES {
            let rest = &self.exchange.input[self.written..];
            if rest.is_empty() {
                break;
            }
            let piece = &rest[..rest.len().min(PIECE)];
            let written = turn.settle_io(channel.write(piece))?;
            self.write_pending = written.is_none();
            let Some(count) = written else { return Ok(()) };
            self.written += count;
        }
        let all = self.written == self.exchange.input.len();
        if all && !self.eof_sent && turn.has_room() {
            let sent = channel.send_eof();
            // A command that has ended already takes no end-of-file: that is no error.
            self.eof_sent = turn.settle(sent)?.is_some();
        }
        if self.eof_sent {
            self.forget_input();
        }
        Ok(())
    }

    fn read(&mut self, turn: &mut Turn<'_>) -> Result<(), Lost> {
        let Some(channel) = &mut self.channel else { return Ok(()) };
        for _ in 0..PIECES {
            let Some(count) = turn.settle_io(channel.read(&mut self.buffer))? else { break };
            let piece = &self.buffer[..count];
            if let Some(on_stdout) = &mut self.on_stdout {
                on_stdout(piece);
            }
            self.stdout.extend_from_slice(piece);
            if self.stdout.len() > Output::STDOUT_MOST {
                self.stdout = Vec::new();
                self.answer(Err(too_much(&self.label)));
                self.leave_from_now();
                return Ok(());
            }
        }
        // Standard error shares the channel's window: undrained, it stops standard output too.
        let mut errors = channel.stderr();
        for _ in 0..PIECES {
            let Some(count) = turn.settle_io(errors.read(&mut self.buffer))? else { break };
            self.stderr.extend_from_slice(&self.buffer[..count]);
            if self.stderr.len() > 2 * Output::STDERR_KEPT {
                trim_stderr(&mut self.stderr);
            }
        }
        Ok(())
    }

    /// Answers once the host has closed the channel: only then the exit status is known.
    fn end(&mut self, turn: &mut Turn<'_>) -> Result<(), Lost> {
        let Some(channel) = &mut self.channel else { return Ok(()) };
        if !channel.eof() || turn.settle(channel.wait_close())?.is_none() {
            return Ok(());
        }
        // First the signal: a command that was killed has an exit status of 0 here.
        let signal = channel.exit_signal().ok().and_then(|signal| signal.exit_signal);
        let status = signal.map_or_else(|| Ok(channel.exit_status().unwrap_or(-1)), Err);
        let (stdout, mut stderr) = (std::mem::take(&mut self.stdout), std::mem::take(&mut self.stderr));
        trim_stderr(&mut stderr);
        self.answer(Ok(Output { stdout, stderr, status }));
        self.leave_from_now();
        self.leave(turn)
    }

    fn leave(&mut self, turn: &mut Turn<'_>) -> Result<(), Lost> {
        if Instant::now() >= self.until {
            self.phase = Phase::Done;
            return Ok(());
        }
        let Some(channel) = &mut self.channel else {
            // The opening that is under way cannot be taken back.
            return self.open(turn).map(|()| {
                if self.phase == Phase::Starting {
                    self.phase = Phase::Leaving;
                    turn.moved();
                }
            });
        };
        if self.write_pending {
            let rest = &self.exchange.input[self.written..];
            let written = turn.settle_io(channel.write(&rest[..rest.len().min(PIECE)]))?;
            // Still not done, but not for want of room in the socket: then nothing of it was sent at all.
            self.write_pending = written.is_none() && !turn.has_room();
        }
        if !self.write_pending && turn.has_room() && turn.settle(channel.close())?.is_some() {
            self.channel = None;
            self.phase = Phase::Done;
        }
        Ok(())
    }
}
