//! Parsers and what nobody thought of: whatever the text is, none panics, and what they complain of stands in the text.
//!
//! What is tried begins with the files of this repository, broken in a few places. A case that once went wrong is kept
//! in `tests/fuzz.regressions`, and tried first. `PROPTEST_CASES` sets how many there are; each takes about a
//! millisecond.
#![allow(missing_docs, clippy::format_push_string)]

use std::collections::BTreeMap;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::FileFailurePersistence;

use reconcile::apply::answer::Answer;
use reconcile::base::diagnostic::{Problem, Source, Span};
use reconcile::base::digest::Digest;
use reconcile::base::id::{Kind, ResourceId};
use reconcile::host::answer;
use reconcile::host::observation::{Observation, Owed, PathSeen, Seen, Thing, UnitSeen};
use reconcile::host::transport::Nobody;
use reconcile::ledger::{Claim, Ledger, ProjectClaim, Written};
use reconcile::load::{self, Secrets};
use reconcile::resource::state::{Owner, UnitState};
use reconcile::resource::{nginx, unit_file};

fn config() -> ProptestConfig {
    let kept = FileFailurePersistence::Direct(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz.regressions"));
    ProptestConfig { failure_persistence: Some(Box::new(kept)), ..ProptestConfig::default() }
}

// ---- texts that are nearly right

/// Files of this repository whose name ends like this.
fn corpus(end: &str) -> Vec<String> {
    let root = Utf8Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = Vec::new();
    let mut ahead: Vec<Utf8PathBuf> = ["stacks", "hosts", "examples", "templates"].map(|area| root.join(area)).into();
    while let Some(path) = ahead.pop() {
        if path.is_dir() {
            ahead.extend(path.read_dir_utf8().unwrap().map(|entry| entry.unwrap().into_path()));
        } else if path.as_str().ends_with(end) {
            texts.push(std::fs::read_to_string(path).unwrap());
        }
    }
    texts.sort();
    assert!(!texts.is_empty(), "no file ends in {end}");
    texts
}

/// What is done to a text at one place.
#[derive(Debug, Clone)]
enum Edit {
    Cut(Index, usize),
    Put(Index, String),
    Repeat(Index, usize),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let signs = vec![
        "{", "}", "\"", "'", "=", ";", "\n", "\\", "\\\n", "{{", "}}", "{%", "#", "/*", "/-", "\t", "\u{0}",
        "\u{feff}", "🦀", ":", "- ", "&a ", "*a", "!!", "|", ">-", "[", "]", "<<: *a", "0x", "#true", "9e999",
        "\u{202e}", "$", "${",
    ];
    let put = prop_oneof![select(signs).prop_map(str::to_string), ".{0,6}"];
    let edit = prop_oneof![
        (any::<Index>(), 1..30usize).prop_map(|(at, len)| Edit::Cut(at, len)),
        (any::<Index>(), put).prop_map(|(at, text)| Edit::Put(at, text)),
        (any::<Index>(), 1..200usize).prop_map(|(at, len)| Edit::Repeat(at, len)),
    ];
    vec(edit, 0..6)
}

fn edited(text: &str, edits: &[Edit]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for edit in edits {
        let (Edit::Cut(at, _) | Edit::Put(at, _) | Edit::Repeat(at, _)) = edit;
        let at = at.index(chars.len() + 1);
        match edit {
            Edit::Cut(_, len) => drop(chars.drain(at..(at + len).min(chars.len()))),
            Edit::Put(_, text) => drop(chars.splice(at..at, text.chars())),
            Edit::Repeat(_, len) => {
                let again = chars[at..(at + len).min(chars.len())].to_vec();
                chars.splice(at..at, again);
            }
        }
    }
    chars.into_iter().collect()
}

fn broken(end: &str) -> impl Strategy<Value = String> + use<> {
    prop_oneof![
        9 => (select(corpus(end)), edits()).prop_map(|(text, edits)| edited(&text, &edits)),
        1 => ".{0,200}",
    ]
}

fn stands_in(span: &Span) {
    let text = &span.source.text;
    let end = span.offset + span.len;
    assert!(text.is_char_boundary(span.offset) && text.is_char_boundary(end), "{span}: {}..{end}", span.offset);
}

fn is_shown(problem: &Problem) {
    problem.places.iter().for_each(|(span, _)| stands_in(span));
    assert!(!problem.message.is_empty() && !problem.message.contains('\n'), "{problem:?}");
}

// ---- what is there, as a host says it

/// A name as a path can have it: anything but what the other end has refused.
fn name() -> impl Strategy<Value = String> {
    "[^/\\x00-\\x1f\\x7f\u{80}-\u{9f}]{1,12}".prop_filter("no name", |name| name != "." && name != "..")
}

fn path() -> impl Strategy<Value = Utf8PathBuf> {
    vec(name(), 1..4).prop_map(|names| format!("/{}", names.join("/")).into())
}

fn owner() -> impl Strategy<Value = Owner> {
    // Groups of a directory service have spaces in their names.
    ("[a-z][a-z0-9-]{0,8}", "[a-z]([a-z0-9 -]{0,6}[a-z])?").prop_map(|(user, group)| Owner { user, group })
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 4]>().prop_map(|bytes| Digest::of(&bytes))
}

