//! The reference names everything that the decoders ask for.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::base::decode::{Reader, parse};
use crate::base::diagnostic::{Problems, Source};
use crate::resource::spec::Spec;

const REFERENCE: &str = include_str!("../../reference/language.md");
/// A name that resembles none: the problem it makes lists all that are known.
const UNKNOWN: &str = "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzz";

/// The properties and nodes that are asked for in the node at the end of `path`.
fn known(path: &[String]) -> BTreeSet<String> {
    let (leaf, above) = path.split_last().expect("never empty");
    let inner = format!("{leaf} \"x\" {UNKNOWN}=1 {{ {UNKNOWN}; }}");
    let text = above.iter().rev().fold(inner, |text, name| format!("{name} \"x\" {{ {text}; }}"));
    let problems = RefCell::new(Problems::default());
    let source = Source::new("stack.kdl", text);
    let document = parse(&source, &problems).expect("valid KDL");
    for reader in Reader::document(&document, &source, &problems) {
        let _ = Spec::decode(reader);
    }
    let prefix = format!("`{leaf}` has no ");
    let of_leaf = problems.into_inner().0.into_iter().filter(|problem| problem.message.starts_with(&prefix));
    let hints = of_leaf.filter_map(|problem| problem.hint?.strip_prefix("it knows: ").map(str::to_string));
    hints.flat_map(|hint| hint.split(", ").map(str::to_string).collect::<Vec<_>>()).collect()
}

/// The chapter of a kind, with those that are for all kinds.
fn chapter(kind: &str) -> String {
    let kinds = Spec::NODES.map(|node| format!("`{node}`"));
    let chapters = REFERENCE.split("\n## ");
    let mine = chapters.filter(|chapter| {
        let title = chapter.lines().next().unwrap_or_default().to_string();
        !kinds.contains(&title) || title == format!("`{kind}`")
    });
    mine.collect::<Vec<_>>().join("\n")
}

fn walk(kind: &str, path: &mut Vec<String>, missing: &mut Vec<String>) {
    let chapter = chapter(kind);
    for name in known(path) {
        let mentioned = [format!("`{name}"), format!(" {name}="), format!("    {name} ")];
        if !mentioned.iter().any(|form| chapter.contains(form)) {
            missing.push(format!("{} {name}", path.join(" ")));
        }
        if path.len() < 3 {
            path.push(name);
            walk(kind, path, missing);
            path.pop();
        }
    }
}

#[test]
fn the_reference_names_every_node_and_property() {
    let mut missing = Vec::new();
    let mut seen = 0;
    for kind in Spec::NODES {
        assert!(REFERENCE.contains(&format!("\n## `{kind}`\n")), "{kind} has a chapter");
        let mut path = vec![kind.to_string()];
        seen += known(&path).len();
        walk(kind, &mut path, &mut missing);
    }
    assert!(seen > 80, "the decoders were really asked: {seen}");
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn every_example_of_the_reference_is_valid() {
    let mut blocks = REFERENCE.split("```kdl\n").skip(1).filter_map(|rest| rest.split("```").next());
    let files = [
        ("app.conf.j2", ""),
        ("worker@.service", "[Service]\nExecStart=/bin/true\n"),
        ("legacy.conf", "server { listen 8000; }"),
        (
            "compose.yaml",
            "services: {nginx: {image: nginx, volumes: ['./conf.d:/n']}, web: {image: web}, api: {build: api}}",
        ),
        ("api/Dockerfile", "FROM scratch"),
        ("conf.d/shop.conf", ""),
    ];
    // Blocks that begin with a part of a node are no stacks.
    let whole = blocks.by_ref().filter(|block| Spec::NODES.iter().any(|node| block.starts_with(&format!("{node} "))));
    let mut count = 0;
    for block in whole {
        let others = "unit \"go-api\" { exec \"/bin/a\"; listen 8080; }\nsite \"api.example.org\" { root \"/x\"; }\n";
        let text = block.replace("secret.token", "secret.db").replace("secret.tunnel", "secret.db");
        assert_eq!(super::lower_with(&format!("{others}{text}"), &files).complaints(), "", "{block}");
        count += 1;
    }
    assert_eq!(count, 10);
}
