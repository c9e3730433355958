//! Repositories written out, a host that has what an earlier state of them left there, and the plan between the two.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::id::{HostName, StackName};
use crate::host::hold::Hold;
use crate::host::observation::{Observation, PathSeen, Seen, Thing, UnitSeen};
use crate::ledger::{Claim, Ledger};
use crate::load::{Config, Secrets, load};
use crate::plan::host::{Policy, plan};
use crate::plan::{HostPlan, Transaction};
use crate::render::render;
use crate::resource::Desired;
use crate::resource::state::{Owner, PathState};

pub const HOST: &str = "host \"web\" user=\"root\"";

/// A repository with these stacks for the host `web`.
pub fn config(hosts: &str, stacks: &[(&str, &str)]) -> Config {
    let mut files: BTreeMap<Utf8PathBuf, Arc<[u8]>> = BTreeMap::new();
    files.insert("hosts/hosts.kdl".into(), format!("repo \"test\"\n{hosts}").as_bytes().into());
    for (name, body) in stacks {
        let text = format!("stack \"{name}\" {{\non \"web\"\n{body}\n}}");
        files.insert(format!("stacks/{name}/stack.kdl").into(), text.as_bytes().into());
    }
    let nothing = |_: &Utf8Path| Err(io::Error::new(io::ErrorKind::NotFound, "no such file"));
    let world = crate::sealed::World {
        env: &|_| None,
        read: &nothing,
        prompt: &crate::host::transport::Nobody,
        identities: &[],
    };
    let loaded = load(&files, world, Secrets::Required);
    loaded.map_or_else(|error| panic!("{:?}", error.problems), |(config, _)| config)
}

/// What the host `web` should be.
pub fn desired(config: &Config) -> Desired {
    render(config, &HostName::new("web").unwrap(), None).into_result().unwrap().0
}

/// A host on which everything that `desired` says has been applied.
pub fn applied(desired: &Desired) -> Observation {
    let mut seen = Observation { systemd: true, ..Observation::default() };
    let mut ledgers: BTreeMap<StackName, Ledger> = BTreeMap::new();
    for resource in &desired.resources {
        let claim = Claim::on(&resource.state, &BTreeMap::new(), "");
        ledgers.entry(resource.stack.clone()).or_default().claims.insert(resource.id.clone(), claim);
        for (path, state) in &resource.state.paths {
            let (thing, mode) = match state {
                PathState::File { content, mode, .. } => (Thing::File(Some(content.digest)), *mode),
                PathState::Directory { mode, .. } => (Thing::Directory, *mode),
                PathState::Link { target } => (Thing::Link(target.clone()), 0o777),
            };
            let there = PathSeen { thing, raw_type: 0x8000, mode, ids: (0, 0), owner: Owner::root(), size: 1 };
            seen.paths.insert(path.clone(), Seen::Present(there));
        }
        for unit in resource.state.units.keys() {
            let is = |text: &str| text.to_string();
            let unit_seen =
                UnitSeen { load: is("loaded"), active: is("active"), file_state: is("enabled"), ..UnitSeen::default() };
            seen.units.insert(unit.clone(), unit_seen);
        }
    }
    let named = ledgers.into_iter().map(|(stack, ledger)| (format!("test/ledger/{stack}"), ledger.to_text()));
    seen.ledgers = named.collect();
    seen
}

/// The plan for a host as `before` left it.
pub fn plan_of(before: &Config, after: &Config, goes_back: bool) -> HostPlan {
    plan_from(&applied(&desired(before)), after, goes_back)
}

/// The plan for a host that looks like this.
pub fn plan_from(seen: &Observation, after: &Config, goes_back: bool) -> HostPlan {
    plan_of_stacks(seen, after, goes_back, None)
}

/// The same of these stacks alone.
pub fn plan_of_stacks(
    seen: &Observation,
    after: &Config,
    goes_back: bool,
    stacks: Option<&BTreeSet<StackName>>,
) -> HostPlan {
    let (mut seen, desired) = (seen.clone(), desired(after));
    // What has never been there is absent.
    for path in desired.resources.iter().flat_map(|resource| resource.state.paths.keys()) {
        seen.paths.entry(path.clone()).or_insert(Seen::Absent);
    }
    let host = &after.hosts[&desired.host];
    let said =
        after.stacks.iter().map(|(name, stack)| (name.clone(), stack.after.iter().map(|(on, _)| on.clone()).collect()));
    let said = said.collect();
    let policy = Policy {
        repo: &after.repo,
        stacks,
        adopt: &BTreeSet::new(),
        refused: &BTreeMap::new(),
        after: &said,
        offline: false,
        goes_back,
        here: after.stacks.keys().cloned().collect(),
        limits: host.limits,
        extent: host.extent,
    };
    plan(&desired, &seen, &policy)
}

