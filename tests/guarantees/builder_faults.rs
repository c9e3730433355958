//! What goes wrong while one host builds for others: each time the report says so, the next run finishes it, and the
//! builder has nothing left of it but images.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::builder::Fleet;
use crate::kit::{Host, finish, lab};

const LONG: Duration = Duration::from_mins(5);

/// What is in the folder for builds when none is at work.
const IDLE: &str = "[ \"$(cd /var/lib/reconcile/ID/build && echo *)\" = 'lock receive status' ]";

impl Fleet {
    /// The same, with another way to build. A link that was cut is found out within seconds.
    fn built_by(id: &str, dockerfile: &str) -> Fleet {
        let fleet = Fleet::new(id);
        fleet.repo.write("stacks/app/web/Dockerfile", dockerfile);
        fleet.repo.write(".ssh/config", "Host *\nServerAliveInterval 2\n");
        fleet
    }

    fn project(&self) -> String {
        format!("compose:{}-app", self.repo.id)
    }

    /// How the project ended on each of the two, and why where it did not go well.
    fn ends(&self, ran: &crate::kit::Ran) -> [String; 2] {
        ran.is_truthful();
        let json = ran.json();
        let hosts = json["hosts"].as_array().expect("hosts");
        [0, 1].map(|at: usize| {
            let host = hosts.iter().find(|there| there["host"] == self.hosts[at].name).expect("the host");
            let why = [&host["error"]["what"], &host["failures"][0]["what"]].map(|what| what.as_str().unwrap_or(""));
            let outcome = host["outcomes"][self.project()].as_str().unwrap_or("nothing");
            format!("{outcome} {}", why.concat()).trim().replace(&self.builder.name, "B")
        })
    }

    fn on_builder(&self) -> String {
        self.builder.sh("docker ps -aq")
    }

    /// The builder has done with all of it, runs what it ran before, and all is as wanted.
    fn repairs(&self, containers: &str, does: &[&str]) {
        self.builder.until(&IDLE.replace("ID", &self.repo.id));
        assert_eq!(self.on_builder(), containers);
        assert_eq!(self.does(&self.repo.plan(), 0), does);
        self.repo.apply();
        self.repo.is_settled();
    }
}

/// A host's Engine stands still as soon as it takes an image in, or gives one out, until this is dropped.
struct Halfway<'a>(&'a Host);

impl<'a> Halfway<'a> {
    fn on(host: &'a Host) -> Self {
        Halfway::at("import", host)
    }

    fn at(work: &str, host: &'a Host) -> Self {
        host.until(&format!("ls -d /var/lib/docker/tmp/docker-{work}-* >/dev/null && kill -STOP $(pidof dockerd)"));
        Halfway(host)
    }

    /// Nothing is left of an image that was cut off.
    fn none(host: &Host) {
        host.until("[ -z \"$(ls /var/lib/docker/tmp)\" ]");
    }
}

impl Drop for Halfway<'_> {
    fn drop(&mut self) {
        _ = self.0.try_sh("kill -CONT $(pidof dockerd)");
    }
}

/// The link to a host is cut until this is dropped.
struct Cut<'a>(&'a Host);

impl<'a> Cut<'a> {
    fn to(host: &'a Host) -> Self {
        lab(&["cut", &host.name]);
        Cut(host)
    }
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        lab(&["mend", &self.0.name]);
    }
}

