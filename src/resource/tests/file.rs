use super::{lower, lower_with};
use crate::resource::Action;
use crate::resource::path::check;
use crate::resource::state::PathState;

#[test]
fn modes_and_owners() {
    let outcome = lower("file \"/etc/a\" content=\"x\" owner=\"app\" mode=\"0640\"");
    let Some(PathState::File { mode, owner, .. }) = outcome.one().state.paths.values().next() else { panic!("a file") };
    assert_eq!((*mode, owner.user.as_str(), owner.group.as_str()), (0o640, "app", "app"));
}

#[test]
fn secrets_are_for_root_alone() {
    let outcome = lower("file \"/etc/a\" content=\"key={{ secret.db }}\"");
    let Some(PathState::File { mode, content, .. }) = outcome.one().state.paths.values().next() else {
        panic!("a file")
    };
    assert!(content.secret);
    assert_eq!(*mode, 0o600);
    let wide = lower("file \"/etc/a\" content=\"key={{ secret.db }}\" mode=\"0644\"");
    insta::assert_snapshot!(wide.complaints(), @"stack.kdl:1:45 the file has a secret in it and its mode 0644 is wider than 0600 (leave the mode out, or say `allow-readable #true` if others must read it)");
    assert_eq!(
        lower("file \"/etc/a\" { content \"{{ secret.db }}\"; mode \"0640\"; allow-readable }").complaints(),
        ""
    );
}

#[test]
fn a_secret_cannot_be_a_name() {
    let outcome = lower("file \"/etc/{{ secret.db }}\" content=\"x\"\nunit \"{{ secret.db }}\" exec=\"/bin/x\"");
    assert!(!outcome.complaints().contains("hunter2"));
    assert_eq!(outcome.problems.len(), 2);
}

#[test]
fn facts_that_are_not_known_yet_say_so_without_a_problem() {
    let outcome = lower("file \"/etc/a\" content=\"{{ facts.cpus * 2 }} {{ facts.os.name }}\"");
    assert!(outcome.needs_facts);
    assert_eq!(outcome.complaints(), "");
    assert!(outcome.resources.is_empty());
}

#[test]
fn content_from_files_templates_and_links() {
    let files = [("app.conf", "as {{ it }} is"), ("app.conf.j2", "for {{ domain }}")];
    assert_eq!(lower_with("file \"/a\" source=\"app.conf\"", &files).text("/a"), "as {{ it }} is");
    assert_eq!(lower_with("file \"/a\" template=\"app.conf.j2\"", &files).text("/a"), "for example.org");
    let link = lower("file \"/etc/a\" link=\"../b\"");
    let target = PathState::Link { target: "../b".into() };
    assert_eq!(link.one().state.paths.values().next(), Some(&target));
}

#[test]
fn reactions() {
    let outcome = lower(
        "file \"/etc/a\" content=\"x\" {\n on-change restart=\"app\"\n on-change signal=\"SIGHUP\" unit=\"b.service\"\n \
         on-change container=\"web\" compose=\"app\"\n}",
    );
    let actions: Vec<_> = outcome.one().reactions.iter().map(|reaction| reaction.action.clone()).collect();
    let container = Action::Container { project: "app".into(), service: "web".into(), signal: None };
    assert_eq!(
        actions,
        [
            Action::Restart("app.service".into()),
            Action::Signal { unit: "b.service".into(), signal: "HUP".into() },
            container
        ]
    );
}

#[test]
fn mistakes() {
    let outcome = lower(
        "file \"/etc/a\"\nfile \"/etc/b\" content=\"x\" source=\"y\"\nfile \"/etc/c\" content=\"x\" moed=\"0600\"\n\
         file \"/etc/d\" content=\"x\" mode=\"rw\"\nfile \"/etc/e\" source=\"nope\"\nfile \"/etc/f\" content=\"{{ domian }}\"\n\
         file \"/etc/g\" content=\"x\" { on-change reload=\"a\" restart=\"b\"; }\ndirectory \"relative\"\npackages\n\
         packages \"Nginx; rm -rf /\"\nfile \"/etc/h\" source=\"../../../etc/passwd\"\n",
    );
    insta::assert_snapshot!("file_mistakes", outcome.complaints());
}

#[test]
fn what_is_misspelt_is_not_missing_as_well() {
    for (text, said) in [
        ("file \"/etc/a\" contnet=\"x\"", "`file` has no property called `contnet`"),
        ("file \"/etc/a\" { contnet \"x\"; }", "`file` has no node called `contnet`"),
        ("timer \"a\" on-calender=\"daily\" exec=\"/bin/a\"", "`timer` has no property called `on-calender`"),
        ("unit \"a\" { exec \"/bin/a\"; drop-in \"b\" contnet=\"x\"; }", "`drop-in` has no property called `contnet`"),
    ] {
        let problems: Vec<String> = lower(text).problems.iter().map(|problem| problem.message.clone()).collect();
        assert_eq!(problems, [said], "{text}");
    }
    // What is wrong with a calendar is told together with what is wrong elsewhere.
    let both = lower("timer \"a\" on-calendar=\"dayly\" exec=\"/bin/a\"\nfile \"/etc/a\" contnet=\"x\"");
    assert_eq!(both.problems.len(), 2, "{}", both.complaints());
}

#[test]
fn paths() {
    for good in ["/etc/app.conf", "/srv/a b", "/etc//nginx/./x/", "/etc/sudoers.d/app", "/runner", "/etc/ü"] {
        assert!(check(good).is_ok(), "{good}");
    }
    assert_eq!(check("/etc//nginx/./x/").expect("good"), "/etc/nginx/x");
    let bad = [
        "",
        "/",
        "//",
        "etc/x",
        "/etc/../x",
        "/etc/..",
        "/proc/1/mem",
        "/sys",
        "/dev/sda",
        "/run/x",
        "/etc/shadow",
        "/a\nb",
    ];
    for bad in
        bad.into_iter().chain(["/./etc/passwd", "/etc//sudoers", "/var/lib/reconcile/journal", "/a\0b", "/a\u{1b}[2J"])
    {
        assert!(check(bad).is_err(), "{bad:?}");
    }
}
