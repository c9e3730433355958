//! This machine as a host: commands run by the local `sh`, under the same contract as over SSH.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use crate::base::error::{Error, Kind, Result};
use crate::host::transport::{Exchange, OnStdout, Output, too_much, too_slow, trim_stderr};

/// Runs one command in a process group of its own, with nothing of our environment but `PATH` and `HOME`.
pub async fn run(exchange: Exchange, on_stdout: Option<OnStdout>) -> Result<Output> {
    let deadline = exchange.deadline;
    let mut child = spawn(&exchange.command)?;
    let group = Group(child.id());
    let ended = tokio::time::timeout(deadline, attend(&mut child, exchange.input, on_stdout)).await;
    match ended {
        Ok(Ok(output)) => {
            group.release();
            Ok(output)
        }
        Ok(Err(cause)) => Err(match cause.kind() {
            std::io::ErrorKind::FileTooLarge => too_much("a local command"),
            _ => Error::new(Kind::Host, "a local command could not be followed").because(cause),
        }),
        Err(_late) => Err(too_slow("a local command", deadline)),
    }
}

/// Starts one command, with a stream as its standard input and output. It ends when it sees the end of its input.
pub fn open(command: &str) -> Result<UnixStream> {
    let failed = |cause| Error::new(Kind::Host, "cannot start `sh`").because(cause);
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let input = OwnedFd::from(theirs.try_clone().map_err(failed)?);
    let mut sh = shell(command);
    sh.stdin(input).stdout(OwnedFd::from(theirs)).stderr(Stdio::null());
    // Whoever drops the stream ends it; the runtime collects what is left.
    sh.spawn().map(|_| ours).map_err(failed)
}

fn shell(command: &str) -> Command {
    let mut sh = Command::new("sh");
    sh.args(["-c", command]).env_clear().env("LANG", "C").process_group(0);
    for name in ["PATH", "HOME"] {
        if let Some(value) = std::env::var_os(name) {
            sh.env(name, value);
        }
    }
    sh
}

fn spawn(command: &str) -> Result<Child> {
    let mut sh = shell(command);
    sh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    sh.spawn().map_err(|cause| Error::new(Kind::Host, "cannot start `sh`").because(cause))
}

/// Kills the process group unless released: at the deadline, when the caller gave up, and when nobody reads it any more.
struct Group(Option<u32>);

impl Group {
    fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let id = self.0.and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(id) = id {
            // It may have ended by itself just now: then there is nothing to kill.
            _ = rustix::process::kill_process_group(id, rustix::process::Signal::KILL);
        }
    }
}

/// Writes all input and reads all output at the same time, then waits for the end.
async fn attend(child: &mut Child, input: Vec<u8>, mut on_stdout: Option<OnStdout>) -> std::io::Result<Output> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async move {
        if let Some(mut stdin) = stdin {
            // A command that does not read all of its input is not wrong for that.
            _ = stdin.write_all(&input).await;
        }
    };
    let mut out = Vec::new();
    let mut err = Vec::new();
    let status = {
        let read_out = drain(stdout, |piece| {
            if let Some(on_stdout) = &mut on_stdout {
                on_stdout(piece);
            }
            out.extend_from_slice(piece);
            if out.len() > Output::STDOUT_MOST { Err(std::io::ErrorKind::FileTooLarge.into()) } else { Ok(()) }
        });
        let read_err = drain(stderr, |piece| {
            err.extend_from_slice(piece);
            if err.len() > 2 * Output::STDERR_KEPT {
                trim_stderr(&mut err);
            }
            Ok(())
        });
        let ended = async {
            let ((), (), status) = tokio::try_join!(read_out, read_err, child.wait())?;
            Ok::<_, std::io::Error>(status)
        };
        // Input is not waited for: whoever has ended reads no more of it.
        let mut ended = std::pin::pin!(ended);
        tokio::select! {
            status = &mut ended => status?,
            () = feed => ended.await?,
        }
    };
    trim_stderr(&mut err);
    Ok(Output { stdout: out, stderr: err, status: status_of(status) })
}

async fn drain(
    from: Option<impl AsyncRead + Unpin>,
    mut take: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer).await? {
            0 => return Ok(()),
            count => take(&buffer[..count])?,
        }
    }
}

fn status_of(status: std::process::ExitStatus) -> Result<i32, String> {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().ok_or_else(|| signal_name(status.signal().unwrap_or_default()))
}

/// The name as SSH gives it (RFC 4254, 6.10).
fn signal_name(number: i32) -> String {
    let name = match number {
        1 => "HUP",
        2 => "INT",
        3 => "QUIT",
        4 => "ILL",
        6 => "ABRT",
        8 => "FPE",
        9 => "KILL",
        10 => "USR1",
        11 => "SEGV",
        12 => "USR2",
        13 => "PIPE",
        14 => "ALRM",
        15 => "TERM",
        other => return format!("signal {other}"),
    };
    name.into()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn exchange(command: &str, input: &[u8], seconds: u64) -> Exchange {
        Exchange { command: command.into(), input: input.to_vec(), deadline: Duration::from_secs(seconds) }
    }

    #[tokio::test]
    async fn runs_with_input_output_and_status() {
        let input = vec![b'x'; 3 << 20];
        let output = run(exchange("cat; head -c 300000 /dev/zero >&2; exit 7", &input, 20), None).await.expect("runs");
        assert_eq!(output.stdout, input);
        assert_eq!(output.stderr.len(), Output::STDERR_KEPT);
        assert_eq!(output.status, Ok(7));
    }

    #[tokio::test]
    async fn does_not_wait_for_unread_input() {
        let output = run(exchange("kill -TERM $$", &vec![0; 1 << 20], 20), None).await.expect("runs");
        assert_eq!(output.status, Err("TERM".into()));
    }

    #[tokio::test]
    async fn the_environment_is_bare() {
        let output = run(exchange("env | cut -d= -f1 | sort", b"", 20), None).await.expect("runs");
        let names = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            names.lines().all(|name| ["HOME", "LANG", "PATH", "PWD", "OLDPWD", "SHLVL", "_"].contains(&name)),
            "{names}"
        );
    }

    #[tokio::test]
    async fn the_deadline_kills_the_whole_group() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let command = format!("sleep 30 & echo $! > {}; sleep 30", file.path().display());
        let begun = Instant::now();
        let late = run(exchange(&command, b"", 1), None).await.expect_err("too slow");
        assert_eq!(late.kind, Kind::Host);
        assert!(begun.elapsed() < Duration::from_secs(5));
        is_dead(file.path()).await;
    }

    #[tokio::test]
    async fn g13_a_command_that_says_too_much_is_killed_with_its_whole_group() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let command = format!("sleep 30 & echo $! > {}; cat /dev/zero", file.path().display());
        let error = run(exchange(&command, b"", 60), None).await.expect_err("too much");
        assert!(error.what.contains("512 MiB"), "{error}");
        is_dead(file.path()).await;
    }

    /// The process whose id a file holds is gone, or soon is.
    async fn is_dead(file: &std::path::Path) {
        let id = std::fs::read_to_string(file).expect("pid");
        tokio::time::sleep(Duration::from_millis(200)).await;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", id.trim())).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    }
}
