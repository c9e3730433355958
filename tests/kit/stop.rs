//! Stops a host program at any one of its commands: no part of the product, but bash's own trap.
//!
//! A program is started as `sh -c …`, and `sh` is found by its name. So a `sh` that comes first can have bash run it,
//! with a trap before each simple command (`hook.sh`).

use crate::kit::Host;

const FOLDER: &str = "/run/reconcile-hook";
const SH: &str = "#!/bin/bash
case \"$1 $2\" in '-c program='*) [ ! -e /run/reconcile-hook/at ] || exec /bin/bash -c \". /run/reconcile-hook/hook.sh
$2\" ;; esac
exec /bin/sh \"$@\"
";

/// What happens at the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The program dies there, with all of its shells.
    Kill,
    /// It waits there until it is let go.
    Hold,
}

/// Stops a program of a host, which is held by nobody else meanwhile.
pub struct Stop<'a> {
    host: &'a Host,
    from: &'static str,
}

impl<'a> Stop<'a> {
    /// What writes to the host is to be stopped; nothing is yet.
    pub fn on(host: &'a Host) -> Stop<'a> {
        Stop::from(host, "apply drain")
    }

    /// What calls one of these functions is to be stopped, once it has done so.
    pub fn from(host: &'a Host, from: &'static str) -> Stop<'a> {
        let put = |path: &str, text: &str| host.sh(&format!("cat >{path} <<'TEXT'\n{text}TEXT\n"));
        host.sh(&format!("rm -rf {FOLDER}; mkdir {FOLDER}"));
        put(&format!("{FOLDER}/hook.sh"), include_str!("hook.sh"));
        put("/usr/local/bin/sh", SH);
        host.sh("chmod 755 /usr/local/bin/sh");
        Stop { host, from }
    }

    /// Nothing that confirms a run gets through.
    pub fn unconfirmed(&self) {
        self.host.sh(&format!("touch {FOLDER}/unconfirmed"));
    }

    /// The next one stops at the command with this number among those that match a pattern. At 0 it only counts.
    pub fn at(&self, number: usize, pattern: &str, how: How) {
        let how = if how == How::Kill { "kill" } else { "hold" };
        self.host.sh(&format!(
            "cd {FOLDER}; rm -f where; echo 0 >count; echo '{}' >from; echo '{pattern}' >on; echo {how} >how; \
            echo {number} >at",
            self.from
        ));
    }

    /// Waits until it stands at that command.
    pub fn reached(&self) {
        self.host.until(&format!("[ -s {FOLDER}/where ]"));
    }

    /// Nothing is stopped any more, and what stands goes on. Says how many commands there were, and at which it stopped.
    pub fn release(&self) -> (usize, String) {
        // Who counts empties the file first.
        let said = self.host.sh(&format!(
            "cd {FOLDER}; rm -f at; until [ -s count ]; do sleep 0.1; done; cat count; cat where 2>/dev/null; true"
        ));
        let (count, place) = said.split_once('\n').unwrap_or_default();
        (count.parse().expect("a number"), place.trim().into())
    }
}

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.host.try_sh(&format!("rm -rf {FOLDER} /usr/local/bin/sh"));
    }
}
