//! One host during a run: its connection, and what it has told us.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use tokio::sync::{Notify, watch};

use crate::apply::answer::Answer;
use crate::apply::{Run, naming};
use crate::base::error::{Error, Kind, Result};
use crate::base::id::HostName;
use crate::engine::pool::Pool;
use crate::host::answer;
use crate::host::observation::Observation;
use crate::host::observer::{END, Observer};
use crate::host::program::Program;
use crate::host::transport::{Connection, Exchange, Prompt, Target};
use crate::observe::Place;

/// How long connecting may take.
pub const CONNECT: Duration = Duration::from_secs(20);
/// How long a connection that was silent may take for a sign of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// How long a host may take to say how it is.
const OBSERVE: Duration = Duration::from_mins(2);
/// How long to wait before the host is tried again for its confirmation.
const AGAIN: Duration = Duration::from_millis(300);
/// How long one apply may take on a host; each step has its own, shorter deadline there.
const APPLY: Duration = Duration::from_hours(1);

/// An open session with one host.
pub struct Session {
    /// The host.
    pub host: HostName,
    /// Where its paths really are.
    pub place: Place,
    /// What it was like when it was last looked at.
    pub seen: Observation,
    /// How many exchanges there have been.
    pub exchanges: usize,
    target: Target,
    prompt: Arc<dyn Prompt>,
    connection: Arc<Connection>,
    observer: Option<Observer>,
    sudo: bool,
}

/// How one apply went, as far as it was heard.
pub struct Heard {
    /// What the host said.
    pub answer: Answer,
    /// The link was lost, or the deadline passed.
    pub lost: Option<Error>,
}

impl Session {
    /// Connects to a host, or goes on with a connection of `pool`. A relative root directory of a local host is taken
    /// from `base`.
    pub async fn open(
        host: &HostName,
        target: &Target,
        base: Option<&Utf8PathBuf>,
        prompt: Arc<dyn Prompt>,
        pool: Option<&Pool>,
    ) -> Result<Session> {
        let (root, sudo) = match target {
            Target::Local { root, sudo } => (root.clone(), *sudo),
            Target::Ssh(ssh) => (None, ssh.sudo),
        };
        let root = root.map(|root| make_root(root, base)).transpose()?;
        let connection = match pool {
            Some(pool) => pool.connect(host, target, prompt.clone()).await?,
            None => Arc::new(Connection::connect(target, prompt.clone(), CONNECT).await?),
        };
        Ok(Session {
            host: host.clone(),
            place: Place { root },
            seen: Observation::default(),
            exchanges: 0,
            target: target.clone(),
            prompt,
            connection,
            observer: None,
            sudo,
        })
    }

    /// Makes sure that the connection still works; if it does not, a new one takes its place.
    pub async fn renew(&mut self) -> Result<()> {
        if !is_alive(&self.connection).await {
            self.observer = None;
            self.connection = Arc::new(Connection::connect(&self.target, self.prompt.clone(), CONNECT).await?);
        }
        Ok(())
    }

    /// Whether nothing is activated on this host.
    pub fn is_offline(&self) -> bool {
        self.place.root.is_some()
    }

    /// Whether the way to the host can break.
    pub fn is_remote(&self) -> bool {
        matches!(self.target, Target::Ssh(_))
    }

    /// The connection, for what goes over it besides our programs.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Whether one becomes root there with `sudo`.
    pub fn is_sudo(&self) -> bool {
        self.sudo
    }

    /// Asks the host how it is, by a program that only reads.
    pub async fn ask(&mut self, program: Program, request: &[u8]) -> Result<Observation> {
        if let Some(mut observer) = self.observer.take() {
            let begun = Instant::now();
            match observer.aside(program, request, OBSERVE).await {
                Ok(answer) => {
                    self.exchanges += 1;
                    self.observer = Some(observer);
                    return self.understand(&answer);
                }
                Err(error) if begun.elapsed() < OBSERVE => {
                    tracing::debug!(target: "observe", host = %self.host, %error);
                }
                Err(error) => return Err(error),
            }
        }
        let answer = self.hear(program, request).await?;
        self.understand(&answer)
    }

