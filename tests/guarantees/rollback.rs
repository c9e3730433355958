//! 7 and 8, further: what can go wrong after the switch, one by one; each time everything is exactly as it was.
//!
//! Among them is what users of other tools report (an issue each): only a part goes back (deploy-rs #68), a first
//! adoption cannot go back (#86), it is said but not done (#241), it is reported as success (#214, doco-cd #1616,
//! Dokploy #3987). That nothing is armed in a dry run (#186) is for `reading.rs`, which watches what a plan writes.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::kit::{Host, Picture, Ran, Repo, any, finish, free, lab};

/// A stack that runs, and a look at all of it.
struct Case<'a> {
    host: &'a Host,
    repo: Repo,
    units: String,
    before: Option<Picture>,
}

/// What every case changes besides what goes wrong: all of that must go back too.
fn body(word: &str, more: &str) -> String {
    let mode = if word == "one" { "0640" } else { "0600" };
    format!(
        "file \"/srv/ID/x\" content=\"{word}\" mode=\"{mode}\" owner=\"www-data\"
        file \"/srv/ID/link\" link=\"/srv/{word}\"
        file \"/srv/ID/{word}\" content=\"only there\"
        unit \"ID-a\" {{ exec \"/usr/bin/sleep 9999\"\nenv A=\"{word}\" }}
        unit \"ID-b\" {{ exec \"/usr/bin/sleep 9999\"\nenv A=\"{word}\" }}
        unit \"ID-{word}\" exec=\"/usr/bin/sleep 9999\"
        {more}"
    )
}

