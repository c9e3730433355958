//! The program that says how a host is, staying there between two looks: the second look of a plan starts no shell, nor
//! does the next plan of a program that stays itself. What it was asked last it knows, so to look at the same again is
//! one line there and one answer back. Who is there already also starts the programs that follow.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::base::error::{Error, Kind, Result};
use crate::host::program::Program;
use crate::host::transport::{Connection, Output, too_much, too_slow};

/// What ends each answer.
pub const END: &[u8] = b"[end]\n";

/// One that waits on its host for the next look. It goes when it is dropped, or its connection is.
pub struct Observer {
    stream: UnixStream,
    request: Vec<u8>,
}

impl Observer {
    /// Starts one that looks at what `request` says, and gives its first answer. `deadline` is for all of it.
    ///
    /// Fails with [`Kind::Host`] if it cannot be started or says nothing, and why is in the log; or as
    /// [`Connection::open_command`] does.
    pub async fn start(
        connection: &Connection,
        request: &[u8],
        sudo: bool,
        deadline: Duration,
    ) -> Result<(Observer, Vec<u8>)> {
        let exchange = Program::Stay.exchange(request, sudo, deadline);
        let stream = connection.open_command(&exchange.command, deadline).await?;
        let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream)).map_err(broken)?;
        let mut observer = Observer { stream, request: request.to_vec() };
        let answer = observer.tell(&exchange.input, deadline).await?;
        Ok((observer, answer))
    }

    /// Has it look at what `request` says now. Fails as [`Observer::start`] does; it is of no use any more then.
    pub async fn look(&mut self, request: &[u8], deadline: Duration) -> Result<Vec<u8>> {
        if self.request == request {
            return self.tell(b"look\n", deadline).await;
        }
        self.request = request.to_vec();
        self.tell(request, deadline).await
    }

    /// Has another program run there that only reads, and gives its answer. Fails as [`Observer::start`] does.
    pub async fn aside(&mut self, program: Program, input: &[u8], deadline: Duration) -> Result<Vec<u8>> {
        let text = program.text();
        let head = format!("aside {} {}\n", text.len(), input.len());
        self.tell(&[head.as_bytes(), text.as_bytes(), input].concat(), deadline).await
    }

    /// Becomes another program, whose answer is heard as it comes. Gives whether there was one: the stream does not say how
    /// a program ended. Fails where the deadline passes.
    pub async fn instead(
        self,
        program: Program,
        input: &[u8],
        deadline: Duration,
        mut hear: impl FnMut(&[u8]),
    ) -> Result<bool> {
        let text = program.text();
        let words = [format!("instead {}\n", text.len()).as_bytes(), text.as_bytes(), input].concat();
        let (mut from, mut to) = self.stream.into_split();
        let telling = async {
            _ = to.write_all(&words).await;
            drop(to);
        };
        let hearing = async {
            let (mut heard, mut answered) = (vec![0; 8192], false);
            while let Ok(count @ 1..) = from.read(&mut heard).await {
                answered = true;
                hear(&heard[..count]);
            }
            answered
        };
        let both = async {
            let mut hearing = std::pin::pin!(hearing);
            tokio::select! {
                // One that ends early does not read it all, and what it has said is what counts.
                answered = &mut hearing => answered,
                () = telling => hearing.await,
            }
        };
        tokio::time::timeout(deadline, both).await.map_err(|_late| too_slow("a program", deadline))
    }

    async fn tell(&mut self, words: &[u8], deadline: Duration) -> Result<Vec<u8>> {
        let (mut from, mut to) = self.stream.split();
        // It may say much before it has read all: whoever waited for that would wait for ever.
        let telling = to.write_all(words);
        let hearing = async {
            let mut answer = Vec::new();
            while !is_whole(&answer) {
                if from.read_buf(&mut answer).await? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                if answer.len() > Output::STDOUT_MOST {
                    return Err(std::io::ErrorKind::FileTooLarge.into());
                }
            }
            Ok(answer)
        };
        let both = async { tokio::try_join!(telling, hearing).map(|((), answer)| answer) };
        tokio::time::timeout(deadline, both).await.map_err(|_late| too_slow("a look", deadline))?.map_err(broken)
    }
}