    /// The same as asking [`Program::Observe`], by one that stays there for the next look. Local hosts need none: to
    /// start a shell is all that a look costs there.
    pub async fn look(&mut self, request: &[u8]) -> Result<Observation> {
        if !self.is_remote() {
            return self.ask(Program::Observe, request).await;
        }
        let begun = Instant::now();
        let looked = match self.observer.take() {
            Some(mut observer) => observer.look(request, OBSERVE).await.map(|answer| (observer, answer)),
            None => Observer::start(&self.connection, request, self.sudo, OBSERVE).await,
        };
        match looked {
            Ok((observer, answer)) => {
                self.exchanges += 1;
                self.observer = Some(observer);
                self.understand(&answer)
            }
            // One that does not stay says less of why than one that ends. A host that has had all its time gets no more.
            Err(error) if begun.elapsed() < OBSERVE => {
                tracing::debug!(target: "observe", host = %self.host, %error);
                self.ask(Program::Observe, request).await
            }
            Err(error) => Err(error),
        }
    }

    /// Looks by who stayed on the host, if anybody did.
    pub fn goes_on(&mut self, pool: Option<&Pool>) {
        self.observer = pool.and_then(|pool| pool.take_observer(&self.host));
    }

    /// Nothing is to be done. Who stays on the host waits there for the next plan, if there may be one.
    pub fn has_looked(&mut self, next: Option<&Pool>) {
        if let (Some(observer), Some(pool)) = (self.observer.take(), next) {
            pool.keep_observer(&self.host, &self.connection, observer);
        }
    }

    /// Nobody stays on the host: an sshd may allow one session at a time.
    pub fn make_room(&mut self) {
        self.observer = None;
    }

    fn understand(&self, answer: &[u8]) -> Result<Observation> {
        tracing::trace!(target: "observe", host = %self.host, answer = %without_contents(answer));
        answer::parse(answer).map(|seen| self.place.translate(seen))
    }

    /// Runs a program that only reads, and gives its whole answer.
    pub async fn hear(&mut self, program: Program, request: &[u8]) -> Result<Vec<u8>> {
        self.exchanges += 1;
        self.observer = None;
        let exchange = program.exchange(request, self.sudo, OBSERVE);
        let output = self.connection.run(exchange, None).await?;
        if output.status != Ok(0) || !output.stdout.ends_with(END) {
            return Err(self.program_failed(&output.stderr));
        }
        Ok(output.stdout)
    }

    /// Runs a program that changes nothing of what runs there, and gives its whole answer.
    pub async fn tell_alone(&self, program: Program, input: &[u8], deadline: Duration) -> Result<Vec<u8>> {
        let output = self.connection.run(program.exchange(input, self.sudo, deadline), None).await?;
        if output.status != Ok(0) || !output.stdout.ends_with(END) {
            return Err(self.program_failed(&output.stderr));
        }
        Ok(output.stdout)
    }

    /// Has the host carry out what `input` says. The answer is heard as it comes; `on_step` learns of each new step.
    /// When the host asks for it, the run is confirmed over a fresh connection. Once `interrupted` is true, the host
    /// is told to begin nothing further.
    pub async fn apply(
        &mut self,
        input: &[u8],
        run: &Run<'_>,
        on_step: impl Fn(usize) + Send + Sync + 'static,
        mut interrupted: watch::Receiver<bool>,
    ) -> Heard {
        self.exchanges += 1;
        let observer = self.observer.take();
        let answer = Arc::new(Mutex::new(Answer::default()));
        let asked = Arc::new(Notify::new());
        let (listener, asking) = (answer.clone(), asked.clone());
        let hear = move |bytes: &[u8]| {
            let mut answer = lock(&listener);
            let before = (answer.step, answer.wants_confirmation);
            answer.hear(bytes);
            if let Some(step) = answer.step.filter(|_| answer.step != before.0) {
                on_step(step);
            }
            if answer.wants_confirmation && !before.1 {
                asking.notify_one();
            }
        };
        let confirming = async {
            asked.notified().await;
            // sshd may need a moment to come back after the change. In the end the host goes back by itself, and says so.
            while let Err(error) = self.confirm(run).await {
                tracing::warn!(target: "apply", host = %self.host, %error, "not confirmed yet");
                tokio::time::sleep(AGAIN).await;
            }
            std::future::pending::<Result<Vec<u8>>>().await
        };
        let halting = async {
            // Without its other end it never becomes true.
            if interrupted.wait_for(|interrupted| *interrupted).await.is_ok()
                && let Err(error) = self.tell(&self.connection, Program::Halt, run).await
            {
                tracing::warn!(target: "apply", host = %self.host, %error, "it goes on to the end");
            }
            std::future::pending::<Result<Vec<u8>>>().await
        };
        let result = tokio::select! {
            result = self.run_apply(observer, input, hear) => result,
            never = confirming => never,
            never = halting => never,
        };
        let answer = lock(&answer).clone();
        let lost = match result {
            Err(error) => Some(error),
            Ok(stderr) if !answer.ended && answer.locked.is_none() && answer.broken.is_none() => {
                Some(self.program_failed(&stderr))
            }
            Ok(_) => None,
        };
        Heard { answer, lost }
    }

