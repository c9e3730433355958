//! The shape of the source: which module may use which, who may print and who may reach out, and what may be linked in.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The modules from the lowest floor to the highest: the number of the floor, then its modules. A module may use those
/// of lower floors, and of its own floor only those that stand before it in its row.
const FLOORS: &[(u8, &[&str])] = &[
    (0, &["base"]),
    (1, &["host", "sealed", "provider"]),
    (2, &["resource"]),
    // The stages. Observing comes before planning in a run, but what is worth a second look is what the planner's
    // comparison says, so `observe` stands on `plan`: there is one comparison, not two.
    (3, &["source", "load", "ledger", "render", "plan", "observe", "apply"]),
    (4, &["engine", "store", "adopt"]),
    (5, &["cli"]),
];

/// Where a single file uses what lies above it: the file, what it uses, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[(
    "host/observation.rs",
    "resource::state::Owner",
    "what is seen and what is wanted have one normal form, and an owner is a part of it",
)];

/// Where processes are started and sockets opened. The last ones start the editor of the person who called.
const REACHES_OUT: &[&str] = &["host/", "provider/", "source/", "cli/secret/edit.rs", "cli/secret/private.rs"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of `src`, as its path below `src` and its lines of code: without comments, and with their numbers.
fn sources() -> Vec<(String, Vec<(usize, String)>)> {
    let top = root().join("src");
    let mut files = Vec::new();
    let mut folders = vec![top.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of src") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                files.push((below(&top, &path), code(&std::fs::read_to_string(&path).expect("source is text"))));
            }
        }
    }
    files.sort();
    assert!(files.len() > 50, "only {} files found", files.len());
    files
}

fn below(top: &Path, path: &Path) -> String {
    path.strip_prefix(top).expect("below src").to_str().expect("names are text").to_string()
}

fn code(text: &str) -> Vec<(usize, String)> {
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim().to_string()));
    lines.filter(|(_, line)| !line.starts_with("//")).collect()
}

/// The module right below the crate that a file belongs to; none for `lib.rs` and `main.rs`.
fn module(file: &str) -> Option<&str> {
    let top = file.split('/').next().unwrap_or(file).trim_end_matches(".rs");
    (!matches!(top, "lib" | "main")).then_some(top)
}

/// Floor, and place on it.
fn place(module: &str) -> Option<(u8, usize)> {
    FLOORS.iter().find_map(|(floor, row)| Some((*floor, row.iter().position(|each| *each == module)?)))
}

/// What a line names of this crate: `crate::a::B` gives `a::B`.
fn uses(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(rest.len());
        rest[..end].trim_end_matches(':')
    })
}

#[test]
fn every_module_has_a_floor() {
    let found: BTreeSet<String> = sources().iter().filter_map(|(file, _)| module(file).map(String::from)).collect();
    let known: BTreeSet<String> = FLOORS.iter().flat_map(|(_, row)| row.iter().map(ToString::to_string)).collect();
    assert_eq!(found, known);
}