/// Files with these numbers.
pub fn files(numbers: std::ops::Range<usize>) -> String {
    numbers.map(|n| format!("file \"/srv/f{n}\" content=\"{n}\"\n")).collect()
}

#[test]
fn each_change_names_its_own_units_alone() {
    let unit = |name: &str, value: u8| format!("unit \"{name}\" {{ exec \"/bin/x\"\nenv A=\"{value}\"\n}}\n");
    let stack = |value: u8| format!("{}{}", unit("a", value), unit("b", value));
    let plan = plan_of(&config(HOST, &[("s", &stack(1))]), &config(HOST, &[("s", &stack(2))]), true);
    let restarts: Vec<_> = plan.effects().filter(|effect| effect.deed.words().starts_with("restart")).collect();
    assert_eq!(restarts.len(), 1, "one call for both");
    assert_eq!(restarts[0].deed.words(), "restart a, b");
    let own = ["unit:a", "unit:b"].map(|id| restarts[0].share(&id.parse().unwrap()).words());
    assert_eq!(own, ["restart a", "restart b"]);
}

#[test]
fn a_directory_that_goes_with_several_is_said_once() {
    let body = "directory \"/opt/x\"\n".to_string() + &files(0..3);
    let (before, after) = (
        config(HOST, &[("s", &body), ("t", "file \"/t\" content=\"t\"")]),
        config(HOST, &[("t", "file \"/t\" content=\"t\"")]),
    );
    let mut seen = applied(&desired(&before));
    // As if `/srv` had been made along with the first file of each.
    let ledger = seen.ledgers.get_mut("test/ledger/s").unwrap();
    *ledger = ledger.replace("file\t/srv", "directory\t/srv\t755\troot:root\nfile\t/srv");
    seen.paths.insert("/srv".into(), seen.paths[Utf8Path::new("/opt/x")].clone());
    let plan = plan_from(&seen, &after, true);
    let gone: Vec<_> = plan.changes().flat_map(|change| &change.paths).filter(|path| path.path == "/srv").collect();
    assert_eq!((plan.changes().count(), gone.len()), (4, 1));
}

/// Something of this type, as root's.
fn there(thing: Thing, mode: u32) -> Seen<PathSeen> {
    Seen::Present(PathSeen { thing, raw_type: 0x8000, mode, ids: (0, 0), owner: Owner::root(), size: 1 })
}

/// What a plan takes away, as paths.
fn taken_away(plan: &HostPlan) -> Vec<&str> {
    let paths = plan.changes().flat_map(|change| &change.paths).filter(|path| path.after.is_none());
    paths.map(|path| path.path.as_str()).collect()
}

/// The plan's changes, as `STACK ID`.
fn changed(plan: &HostPlan) -> Vec<String> {
    plan.changes().map(|change| format!("{} {}", change.stack, change.id)).collect()
}

#[test]
fn what_became_a_directory_or_is_none_any_more_is_not_taken_away() {
    let other = ("t", "file \"/t\" content=\"t\"");
    let (file, link, directory) = (Thing::File(None), Thing::Link("/data".into()), Thing::Directory);
    for (what, body, now, goes) in [
        ("a directory, as it was", "directory \"/srv/app\"", &directory, true),
        ("a directory that is a link now", "directory \"/srv/app\"", &link, false),
        ("a directory that is a file now", "directory \"/srv/app\"", &file, false),
        ("a file that is a directory now", "file \"/srv/app\" content=\"x\"", &directory, false),
        ("a link that is a directory now", "file \"/srv/app\" link=\"/x\"", &directory, false),
        ("a file that is another one now", "file \"/srv/app\" content=\"x\"", &file, true),
        ("a file that is a link now", "file \"/srv/app\" content=\"x\"", &link, true),
    ] {
        let (before, after) = (config(HOST, &[("s", body), other]), config(HOST, &[other]));
        let mut seen = applied(&desired(&before));
        seen.paths.insert("/srv/app".into(), there(now.clone(), 0o755));
        let plan = plan_from(&seen, &after, true);
        assert_eq!(taken_away(&plan), if goes { vec!["/srv/app"] } else { vec![] }, "{what}");
        let details: Vec<_> = plan.changes().flat_map(|change| &change.details).collect();
        assert_eq!((plan.changes().count(), details.len()), (1, usize::from(!goes)), "{what}: {details:?}");
        assert!(plan.transactions[0].ledger_after.is_empty(), "{what}: the claim is given up");
    }
}

/// A host on which the stack `web` has had a resource with the file `/a`, and `website` has had it since, with `/b` in
/// place of that; `moves` is what the later claim says of it.
pub fn moved(moves: &str) -> Observation {
    let stack = |name| applied(&desired(&config(HOST, &[(name, "file \"/a\" content=\"x\"")])));
    let (old, mut seen) = (stack("web"), stack("website"));
    seen.ledgers.extend(old.ledgers);
    let ledger = seen.ledgers.get_mut("test/ledger/website").unwrap();
    *ledger = ledger.replace("file:/a\n", &format!("file:/a\n{moves}")).replace("file\t/a", "file\t/b");
    seen.paths.insert("/b".into(), seen.paths[Utf8Path::new("/a")].clone());
    // Somebody has put something of their own where the file was.
    seen.paths.insert("/a".into(), there(Thing::File(None), 0o600));
    seen
}