fn seen() -> impl Strategy<Value = Seen<PathSeen>> {
    let thing = prop_oneof![
        proptest::option::of(digest()).prop_map(Thing::File),
        Just(Thing::Directory),
        path().prop_map(|path| Thing::Link(path.into_string())),
        Just(Thing::Other),
    ];
    let present = (thing, 0..0o10000u32, any::<(u32, u32)>(), owner(), any::<u64>()).prop_map(
        |(thing, mode, ids, owner, mut size)| {
            if let Thing::Link(target) = &thing {
                size = target.len() as u64;
            }
            let raw_type = match thing {
                Thing::File(_) => 0x8000,
                Thing::Directory => 0x4000,
                Thing::Link(_) => 0xa000,
                Thing::Other => 0x1000,
            };
            Seen::Present(PathSeen { thing, raw_type, mode, ids, owner, size })
        },
    );
    prop_oneof![Just(Seen::Absent), Just(Seen::Unknown("we may not look into the directory above it".into())), present]
}

fn unit() -> impl Strategy<Value = UnitSeen> {
    let word = || "[a-z-]{0,10}";
    (word(), word(), word(), word(), path(), any::<bool>(), "[0-9a-f]{0,32}", word(), any::<bool>()).prop_map(
        |(load, active, sub, file_state, fragment, needs_reload, invocation, service_type, rests)| {
            let fragment = fragment.into_string();
            UnitSeen { load, active, sub, file_state, fragment, needs_reload, invocation, service_type, rests }
        },
    )
}

fn observed() -> impl Strategy<Value = Observation> {
    let owed = (name(), "[a-z]{1,8}", "[0-9a-f]{8}", name(), name())
        .prop_map(|(unit, verb, invocation, run, why)| Owed { unit, verb, invocation, run, why });
    let content = vec(any::<u8>(), 0..300);
    let ledger = vec("[a-z\t/.0-9-]{1,20}\n", 0..4).prop_map(|lines| lines.concat());
    let parts = (
        any::<u32>(),
        btree_map(path(), seen(), 0..8),
        btree_map(path(), content, 0..3),
        btree_map("[a-z]{1,8}\\.service", unit(), 0..4),
        btree_map("[a-z]{1,8}/ledger/[a-z]{1,8}", ledger, 0..3),
        vec(owed, 0..3),
        btree_map("[a-z]{1,8}", "[0-9.]{1,8}", 0..3),
    );
    parts.prop_map(|(uid, paths, contents, units, ledgers, owed, packages)| Observation {
        uid,
        paths,
        contents,
        units,
        ledgers,
        owed,
        packages,
        state: "/var/lib/reconcile".into(),
        ..Observation::default()
    })
}

