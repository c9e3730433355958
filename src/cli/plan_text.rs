//! A plan as text, as people want to read it and paste it.

use crate::base::error::Error;
use crate::base::id::{HostName, StackName};
use crate::cli::content::{self, Difference, Tag};
use crate::cli::origin::Origin;
use crate::cli::page::{ADD, BOLD, CHANGE, DIM, EFFECT, PLAIN, Page, REMOVE, count, width};
use crate::cli::sections::{Section, sections};
use crate::cli::words::{self, Pull, Totals};
use crate::engine::Planned;
use crate::host::observation::Seen;
use crate::load::Extent;
use crate::plan::guard::Unless;
use crate::plan::{Change, HostPlan, PathChange, Transaction};

/// Diffs are cut after so many lines.
const LONGEST_DIFF: usize = 40;

/// How a plan is to be laid out.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// How many columns there are.
    pub width: usize,
    /// Diffs are not cut, and new files are shown whole.
    pub full: bool,
}

/// A plan as text.
pub fn plan_text(origin: &Origin, planned: &Planned, layout: Layout) -> Page {
    let mut page = Page::new();
    if words::is_nothing(planned) {
        if origin.before.is_some() {
            page.put(BOLD, &origin.words()).end();
        }
        page.line(&nothing_to_do(planned));
        notes(&mut page, planned);
        return page;
    }
    page.put(BOLD, &origin.words());
    page.put(DIM, &format!(" · {}", numbers(planned))).end();
    for (host, sections) in sections(planned, layout) {
        host_text(&mut page, host, &sections, layout);
    }
    failures(&mut page, &planned.failures);
    notes(&mut page, planned);
    waves(&mut page, planned);
    summary(&mut page, planned, &origin.command());
    page
}

/// `nothing to do: 61 resources on 2 hosts are as they should be · 0.31 s`.
fn nothing_to_do(planned: &Planned) -> String {
    let (resources, hosts) = (planned.resources, planned.plan.hosts.len());
    let verb = if resources == 1 { "is as it" } else { "are as they" };
    let elapsed = words::seconds(planned.elapsed);
    format!("nothing to do: {} on {} {verb} should be · {elapsed}", count(resources, "resource"), count(hosts, "host"))
}

fn numbers(planned: &Planned) -> String {
    let hosts = planned.plan.hosts.len() + planned.failures.len();
    let (hosts, resources) = (count(hosts, "host"), count(planned.resources, "resource"));
    format!("{hosts} · {resources} · {}", words::seconds(planned.elapsed))
}

fn host_text(page: &mut Page, host: &HostPlan, sections: &[Section], layout: Layout) {
    for run in &host.unfinished {
        page.end().put(BOLD, host.host.as_str()).end();
        page.space(2).put(CHANGE, "!").put(PLAIN, &format!(" run {run} broke off here: "));
        page.put(PLAIN, "what it left half done is brought back first").end();
    }
    for section in sections {
        page.end().put(BOLD, &section.title(layout.full));
        page.put(DIM, if section.host.offline { " (offline: nothing is activated)" } else { "" }).end();
        page.add(&section.text);
    }
    hazards(page, host);
}

/// What must not be done on a host just like that.
fn hazards(page: &mut Page, host: &HostPlan) {
    if !host.hazards.is_empty() {
        page.end().put(BOLD, host.host.as_str()).end();
    }
    for hazard in &host.hazards {
        let (sign, style) = if hazard.unless == Unless::Overridden { ("✗", REMOVE) } else { ("!", CHANGE) };
        page.space(2).put(style, sign).put(PLAIN, &format!(" {}", words::hazard(hazard))).end();
    }
}

/// What is to be done in one transaction, or why it is not.
pub fn transaction_text(page: &mut Page, transaction: &Transaction, host: &HostPlan, layout: Layout) {
    change_text(page, transaction, layout);
    consequences(page, transaction, host);
}

