//! The programs that run on a host, and how they get there: as the first lines of standard input.

use std::time::Duration;

use crate::host::transport::Exchange;

const COMMON: &str = include_str!("programs/common.sh");
const OBSERVE: &str = include_str!("programs/observe.sh");
const PREFLIGHT: &str = include_str!("programs/preflight.sh");
const APPLY: &str = include_str!("programs/apply.sh");
const CHECKS: &str = include_str!("programs/checks.sh");
const PATHS: &str = include_str!("programs/paths.sh");
const PLANNED: &str = include_str!("programs/planned.sh");
const RECEIVE: &str = include_str!("programs/receive.sh");
const CONTAINERS: &str = include_str!("programs/containers.sh");
const DEBTS: &str = include_str!("programs/debts.sh");
const REVERT: &str = include_str!("programs/revert.sh");
const CONFIRM: &str = include_str!("programs/confirm.sh");
const HALT: &str = include_str!("programs/halt.sh");
const HOLD: &str = include_str!("programs/hold.sh");
const DRAIN: &str = include_str!("programs/drain.sh");
const BUILD: &str = include_str!("programs/build.sh");
const DISCOVER: &str = include_str!("programs/discover.sh");

/// How many bytes of a program the shell reads by itself: that takes a system call for each, but no process.
const SHORT: usize = 2000;

/// Reads the program from standard input, exactly so many bytes that nothing after it is swallowed, defines its
/// functions, and calls `main`. What follows on standard input is its data.
fn loader(length: usize) -> String {
    let load = if length > SHORT {
        format!("program=$(dd bs={length} count=1 iflag=fullblock 2>/dev/null)")
    } else {
        // No newline of its own: not every login shell takes one between quotes.
        let end = r#"n=$(printf "\n."); n=${n%.}"#;
        format!(
            "program=; {end}; while [ ${{#program}} -lt {length} ] && read -r line; do program=$program$line$n; done"
        )
    };
    format!(r#"sh -c '{load}; eval "$program"; main'"#)
}

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Says how the host is.
    Observe,
    /// The same, again and again.
    Stay,
    /// The same once, and has a candidate tree judged by the host's own validators.
    Inspect,
    /// Changes the host, or repairs what a dead run left.
    Apply,
    /// Tells a waiting run that its host can still be reached.
    Confirm,
    /// Tells a run to begin no further transaction.
    Halt,
    /// Holds a stack back, or releases it.
    Hold,
    /// Takes servers out of nginx's pools, and puts them back.
    Drain,
    /// Builds images.
    Build,
    /// Says what was set up there by hand.
    Discover,
}

impl Program {
    /// The program's text, without comments.
    pub(super) fn text(self) -> String {
        let (parts, main): (&[&str], &str) = match self {
            Program::Observe => (&[COMMON, OBSERVE], "observe"),
            Program::Stay => (&[COMMON, OBSERVE], "stay"),
            Program::Inspect => (&[COMMON, OBSERVE, PREFLIGHT], "observe; preflight"),
            Program::Apply => (
                &[COMMON, PREFLIGHT, CHECKS, CONTAINERS, PLANNED, RECEIVE, DEBTS, PATHS, REVERT, APPLY],
                "apply; unlock",
            ),
            Program::Confirm => (&[COMMON, CONFIRM], "confirm || exit"),
            Program::Halt => (&[COMMON, HALT], "halt || exit"),
            Program::Hold => (&[COMMON, APPLY, HOLD], "hold; unlock"),
            Program::Drain => (&[COMMON, CHECKS, CONTAINERS, DEBTS, APPLY, DRAIN], "drain; unlock"),
            Program::Build => (&[COMMON, RECEIVE, BUILD], "build"),
            Program::Discover => (&[COMMON, DISCOVER], "discover"),
        };
        let mut text: String = parts
            .iter()
            .flat_map(|part| part.lines())
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .flat_map(|line| [line, "\n"])
            .collect();
        for part in ["work() { ", main, "; }\nmain() { work; printf '[end]\\n'; }\n"] {
            text.push_str(part);
        }
        text
    }

    /// One run of the program with `input` as its data.
    pub fn exchange(self, input: &[u8], sudo: bool, deadline: Duration) -> Exchange {
        let mut bytes = self.text().into_bytes();
        let loader = loader(bytes.len());
        bytes.extend_from_slice(input);
        let command = if sudo { format!("sudo -n {loader}") } else { loader };
        Exchange { command, input: bytes, deadline }
    }
}