/// What `observe.sh` prints of such a host.
fn said(seen: &Observation) -> String {
    use base64::Engine as _;
    let mut text = format!("[basics]\nuid {}\nstate {}\n[paths]\n", seen.uid, seen.state);
    let present = || seen.paths.iter().filter_map(|(path, seen)| Some((path, present(seen)?)));
    for (path, seen) in &seen.paths {
        match seen {
            Seen::Absent => text.push_str(&format!("a {path}\n")),
            Seen::Unknown(_) => text.push_str(&format!("x {path}\n")),
            Seen::Present(_) => {}
        }
    }
    for (path, PathSeen { raw_type, mode, ids: (uid, gid), owner, size, thing }) in present() {
        let (raw, Owner { user, group }) = (raw_type | mode, owner);
        let end = if let Thing::Link(target) = thing { format!(" -> {target}") } else { String::new() };
        text.push_str(&format!("s {raw:x} {uid} {gid} {size} {user}:{group} {path}\nn {path}{end}\n"));
    }
    text.push_str("[digests]\n");
    for (path, seen) in present() {
        if let Thing::File(Some(digest)) = &seen.thing {
            let mark = if path.as_str().contains('\\') { "\\" } else { "" };
            text.push_str(&format!("{mark}{digest}  {}\n", path.as_str().replace('\\', "\\\\")));
        }
    }
    text.push_str("[contents]\n");
    for (path, bytes) in &seen.contents {
        let coded = base64::engine::general_purpose::STANDARD.encode(bytes);
        let lines: Vec<&str> = coded.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
        text.push_str(&format!("content {path}\n{}\n.\n", lines.join("\n")));
    }
    text.push_str("[ledgers]\n");
    for (name, ledger) in &seen.ledgers {
        text.push_str(&format!("==> {}/{name} <==\n{ledger}\n", seen.state));
    }
    text.push_str("[left]\n");
    for Owed { unit, verb, invocation, run, why } in &seen.owed {
        text.push_str(&format!("owed {unit}\t{verb}\t{invocation}\t{run}\t{why}\n"));
    }
    text.push_str("[units]\n");
    for (name, unit) in &seen.units {
        let UnitSeen { load, active, sub, file_state, fragment, needs_reload, invocation, service_type, rests } = unit;
        let [reload, rests] = [needs_reload, rests].map(|is| if *is { "yes" } else { "no" });
        text.push_str(&format!(
            "Rests={rests}\nType={service_type}\nInvocationID={invocation}\nNames={name}\nLoadState={load}\nActiveState={active}\n\
            SubState={sub}\nUnitFileState={file_state}\nFragmentPath={fragment}\nNeedDaemonReload={reload}\n\n"
        ));
    }
    text.push_str("[packages]\n");
    for (name, version) in &seen.packages {
        text.push_str(&format!("{name} installed {version}\n"));
    }
    text + "[end]\n"
}

fn present(seen: &Seen<PathSeen>) -> Option<&PathSeen> {
    if let Seen::Present(seen) = seen { Some(seen) } else { None }
}

// ---- ledgers

fn truth() -> impl Strategy<Value = Option<bool>> {
    select(vec![None, Some(true), Some(false)])
}

fn claim() -> impl Strategy<Value = Claim> {
    let written = prop_oneof![
        (digest(), any::<bool>(), 0..0o10000u32, owner()).prop_map(|(digest, secret, mode, owner)| Written::File {
            digest,
            secret,
            mode,
            owner
        }),
        (0..0o10000u32, owner()).prop_map(|(mode, owner)| Written::Directory { mode, owner }),
        path().prop_map(|path| Written::Link(path.into_string())),
    ];
    let services = btree_map(name(), "[0-9a-f]{0,8}", 0..3);
    let project = (name(), path(), vec(path(), 0..3), vec(name(), 0..3), services, any::<bool>(), vec(name(), 0..3))
        .prop_map(|(name, directory, files, profiles, services, stopped, images)| ProjectClaim {
            name,
            directory,
            files,
            profiles,
            services,
            stopped,
            images,
        });
    let units = btree_map(name(), (truth(), truth()), 0..3).prop_map(|units| {
        units.into_iter().map(|(name, (enabled, active))| (name, UnitState { enabled, active })).collect()
    });
    (btree_map(path(), written, 0..4), units, proptest::option::of(project), vec(name(), 0..3), 0..3u32)
        .prop_map(|(paths, units, project, packages, moves)| Claim { paths, units, project, packages, moves })
}

fn ledger() -> impl Strategy<Value = Ledger> {
    let id =
        (select(Kind::ALL.to_vec()), "[a-z][a-z0-9./-]{0,10}").prop_map(|(kind, name)| ResourceId::new(kind, name));
    ("[0-9a-f]{32}", btree_map(id, claim(), 1..4)).prop_map(|(salt, claims)| Ledger { salt, claims })
}

// ---- laws