#[test]
fn g13_an_image_that_is_cut_off_on_its_way_comes_with_the_next_run() {
    // More than fits into all that lies between.
    let dockerfile = "FROM lab/busybox:1\nRUN head -c 40000000 /dev/urandom >/big\nARG WORD\nENV WORD=$WORD\n";
    let fleet = Fleet::built_by("bldway", dockerfile);
    let (repo, [one, _], builder) = (&fleet.repo, &fleet.hosts, &fleet.builder);
    let (args, containers) = (["apply", "--yes", "--json"], fleet.on_builder());

    // The host that is to have it is cut off: nothing is changed there, and the other one has it.
    let run = repo.begin(&args);
    let ran = {
        let _half = Halfway::on(one);
        let _cut = Cut::to(one);
        finish(run, LONG)
    };
    let why = format!("unreachable the connection to {} was lost while images came", one.name);
    assert_eq!(fleet.ends(&ran), [why, "applied".into()], "{}", ran.out);

    // The builder is, before all of it was on its way.
    Halfway::none(one);
    let run = repo.begin(&args);
    let ran = {
        let _half = Halfway::at("export", builder);
        let _cut = Cut::to(builder);
        finish(run, LONG)
    };
    let why = "failed the builder B: the connection was lost while an image came from there";
    assert_eq!(fleet.ends(&ran), [why, "unchanged"], "{}", ran.out);

    // The control side dies.
    Halfway::none(one);
    let mut run = repo.begin(&args);
    let half = Halfway::on(one);
    run.kill().expect("it can be killed");
    finish(run, LONG);
    drop(half);

    // There is no room for it.
    let place = "/var/lib/docker/tmp";
    Halfway::none(one);
    one.sh(&format!("mount -t tmpfs -o size=4m tmpfs {place}"));
    let ran = repo.run(&args);
    one.sh(&format!("umount {place}"));
    let [why, _] = fleet.ends(&ran);
    assert!(why.starts_with("failed ") && why.contains("no space left"), "{}", ran.out);
    assert!(ran.out.contains("make room where the Engine keeps its images"), "{}", ran.out);

    fleet.repairs(&containers, &["transfer web from the builder", "create plain"]);
    Halfway::none(one);
}

#[test]
fn g13_a_build_that_nobody_waits_for_comes_to_its_end() {
    let dockerfile = "FROM lab/busybox:1\nARG WORD\nENV WORD=$WORD\nRUN sleep 5\n";
    let fleet = Fleet::built_by("bldend", dockerfile);
    let (repo, [one, two], builder) = (&fleet.repo, &fleet.hosts, &fleet.builder);
    let (building, containers) = ("pgrep -xf 'sleep 5'", fleet.on_builder());
    // What an engine has built before, it does not build again.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
    let stack = |word: &str| fleet.stack(&format!("env WORD=\"{word}{now}\""));
    stack("a");

    // The link to the builder is cut: both hosts stay as they are, and a third thing goes on.
    repo.stack("other", "file \"/srv/ID-other\" content=\"x\"");
    let run = repo.begin(&["apply", "--yes", "--json"]);
    builder.until(building);
    let ran = {
        let _cut = Cut::to(builder);
        finish(run, LONG)
    };
    for why in fleet.ends(&ran) {
        assert!(why.starts_with("failed the builder B: the connection to "), "{why}");
    }
    let other = format!("file:/srv/{}-other", repo.id);
    assert_eq!((ran.outcome_on(0, &other), ran.outcome_on(1, &other)), ("applied".into(), "applied".into()));
    fleet.repairs(&containers, &["transfer web from the builder", "create plain"]);

    // The control side dies.
    stack("b");
    let mut run = repo.begin(&["apply", "--yes", "--json"]);
    builder.until(building);
    run.kill().expect("it can be killed");
    finish(run, LONG);
    fleet.repairs(&containers, &["transfer web from the builder", "recreate web"]);

    // Two runs want the same: it is built once.
    stack("c");
    let before = fleet.images(builder).len();
    let other = repo.copy();
    let begin = |repo: &crate::kit::Repo, host: &Host| repo.begin(&["apply", "--yes", "--json", "--host", &host.name]);
    for run in [begin(repo, one), begin(&other, two)] {
        let ran = finish(run, LONG);
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    repo.is_settled();
    assert_eq!((fleet.images(builder).len(), fleet.images(one)), (before + 1, fleet.images(two)));
}
