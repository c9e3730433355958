//! The header of a stack.

use super::*;

#[test]
fn what_can_be_wrong_with_the_header_of_a_stack() {
    let cases = [
        "",
        "on",
        "on \"web-3\"",
        "on \"nothing-like-it\"",
        "on \"web\"",
        "on tag=\"wbe\"",
        "on tag=\"web-1\"",
        "on tag=\"web\" \"web-9\"",
        "on hosts=\"web-1\"",
        "on \"all\"; except \"web-1\" \"web-2\"",
        "on \"web-1\"; except \"web-2\"",
        "on \"web-1\"; except \"web-5\"",
        "on all=#false",
        "on \"all\"; host \"web-9\" { vars a=1 }",
        "on \"web-1\"; host \"web-2\" { vars a=1 }",
        "on \"web-1\"; host \"web-1\" { vars a=1 }; host \"web-1\" { vars a=2 }",
        "on \"web-1\"; host \"web-1\" { unit \"x\" }",
        "on \"all\"; after \"s\"",
        "on \"all\"; after \"t\"",
        "on \"all\"; after \"../x\"",
        "on \"all\"; values \"values.yaml\"",
        "on \"all\"; values \"../../../etc/passwd\"",
        "on \"all\"; values",
        "on \"all\"; vars secret=1",
        "on \"all\"; sote \"x\"",
        "on \"all\"; include \"x\"",
        "on \"all\"; secret \"db\" env=\"NOT_THERE\"",
    ];
    let all = table(&cases, in_stack);
    insta::assert_snapshot!(all);
}

#[test]
fn a_stack_is_called_as_its_folder() {
    let found = |text: &str| problems(&[REPO, WEB, ("stacks/s/stack.kdl", text)]);
    let cases = [
        "stack \"t\" { on \"all\" }",
        "",
        "stack { on \"all\" }",
        "stack \"s\" { on \"all\" }\nstack \"t\" { on \"all\" }",
        "on \"all\"",
        "stack \"s\" x=1 { on \"all\" }",
        "stack \"s\" { on \"all\"",
        "stack \"a b\" { on \"all\" }",
    ];
    insta::assert_snapshot!(table(&cases, found));
}