fn load(hosts: &str, stack: &str, values: &str) {
    let files: BTreeMap<Utf8PathBuf, Arc<[u8]>> = [
        ("hosts/r.kdl", "repo \"x\"\nhost \"web-1\" { tags \"web\" \"all\" }"),
        ("hosts/x.kdl", hosts),
        ("stacks/s/stack.kdl", stack),
        ("stacks/s/values.yaml", values),
    ]
    .map(|(path, text)| (path.into(), Arc::from(text.as_bytes())))
    .into();
    let outside = |_: &Utf8Path| Err(std::io::ErrorKind::NotFound.into());
    let world = reconcile::sealed::World { env: &|_| None, read: &outside, prompt: &Nobody, identities: &[] };
    match load::load(&files, world, Secrets::Required) {
        Ok((config, problems)) => {
            problems.0.iter().for_each(is_shown);
            for host in config.hosts.keys() {
                reconcile::render::render(&config, host, None).problems.0.iter().for_each(is_shown);
            }
        }
        Err(error) => {
            assert!(error.problems.errors() > 0, "{error:?}");
            error.problems.0.iter().for_each(is_shown);
        }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn stacks_and_hosts_are_read_or_complained_of_in_place(
        hosts in broken(".kdl"), stack in broken("stack.kdl"), values in broken(".yaml"),
    ) {
        load(&hosts, &stack, &values);
    }

    #[test]
    fn yaml_is_read_or_complained_of_in_place(text in broken(".yaml")) {
        load("", "stack \"s\" {\non \"web-1\"\nvalues \"values.yaml\"\ncompose \"a\" { file \"values.yaml\" }\n}", &text);
    }

    #[test]
    fn nginx_is_read_or_complained_of_in_place(text in prop_oneof![broken(".conf"), broken("site.j2")]) {
        if let Err(mistake) = nginx::parse(&text) {
            stands_in(&Span::new(&Source::new("x.conf", text.clone()), mistake.offset, mistake.len));
        }
    }

    #[test]
    fn unit_files_are_read(before in broken("service.j2"), after in broken(".service")) {
        let impact = unit_file::impact(&before, &after);
        prop_assert!(impact.changed.is_empty() || impact.daemon_reload);
        prop_assert_eq!(unit_file::impact(&before, &before), unit_file::Impact::default());
    }

    #[test]
    fn a_host_is_seen_as_it_said(seen in observed()) {
        let text = said(&seen);
        prop_assert_eq!(&answer::parse(text.as_bytes()).unwrap(), &seen, "{}", text);
    }

    #[test]
    fn what_a_host_says_never_panics(seen in observed(), edits in edits(), noise in any::<Vec<u8>>()) {
        _ = answer::parse(edited(&said(&seen), &edits).as_bytes());
        _ = answer::parse(&[&noise[..], b"\n[end]\n"].concat());
    }

    #[test]
    fn an_answer_is_heard_the_same_in_any_pieces(
        lines in vec(prop_oneof![
            select(&["transaction one", "step 7", "failed run\t7\t60\tx", "| x", "reverting one", "outcome one applied",
                "outcome one rolled-back", "outcome two", "locked", "confirm 3", "unconfirmed", "stale a b", "end", ""][..])
                .prop_map(|line| line.as_bytes().to_vec()),
            any::<Vec<u8>>(),
        ], 0..12),
        pieces in vec(1..20usize, 1..30),
    ) {
        let bytes = lines.join(&b'\n');
        let mut whole = Answer::default();
        whole.hear(&bytes);
        let (mut heard, mut rest) = (Answer::default(), &bytes[..]);
        for len in pieces {
            let (piece, after) = rest.split_at(len.min(rest.len()));
            heard.hear(piece);
            rest = after;
        }
        heard.hear(rest);
        prop_assert_eq!(heard, whole);
    }

    #[test]
    fn a_ledger_is_read_as_it_was_written(ledger in ledger()) {
        let text = ledger.to_text();
        prop_assert_eq!(&Ledger::parse(&text), &ledger, "{}", text);
    }

    #[test]
    fn any_ledger_is_read_and_keeps_its_sense(ledger in ledger(), edits in edits()) {
        let read = Ledger::parse(&edited(&ledger.to_text(), &edits));
        prop_assert_eq!(Ledger::parse(&read.to_text()).claims, read.claims);
    }
}
