//! 6: the journal of a run that died while switching is torn anywhere: whatever is left of it, `recover` harms nothing
//! that is not the run's own.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::{SHELLS, in_apply};

/// What the run does, a step a line: `T` is where, and `S` its staging directory there.
const STEPS: &str = "durable S/0/same S/0/link S/0/names
keep S/0.old T/same T/link T/goes
mkdir 755 - - T/made T/made/inner
above 755 - - T/there T/there/inner
tree S/1/fresh T/fresh T/fresh T/fresh/deep
within S/1/fresh T/fresh T/fresh/deep/file
remove T/goes
move T S/0.old S/0/same S/0/link S/0/names
sync T
";
/// The paths that the run changes, each with what it is before and after.
const OWN: [(&str, Option<&str>, Option<&str>); 6] = [
    ("tops/same", Some("former same"), Some("new same")),
    ("tops/link", Some("-> former"), Some("-> new")),
    ("tops/goes", Some("former goes"), None),
    ("tops/names", None, Some("new names")),
    ("tops/fresh/deep/file", None, Some("new file")),
    ("state/r/ledger/t", Some("former ledger"), Some("claims")),
];

/// Directories that had come by the time the run wanted them, and in which it made another; and their mode before.
const CAME: [&str; 2] = ["tops/made", "tops/there"];
const MODE: u32 = 0o700;