/// Whether an answer has come to its end, which is a line of its own: a path may end like it.
fn is_whole(answer: &[u8]) -> bool {
    answer.strip_suffix(END).is_some_and(|before| before.is_empty() || before.ends_with(b"\n"))
}

fn broken(cause: std::io::Error) -> Error {
    if cause.kind() == std::io::ErrorKind::FileTooLarge {
        return too_much("a look");
    }
    Error::new(Kind::Host, "our program does not stay on the host").because(cause)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::host::answer;
    use crate::host::transport::{Nobody, Target};

    const SOON: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn who_stays_runs_other_programs_and_becomes_one() {
        let target = Target::Local { root: None, sudo: false };
        let connection = Connection::connect(&target, Arc::new(Nobody), SOON).await.expect("this machine");
        let about = |path: &str| format!("paths {}\n{path}\nlook\n", path.len() + 1).into_bytes();
        let sees = |answer: Vec<u8>, path: &str| {
            assert!(
                answer::parse(&answer).expect("an answer").paths.contains_key(camino::Utf8Path::new(path)),
                "{path}"
            );
        };
        let (mut observer, first) = Observer::start(&connection, &about("/etc"), false, SOON).await.expect("it stays");
        sees(first, "/etc");
        // It reads none of this, and none of this is taken for what comes next.
        let much = b"look\naside 1 1\n".repeat(10_000);
        for _ in 0..2 {
            let found = observer.aside(Program::Discover, &much, SOON).await.expect("it answers");
            assert!(found.ends_with(END));
            sees(observer.look(&about("/usr"), SOON).await.expect("it is still there"), "/usr");
            sees(observer.look(&about("/usr"), SOON).await.expect("and knows what it was asked"), "/usr");
        }
        let nothing = observer.aside(Program::Inspect, b"look\ntar\n", SOON).await.expect("it answers");
        assert!(answer::parse(&nothing).expect("an answer").paths.is_empty(), "what it was not asked is not looked at");
        let told = [about("/var"), b"tar\n".to_vec()].concat();
        sees(observer.aside(Program::Inspect, &told, SOON).await.expect("it reads what is its own"), "/var");
        // Much to say, and much to read after that.
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), vec![b'x'; 2 << 20]).expect("written");
        let mut told = format!("content {}\n", file.path().display()).repeat(3).into_bytes();
        told.extend(b"look\ntar\n");
        told.extend(vec![0; 8 << 20]);
        let found = observer.aside(Program::Inspect, &told, SOON).await.expect("nobody waits for the other");
        assert!(found.len() > 6 << 20);
        let mut heard = Vec::new();
        let answered =
            observer.instead(Program::Observe, &about("/bin"), SOON, |said| heard.extend_from_slice(said)).await;
        assert!(answered.expect("in time"));
        sees(heard, "/bin");
    }

    #[test]
    fn an_answer_ends_with_a_line_of_its_own() {
        assert!(is_whole(b"[end]\n") && is_whole(b"[paths]\na /x\n[end]\n"));
        assert!(!is_whole(b"[paths]\na /x[end]\n") && !is_whole(b"[end]\na") && !is_whole(b""));
    }

    #[tokio::test]
    async fn who_is_gone_becomes_nothing() {
        let target = Target::Local { root: None, sudo: false };
        let connection = Connection::connect(&target, Arc::new(Nobody), SOON).await.expect("this machine");
        let stream = connection.open_command("exit 1", SOON).await.expect("a stream");
        stream.set_nonblocking(true).expect("it can be set");
        let stream = UnixStream::from_std(stream).expect("within a runtime");
        let gone = Observer { stream, request: Vec::new() };
        assert!(
            !gone
                .instead(Program::Apply, &vec![b'x'; 1 << 20], SOON, |_| panic!("nobody speaks"))
                .await
                .expect("in time")
        );
    }
}
