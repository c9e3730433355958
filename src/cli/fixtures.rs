//! Plans built by hand, for the tests of this module.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::base::diagnostic::Problems;
use crate::base::diagnostic::{Source, Span};
use crate::base::digest::Digest;
use crate::base::error::{Error, Kind};
use crate::base::id::{HostName, RepoId, StackName};
use crate::cli::origin::Origin;
use crate::engine::Planned;
use crate::host::observation::{PathSeen, Seen, Thing};
use crate::load::{Extent, OnFailure, Rollout};
use crate::plan::effect::{Deed, Effect, Rested};
use crate::plan::guard::{Hazard, Unless};
use crate::plan::waves::Waves;
use crate::plan::{Action, Cause, Change, HostPlan, PathChange, Plan, Refusal, Transaction};
use crate::resource::state::{Content, Owner, PathState};
use crate::resource::{Check, Probe};

/// What must never be seen in any output.
pub const HUSH: &str = "hunter2-very-secret";

pub fn origin() -> Origin {
    Origin {
        repo: "infra".into(),
        location: "/home/alice/infra".into(),
        commit: Some("4f2c91d8aa0b1c2d3e4f".into()),
        branch: Some("main".into()),
        author: Some("Alice <alice@example.org>".into()),
        signer: Some("alice".into()),
        dirty: 0,
        before: None,
        chosen: Vec::new(),
    }
}

pub fn host(name: &str) -> HostName {
    HostName::new(name).unwrap()
}

pub fn span() -> Span {
    let source: Arc<Source> = Source::new("stacks/web/stack.kdl", "stack \"web\" {\n    unit \"go-api\"\n}\n");
    Span::new(&source, 18, 4)
}

pub fn seen(bytes: &[u8], mode: u32) -> Seen<PathSeen> {
    Seen::Present(PathSeen {
        thing: Thing::File(Some(Digest::of(bytes))),
        raw_type: 0x8000,
        mode,
        ids: (0, 0),
        owner: Owner::root(),
        size: bytes.len() as u64,
    })
}

pub fn file(content: Content, mode: u32) -> PathState {
    PathState::File { content, mode, owner: Owner::root() }
}

/// A file whose text changes.
pub fn edit(path: &str, before: &str, after: &str) -> PathChange {
    PathChange {
        path: path.into(),
        before: seen(before.as_bytes(), 0o644),
        after: Some(file(Content::plain(after.as_bytes()), 0o644)),
        before_content: Some(before.into()),
        implied: false,
    }
}

/// A file that is new.
pub fn birth(path: &str, after: &str) -> PathChange {
    let after = Some(file(Content::plain(after.as_bytes()), 0o644));
    PathChange { path: path.into(), before: Seen::Absent, after, before_content: None, implied: false }
}

/// A file that goes.
pub fn death(path: &str, before: &str) -> PathChange {
    let before_content = Some(before.into());
    PathChange {
        path: path.into(),
        before: seen(before.as_bytes(), 0o644),
        after: None,
        before_content,
        implied: false,
    }
}

pub fn change(id: &str, action: Action, cause: Cause, paths: Vec<PathChange>) -> Change {
    Change {
        id: id.parse().unwrap(),
        stack: StackName::new("web").unwrap(),
        origin: (cause != Cause::Gone).then(span),
        action,
        cause,
        paths,
        details: Vec::new(),
        refused: None,
    }
}

pub fn effect(deed: Deed, causes: &[&str]) -> Effect {
    Effect::new(deed, causes.iter().map(|id| id.parse().unwrap()).collect())
}

pub fn units(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_string()).collect()
}

pub fn transaction(stack: &str, changes: Vec<Change>, effects: Vec<Effect>) -> Transaction {
    Transaction {
        debts: Vec::new(),
        stack: StackName::new(stack).unwrap(),
        held: None,
        needs: BTreeSet::new(),
        changes,
        effects,
        checks: Vec::new(),
        ledger_seen: None,
        ledger_before: "".into(),
        ledger_after: "".into(),
    }
}

pub fn host_plan(name: &str, transactions: Vec<Transaction>) -> HostPlan {
    HostPlan {
        host: host(name),
        transactions,
        unchanged: 20,
        notes: Vec::new(),
        unfinished: Vec::new(),
        hazards: Vec::new(),
        extent: Extent::Stack,
        offline: false,
        salt: String::new(),
    }
}

pub fn planned(hosts: Vec<HostPlan>) -> Planned {
    Planned {
        plan: Plan {
            repo: RepoId::new("infra").unwrap(),
            hosts: hosts.into_iter().map(Arc::new).collect(),
            waves: Waves::default(),
        },
        problems: Problems::default(),
        failures: Vec::new(),
        resources: 61,
        elapsed: Duration::from_millis(310),
        ready: BTreeMap::new(),
    }
}

