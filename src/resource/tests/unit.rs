use super::{lower, lower_with};
use crate::base::id::{Kind, ResourceId};
use crate::resource::health::{HALF_A_SECOND, Terms};
use crate::resource::state::{PathState, UnitState};
use crate::resource::{Action, Probe};

#[test]
fn a_secret_in_the_environment_makes_the_file_secret() {
    let outcome = lower("unit \"app\" { exec \"/bin/app\"; env DB=\"pw={{ secret.db }}\"; }");
    let Some(PathState::File { content, mode, .. }) = outcome.one().state.paths.values().next() else {
        panic!("a file")
    };
    assert!(content.secret);
    assert_eq!(*mode, 0o600);
    assert!(String::from_utf8_lossy(&content.bytes).contains("Environment=\"DB=pw=hunter2 50%%\""));
}

/// What systemd 252 and 257 take (`+`) and refuse (`-`), as `systemd-analyze calendar` says.
#[test]
fn a_calendar_is_what_systemd_takes_for_one() {
    for line in include_str!("calendar.txt").lines() {
        let (sign, word) = line.split_at(2);
        let outcome = lower(&format!("timer \"a\" on-calendar=\"{word}\" exec=\"/bin/x\""));
        assert_eq!(outcome.problems.is_empty(), sign == "+ ", "{word}: {}", outcome.complaints());
    }
}

#[test]
fn every_setting_has_its_line() {
    let outcome = lower(
        r#"unit "app" {
    exec "/bin/app" "two words" "100%" "$HOME"
    exec-pre "/bin/a" "/bin/b"
    type "notify"; group "app"; documentation "https://example.org"
    wants "b.service"; requires "c.service"; before "d.service"
    env-file "/etc/app.env"
    runtime-directory "app"; state-directory "app"
    exec-post "/bin/p"; exec-reload "/bin/kill -HUP $MAINPID"; exec-stop "/bin/s"
    timeout-start 5; timeout-stop "10s"; kill-signal "SIGINT"; limit-nofile 65535; memory-max "1G"; cpu-quota "50%"
    no-new-privileges #true
    directive "Service" ProtectSystem="strict"
    directive "Unit" ConditionPathExists="/etc/app.env"
    directive "Install" Alias="other.service"
    wanted-by "graphical.target"
    restart-on "/etc/app.env"
}"#,
    );
    insta::assert_snapshot!("every_setting", outcome.text("/etc/systemd/system/app.service"));
    assert_eq!(outcome.one().reactions[1].action, Action::Restart("app.service".into()));
    assert_eq!(outcome.one().reactions[1].paths, ["/etc/app.env"]);
}

#[test]
fn states_follow_the_file() {
    let files = [
        ("job.service", "[Service]\nType=oneshot\nExecStart=/bin/job\n"),
        ("app@.service", "[Service]\nExecStart=/bin/app %i\n[Install]\nWantedBy=multi-user.target\n"),
    ];
    let state = |stack: &str, unit: &str| lower_with(stack, &files).one().state.units[unit];
    let nothing = UnitState::default();
    assert_eq!(state("unit \"job\" file=\"job.service\"", "job.service"), nothing);
    assert_eq!(state("unit \"app@\" file=\"app@.service\"", "app@.service"), nothing);
    let both = UnitState { enabled: Some(true), active: Some(true) };
    assert_eq!(state("unit \"app@1\" enabled=#true running=#true", "app@1.service"), both);
    let stopped = |enabled| UnitState { enabled: Some(enabled), active: Some(false) };
    assert_eq!(state("unit \"app\" { exec \"/bin/app\"; running #false; }", "app.service"), stopped(false));
    let said = "unit \"app\" { exec \"/bin/app\"; running #false; enabled #true; }";
    assert_eq!(state(said, "app.service"), stopped(true), "until the next boot");
    let drop_in = lower("unit \"nginx\" { drop-in \"limits\" content=\"[Service]\\nLimitNOFILE=1\\n\"; }");
    assert_eq!(drop_in.one().state.units["nginx.service"], nothing);
    assert!(
        drop_in
            .one()
            .state
            .paths
            .contains_key("/etc/systemd/system/nginx.service.d/limits.conf".as_ref() as &camino::Utf8Path)
    );
}

#[test]
fn checks() {
    let outcome = lower(
        "unit \"app\" { exec \"/bin/app\"; listen \"10.0.0.1:9000\"; health tcp=9001; health http=\"http://127.0.0.1:1/x\" host=\"a\"; \
         health command=\"/bin/check\" \"--all\" within=\"1m30s\"; }",
    );
    let checks = &outcome.one().checks;
    assert_eq!(checks[0].probe, Probe::Tcp { host: "127.0.0.1".into(), port: 9001 });
    assert_eq!(checks[1].probe, Probe::Http { url: "http://127.0.0.1:1/x".into(), host: Some("a".into()) });
    assert_eq!(checks[2].probe, Probe::Command(vec!["/bin/check".into(), "--all".into()]));
    assert_eq!(checks[2].within.as_secs(), 90);
    assert_eq!(
        checks[3].probe,
        Probe::Active { unit: "app.service".into(), patience: Terms::default().patience(HALF_A_SECOND) }
    );
}

#[test]
fn a_timer_comes_with_its_service() {
    let outcome =
        lower("timer \"backup\" { on-calendar \"daily\"; persistent #true; exec \"/bin/backup\"; user \"app\"; }");
    insta::assert_snapshot!("timer", outcome.text("/etc/systemd/system/backup.timer"));
    insta::assert_snapshot!("timer_service", outcome.text("/etc/systemd/system/backup.service"));
    let units = &outcome.one().state.units;
    assert_eq!(units["backup.timer"], UnitState { enabled: Some(true), active: Some(true) });
    assert_eq!(units["backup.service"], UnitState::default());
    assert_eq!(outcome.one().id, ResourceId::new(Kind::Timer, "backup"));
    let other = lower("timer \"x\" { on-boot \"5min\"; unit \"other\"; }");
    assert!(other.text("/etc/systemd/system/x.timer").contains("Unit=other.service"));
}

#[test]
fn mistakes() {
    let outcome = lower(
        "unit \"a; rm -rf /\" exec=\"/bin/a\"\nunit \"../b\" exec=\"/bin/b\"\nunit \"c\" user=\"www\"\nunit \"d\"\n\
         unit \"e\" { exec \"/bin/e\"; content \"[Service]\"; }\nunit \"f\" { exec \"/bin/f\\nUser=root\"; }\n\
         unit \"g\" { exec \"/bin/g\"; health http=\"/x\"; }\nunit \"h\" { exec \"/bin/h\"; env \"1A\"=\"x\"; }\n\
         unit \"i\" { exec \"/bin/i\"; lisen 80; }\nunit \"j\" { exec \"/bin/j\"; listen \"all\"; }\n\
         unit \"k\" { exec \"/bin/k\"; directive \"Service]\" A=\"b\"; }\nunit \"l\" { exec \"/bin/l\"; env A=\"{{ secret.bd }}\"; }\n\
         timer \"m\" exec=\"/bin/m\"\ntimer \"n\" on-calendar=\"daily\"\nunit \"o.socket\" exec=\"/bin/o\"\n\
         unit \"p\" { exec \"/bin/p\"; health within=\"soon\"; }\nunit \"q\" { exec \"/bin/q\"; user \"a\" \"b\"; }\n",
    );
    insta::assert_snapshot!("unit_mistakes", outcome.complaints());
}