impl<'a> Case<'a> {
    fn new(host: &'a Host, id: &str) -> Case<'a> {
        let repo = Repo::new(id, &[host]);
        repo.stack("one", &body("one", ""));
        repo.apply();
        let units = ["a", "b", "one", "two", "new"].map(|name| format!("{id}-{name}")).join(" ");
        let mut case = Case { host, repo, units, before: None };
        case.before = Some(case.look());
        case
    }

    fn look(&self) -> Picture {
        let id = &self.repo.id;
        let places = format!(
            "/srv/{id} /etc/nginx/sites-*/{id}* /etc/systemd/system/{id}* /etc/systemd/system/*.wants/{id}* \
            /etc/ssh/sshd_config.d /var/lib/reconcile/{id}/ledger /var/lib/reconcile/{id}/run /var/lib/reconcile/{id}/owed"
        );
        self.host.picture(&places, &self.units)
    }

    fn is_back(&self, name: &str) {
        let before = self.before.as_ref().expect("it was looked at");
        self.look().is_as(before, name);
        let id = &self.repo.id;
        let runs = self.host.sh(&format!(
            "for unit in {id}-a {id}-b; do tr '\\0' '\\n' </proc/$(systemctl show -P MainPID $unit)/environ | grep ^A=; done"
        ));
        assert_eq!(runs, "A=one\nA=one\n", "{name}: the processes have what the files say");
    }

    /// Tries a change with more that goes wrong.
    fn goes_back(&self, name: &str, more: &str) {
        self.repo.stack("one", &body("two", more));
        let ran = self.repo.run(&["apply", "--yes", "--json", "--confirm", "4"]);
        assert_eq!(ran.code, 4, "{name}: {ran:?}");
        assert_eq!(ran.outcomes().into_iter().collect::<Vec<_>>(), ["rolled-back"], "{name}: {}", ran.out);
        let why = &ran.json()["hosts"][0]["failures"][0]["what"];
        assert!(why.as_str().is_some_and(|why| !why.is_empty()), "{name}: why is not said: {}", ran.out);
        self.is_back(name);
    }
}

#[test]
fn g07_what_fails_only_when_it_is_started_goes_back() {
    let host = any();
    let case = Case::new(&host, "g07-cases");
    host.sh("systemctl stop g07-taker 2>/dev/null; systemctl reset-failed g07-taker 2>/dev/null
        systemd-run -q --unit=g07-taker python3 -m http.server 7298 --bind 127.0.0.1");
    host.until("curl -s -o /dev/null http://127.0.0.1:7298/");
    let unit = |more: &str| format!("unit \"ID-new\" {{ exec \"/usr/bin/sleep 9999\"\n{more} }}");
    for (name, more) in [
        (
            "the port is taken",
            "site \"ID.test\" { listen \"127.0.0.1:7298\"\nsnippet \"location / { return 200 two; }\" }",
        ),
        ("the program is missing", "unit \"ID-new\" exec=\"/srv/ID/missing\""),
        ("a directory is missing", &unit("workdir \"/srv/ID/missing\"")),
        ("nobody is called so", &unit("user \"g07-nobody\"")),
        (
            "it dies after three seconds",
            "unit \"ID-new\" { exec \"/usr/bin/sleep 3\"\n
            health command=\"/bin/sh\" \"-c\" \"sleep 4; systemctl is-active ID-new\" within=\"1s\" }",
        ),
        ("no answer over http", &unit("health http=\"http://127.0.0.1:7299/\" within=\"1s\"")),
        ("the answer is an error", &unit("health http=\"http://127.0.0.1:7298/missing\" within=\"1s\"")),
        ("nothing listens", &unit("health tcp=7299 within=\"1s\"")),
        ("a command says no", &unit("health command=\"/bin/false\" within=\"1s\"")),
    ] {
        case.goes_back(name, more);
    }
    host.sh("systemctl stop g07-taker");
    case.repo.stack("one", &body("two", &unit("")));
    case.repo.apply();
    case.repo.is_settled();
}

/// Whoever runs it has no place for a history, and has closed its ears or has no room for what it is told: the host goes
/// back all the same, and the exit code is that of the run.
#[test]
fn g07_a_way_back_needs_nobody_who_listens_and_no_history() {
    let host = any();
    let mut case = Case::new(&host, "g07-deaf");
    case.repo.env("RECONCILE_STATE_DIR", "/proc/nothing");
    case.repo.stack("one", &body("two", "unit \"ID-new\" exec=\"/bin/false\""));
    // Closed; a pipe that nobody reads; and a disk that is full.
    let json = &["--json", "-vvv"][..];
    for (name, told, more) in
        [("closed", ">&-", &[][..]), ("nobody reads", "| true", json), ("full", ">/dev/full", &[])]
    {
        let inner = case.repo.command(&[&["apply", "--yes", "--confirm", "4"], more].concat());
        let mut command = Command::new("bash");
        command.args(["-c", &format!("\"$@\" {told}; exit ${{PIPESTATUS[0]}}"), "-"]).arg(inner.get_program());
        command.args(inner.get_args()).stdin(Stdio::null());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let ran = Ran::of(&command.output().expect("bash runs"));
        assert_eq!(ran.code, 4, "{name} {more:?}: {ran:?}");
        assert!(ran.err.contains("this run is not recorded"), "{name} {more:?}: {ran:?}");
        assert_eq!(ran.err.contains("standard output cannot be written"), name == "full", "{name} {more:?}: {ran:?}");
        case.is_back(&format!("{name} {more:?}"));
    }
}

#[test]
fn g08_a_change_that_shuts_us_out_goes_back() {
    let host = free();
    let id = "g08-cases";
    host.sh(&format!("rm -f /etc/ssh/sshd_config.d/{id}.conf; systemctl reload-or-restart ssh"));
    let case = Case::new(&host, id);
    let unit = |start: &str, stop: &str| {
        format!(
            "unit \"ID-new\" content=\"[Service]\\nType=oneshot\\nRemainAfterExit=yes\\nExecStart=/bin/sh -c '{start}'\\nExecStop=/bin/sh -c '{stop}'\\n\" running=#true"
        )
    };
    for (name, more) in [
        (
            "sshd listens elsewhere",
            "file \"/etc/ssh/sshd_config.d/ID.conf\" content=\"Port 2222\\n\" { on-change restart=\"ssh\" }"
                .to_string(),
        ),
        (
            "a firewall",
            unit("iptables -I INPUT -p tcp --dport 22 -j DROP", "iptables -D INPUT -p tcp --dport 22 -j DROP"),
        ),
        ("no route back", unit("ip route replace blackhole GATE/32", "ip route del blackhole GATE/32")),
    ] {
        let gate = "$$(ip route show default | cut -d\\\" \\\" -f3)";
        case.goes_back(name, &more.replace("GATE", gate));
        host.until("timeout 3 bash -c 'exec 3<>/dev/tcp/127.0.0.1/22'");
    }
}

#[test]
fn g07_a_first_adoption_that_fails_goes_back() {
    let host = any();
    let id = "g07-adopt";
    let repo = Repo::new(id, &[&host]);
    host.sh(&format!(
        "mkdir -p /srv/{id}; echo mine >/srv/{id}/x; chown www-data /srv/{id}/x; chmod 604 /srv/{id}/x; ln -s nowhere /srv/{id}/link
        printf '[Service]\nExecStart=/usr/bin/sleep 8888\nEnvironment=A=0\n[Install]\nWantedBy=basic.target\n' >/etc/systemd/system/{id}-a.service
        systemctl daemon-reload; systemctl enable -q --now {id}-a"
    ));
    let look = || {
        host.picture(
            &format!(
                "/srv/{id} /etc/systemd/system/{id}* /etc/systemd/system/*.wants/{id}* /var/lib/reconcile/{id}/ledger"
            ),
            &format!("{id}-a {id}-new"),
        )
    };
    host.sh(&format!(
        "mkdir -p /var/lib/reconcile/{id}/ledger; chmod 700 /var/lib/reconcile/{id} /var/lib/reconcile/{id}/ledger"
    ));
    let before = look();
    let all = [format!("file:/srv/{id}/x"), format!("file:/srv/{id}/link"), format!("unit:{id}-a")];
    repo.stack("one", "file \"/srv/ID/x\" content=\"ours\"\nfile \"/srv/ID/link\" content=\"ours\"\nunit \"ID-a\" { exec \"/usr/bin/sleep 9999\"\nenv A=\"1\" }\nunit \"ID-new\" exec=\"/bin/false\"");
    let mut args = vec!["apply", "--yes", "--json"];
    for id in &all {
        args.extend(["--adopt", id]);
    }
    let ran = repo.run(&args);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert_eq!(ran.outcomes().into_iter().collect::<Vec<_>>(), ["rolled-back"], "{}", ran.out);
    look().is_as(&before, "adopted in vain");
    let plan = repo.plan();
    assert!(all.iter().all(|id| !plan.refusal(id).is_empty()), "nothing is ours: {:#}", plan.0["hosts"]);
}

/// What somebody has set up by hand: a file, a link, a unit that runs, one that does not, and a site.
const BY_HAND: &str = r"
    mkdir -p /srv/ID; echo mine >/srv/ID/x; chown www-data /srv/ID/x; chmod 604 /srv/ID/x; ln -s nowhere /srv/ID/link
    cd /etc/systemd/system
    printf '[Service]\nExecStart=/usr/bin/sleep 8888\nEnvironment=A=0\n[Install]\nWantedBy=basic.target\n' >ID-a.service
    printf '[Service]\nExecStart=/usr/bin/sleep 8889\n[Install]\nWantedBy=basic.target\n' >ID-idle.service
    chmod 640 ID-idle.service; systemctl daemon-reload; systemctl enable -q --now ID-a
    cd /etc/nginx
    printf 'server { listen 127.0.0.1:7204; server_name ID.test; location / { return 200 hand; } }\n' >sites-available/ID.test.conf
    ln -s ../sites-available/ID.test.conf sites-enabled/ID.test.conf; systemctl reload nginx";

#[test]
fn g08_a_first_adoption_that_nobody_confirms_goes_back() {
    let host = free();
    let id = "g08-adopt";
    let repo = Repo::new(id, &[&host]);
    host.sh(&BY_HAND.replace("ID", id));
    let runs = || {
        host.sh(&format!(
            "tr '\\0' '\\n' </proc/$(systemctl show -P MainPID {id}-a)/environ | grep ^A=
            curl -s -H 'Host: {id}.test' http://127.0.0.1:7204/; echo"
        ))
    };
    host.until(&format!("[ \"$(curl -s -H 'Host: {id}.test' http://127.0.0.1:7204/)\" = hand ]"));
    let look = || {
        let places =
            "/srv/ID /etc/nginx/sites-*/ID* /etc/nginx/conf.d /etc/systemd/system/ID* /etc/systemd/system/*.wants/ID*";
        host.picture(&places.replace("ID", id), &["a", "idle", "new"].map(|name| format!("{id}-{name}")).join(" "))
    };
    let before = look();
    // The start of what is new leaves time to cut the link after the switch.
    repo.stack(
        "one",
        "file \"/srv/ID/x\" content=\"ours\"\nfile \"/srv/ID/link\" content=\"ours\"\nfile \"/srv/ID/new\" content=\"ours\"
        unit \"ID-a\" { exec \"/usr/bin/sleep 9999\"\nenv A=\"1\" }
        unit \"ID-idle\" exec=\"/usr/bin/sleep 9998\"
        site \"ID.test\" { listen \"127.0.0.1:7204\"\nsnippet \"location / { return 200 ours; }\" }
        unit \"ID-new\" { exec \"/usr/bin/sleep 9999\"\nexec-pre \"/usr/bin/sleep 8\" }",
    );
    let theirs = ["file:/srv/ID/x", "file:/srv/ID/link", "unit:ID-a", "unit:ID-idle", "site:ID.test"];
    let theirs = theirs.map(|resource| resource.replace("ID", id));
    let refusals = || theirs.each_ref().map(|resource| repo.plan().refusal(resource));
    let refused = refusals();
    assert!(refused.iter().all(|why| !why.is_empty()), "{refused:?}");
    let adopt = theirs.iter().flat_map(|resource| ["--adopt", resource]);
    let args: Vec<&str> = ["apply", "--yes", "--json", "--confirm", "3"].into_iter().chain(adopt).collect();
    let run = repo.begin(&args);
    host.until(&format!("systemctl show -P SubState {id}-new | grep -q start-pre"));
    lab(&["cut", &host.name]);
    let now = host.sh(&format!("cat /srv/{id}/x /srv/{id}/link; grep -c resource /var/lib/reconcile/{id}/ledger/one"));
    assert!(now.starts_with("oursours") && !now.ends_with("0\n"), "it was switched, and is claimed: {now}");
    host.until(&format!("[ ! -e /srv/{id}/new ] && [ -z \"$(ls /var/lib/reconcile/{id}/run)\" ]"));
    lab(&["mend", &host.name]);
    let ran = finish(run, Duration::from_mins(5));
    ran.is_truthful();
    assert_eq!(ran.code, 4, "{ran:?}");
    assert_eq!(ran.outcomes().into_iter().collect::<Vec<_>>(), ["rolled-back"], "{}", ran.out);
    look().is_as(&before, "adopted, and not confirmed");
    assert_eq!(runs(), "A=0\nhand\n", "what runs is theirs");
    let left = format!(
        "ls -A /var/lib/reconcile/{id}/ledger /var/lib/reconcile/{id}/owed | grep -v :; find /srv/{id} /etc -xdev -name '.reconcile-*'; true"
    );
    assert_eq!(host.sh(&left).trim(), "", "no ledger, and nothing owed");
    // It is as foreign as it was.
    assert_eq!(refusals(), refused);
    let ran = repo.fail();
    assert_eq!(ran.outcomes().into_iter().collect::<Vec<_>>(), ["blocked"], "{}", ran.out);
    look().is_as(&before, "refused");
    repo.apply_with(&args[3..]);
    repo.is_settled();
}

#[test]
fn g07_a_way_back_that_meets_a_full_disk_is_gone_by_the_next_run() {
    let host = any();
    let id = "g07-full";
    let repo = Repo::new(id, &[&host]);
    host.sh(&format!("mkdir -p /srv/{id}; mount -t tmpfs -o size=1m,nr_inodes=100 tmpfs /srv/{id}"));
    let body = |word: &str| {
        format!(
            "file \"/srv/ID/x\" content=\"{word}\"\nfile \"/srv/ID/{word}\" content=\"new\"\nunit \"ID-a\" {{ exec \"/usr/bin/sleep 9999\"\nenv A=\"{word}\" }}"
        )
    };
    repo.stack("one", &body("one"));
    repo.apply();
    let look = || {
        host.picture(
            &format!("/srv/{id} /etc/systemd/system/{id}* /var/lib/reconcile/{id}/ledger"),
            &format!("{id}-a {id}-fills"),
        )
    };
    let before = look();
    // What fails takes all that is left before it does so.
    let fills = "unit \"ID-fills\" { exec \"/usr/bin/sleep 9999\"\nexec-pre \"/bin/sh -c 'mkdir /srv/ID/fill; i=0; while touch /srv/ID/fill/$i; do i=$((i+1)); done; exit 1'\" }";
    repo.stack("one", &format!("{}\n{fills}", body("two")));
    let ran = repo.fail();
    assert_eq!(ran.outcomes().into_iter().collect::<Vec<_>>(), ["failed"], "{}", ran.out);
    assert!(ran.out.contains("No space left"), "what is wrong is said: {}", ran.out);
    let whole = || assert!(["one", "two"].contains(&&*host.sh(&format!("cat /srv/{id}/x"))), "a torn file");
    whole();
    // As long as there is no room, nothing else is begun.
    let ran = repo.fail();
    assert!(ran.out.contains("could not be brought back") || ran.out.contains("could be brought back"), "{}", ran.out);
    whole();
    host.sh(&format!("rm -r /srv/{id}/fill"));
    repo.stack("one", &body("one"));
    finish(repo.begin(&["apply", "--yes"]), Duration::from_mins(5));
    repo.is_settled();
    look().is_as(&before, "brought back by the next run");
    assert_eq!(
        host.sh(&format!("tr '\\0' '\\n' </proc/$(systemctl show -P MainPID {id}-a)/environ | grep ^A=")),
        "A=one\n"
    );
}

/// A package with files below `/etc/ID`, and where to have it from.
const PACKAGE: &str = r"
    dpkg -P ID >/dev/null 2>&1; rm -rf /srv/ID-apt /etc/apt/sources.list.d/ID.list /etc/ID
    mkdir -p /srv/ID-apt/p/DEBIAN /srv/ID-apt/p/etc/ID/empty && cd /srv/ID-apt && chmod 750 p/etc/ID
    printf 'Package: ID\nVersion: 1\nArchitecture: all\nMaintainer: Lab <lab@example.org>\nDescription: lab\n' >p/DEBIAN/control
    echo theirs >p/etc/ID/conf && chmod 640 p/etc/ID/conf && ln -s conf p/etc/ID/link
    dpkg-deb --root-owner-group -b p ID.deb >/dev/null
    { cat p/DEBIAN/control; echo Filename: ./ID.deb; echo Size: $(stat -c %s ID.deb); echo SHA256: $(sha256sum <ID.deb | cut -c1-64); } >Packages
    echo 'deb [trusted=yes] file:/srv/ID-apt ./' >/etc/apt/sources.list.d/ID.list";

#[test]
fn g07_what_a_package_brings_to_our_paths_is_there_again_after_a_rollback() {
    let host = free();
    let repo = Repo::new("g07-package", &[&host]);
    let set = |script: &str| host.sh(&script.replace("ID", &repo.id));
    set(PACKAGE);
    let body = "packages \"ID\"
        file \"/etc/ID/conf\" content=\"ours\"
        file \"/etc/ID/link\" link=\"/srv\"
        file \"/etc/ID/made/new\" content=\"ours\"
        directory \"/etc/ID/empty\" mode=\"0700\" owner=\"www-data\"";
    repo.stack("one", &format!("{body}\nunit \"ID-bad\" exec=\"/usr/bin/false\""));
    let ran = repo.fail();
    assert_eq!((ran.code, ran.outcome("file:/etc/g07-package/conf")), (4, "rolled-back".into()), "{}", ran.out);
    let is = host.files("/etc/g07-package");
    set("dpkg -P ID >/dev/null; rm -rf /etc/ID; apt-get -q install -y ID >/dev/null");
    assert_eq!(is, host.files("/etc/g07-package"), "as the package alone brings it");

    // Where it goes well, all is as wanted.
    set("dpkg -P ID >/dev/null; rm -rf /etc/ID");
    repo.stack("one", body);
    repo.apply();
    repo.is_settled();
    assert_eq!(set("cat /etc/ID/conf; stat -c %a /etc/ID /etc/ID/empty"), "ours750\n700\n");
    set("dpkg -P ID >/dev/null; rm -rf /etc/apt/sources.list.d/ID.list");
}