/// A plan with something of everything.
pub fn everything() -> Planned {
    let mut web = transaction("web", web_changes(), web_effects());
    let http = Probe::Http { url: "http://127.0.0.1:8080/health".into(), host: None };
    web.checks.push(("unit:go-api".parse().unwrap(), Check { probe: http, within: Duration::from_secs(10) }));
    let refused = Change {
        refused: Some(Refusal {
            why: "/etc/motd is there already, and this file is not ours".into(),
            hint: "to take it over: --adopt file:/etc/motd".into(),
        }),
        ..change("file:/etc/motd", Action::Create, Cause::New, vec![edit("/etc/motd", "a\n", "b\n")])
    };
    let mut second = host_plan("web-2", vec![transaction("greeting", vec![refused], Vec::new())]);
    second.notes.push("not checked beforehand by nginx, systemd and Compose: no user namespaces".into());
    let what = "would remove 31 of 40 resources: the limit is 20".into();
    second.hazards.push(Hazard { what, unless: Unless::Overridden });
    let what = "would write /etc/ssh/sshd_config, which is protected".into();
    second.hazards.push(Hazard { what, unless: Unless::Confirmed });
    second.unfinished.push("118".into());
    let mut all = planned(vec![host_plan("web-1", vec![web]), second]);
    let lost = Error::new(Kind::Unreachable, "connection refused").hint("is sshd running there?");
    let on_failure = OnFailure::Stop { threshold: NonZeroUsize::new(2).unwrap() };
    all.plan.waves.rollout = Some(Rollout { pause: Duration::from_secs(30), on_failure, ..Rollout::default() });
    all.plan.waves.each = vec![vec![host("web-1")], vec![host("web-2"), host("web-4")]];
    all.failures.push((host("web-3"), lost));
    all
}

fn web_changes() -> Vec<Change> {
    let site = "server {\n    proxy_read_timeout 30s;\n    proxy_pass http://127.0.0.1:8080;\n}\n";
    let mut unit = change(
        "unit:go-api",
        Action::Update,
        Cause::Both,
        vec![edit("/etc/systemd/system/go-api.service", "[Service]\nUser=a\n", "[Service]\nUser=b\n")],
    );
    unit.details.push("User changed".into());
    let secret = PathChange {
        path: "/etc/app/token".into(),
        before: seen(b"older", 0o600),
        after: Some(file(Content::secret(HUSH.as_bytes()), 0o600)),
        before_content: Some(format!("{HUSH}-old").into_bytes()),
        implied: false,
    };
    let mode = PathChange { after: Some(file(Content::plain(*b"x\n"), 0o600)), ..edit("/etc/app/mode", "x\n", "x\n") };
    let compose = edit("/srv/app/compose.yaml", "image: a:1\n", "image: a:2\n");
    let link = PathState::Link { target: "../sites-available/new".into() };
    let link = PathChange { after: Some(link), ..birth("/etc/nginx/sites-enabled/new", "") };
    vec![
        change("directory:/srv/new", Action::Create, Cause::New, vec![directory("/srv/new")]),
        change("file:/etc/app/token", Action::Update, Cause::Repository, vec![secret]),
        change("file:/etc/app/mode", Action::Update, Cause::Drift, vec![mode]),
        change("file:/etc/old", Action::Remove, Cause::Gone, vec![death("/etc/old", "one\ntwo\n")]),
        change("file:/etc/kept", Action::Adopt, Cause::New, Vec::new()),
        unit,
        Change {
            details: vec!["worker.service runs with older files".into()],
            ..change("unit:worker", Action::Activate, Cause::Owed, Vec::new())
        },
        change("unit:stopped", Action::Activate, Cause::Drift, Vec::new()),
        change(
            "site:api.example.org",
            Action::Update,
            Cause::Repository,
            vec![edit("/etc/nginx/sites-available/api", site, &site.replace("8080", "8090"))],
        ),
        change("site:new", Action::Create, Cause::New, vec![birth("/etc/nginx/sites-available/new", site), link]),
        change("compose:app", Action::Update, Cause::Repository, vec![compose]),
    ]
}

fn directory(path: &str) -> PathChange {
    let after = Some(PathState::Directory { mode: 0o755, owner: Owner::root() });
    PathChange { path: path.into(), before: Seen::Absent, after, before_content: None, implied: false }
}

fn web_effects() -> Vec<Effect> {
    let owed = effect(Deed::Restart { units: units(&["worker.service"]) }, &["unit:worker"]);
    vec![
        effect(pull(), &["compose:app"]),
        effect(Deed::DaemonReload, &["unit:go-api"]),
        effect(Deed::Restart { units: units(&["go-api.service"]) }, &["unit:go-api"]),
        Effect { why: Some("owed since run 117".into()), ..owed },
        effect(Deed::Start { units: units(&["stopped.service"]) }, &["unit:stopped"]),
        effect(Deed::Reload { units: units(&["nginx.service"]) }, &["site:api.example.org", "site:new"]),
        effect(compose_up(), &["compose:app"]),
    ]
}

fn pull() -> Deed {
    Deed::Pull {
        image: "ghcr.io/acme/api".into(),
        tag: Some("1.4".into()),
        before: Some(format!("sha256:{}", "1a2b3c4d".repeat(8))),
        digest: format!("sha256:{}", "9f8e7d6c".repeat(8)),
        platform: None,
        bytes: Some(34_123_456),
        about: false,
    }
}

fn compose_up() -> Deed {
    Deed::ComposeUp {
        project: "app".into(),
        directory: "/srv/app".into(),
        files: vec!["/srv/app/compose.yaml".into()],
        profiles: Vec::new(),
        build: Vec::new(),
        create: Vec::new(),
        recreate: vec!["api".into()],
        unpause: Vec::new(),
        start: Vec::new(),
        remove: Vec::new(),
        built: false,
        pulled: true,
        new: false,
        before: Vec::new(),
        rested: Rested::default(),
    }
}