/// The changes of a transaction, each with its effects and differences.
pub fn change_text(page: &mut Page, transaction: &Transaction, layout: Layout) {
    let pulls = words::pulls(transaction).map(Row::of_pull);
    let rows: Vec<Row> = pulls.chain(transaction.changes.iter().map(|change| Row::of(transaction, change))).collect();
    let columns = Columns::of(&rows, layout.width);
    let (pulls, rows) = rows.split_at(rows.len() - transaction.changes.len());
    for row in pulls {
        row.write(page, &columns);
    }
    for (row, change) in rows.iter().zip(&transaction.changes) {
        row.write(page, &columns);
        below(page, change, layout);
    }
}

/// One line for one change.
struct Row {
    sign: (&'static str, anstyle::Style),
    kind: String,
    name: String,
    what: String,
    effects: String,
}

/// Where the parts of rows begin.
struct Columns {
    kind: usize,
    name: usize,
    what: usize,
    all: usize,
}

impl Row {
    fn of_pull(pull: Pull) -> Self {
        Row { sign: ("↓", EFFECT), kind: "image".into(), name: pull.name, what: pull.digests, effects: pull.weight }
    }

    fn of(transaction: &Transaction, change: &Change) -> Self {
        let effects: Vec<String> = words::effects_of(transaction, &change.id).collect();
        Row {
            sign: words::sign(transaction, change),
            kind: change.id.kind.to_string(),
            name: change.id.name.clone(),
            what: change.refused.as_ref().map_or_else(|| words::what(change), |refusal| refusal.why.clone()),
            effects: if change.refused.is_some() { String::new() } else { effects.join(", ") },
        }
    }

