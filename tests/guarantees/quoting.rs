//! 11, all the way: whatever stands in a string of the repository arrives as it is, through the quoting of systemd and
//! of nginx, in the environment and the arguments of a process and in the answer of a server.

use std::fmt::Write as _;

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use crate::kit::{Repo, any};

/// Strings that mean something to somebody on the way.
const ODD: [&str; 34] = [
    "",
    " ",
    "  a  ",
    "\t",
    "a\tb",
    "'",
    "\"",
    "it's \"so\"",
    "\\",
    "a\\",
    "\\\\",
    "\\n",
    "\\x41",
    "\\\"",
    "%",
    "%%",
    "%n",
    "%",
    "50% of",
    "#",
    "# x",
    ";",
    "a;b",
    "; ;",
    "-",
    "-rf",
    "--",
    "@x",
    "+x",
    "!",
    ":x",
    "ünï→名 🦀",
    "{ }",
    "[Service]",
];

/// What an environment variable of systemd must not begin to mean either, and nginx takes for a variable.
const DOLLARS: [&str; 6] = ["$", "$HOME", "${HOME}", "$$", "a$", "$(id)"];

/// Odd strings, and so many that nobody has thought of; the same in each run.
fn strings(pattern: &str, count: usize) -> Vec<String> {
    let mut runner = TestRunner::deterministic();
    let any = proptest::string::string_regex(pattern).expect("a pattern");
    let mut next = || any.new_tree(&mut runner).expect("a string").current();
    ODD.iter().map(|text| (*text).to_string()).chain((0..count).map(|_| next())).collect()
}

/// A string of KDL, of which nothing is taken for a template.
fn kdl(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_ascii_alphanumeric() || c == ' ' => quoted.push(c),
            c => write!(quoted, "\\u{{{:x}}}", u32::from(c)).expect("a string grows"),
        }
    }
    quoted + "\""
}

#[test]
fn g11_any_string_reaches_a_process_as_it_is() {
    let host = any();
    let repo = Repo::new("g11-systemd", &[&host]);
    let mut all = strings("([ -z|~äß→名🦀]|[\\\\\"'%$#; \t-]){0,12}", 150);
    all.retain(|text| !text.contains("{{") && !text.contains("{%") && !text.contains("{#"));
    all.extend(DOLLARS.map(String::from));
    let env: String = all.iter().enumerate().map(|(n, text)| format!("env V{n}={}\n", kdl(text))).collect();
    let args: String = all.iter().map(|text| format!(" {}", kdl(text))).collect();
    repo.stack(
        "one",
        &format!(
            "unit \"ID-a\" {{ exec \"/usr/bin/python3\" \"-c\" \"import time; time.sleep(9999)\" {args}\n{env} }}
            unit \"ID-b\" {{ template \"b.service\" }}"
        ),
    );
    // The same by hand, in a template of the repository's own.
    let lines: String = all
        .iter()
        .enumerate()
        .map(|(n, text)| format!("Environment={{{{ ('V{n}=' ~ {}) | systemd_quote }}}}\n", jinja(text)))
        .collect();
    repo.write("stacks/one/b.service", format!("[Service]\nExecStart=/usr/bin/sleep 9999\n{lines}"));
    repo.apply();
    repo.is_settled();
    for unit in ["a", "b"] {
        let said =
            host.sh(&format!("tr '\\0\\n' '\\n?' </proc/$(systemctl show -P MainPID g11-systemd-{unit})/environ"));
        for (n, text) in all.iter().enumerate() {
            let line = format!("V{n}={text}");
            assert!(
                said.lines().any(|said| said == line),
                "{unit}: {line:?} is {:?}",
                said.lines().find(|said| said.starts_with(&format!("V{n}=")))
            );
        }
    }
    let said = host.sh("tr '\\0\\n' '\\n?' </proc/$(systemctl show -P MainPID g11-systemd-a)/cmdline");
    let said: Vec<&str> = said.split('\n').skip(3).take(all.len()).collect();
    assert_eq!(said, all);
}

/// A string of a template.
fn jinja(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[test]
fn g11_any_string_reaches_a_visitor_as_it_is() {
    let host = any();
    let repo = Repo::new("g11-nginx", &[&host]);
    // A dollar sign is a variable's; blanks at the ends of a header are nobody's.
    let mut all = strings("([ -#%-z|~äß→名🦀]|[\\\\\"'%#;{} \t-]){0,12}", 150);
    all.retain(|text| !text.contains('$') && text.trim() == text && !text.is_empty());
    all.retain(|text| !text.contains("{{") && !text.contains("{%") && !text.contains("{#"));
    let headers: String =
        all.iter().enumerate().map(|(n, text)| format!("header \"X-V{n}\" {}\n", kdl(text))).collect();
    repo.stack("one", &format!("site \"ID.test\" {{ listen \"127.0.0.1:7231\"\n{headers}\nsnippet \"return 200 yes;\" }}\nsite \"ID-b.test\" {{ template \"b.conf\" }}"));
    let lines: String = all
        .iter()
        .enumerate()
        .map(|(n, text)| format!("add_header X-V{n} {{{{ {} | nginx_quote }}}} always;\n", jinja(text)))
        .collect();
    repo.write(
        "stacks/one/b.conf",
        format!(
            "server {{ listen 127.0.0.1:7231; server_name {{{{ 'g11-nginx-b.test' }}}};\n{lines}return 200 yes; }}"
        ),
    );
    repo.apply();
    repo.is_settled();
    for name in ["g11-nginx.test", "g11-nginx-b.test"] {
        let said = host.sh(&format!("curl -si -H 'Host: {name}' http://127.0.0.1:7231/"));
        for (n, text) in all.iter().enumerate() {
            let line = format!("X-V{n}: {text}");
            assert!(
                said.lines().any(|said| said == line),
                "{name}: {line:?} is {:?}",
                said.lines().find(|said| said.starts_with(&format!("X-V{n}:")))
            );
        }
    }
}