    /// Runs the program that writes to its end, by who stays on the host if anybody does. Gives what it has said on
    /// standard error, where that is heard.
    async fn run_apply(
        &self,
        observer: Option<Observer>,
        input: &[u8],
        mut hear: impl FnMut(&[u8]) + Send + 'static,
    ) -> Result<Vec<u8>> {
        if let Some(observer) = observer
            && observer.instead(Program::Apply, input, APPLY, &mut hear).await?
        {
            // What ended may be the connection, which knows why.
            if !self.connection.is_open() {
                self.connection.run(nothing(), None).await?;
            }
            return Ok(Vec::new());
        }
        // Nobody was there any more, and nothing has begun.
        let exchange = Program::Apply.exchange(input, self.sudo, APPLY);
        self.connection.run(exchange, Some(Box::new(hear))).await.map(|output| output.stderr)
    }

    /// Proves over a fresh connection that the host can still be reached, and says so to the waiting run.
    async fn confirm(&self, run: &Run<'_>) -> Result<()> {
        let connection = Connection::connect(&self.target, self.prompt.clone(), CONNECT).await?;
        let told = self.tell(&connection, Program::Confirm, run).await;
        connection.close().await;
        told
    }

    /// Says a word to a run that is at work.
    async fn tell(&self, connection: &Connection, word: Program, run: &Run<'_>) -> Result<()> {
        let exchange = word.exchange(&naming(&self.seen, run), self.sudo, OBSERVE);
        let output = connection.run(exchange, None).await?;
        if output.status == Ok(0) { Ok(()) } else { Err(self.program_failed(&output.stderr)) }
    }

    fn program_failed(&self, stderr: &[u8]) -> Error {
        let said = String::from_utf8_lossy(stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        let error = Error::new(Kind::Host, format!("our program could not run on {}: {last}", self.host));
        error.hint(if said.contains("sudo") {
            "let this user run `sudo -n sh`, or connect as root"
        } else {
            "the host needs a POSIX shell and coreutils"
        })
    }
}

/// Whether a connection gives a sign of life.
pub async fn is_alive(connection: &Connection) -> bool {
    connection.is_open() && connection.run(nothing(), None).await.is_ok()
}

fn nothing() -> Exchange {
    Exchange { command: "true".into(), input: Vec::new(), deadline: SIGN_OF_LIFE }
}

/// What a host said, for the log: without the bytes of files and the words of other programs, which may be secret.
fn without_contents(answer: &[u8]) -> String {
    let mut inside = false;
    let said = String::from_utf8_lossy(answer);
    let lines = said.lines().filter(|line| {
        let hidden = inside || line.starts_with("| ");
        inside = if inside { *line != "." } else { line.starts_with("content ") };
        !hidden
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A root directory as an absolute path; it is made if it is not there.
fn make_root(root: Utf8PathBuf, base: Option<&Utf8PathBuf>) -> Result<Utf8PathBuf> {
    let root = match base {
        Some(base) => base.join(root),
        None => root,
    };
    let failed = |cause: std::io::Error| {
        let error = Error::new(Kind::Host, format!("the root directory {root} cannot be used")).because(cause);
        error.hint("check `root` of this host")
    };
    std::fs::create_dir_all(&root).map_err(failed)?;
    root.canonicalize_utf8().map_err(failed)
}

fn lock(answer: &Mutex<Answer>) -> std::sync::MutexGuard<'_, Answer> {
    answer.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