#[test]
fn selectors_add_up() {
    let hosts = |body: &str| {
        let text = format!("stack \"s\" {{ {body} }}");
        let config = good(&[REPO, WEB, ("hosts/db.kdl", "host \"db\" { tags \"db\" }"), ("stacks/s/stack.kdl", &text)]);
        let stack = config.stacks.values().next().unwrap();
        stack.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(hosts("on \"web-1\""), "web-1");
    assert_eq!(hosts("on host=\"web-1\""), "web-1");
    assert_eq!(hosts("on tag=\"web\""), "web-1 web-2");
    assert_eq!(hosts("on { tag \"fra\" \"db\" }"), "db web-2");
    assert_eq!(hosts("on tag=\"fra\" \"web-1\""), "web-1 web-2");
    assert_eq!(hosts("on \"db\"; on tag=\"fra\""), "db web-2");
    assert_eq!(hosts("on \"all\"; except \"db\""), "web-1 web-2");
    assert_eq!(hosts("on all=#true"), "db web-1 web-2");
}

#[test]
fn stacks_that_wait_for_each_other_are_reported_with_the_way() {
    let stack = |name: &str, after: &str| format!("stack \"{name}\" {{ on \"all\"; after {after} }}");
    let found = problems(&[
        REPO,
        WEB,
        ("stacks/a/stack.kdl", &stack("a", "\"b\"")),
        ("stacks/b/stack.kdl", &stack("b", "\"c\"")),
        ("stacks/c/stack.kdl", &stack("c", "\"b\"")),
    ]);
    assert_eq!(
        found,
        ["stacks/b/stack.kdl:1:29 & stacks/c/stack.kdl:1:29: stacks wait for each other: `b` after `c` after `b` \
          (remove one of these `after`)"]
    );
}

#[test]
fn a_stack_with_mistakes_can_still_be_waited_for() {
    let found = problems(&[
        REPO,
        WEB,
        ("stacks/a/stack.kdl", "stack \"a\" { on \"all\"; after \"b\" }"),
        ("stacks/b/stack.kdl", "stack \"b\" {"),
    ]);
    assert!(found.iter().all(|line| line.starts_with("stacks/b/")), "{found:?}");
}

#[test]
fn values_are_read_as_they_are_and_merged_deeply() {
    let config = good(&[
        REPO,
        WEB,
        (
            "stacks/s/stack.kdl",
            "stack \"s\" { on \"all\"; vars a=1 { db host=\"x\" port=1 }; values \"one.yaml\" \"two.yaml\" }",
        ),
        (
            "stacks/s/one.yaml",
            "db: { port: 5432, answer: no }\nlist: [1, 2]\nbase: &b { x: 1 }\nmore: { <<: *b, y: 2 }\n",
        ),
        ("stacks/s/two.yaml", "\u{feff}list: [3]\r\nraw: '{{ not.filled }}'\r\n"),
    ]);
    let stack = config.stacks.values().next().unwrap();
    let mut names = serde_json::Map::new();
    assert!(stack.vars.fill(&mut names, &mut |_, _| Filled::Failed).is_empty());
    assert_eq!(
        serde_json::to_string(&names).unwrap(),
        r#"{"a":1,"db":{"host":"x","port":5432,"answer":"no"},"list":[3],"base":{"x":1},"more":{"y":2,"x":1},"raw":"{{ not.filled }}"}"#
    );
}

#[test]
fn what_can_be_wrong_with_values() {
    let cases = [
        "a: 1\na: 2\n",
        "nested:\n  key: 1\n  other: 2\n  key: 3\n",
        "a: [1, 2\n",
        "- a\n- b\n",
        "just text",
        "\tx: 1",
        "secret: 1\n",
        "a: 1\n---\nb: 2\n",
        "a: *nowhere\n",
        "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
         d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
         g: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n",
        "",
        "# nothing\n",
        "mode: 0755\n",
        "version: 1.10\nport: 080\n",
    ];
    let found = |values: &str| {
        problems(&[
            REPO,
            WEB,
            ("stacks/s/stack.kdl", "stack \"s\" { on \"all\"; values \"v.yaml\" }"),
            ("stacks/s/v.yaml", values),
        ])
    };
    let all = table(&cases, found);
    insta::assert_snapshot!(all);
}

#[test]
fn values_that_are_misspelt_are_found() {
    let found = problems(&[
        REPO,
        WEB,
        ("stacks/s/stack.kdl", "stack \"s\" { on \"all\"; values \"value.yaml\" }"),
        ("stacks/s/values.yaml", ""),
    ]);
    assert_eq!(
        found,
        ["stacks/s/stack.kdl:1:30: the repository has no file `stacks/s/value.yaml` \
          (did you mean `stacks/s/values.yaml`?)"]
    );
}

#[test]
fn files_that_nobody_reads_are_warned_of() {
    let found = problems(&[
        REPO,
        WEB,
        ("hosts/old/x.kdl", "host \"x\""),
        ("stacks/loose.kdl", ""),
        ("stacks/README.md", ""),
        ("stacks/_shared/nginx.conf", ""),
        ("stacks/empty/notes.txt", ""),
    ]);
    assert_eq!(
        found,
        [
            "hosts/old/x.kdl:1:1: warning: `hosts/old/x.kdl` is not read (hosts are described in files right in `hosts/`)",
            "stacks/empty/stack.kdl:1:1: warning: `stacks/empty` has no `stack.kdl`, so it is no stack \
             (write one, or call a folder of shared files `_empty`)",
            "stacks/loose.kdl:1:1: warning: `stacks/loose.kdl` is not read (move it to `stacks/loose/stack.kdl`)",
        ]
    );
}

#[test]
fn a_selection_that_matches_nothing_is_an_error() {
    let config = good(&[
        REPO,
        WEB,
        ("stacks/one/stack.kdl", "stack \"one\" { on \"web-1\" }"),
        ("stacks/two/stack.kdl", "stack \"two\" { on \"all\" }"),
    ]);
    let select = |hosts: &[&str], stacks: &[&str], tags: &[&str]| {
        let list = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        let selection = Selection { hosts: list(hosts), stacks: list(stacks), tags: list(tags) };
        match selection.select(&config) {
            Ok(chosen) => {
                let hosts: Vec<_> = chosen.hosts.iter().map(ToString::to_string).collect();
                let stacks: Vec<_> = chosen.stacks.iter().map(ToString::to_string).collect();
                format!("{} / {}{}", hosts.join(" "), stacks.join(" "), if chosen.partial { " (partial)" } else { "" })
            }
            Err(error) => format!("{} ({})", error.what, error.hint.unwrap_or_default()),
        }
    };
    assert_eq!(select(&[], &[], &[]), "web-1 web-2 / one two");
    assert_eq!(select(&["web-2"], &[], &[]), "web-2 / two");
    assert_eq!(select(&[], &["one"], &[]), "web-1 / one (partial)");
    assert_eq!(select(&[], &["two"], &["fra"]), "web-2 / two");
    assert_eq!(select(&["web-3"], &[], &[]), "there is no host `web-3` (did you mean `web-1`?)");
    assert_eq!(select(&[], &["x"], &[]), "there is no stack `x` (stacks: one, two)");
    assert_eq!(select(&[], &[], &["wbe"]), "there is no tag `wbe` (did you mean `web`?)");
    assert_eq!(
        select(&["web-1"], &[], &["fra"]),
        "nothing is selected: no chosen host has a chosen tag (loosen `--host`, `--stack` or `--tag`)"
    );
    assert_eq!(
        select(&["web-2"], &["one"], &[]),
        "nothing is selected: no chosen stack is on a chosen host (loosen `--host`, `--stack` or `--tag`)"
    );
}
