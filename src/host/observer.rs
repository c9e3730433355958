//! The program that says how a host is, staying there between two looks: the second look of a plan starts no shell, nor
//! does the next plan of a program that stays itself. What it was asked last it knows, so to look at the same again is
//! one line there and one answer back.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::base::error::{Error, Kind, Result};
use crate::host::program::Program;
use crate::host::transport::{Connection, too_slow};

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

    async fn tell(&mut self, words: &[u8], deadline: Duration) -> Result<Vec<u8>> {
        let heard = tokio::time::timeout(deadline, async {
            self.stream.write_all(words).await?;
            let mut answer = Vec::new();
            while !answer.ends_with(END) {
                if self.stream.read_buf(&mut answer).await? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
            }
            Ok(answer)
        });
        heard.await.map_err(|_late| too_slow("a look", deadline))?.map_err(broken)
    }
}

fn broken(cause: std::io::Error) -> Error {
    Error::new(Kind::Host, "our program does not stay on the host").because(cause)
}