#[test]
fn of_two_claims_on_a_resource_the_later_one_counts() {
    let other = |name| (name, "file \"/t\" content=\"t\"");
    for (what, moves, left) in [
        ("the ledger says which is later", "moves\t1\n", vec![other("t")]),
        ("it says so where both stacks are there", "moves\t1\n", vec![other("web"), other("website")]),
        ("it does not, and only one of the stacks is there", "", vec![other("website")]),
    ] {
        let after: Vec<_> =
            left.iter().enumerate().map(|(n, (name, body))| (*name, body.replace("/t", &format!("/t{n}")))).collect();
        let after: Vec<_> = after.iter().map(|(name, body)| (*name, body.as_str())).collect();
        let strict = format!("{HOST} {{ limits deletions=1 }}");
        let plan = plan_from(&moved(moves), &config(&strict, &after), true);
        assert_eq!(taken_away(&plan), ["/b"], "{what}");
        for stack in ["web", "website"] {
            assert!(changed(&plan).contains(&format!("{stack} file:/a")), "{what}: {:?}", changed(&plan));
            let transaction = plan.transactions.iter().find(|each| each.stack.as_str() == stack).unwrap();
            assert!(!transaction.ledger_after.contains("file:/a"), "{what}: {stack}");
        }
        assert!(plan.hazards.is_empty(), "one resource goes: {what}: {:?}", plan.hazards);
    }
}

#[test]
fn what_goes_is_forgotten_first_by_the_stack_that_it_has_left() {
    let needs = |plan: &HostPlan| {
        let of = |each: &Transaction| {
            format!("{} {}", each.stack, each.needs.iter().map(StackName::as_str).collect::<String>())
        };
        plan.transactions.iter().map(of).collect::<Vec<_>>()
    };
    let other = |name, after: &str| (name, format!("{after}file \"/{name}\" content=\"t\""));
    let plan = |seen: &Observation, web: &str, website: &str| {
        let stacks = [other("web", web), other("website", website)];
        plan_from(seen, &config(HOST, &stacks.each_ref().map(|(name, body)| (*name, body.as_str()))), true)
    };
    let mut seen = moved("moves\t1\n");
    assert_eq!(needs(&plan(&seen, "", "")), ["web ", "website web"]);
    assert_eq!(needs(&plan(&seen, "", "after \"web\"\n")), ["web ", "website web"]);
    // What is said comes first.
    assert_eq!(needs(&plan(&seen, "after \"website\"\n", "")), ["website ", "web website"]);
    // As long as its former claim stays, it stays itself: else that claim would be the one that counts.
    seen.holds.insert("web".into(), Hold::parse("-\t0\talice\tthe audit"));
    assert_eq!(plan(&seen, "", "").carried_out().count(), 0);
}

#[test]
fn a_claim_that_another_stack_has_since_owns_nothing() {
    let mut seen = moved("");
    for ledger in seen.ledgers.values_mut() {
        *ledger = ledger.replace("file:/a", "file:/b");
    }
    let after = config(HOST, &[("website", "file \"/b\" content=\"x\"\nfile \"/a\" content=\"x\"")]);
    let plan = plan_from(&seen, &after, true);
    let refused: Vec<_> = plan.changes().filter_map(|change| change.refused.as_ref()).collect();
    assert!(refused.len() == 1 && refused[0].why.contains("not ours"), "{refused:?}");
}

#[test]
fn a_resource_that_moves_is_claimed_until_its_new_stack_has_it() {
    let (a, t) = ("file \"/a\" content=\"x\"\n", "file \"/t\" content=\"1\"\n");
    let seen = applied(&desired(&config(HOST, &[("web", &(a.to_string() + t))])));
    let moved = |a: &str, t: &str| plan_from(&seen, &config(HOST, &[("web", t), ("website", a)]), true);
    assert!(changed(&moved(a, t)).is_empty(), "moving alone changes nothing");
    // The old stack changes, and its new one has no reason to write a claim.
    let plan = moved(a, &t.replace('1', "2"));
    assert_eq!(changed(&plan), ["web file:/t"]);
    assert!(plan.transactions[0].ledger_after.contains("file:/a"), "{}", plan.transactions[0].ledger_after);
    // The new one writes it: that one is the later.
    let plan = moved(&a.replace("\"x\"", "\"y\""), t);
    assert_eq!(changed(&plan), ["website file:/a"]);
    assert!(plan.transactions[0].ledger_after.contains("file:/a\nmoves\t1\n"), "{}", plan.transactions[0].ledger_after);
}
