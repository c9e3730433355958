//! Whole repositories, written as a list of files, and what loading says of them.

mod headers;
mod hostile;
mod inventory;
mod misspelt;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

use super::*;
use crate::base::diagnostic::{Problem, Severity};
use crate::base::secret::SecretTree;
use crate::host::transport::Nobody;
use crate::sealed::World;

const REPO: (&str, &str) = ("hosts/repo.kdl", "repo \"test\"");
const WEB: (&str, &str) =
    ("hosts/web.kdl", "host \"web-1\" { tags \"web\" }\nhost \"web-2\" { tags \"web\" \"fra\" }\n");

fn files(list: &[(&str, &str)]) -> BTreeMap<Utf8PathBuf, Arc<[u8]>> {
    list.iter().map(|(path, text)| ((*path).into(), text.as_bytes().into())).collect()
}

fn env(name: &str) -> Option<String> {
    match name {
        "HOME" => Some("/home/ann".into()),
        "DB_PASSWORD" => Some("hunter2".into()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn outside(path: &Utf8Path) -> io::Result<Vec<u8>> {
    match path.as_str() {
        "/home/ann/token" => Ok(b"s3cret\r\n".to_vec()),
        "/binary" => Ok(vec![0xff]),
        "/empty" => Ok(b"\n".to_vec()),
        _ => Err(io::Error::new(io::ErrorKind::NotFound, "no such file")),
    }
}

const WORLD: World<'static> = World { env: &env, read: &outside, prompt: &Nobody, identities: &[] };

fn load_files(list: &[(&str, &str)]) -> Result<(Config, Problems)> {
    load(&files(list), WORLD, Secrets::Required)
}

/// The config of a repository that must be without errors.
fn good(list: &[(&str, &str)]) -> Config {
    match load_files(list) {
        Ok((config, _)) => config,
        Err(error) => panic!("{}", lines(&error.problems).join("\n")),
    }
}

/// Every problem as one line: place, severity, message, hint.
fn problems(list: &[(&str, &str)]) -> Vec<String> {
    match load_files(list) {
        Ok((_, warnings)) => lines(&warnings),
        Err(error) => lines(&error.problems),
    }
}

fn lines(problems: &Problems) -> Vec<String> {
    problems.0.iter().map(line).collect()
}

fn line(problem: &Problem) -> String {
    let place = problem.places.first().map_or_else(|| "repository".into(), |(span, _)| span.to_string());
    let also: Vec<String> = problem.places.iter().skip(1).map(|(span, _)| format!(" & {span}")).collect();
    let also = also.concat();
    let warning = if problem.severity == Severity::Warning { "warning: " } else { "" };
    let hint = problem.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("{place}{also}: {warning}{}{hint}", problem.message)
}

/// What is wrong with hosts of this text, in a repository that is fine otherwise.
fn in_hosts(text: &str) -> Vec<String> {
    problems(&[REPO, ("hosts/x.kdl", text)])
}

/// What is wrong with a stack of this body, in a repository that is fine otherwise.
fn in_stack(body: &str) -> Vec<String> {
    let text = format!("stack \"s\" {{\n{body}\n}}");
    problems(&[REPO, WEB, ("stacks/s/stack.kdl", &text)])
}

fn name(text: &str) -> HostName {
    HostName::new(text).unwrap()
}

/// Every case with what is wrong with it.
fn table(cases: &[&str], found: impl Fn(&str) -> Vec<String>) -> String {
    let mut all = String::new();
    for case in cases {
        all.extend([case, "\n    ", &found(case).join("\n    "), "\n\n"]);
    }
    all
}

#[test]
fn a_repository_with_one_host_and_one_stack_loads() {
    let config = good(&[
        REPO,
        ("hosts/web.kdl", "host \"web-1\" address=\"203.0.113.10\" user=\"deploy\" { sudo; tags \"web\" }"),
        ("stacks/s/stack.kdl", "stack \"s\" { on tag=\"web\"; vars domain=\"example.org\" }"),
    ]);
    assert_eq!(config.repo.as_str(), "test");
    let stack = config.stacks.values().next().unwrap();
    assert_eq!(stack.hosts, [name("web-1")]);
    assert_eq!(stack.folder, "stacks/s");
    let Target::Ssh(ssh) = &config.hosts[&name("web-1")].target else { panic!("not by SSH") };
    assert_eq!((ssh.address.as_str(), ssh.user.as_deref(), ssh.sudo), ("203.0.113.10", Some("deploy"), true));
}

#[test]
fn all_problems_are_reported_in_one_run_in_the_order_of_files_and_lines() {
    let found = problems(&[
        ("hosts/a.kdl", "host \"web-1\" port=0 {\n  tagz \"web\"\n}\nhots \"x\""),
        ("stacks/a/stack.kdl", "stack \"b\" {\n  onn \"x\"\n}"),
        ("stacks/b/stack.kdl", "stack \"b\" {\n  values \"v.yaml\"\n  after \"nobody\"\n  on \"all\"\n}"),
        ("stacks/b/v.yaml", "a: 1\nb: [\n"),
        ("stacks/c/README.md", ""),
    ]);
    insta::assert_snapshot!(found.join("\n"));
}
