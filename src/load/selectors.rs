//! Which hosts a stack is for: `on` and `except`.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::{Problem, Span};
use crate::base::id::HostName;
use crate::load::Host;
use crate::load::hosts::Inventory;
use crate::load::reading::{Reading, shown, with_known};

/// The `on` and `except` nodes of one stack.
#[derive(Default)]
pub(super) struct Selectors {
    hosts: Vec<Text>,
    tags: Vec<Text>,
    all: Option<Span>,
    except: Vec<Text>,
    /// Whether there is any `on`: if so, what is wrong with it has been reported.
    given: bool,
    /// Whether something stands there that may have been meant to be `on` or `except`. Which hosts are meant is not known
    /// then, and what seems to be none of them is no mistake.
    pub(super) doubted: bool,
}

impl Selectors {
    /// Reads one `on` node.
    pub(super) fn read_on(&mut self, mut reader: Reader<'_>) {
        let span = reader.span();
        let (hosts, tags) = (reader.values("host"), reader.values("tag"));
        let all = reader.flag("all");
        let args = reader.args();
        let empty = hosts.is_empty() && tags.is_empty() && args.is_empty() && all != Some(true);
        if all == Some(true) || args.iter().any(|arg| arg.raw == "all") {
            self.all = Some(span);
        }
        self.hosts.extend(args.into_iter().filter(|arg| arg.raw != "all").chain(hosts));
        self.tags.extend(tags);
        self.given = true;
        self.doubted |= empty;
        if empty {
            let problem = Problem::error("`on` names no hosts").at(&reader.span(), "here");
            reader.report(problem.hint("write `on \"web-1\"`, `on tag=\"web\"` or `on \"all\"`"));
        }
        reader.finish();
    }

    /// Reads one `except` node.
    pub(super) fn read_except(&mut self, mut reader: Reader<'_>) {
        let first = reader.required("the name of a host");
        self.except.extend(first.into_iter().chain(reader.args()));
        reader.finish();
    }

    /// The hosts that are selected. Whatever selects nothing is reported.
    pub(super) fn select(&self, reading: &Reading<'_>, inventory: &Inventory, stack: &Span) -> BTreeSet<HostName> {
        let mut chosen = BTreeSet::new();
        let hosts = &inventory.hosts;
        if !self.given && !self.doubted {
            let problem = Problem::error("the stack does not say which hosts it is for").at(stack, "here");
            reading.report(problem.hint("add `on \"web-1\"`, `on tag=\"web\"` or `on \"all\"`"));
        }
        if let Some(span) = &self.all {
            if hosts.is_empty() && inventory.complete {
                reading.report(Problem::error("there are no hosts").at(span, "selects nothing"));
            }
            chosen.extend(hosts.keys().cloned());
        }
        for name in &self.hosts {
            let found = find(hosts, &name.raw);
            if found.is_none() && inventory.complete {
                reading.report(unknown_host(name, hosts));
            }
            chosen.extend(found);
        }
        for tag in &self.tags {
            let tagged: Vec<_> = hosts.values().filter(|host| host.tags.contains(&tag.raw)).collect();
            if tagged.is_empty() && inventory.complete {
                reading.report(unknown_tag(tag, hosts));
            }
            chosen.extend(tagged.into_iter().map(|host| host.name.clone()));
        }
        self.leave_out(reading, inventory, &mut chosen, stack);
        chosen
    }

    fn leave_out(&self, reading: &Reading<'_>, inventory: &Inventory, chosen: &mut BTreeSet<HostName>, stack: &Span) {
        let before = chosen.len();
        for name in &self.except {
            let host = find(&inventory.hosts, &name.raw);
            if host.as_ref().is_some_and(|host| chosen.remove(host)) || self.doubted || !inventory.complete {
                continue;
            }
            if host.is_none() {
                reading.report(unknown_host(name, &inventory.hosts));
            } else {
                let problem = Problem::error(format!("the stack is not on `{}` anyway", name.raw));
                reading.report(problem.at(&name.span, "leaves out nothing").hint("remove it"));
            }
        }
        if before > 0 && chosen.is_empty() && inventory.complete && !self.doubted {
            let problem = Problem::error("`except` leaves out every host of the stack").at(stack, "this stack");
            reading.report(problem.hint("remove the folder of a stack that is not wanted any more"));
        }
    }
}

/// The host called `name`.
pub(super) fn find(hosts: &BTreeMap<HostName, Host>, name: &str) -> Option<HostName> {
    let name = HostName::new(name).ok()?;
    hosts.contains_key(&name).then_some(name)
}

/// The problem with a host that is not there.
pub(super) fn unknown_host(name: &Text, hosts: &BTreeMap<HostName, Host>) -> Problem {
    let problem = Problem::error(format!("there is no host {}", shown(&name.raw))).at(&name.span, "selects nothing");
    if let Some(tagged) = hosts.values().find(|host| host.tags.contains(&name.raw)) {
        let hint = format!("`{}` is a tag, as of `{}`: write `on tag=\"{0}\"`", name.raw, tagged.name);
        return problem.hint(hint);
    }
    with_known(problem, &name.raw, "hosts", hosts.keys().map(HostName::as_str))
}

fn unknown_tag(tag: &Text, hosts: &BTreeMap<HostName, Host>) -> Problem {
    let problem = Problem::error(format!("no host has the tag {}", shown(&tag.raw))).at(&tag.span, "selects nothing");
    if find(hosts, &tag.raw).is_some() {
        return problem.hint(format!("`{0}` is a host: write `on \"{0}\"`", tag.raw));
    }
    let tags: BTreeSet<&str> = hosts.values().flat_map(|host| &host.tags).map(String::as_str).collect();
    with_known(problem, &tag.raw, "tags", tags.iter().copied())
}