#[test]
fn modules_use_only_floors_below() {
    let mut wrong = Vec::new();
    let mut excused = BTreeSet::new();
    for (file, lines) in sources() {
        let Some(own) = module(&file) else { continue };
        // Tests may set up what they like, as long as they do not reach for the floors above the stages.
        let highest = if file.contains("/tests") { place(own).max(Some((3, usize::MAX))) } else { place(own) };
        for (number, line) in &lines {
            assert!(
                !line.contains("crate::{"),
                "src/{file}:{number}: one `use` for each module, so that floors can be read"
            );
            for used in uses(line) {
                let other = used.split("::").next().unwrap_or(used);
                if other == own || place(other) < highest {
                    continue;
                }
                match EXCEPTIONS.iter().position(|(where_, what, _)| *where_ == file && *what == used) {
                    Some(exception) => _ = excused.insert(exception),
                    None => wrong.push(format!("src/{file}:{number}: {own} uses {used}")),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert_eq!(excused.len(), EXCEPTIONS.len(), "an exception that nobody needs any more");
}

#[test]
fn only_the_command_line_prints() {
    forbid(&["println!", "print!", "dbg!"], &["cli/"]);
}

#[test]
fn only_hosts_and_sources_reach_out() {
    let reaches = ["std::process::Command", "tokio::process", "TcpStream", "TcpListener", "UdpSocket", "UnixStream"];
    forbid(&reaches, REACHES_OUT);
}

/// No file names one of `words`, except below `allowed`.
fn forbid(words: &[&str], allowed: &[&str]) {
    let mut wrong = Vec::new();
    for (file, lines) in sources() {
        if allowed.iter().any(|folder| file.starts_with(folder)) {
            continue;
        }
        for (number, line) in lines {
            let found = words.iter().filter(|word| line.contains(**word));
            wrong.extend(found.map(|word| format!("src/{file}:{number}: {word}")));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The names in `allow = [ … ]` below `[licenses]` of deny.toml.
fn allowed_licences() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("deny.toml")).expect("deny.toml");
    let (_, section) = text.split_once("[licenses]").expect("a section for licences");
    let (_, list) = section.split_once("allow = [").expect("a list of licences");
    let (list, _) = list.split_once(']').expect("the end of the list");
    list.split('"').skip(1).step_by(2).map(String::from).collect()
}

/// Whether an SPDX expression can be met: AND of ORs and ORs of ANDs, with parentheses around either.
fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let expression = expression.trim();
    for (word, every) in [(" OR ", false), (" AND ", true)] {
        let parts = split_outside(expression, word);
        if parts.len() > 1 {
            let mut met = parts.into_iter().map(|part| is_met(part, allowed));
            return if every { met.all(|each| each) } else { met.any(|each| each) };
        }
    }
    match expression.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => is_met(inner, allowed),
        None => allowed.contains(expression),
    }
}

/// The parts between `word`s that stand outside of parentheses.
fn split_outside<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        if depth == 0 && at >= start && text[at..].starts_with(word) {
            parts.push(&text[start..at]);
            start = at + word.len();
        }
    }
    parts.push(&text[start..]);
    parts
}

#[test]
fn expressions_of_licences_are_read() {
    let allowed = BTreeSet::from(["MIT".to_string(), "ISC".to_string()]);
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("(GPL-3.0 OR MIT) AND ISC", true),
        ("(GPL-3.0 OR MIT) AND Zlib", false),
        ("Apache-2.0 WITH LLVM-exception OR MIT", true),
    ] {
        assert_eq!(is_met(expression, &allowed), met, "{expression}");
    }
}

#[test]
fn every_licence_is_allowed() {
    let allowed = allowed_licences();
    // Only what is built for Linux: of the rest, not even the sources are here.
    let args =
        ["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform=x86_64-unknown-linux-gnu"];
    let output = Command::new(env!("CARGO")).args(args).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 100, "only {} packages found", packages.len());
    let not_allowed = packages.iter().filter_map(|package| {
        // A slash is how OR was written once.
        let licence = package["license"].as_str().unwrap_or("").replace(" / ", "/").replace('/', " OR ");
        (!is_met(&licence, &allowed)).then(|| format!("{}: `{licence}`", package["name"]))
    });
    let not_allowed: Vec<String> = not_allowed.collect();
    assert!(not_allowed.is_empty(), "not in deny.toml:\n{}", not_allowed.join("\n"));
}

/// All code below a folder, as one text.
fn all_code(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let texts = entries.map(|path| match path.extension() {
        None if path.is_dir() => all_code(&path),
        Some(end) if end == "rs" => std::fs::read_to_string(&path).expect("source is text"),
        _ => String::new(),
    });
    texts.collect()
}

#[test]
fn every_test_that_is_named_exists() {
    let code = all_code(&root().join("tests")) + &all_code(&root().join("src"));
    let text = std::fs::read_to_string(root().join("tests/FIELD.md")).expect("it is there");
    let quoted = text.split('`').skip(1).step_by(2);
    let named: BTreeSet<&str> = quoted.filter(|name| name.contains('_') && !name.contains(['/', ' '])).collect();
    assert!(named.len() > 40, "{named:?}");
    let unknown: Vec<&&str> = named.iter().filter(|name| !code.contains(&format!("fn {name}("))).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
