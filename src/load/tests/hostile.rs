//! Input that nobody means well with, or that nobody thought of.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn load_bytes(list: &[(&str, &[u8])]) -> Result<(Config, Problems)> {
    let tree = list.iter().map(|(path, bytes)| ((*path).into(), Arc::from(*bytes))).collect();
    load(&tree, WORLD, Secrets::Required)
}

#[test]
fn hostile_names_are_refused_on_one_line() {
    for name in
        ["; rm -rf /", "../../etc", "a\\nb", "\\\"quoted\\\"", "{{ 7 * 7 }}", "$(reboot)", "-o", "\u{202e}x", ""]
    {
        for found in [
            in_hosts(&format!("host \"{name}\"")),
            in_hosts(&format!("host \"a\" {{ tags \"{name}\" }}")),
            problems(&[("hosts/r.kdl", &format!("repo \"{name}\""))]),
            in_stack(&format!("on \"{name}\"")),
            in_stack(&format!("on \"all\"; after \"{name}\"")),
        ] {
            assert!(!found.is_empty(), "{name} was taken");
            assert!(found.iter().all(|line| !line.contains('\n') && !line.contains('\u{202e}')), "{found:?}");
        }
    }
}

#[test]
fn a_folder_with_a_hostile_name_is_no_stack() {
    let found = problems(&[REPO, WEB, ("stacks/a b; reboot/stack.kdl", "stack \"a b; reboot\" { on \"all\" }")]);
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn a_megabyte_in_a_name_is_not_repeated() {
    let long = "x".repeat(1 << 20);
    let found = in_hosts(&format!("host \"{long}\" {{ tags \"{long}\" }}\nhost \"a\" address=\"{long}\""));
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|line| line.len() < 400));
    let found = in_stack(&format!("on \"{long}\"\nvars {long}=1\nvalues \"{long}\""));
    assert!(found.iter().all(|line| line.len() < 400), "too long");
}

#[test]
fn binary_files_are_no_problem_where_no_text_is_expected() {
    let binary: &[u8] = &[0xff, 0xfe, 0, 1];
    let repo: &[u8] = b"repo \"x\"\nhost \"a\"";
    let stack: &[u8] = b"stack \"s\" { on \"a\" }";
    assert!(load_bytes(&[("hosts/a.kdl", repo), ("stacks/s/stack.kdl", stack), ("stacks/s/logo.png", binary)]).is_ok());
    let broken = load_bytes(&[("hosts/a.kdl", repo), ("stacks/s/stack.kdl", binary), ("hosts/b.kdl", b"\n\n  \xff")]);
    let Err(error) = broken else { panic!("it loaded") };
    assert_eq!(
        lines(&error.problems),
        [
            "hosts/b.kdl:3:3: `hosts/b.kdl` is not text: it is not valid UTF-8 (save it as UTF-8)",
            "stacks/s/stack.kdl:1:1: `stacks/s/stack.kdl` is not text: it is not valid UTF-8 (save it as UTF-8)",
        ]
    );
}

#[test]
fn files_from_windows_are_read() {
    let hosts = "\u{feff}repo \"x\"\r\nhost \"a\" {\r\n    tags \"web\"\r\n}\r\n";
    let config =
        good(&[("hosts/a.kdl", hosts), ("stacks/s/stack.kdl", "\u{feff}stack \"s\" {\r\n on tag=\"web\"\r\n}\r\n")]);
    assert_eq!(config.stacks.len(), 1);
}

#[test]
fn deep_nesting_is_refused() {
    let deep = format!("vars {}{}", "{ a ".repeat(5000), "}".repeat(5000));
    let found = in_stack(&deep);
    assert!(found[0].contains("nest deeper"), "{found:?}");
    let yaml = |text: &str| {
        let stack = "stack \"s\" { on \"all\"; values \"v.yaml\" }";
        problems(&[REPO, WEB, ("stacks/s/stack.kdl", stack), ("stacks/s/v.yaml", text)])
    };
    for depth in [10, 60, 200, 500, 1000, 1900, 2100, 100_000] {
        let found = yaml(&format!("a: {}{}", "[".repeat(depth), "]".repeat(depth)));
        assert_eq!(found.is_empty(), depth < 100, "{depth}: {found:?}");
        let maps: String = (0..depth.min(1000)).map(|level| " ".repeat(level) + "a:\n").collect();
        assert_eq!(yaml(&maps).is_empty(), depth < 100, "{depth}");
    }
}

#[test]
fn ten_thousand_files_load_quickly() {
    let mut list: Vec<(String, String)> = vec![("hosts/r.kdl".into(), "repo \"x\"".into())];
    let mut hosts = String::new();
    for index in 0..500 {
        let _ = writeln!(hosts, "host \"h{index}\" {{ tags \"t{}\" }}", index % 7);
    }
    list.push(("hosts/all.kdl".into(), hosts));
    for index in 0..500 {
        list.push((
            format!("stacks/s{index}/stack.kdl"),
            format!("stack \"s{index}\" {{ on tag=\"t{}\" }}", index % 7),
        ));
    }
    for index in 0..9000 {
        list.push((format!("stacks/s{}/files/{index}.txt", index % 500), "x".into()));
    }
    let list: Vec<(&str, &str)> = list.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let start = Instant::now();
    assert_eq!(good(&list).stacks.len(), 500);
    assert!(start.elapsed() < Duration::from_mins(1), "took {:?}", start.elapsed());
}

/// Text that is nearly a repository: the words of the language in any order.
fn nearly_kdl() -> impl Strategy<Value = String> {
    let words = [
        "stack",
        "host",
        "repo",
        "on",
        "except",
        "vars",
        "values",
        "secret",
        "after",
        "defaults",
        "unit",
        "site",
        "file",
        "\"s\"",
        "\"web-1\"",
        "\"all\"",
        "\"{{ x }}\"",
        "\"{{\"",
        "tag=",
        "env=",
        "=",
        "{",
        "}",
        "{ ",
        " }",
        "\n",
        ";",
        "#true",
        "#null",
        "-",
        "1",
        "1.5",
        "(",
        ")",
        "\"",
        "/-",
        "/*",
        "*/",
        "\\",
        "\u{feff}",
        "🦀",
    ];
    proptest::collection::vec((proptest::sample::select(words.to_vec()), any::<bool>()), 0..60).prop_map(|words| {
        words.into_iter().map(|(word, space)| if space { format!("{word} ") } else { word.to_string() }).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nearly_valid_text_never_panics(hosts in nearly_kdl(), body in nearly_kdl(), values in ".{0,80}") {
        let stack = format!("stack \"s\" {{\non \"web-1\"\nvalues \"v.yaml\"\n{body}\n}}");
        let found = load_files(&[REPO, WEB, ("hosts/x.kdl", &hosts), ("stacks/s/stack.kdl", &stack), ("stacks/s/v.yaml", &values)]);
        if let Err(error) = found {
            prop_assert!(error.problems.errors() > 0);
        }
        let _ = load_files(&[REPO, WEB, ("stacks/s/stack.kdl", &body)]);
    }

    #[test]
    fn arbitrary_bytes_never_panic(hosts in any::<Vec<u8>>(), stack in any::<Vec<u8>>(), template in any::<Vec<u8>>()) {
        let files: [(&str, &[u8]); 3] = [("hosts/x.kdl", &hosts), ("stacks/s/stack.kdl", &stack), ("templates/x.j2", &template)];
        let _ = load_bytes(&files);
    }
}