    fn write(&self, page: &mut Page, columns: &Columns) {
        page.space(2).put(self.sign.1, self.sign.0).space(1);
        page.put(self.sign.1, &self.kind).space(columns.kind.saturating_sub(width(&self.kind)) + 1);
        page.put(BOLD, &self.name);
        page.space(columns.name.saturating_sub(width(&self.name)) + 2);
        page.put(PLAIN, &self.what);
        if self.effects.is_empty() {
            page.end();
            return;
        }
        let begin = 4 + columns.kind + 1 + columns.name.max(width(&self.name)) + 2;
        let gap = columns.what.saturating_sub(width(&self.what)) + 2;
        if begin + width(&self.what) + gap + width(&self.effects) <= columns.all {
            page.space(gap);
        } else {
            page.end().space(6).put(DIM, "then ");
        }
        page.put(EFFECT, &self.effects).end();
    }
}

impl Columns {
    fn of(rows: &[Row], all: usize) -> Self {
        let widest =
            |text: fn(&Row) -> &str, most: usize| rows.iter().map(|row| width(text(row)).min(most)).max().unwrap_or(0);
        Columns {
            kind: widest(|row| &row.kind, 10),
            name: widest(|row| &row.name, 32),
            what: widest(|row| &row.what, 36),
            all,
        }
    }
}

/// What follows the line of a change: why not, or the paths with their differences.
fn below(page: &mut Page, change: &Change, layout: Layout) {
    if let Some(refusal) = &change.refused {
        page.hint(6, &refusal.hint);
        if let Some(origin) = &change.origin {
            page.space(6).put(DIM, &format!("described in {origin}")).end();
        }
        return;
    }
    // What the first line says already is not said again.
    let alone = change.paths.len() == 1 && change.details.is_empty();
    path_changes(page, &change.paths, alone.then_some(change.id.name.as_str()), layout);
}

/// Paths with their differences. `said` is the name that stands in the line above, where that line tells all there is
/// to say of the only path.
pub fn path_changes(page: &mut Page, paths: &[PathChange], said: Option<&str>, layout: Layout) {
    for path in paths {
        if said != Some(path.path.as_str()) {
            path_line(page, path, said.is_some());
        }
        if let Some((before, after)) = content::turned(paths, path) {
            diff_text(page, before, after, layout);
        } else if let Difference::Text { before, after } = content::difference(path)
            && (layout.full || content::is_edit(path))
        {
            diff_text(page, before, after, layout);
        }
    }
}

fn path_line(page: &mut Page, change: &PathChange, alone: bool) {
    let (sign, style) = match (&change.before, &change.after) {
        (Seen::Absent, _) => ("+", ADD),
        (_, None) => ("-", REMOVE),
        _ => ("~", CHANGE),
    };
    let words = content::words(change);
    page.space(6).put(style, sign).put(PLAIN, &format!(" {}", change.path));
    page.space(2).put(DIM, if alone { "" } else { &words }).end();
}

fn diff_text(page: &mut Page, before: &str, after: &str, layout: Layout) {
    let lines = content::unified(before, after);
    let shown = if layout.full { lines.len() } else { lines.len().min(LONGEST_DIFF) };
    for (tag, line) in &lines[..shown] {
        let style = match tag {
            Tag::Added => ADD,
            Tag::Removed => REMOVE,
            Tag::Hunk | Tag::NoNewline => DIM,
            Tag::Same => PLAIN,
        };
        page.space(8).put(style, &format!("{}{line}", tag.sign())).end();
    }
    if shown < lines.len() {
        let more = count(lines.len() - shown, "more line");
        page.space(8).put(DIM, &format!("… {more}, --full shows {}", if more.ends_with('s') { "them" } else { "it" }));
        page.end();
    }
}

/// What is done to what runs, in order, and what must then be so.
fn consequences(page: &mut Page, transaction: &Transaction, host: &HostPlan) {
    if let Some(held) = &transaction.held {
        page.space(2).put(CHANGE, held).put(DIM, ": nothing of this stack is done on this host").end();
        return;
    }
    if !host.carried_out().any(|done| done.stack == transaction.stack) {
        page.space(2).put(REMOVE, &left_undone(transaction, host)).end();
        return;
    }
    if !transaction.needs.is_empty() {
        let needs: Vec<&str> = transaction.needs.iter().map(StackName::as_str).collect();
        page.space(2).put(DIM, "after  ").put(PLAIN, &format!("{} went well", needs.join(", "))).end();
    }
    for (number, effect) in transaction.effects.iter().enumerate() {
        let label = if number == 0 { "does   " } else { "       " };
        page.space(2).put(DIM, label).put(words::effect_style(effect), &words::effect(effect));
        page.put(DIM, &format!("  because of {}", words::names(&effect.causes))).end();
    }
    for (number, (id, check)) in transaction.checks.iter().enumerate() {
        let label = if number == 0 { "checks " } else { "       " };
        page.space(2).put(DIM, label).put(PLAIN, &words::check(check));
        page.put(DIM, &format!("  for {} {}", id.kind, id.name)).end();
    }
}

/// Why nothing of a transaction is carried out.
fn left_undone(transaction: &Transaction, host: &HostPlan) -> String {
    if host.extent == Extent::Host {
        return "nothing is done on this host while something of it is refused".into();
    }
    if transaction.refusal().is_some() {
        return "nothing of this stack is done on this host while something of it is refused".into();
    }
    let is_done = |stack: &StackName| host.carried_out().any(|done| done.stack == *stack);
    let planned = host.transactions.iter().map(|other| &other.stack);
    let undone: Vec<&str> =
        planned.filter(|stack| transaction.needs.contains(*stack) && !is_done(stack)).map(StackName::as_str).collect();
    format!("blocked: it comes after {}, of which something is refused on this host", undone.join(", "))
}

/// The hosts that could not be planned.
pub fn failures(page: &mut Page, failures: &[(HostName, Error)]) {
    for (host, error) in failures {
        page.end().put(REMOVE, "✗ ").put(BOLD, host.as_str()).put(PLAIN, &failure(error)).end();
        if let Some(hint) = &error.hint {
            page.hint(2, hint);
        }
    }
}

/// ` unreachable: connection refused`.
pub fn failure(error: &Error) -> String {
    match error.kind {
        crate::base::error::Kind::Unreachable => format!(" unreachable: {error}"),
        _ => format!(": {error}"),
    }
}

/// What the reader should know of each host.
pub fn notes(page: &mut Page, planned: &Planned) {
    for (number, (note, hosts)) in words::notes(planned).into_iter().enumerate() {
        if number == 0 {
            page.end();
        }
        page.put(DIM, &format!("note: {}: ", words::hosts(&hosts, false))).put(PLAIN, note).end();
    }
}

/// Which host in which wave.
fn waves(page: &mut Page, planned: &Planned) {
    let mut waves = words::waves(planned).peekable();
    if waves.peek().is_none() {
        return;
    }
    page.end();
    for (wave, drains) in waves {
        page.put(DIM, "wave ").put(PLAIN, &wave).end();
        for drain in drains {
            page.space(2).put(EFFECT, &drain).end();
        }
    }
    page.put(DIM, &words::rollout(planned)).end();
}

fn summary(page: &mut Page, planned: &Planned, command: &str) {
    page.end();
    if planned.plan.is_empty() {
        if planned.plan.hosts.is_empty() {
            return;
        }
        let unchanged: usize = planned.plan.hosts.iter().map(|host| host.unchanged).sum();
        page.line(&format!("nothing to do on the other hosts: {} as wanted", count(unchanged, "resource")));
        return;
    }
    page.put(BOLD, &Totals::of(&planned.plan).words()).end();
    if let Some(command) = words::adopt_hint(&planned.plan, command) {
        page.put(DIM, "what it would be to take over what is there: ").put(PLAIN, &command).end();
    }
    let digest = words::short_digest(&planned.plan);
    if let Some(command) = words::override_hint(&planned.plan, command) {
        page.put(DIM, &format!("plan {digest} · with what is refused for a host: ")).put(PLAIN, &command).end();
        return;
    }
    let hosts = planned.plan.hosts.iter().filter(|host| !host.transactions.is_empty());
    if hosts.clone().next().is_some() && hosts.clone().all(|host| host.carried_out().next().is_none()) {
        page.put(DIM, &format!("plan {digest} · nothing of it can be applied")).end();
        return;
    }
    page.put(DIM, &format!("plan {digest} · exactly this: "));
    page.put(PLAIN, &format!("reconcile {command} --expect {digest}")).end();
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::cli::fixtures::{self, change, edit, host_plan, planned, transaction};
    use crate::plan::{Action, Cause};
    use crate::resource::state::Content;

    const LAYOUT: Layout = Layout { width: 120, full: false };

    fn shown(planned: &Planned, layout: Layout) -> String {
        plan_text(&fixtures::origin(), planned, layout).plain()
    }

    /// The plan of one file that changes.
    fn one(path: PathChange) -> Planned {
        let change = change("file:x", Action::Update, Cause::Repository, vec![path]);
        planned(vec![host_plan("web-1", vec![transaction("web", vec![change], Vec::new())])])
    }

    #[test]
    fn a_plan_with_something_of_everything() {
        assert_snapshot!(shown(&fixtures::everything(), LAYOUT));
    }

    #[test]
    fn a_narrow_terminal_gets_effects_on_lines_of_their_own() {
        assert_snapshot!(shown(&fixtures::everything(), Layout { width: 60, full: false }));
    }

    #[test]
    fn what_is_the_same_on_several_hosts_is_said_once() {
        let host = |name: &str, text: &str| {
            let changes = vec![change("file:x", Action::Update, Cause::Repository, vec![edit("/x", "a\n", text)])];
            let mut host = host_plan(name, vec![transaction("web", changes, Vec::new())]);
            host.notes.push("the same note".into());
            host
        };
        let some = |number: usize| (0..number).map(|n| host(&format!("web-{n}"), if n == 1 { "c\n" } else { "b\n" }));
        let text = shown(&planned(some(3).collect()), LAYOUT);
        assert_eq!(text.matches("· web\n").count(), 2, "{text}");
        assert!(text.contains("\nweb-0, web-2 · web\n") && text.contains("\nweb-1 · web\n"), "{text}");
        assert!(text.contains("note: web-0, web-1, web-2: the same note\n"), "{text}");
        let many = planned(some(30).collect());
        assert!(shown(&many, LAYOUT).contains("web-8 and 21 more hosts · web\n"), "{}", shown(&many, LAYOUT));
        assert!(shown(&many, Layout { full: true, ..LAYOUT }).contains(", web-29 · web\n"));
    }

    #[test]
    fn a_turn_shows_what_is_new_of_the_service() {
        let (mut green, mut blue) =
            (edit("/s/api-green.service", "", "Port=2\nNew=1\n"), edit("/s/api-blue.service", "Port=1\nOld=1\n", ""));
        (green.before, blue.after) = (Seen::Absent, None);
        let changes = vec![change("unit:api", Action::Update, Cause::Repository, vec![green, blue])];
        let planned = planned(vec![host_plan("web-1", vec![transaction("web", changes, Vec::new())])]);
        let text = shown(&planned, LAYOUT);
        assert!(text.contains("-Old=1\n") && text.contains("+New=1\n"), "{text}");
    }

    #[test]
    fn what_comes_after_something_refused_is_blocked() {
        let mut refused = change("file:x", Action::Update, Cause::Repository, vec![edit("/x", "a\n", "b\n")]);
        refused.refused =
            Some(crate::plan::Refusal { why: "it is there".into(), hint: "to take it over: --adopt x".into() });
        let other = || vec![change("file:y", Action::Update, Cause::Repository, vec![edit("/y", "a\n", "b\n")])];
        let mut after = transaction("web", other(), Vec::new());
        after.needs = [StackName::new("base").unwrap()].into();
        let mut last = transaction("last", other(), Vec::new());
        last.needs = [StackName::new("web").unwrap()].into();
        let free = transaction("free", other(), Vec::new());
        let host = host_plan("web-1", vec![transaction("base", vec![refused], Vec::new()), after, last, free]);
        let text = shown(&planned(vec![host]), LAYOUT);
        assert!(text.contains("blocked: it comes after base, of which something is refused on this host"), "{text}");
        assert!(text.contains("0 to add, 1 to change, 0 to remove, 1 refused, 2 blocked\n"), "{text}");
        assert!(text.contains("reconcile plan --adopt file:x\n"), "{text}");
    }

    #[test]
    fn an_empty_plan_is_one_line() {
        let empty = planned(vec![host_plan("web-1", Vec::new()), host_plan("web-2", Vec::new())]);
        assert_snapshot!(shown(&empty, LAYOUT));
    }

    #[test]
    fn g11_a_secret_is_in_no_plan() {
        for full in [false, true] {
            let text = shown(&fixtures::everything(), Layout { width: 120, full });
            assert!(!text.contains(fixtures::HUSH), "{text}");
        }
    }

    #[test]
    fn g11_what_only_some_may_read_on_the_host_is_not_shown() {
        let mut path = edit("/etc/x", fixtures::HUSH, "plain now\n");
        path.before = fixtures::seen(fixtures::HUSH.as_bytes(), 0o640);
        assert_snapshot!(shown(&one(path), Layout { width: 120, full: true }));
    }

    #[test]
    fn control_characters_of_files_do_not_reach_the_terminal() {
        let page = plan_text(&fixtures::origin(), &one(edit("/etc/x", "a\n", "\u{1b}[2Jü\r\n\u{202e}end")), LAYOUT);
        assert!(!page.plain().contains('\u{1b}'));
        assert_snapshot!(page.plain());
    }

    #[test]
    fn long_diffs_are_cut_unless_all_is_asked_for() {
        let before: Vec<String> = (0..60).map(|n| format!("line {n}\n")).collect();
        let before = before.concat();
        let planned = one(edit("/etc/x", &before, &before.replace("line", "row")));
        let text = shown(&planned, LAYOUT);
        assert!(text.contains("… 81 more lines, --full shows them"), "{text}");
        assert!(shown(&planned, Layout { full: true, ..LAYOUT }).contains("+row 59\n"));
    }

    #[test]
    fn binary_files_are_shown_as_sizes() {
        let mut path = edit("/etc/x", "text\n", "");
        path.after = Some(fixtures::file(Content::plain(vec![0, 159, 146, 150]), 0o644));
        assert_snapshot!(shown(&one(path), LAYOUT));
    }

    #[test]
    fn a_dirty_unsigned_tree_says_so() {
        let origin = Origin { dirty: 3, ..fixtures::origin() };
        assert_eq!(origin.words(), "infra@4f2c91d main, dirty: 3 files changed");
        assert_eq!(Origin { dirty: 0, signer: None, ..origin }.words(), "infra@4f2c91d main, not signed");
    }
}
