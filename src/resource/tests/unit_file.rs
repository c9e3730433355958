use crate::resource::unit_file::{Impact, impact, parse};

const BASE: &str = "[Unit]\nDescription=a\nAfter=x\n[Service]\nExecStart=/bin/a\nEnvironment=A=1\nEnvironment=B=2\nRestart=always\n[Install]\nWantedBy=multi-user.target\n";

#[test]
fn what_a_change_asks_of_systemd() {
    let reload = Impact { daemon_reload: true, ..Impact::default() };
    let restart = Impact { restart: true, ..reload.clone() };
    let reenable = Impact { reenable: true, ..reload.clone() };
    let with = |impact: &Impact, changed: &[&str]| Impact {
        changed: changed.iter().map(ToString::to_string).collect(),
        ..impact.clone()
    };
    let cases: Vec<(&str, String, Impact)> = vec![
        ("nothing", BASE.into(), Impact::default()),
        ("a comment", format!("# hello\n{BASE}"), reload.clone()),
        ("white space", BASE.replace("ExecStart=/bin/a", "ExecStart = /bin/a  "), reload.clone()),
        ("a comment with ;", BASE.replace("[Service]", "[Service]\n; User=root"), reload.clone()),
        ("a description", BASE.replace("Description=a", "Description=b"), with(&reload, &["Description"])),
        ("an order", BASE.replace("After=x", "After=y"), with(&reload, &["After"])),
        ("a restart policy", BASE.replace("Restart=always", "Restart=no"), with(&reload, &["Restart"])),
        ("a command", BASE.replace("/bin/a", "/bin/b"), with(&restart, &["ExecStart"])),
        ("a variable", BASE.replace("B=2", "B=3"), with(&restart, &["Environment"])),
        ("a user", BASE.replace("Restart=", "User=x\nRestart="), with(&restart, &["User"])),
        ("a condition", BASE.replace("After=x", "After=x\nBindsTo=y"), with(&restart, &["BindsTo"])),
        ("an installation", BASE.replace("multi-user", "graphical"), with(&reenable, &["WantedBy"])),
        (
            "a reset without effect",
            BASE.replace("Environment=A=1", "Environment=Z=9\nEnvironment=\nEnvironment=A=1"),
            reload.clone(),
        ),
        ("a reset", BASE.replace("Environment=B=2", "Environment="), with(&restart, &["Environment"])),
        ("a continuation", BASE.replace("ExecStart=/bin/a", "ExecStart=\\\n  /bin/a"), reload.clone()),
        ("foreign words", format!("{BASE}[X-Other]\nA=b\n"), with(&reload, &["A"])),
        (
            "a section that goes",
            BASE.replace("[Install]\nWantedBy=multi-user.target\n", ""),
            with(&reenable, &["WantedBy"]),
        ),
        (
            "an empty file",
            String::new(),
            Impact {
                daemon_reload: true,
                reenable: true,
                reload: false,
                restart: true,
                changed: vec![
                    "WantedBy".into(),
                    "Environment".into(),
                    "ExecStart".into(),
                    "Restart".into(),
                    "After".into(),
                    "Description".into(),
                ],
            },
        ),
    ];
    for (name, after, expected) in cases {
        assert_eq!(impact(BASE, &after), expected, "{name}");
        let back = impact(&after, BASE);
        assert_eq!((back.restart, back.reenable), (expected.restart, expected.reenable), "{name}, back");
    }
}

#[test]
fn comments_do_not_end_a_continuation() {
    let directives = parse("[Service]\nExecStart=/bin/a \\\n# a comment\n  --b\\\n\nUser=x");
    assert_eq!(directives[&("Service".to_string(), "ExecStart".to_string())], ["/bin/a  --b"]);
    assert_eq!(directives[&("Service".to_string(), "User".to_string())], ["x"]);
}