/// Nothing outside of `$root` is touched, also where the program would; and the disk takes its time for nothing.
const GUARDED: &str = r#"
    sync() { :; }
    outside() {
      for named; do case $named in -* | "$root"/*) ;; *) printf 'outside: %s\n' "$named" && return 0 ;; esac; done
      return 1
    }
    rm() { if outside "$@"; then return 1; fi; command rm "$@"; }
    mv() { if outside "$@"; then return 1; fi; command mv "$@"; }
    rmdir() { if outside "$@"; then return 1; fi; command rmdir "$@"; }
    turn() {
      exec 4>$root/said </dev/null
      IFS=$nl state=$root/state repo=r run=17 stages='' stuck='' parts=yes run_dir=$root/state/r/run/17
      dir=$run_dir/stack/t
    }
    cd $run_dir
"#;

/// The files that are torn at any byte.
const TORN: [&str; 8] = ["stages", "order", "over", "extent", "phase", "came", "steps", "ledger"];

/// A run that died once all steps were done, and to which byte a file of its journal reaches.
struct Torn {
    root: PathBuf,
    file: &'static str,
    cut: usize,
    /// All bytes of it.
    length: usize,
    theirs: Option<PathBuf>,
}

impl Torn {
    fn new(root: PathBuf, file: &'static str, cut: usize, length: usize) -> Torn {
        let torn = Torn { root, file, cut, length, theirs: None };
        let (run, t, top) = ("state/r/run/17", "state/r/run/17/stack/t", "tops");
        for name in ["needs", "paths", "stat", "sums", "links", "unmake", "undo", "undo.before", "unturn", "parting"] {
            torn.write(&format!("{t}/{name}"), "");
        }
        torn.lies(top);
        let stage = format!("{top}/.reconcile-17");
        let at = |path: &str| torn.root.join(path).to_str().unwrap().to_string();
        torn.write(&format!("{run}/stages"), &format!("{}\n", at(&stage)));
        torn.write(&format!("{run}/order"), "t\n");
        torn.write(&format!("{run}/over"), "t\n");
        torn.write(&format!("{run}/extent"), "stack\n");
        torn.write(&format!("{t}/ledger"), &format!("{}\nabc\n", at("state/r/ledger/t")));
        torn.write(&format!("{t}/ledger.was"), "former ledger");
        torn.write(&format!("{t}/ledger.after"), "claims");
        torn.write("state/r/ledger/t", "claims");
        torn.directory("state/r/owed");
        // A run whose journal says `done` would have come to all of its steps.
        let ended = if file == "phase" { "done\n" } else { "" };
        torn.write(&format!("{t}/phase"), &format!("staged\nswitching\n{ended}"));
        let steps = STEPS.replace(' ', "\t").replace("\tS/", &format!("\t{}/", at(&stage)));
        let steps = steps.replace("\tT/", &format!("\t{}/", at(top))).replace("\tT", &format!("\t{}", at(top)));
        torn.write(&format!("{t}/steps"), &steps);
        torn
    }

    /// Where everything lies once all steps are done.
    fn lies(&self, top: &str) {
        let (stage, at) = (format!("{top}/.reconcile-17"), |path: &str| self.root.join(path));
        for (path, former, new) in OWN {
            self.put(path, new);
            if path.starts_with(top) {
                self.put(&path.replace(top, &format!("{stage}/0.old")), former);
            }
        }
        self.directory(&format!("{stage}/0"));
        let [made, there] = CAME.map(at);
        for came in [&made, &there] {
            fs::create_dir_all(came.join("inner")).unwrap();
        }
        // That one is described, and has got another mode.
        fs::set_permissions(&made, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&there, fs::Permissions::from_mode(MODE)).unwrap();
        let meta = fs::metadata(&made).unwrap();
        let came =
            format!("{MODE:o}\t{}\t{}\t{}\n-\t-\t-\t{}\n", meta.uid(), meta.gid(), made.display(), there.display());
        self.write("state/r/run/17/stack/t/came", &came);
    }

    /// Puts something there, if only the directory that it would be in.
    fn put(&self, path: &str, what: Option<&str>) {
        fs::create_dir_all(self.root.join(path).parent().unwrap()).unwrap();
        match what {
            Some(text) if text.starts_with("-> ") => symlink(&text[3..], self.root.join(path)).unwrap(),
            Some(text) => self.write(path, text),
            None => {}
        }
    }

    fn directory(&self, path: &str) {
        fs::create_dir_all(self.root.join(path)).unwrap();
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.root.join(path).parent().unwrap()).unwrap();
        fs::write(self.root.join(path), text).unwrap();
    }

    /// The file of the journal.
    fn torn(&self) -> PathBuf {
        let run = self.root.join("state/r/run/17");
        if run.join(self.file).exists() { run.join(self.file) } else { run.join("stack/t").join(self.file) }
    }

    /// Tears the file. What a path is called that breaks off there is there, and somebody else's: a file, or an empty
    /// directory.
    fn tear(&mut self) {
        let text = fs::read_to_string(self.torn()).unwrap();
        let line = text[..self.cut].rsplit('\n').next().unwrap();
        let path = PathBuf::from(line.rsplit('\t').next().unwrap());
        let below = path.strip_prefix(&self.root).is_ok_and(|path| path != Path::new(""));
        let own = path.starts_with(self.root.join("tops/.reconcile-17"))
            || OWN.iter().any(|(own, ..)| path == self.root.join(own));
        let free = !own && fs::symlink_metadata(&path).is_err();
        if below && free && path.parent().unwrap().is_dir() {
            match line.split('\t').next().unwrap() {
                "mkdir" | "above" | "tree" => fs::create_dir(&path).unwrap(),
                _ => fs::write(&path, "theirs").unwrap(),
            }
            self.theirs = Some(path);
        }
        fs::File::options().write(true).open(self.torn()).unwrap().set_len(self.cut as u64).unwrap();
    }

    /// What is there: the text of a file, the target of a link.
    fn is(&self, path: &str) -> Option<String> {
        let path = self.root.join(path);
        match fs::symlink_metadata(&path).ok()?.file_type() {
            kind if kind.is_symlink() => Some(format!("-> {}", fs::read_link(path).unwrap().display())),
            kind if kind.is_dir() => Some("directory".into()),
            _ => Some(fs::read_to_string(path).unwrap()),
        }
    }

    /// What is wrong once it was recovered.
    fn wrong(&self) -> Vec<String> {
        let gone =
            self.theirs.iter().filter(|path| !path.is_dir() && fs::read(path).ok().as_deref() != Some(b"theirs"));
        let mut wrong: Vec<String> = gone.map(|path| format!("{} is gone", path.display())).collect();
        let whole = self.cut == self.length;
        let (mut former, mut new) = (true, true);
        for (path, before, after) in OWN {
            let is = self.is(path);
            former &= is.as_deref() == before;
            new &= is.as_deref() == after;
            if is.as_deref() != before && is.as_deref() != after {
                wrong.push(format!("{path} is {is:?}"));
            }
        }
        for path in CAME {
            let mode = fs::metadata(self.root.join(path)).map(|meta| meta.mode() & 0o777);
            former &= mode.as_ref().is_ok_and(|mode| *mode == MODE);
            // Nothing says any more that it had been there: an empty one is taken for the run's own.
            if mode.is_err() && self.file != "came" {
                wrong.push(format!("{path} is gone"));
            }
        }
        let over = !self.root.join("state/r/run/17").exists();
        // Its last whole line counts.
        let goes_back = if self.file == "phase" { !whole && self.cut >= "staged\nswitching\n".len() } else { whole };
        if goes_back && !(former && over) {
            wrong.push("it did not go back".into());
        } else if self.file == "phase" && !goes_back && !(new && over) {
            wrong.push("it did not stay".into());
        }
        wrong
    }
}

/// Runs something under a shell for each of some runs, with `$root`.
fn each(shell: &str, torn: &[Torn], does: &str) -> String {
    let list = torn[0].root.with_file_name("all");
    let all = torn.iter().map(|torn| format!("{}\n", torn.root.display()));
    fs::write(&list, all.collect::<String>()).unwrap();
    let each = format!("while IFS= read -r root; do (turn; {does}); done <{}", list.display());
    in_apply(&format!("timeout 100 {shell}"), &format!("{GUARDED}{each}; printf end")).0
}

/// Recovers each of them under a shell. Gives what was wrong.
fn tear(shell: &str, mut torn: Vec<Torn>) -> Vec<String> {
    for torn in &mut torn {
        torn.tear();
    }
    let said = each(shell, &torn, "recover; printf 'ended %s\n' $root");
    let ends: String = torn.iter().map(|torn| format!("ended {}\n", torn.root.display())).collect();
    let mut all = Vec::new();
    if said != format!("{ends}end") {
        all.push(format!(
            "{shell}: {}",
            said.lines().filter(|line| !line.starts_with("ended")).collect::<Vec<_>>().join("; ")
        ));
    }
    for torn in torn {
        let wrong = torn.wrong();
        if !wrong.is_empty() {
            let said = fs::read_to_string(torn.root.join("said")).unwrap_or_default();
            all.push(format!("{shell}: {} to byte {} of {}: {wrong:?}\n{said}", torn.file, torn.cut, torn.length));
        }
    }
    all
}

#[test]
fn g06_a_torn_journal_harms_nothing_that_is_not_the_runs_own() {
    // Where there is memory for it: these are many small files.
    let shared = Path::new("/dev/shm");
    let place = if shared.is_dir() { shared.to_path_buf() } else { std::env::temp_dir() };
    let dir = tempfile::Builder::new().prefix("j").rand_bytes(3).tempdir_in(place).unwrap();
    let top = dir.path().canonicalize().unwrap();
    let tops = SHELLS.map(|shell| top.join(&shell[..2]));
    let mut torn: [Vec<Torn>; 3] = Default::default();
    for file in TORN {
        let probe = Torn::new(top.join("00/0000"), file, 0, 0);
        let text = fs::read(probe.torn()).unwrap();
        fs::remove_dir_all(top.join("00")).unwrap();
        for cut in 0..=text.len() {
            for (shell, torn) in torn.iter_mut().enumerate() {
                // Of a long one, each shell tears it at some bytes.
                let often = (cut + shell) % (text.len() / 25).max(1) == 0;
                if often || cut == 0 || text[cut - 1] == b'\n' {
                    torn.push(Torn::new(tops[shell].join(format!("{:04}", torn.len())), file, cut, text.len()));
                }
            }
        }
    }
    let shells: Vec<_> =
        SHELLS.into_iter().zip(torn).map(|(shell, torn)| std::thread::spawn(move || tear(shell, torn))).collect();
    let wrong: Vec<String> = shells.into_iter().flat_map(|shell| shell.join().unwrap()).collect();
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
