//! Reading KDL nodes into our own types.
//!
//! A [`Reader`] hands out what it is asked for and remembers what was asked. At the end, whatever stands in the node
//! and was never asked for is a problem, with the nearest name that *was* asked for as a hint. So the language is
//! exactly what the decoders ask for, and nobody keeps a second list of it.
//!
//! Facts about the `kdl` crate that shape this file: it recovers from syntax errors and reports several in one run;
//! nesting of a few hundred levels overflows its stack, so depth is counted first and parsing happens on a large stack.

use std::cell::RefCell;
use std::sync::Arc;

use kdl::{KdlDocument, KdlEntry, KdlNode, KdlValue};

use crate::base::brace;
use crate::base::diagnostic::{Problem, Problems, Severity, Source, Span, did_you_mean};

/// How deep braces may nest.
const MAX_DEPTH: usize = 32;
/// The stack for parsing, in bytes: enough for `MAX_DEPTH` levels in a debug build many times over.
const PARSE_STACK: usize = 16 << 20;

/// A string as it stands in a file, and where. It may still be a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// The string.
    pub raw: String,
    /// Where it stands.
    pub span: Span,
}

/// Parses a KDL document, or reports everything that is wrong with its syntax.
pub fn parse(source: &Arc<Source>, problems: &RefCell<Problems>) -> Option<KdlDocument> {
    if let Some(offset) = too_deep(&source.text) {
        let at = Span::new(source, offset, 1);
        let problem = Problem::error(format!("braces nest deeper than {MAX_DEPTH} levels")).at(&at, "here");
        problems.borrow_mut().push(problem);
        return None;
    }
    let text = source.text.clone();
    let parsed = std::thread::Builder::new()
        .stack_size(PARSE_STACK)
        .spawn(move || KdlDocument::parse_v2(&text))
        .map(std::thread::JoinHandle::join);
    let Ok(Ok(parsed)) = parsed else {
        let problem = Problem::error("the KDL parser gave up on this file").at(&Span::new(source, 0, 0), "");
        problems.borrow_mut().push(problem);
        return None;
    };
    match parsed {
        Ok(document) => Some(document),
        Err(failure) => {
            let said = |word: &str| {
                failure.diagnostics.iter().any(|one| one.message.as_ref().is_some_and(|m| m.contains(word)))
            };
            if said("losing '}'")
                && let Some(offset) = brace::unclosed(&source.text)
            {
                let problem =
                    Problem::error("this brace is never closed").at(&Span::new(source, offset, 1), "opened here");
                problems.borrow_mut().push(problem.hint("add a `}` where it ends"));
                return None;
            }
            for diagnostic in &failure.diagnostics {
                let span = Span::new(source, diagnostic.span.offset(), diagnostic.span.len());
                let message = || diagnostic.message.clone().unwrap_or_else(|| "this is not KDL".into());
                let problem = match old_keyword(&source.text, &span) {
                    Some(word) if diagnostic.help.is_none() => Problem::error(format!("`{word}` is no value"))
                        .hint(format!("this is KDL 2, where `{word}` is written `#{word}`")),
                    _ => Problem { hint: diagnostic.help.clone(), ..Problem::error(message()) },
                };
                problems.borrow_mut().push(problem.at(&span, "here"));
            }
            None
        }
    }
}

/// The most common mistake: a keyword of KDL 1, which KDL 2 writes with a `#`, on the line where something is wrong.
fn old_keyword(text: &str, span: &Span) -> Option<&'static str> {
    let line = text.get(..span.offset)?.lines().count().max(1);
    let line = text.lines().nth(line - 1)?;
    ["true", "false", "null"]
        .into_iter()
        .find(|word| line.split(|c: char| c.is_whitespace() || "=;{}".contains(c)).any(|part| part == *word))
}

/// Where braces first nest too deep. Counts braces in strings and comments too: good enough for a limit.
fn too_deep(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (offset, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH * 2 {
            return Some(offset);
        }
    }
    None
}

/// Reads one node.
pub struct Reader<'a> {
    node: &'a KdlNode,
    source: &'a Arc<Source>,
    problems: &'a RefCell<Problems>,
    next_arg: usize,
    max_args_asked: usize,
    asked_props: Vec<String>,
    asked_children: Vec<String>,
    takes_anything: bool,
}

impl<'a> Reader<'a> {
    /// A reader for `node`, which stands in `source`.
    pub fn new(node: &'a KdlNode, source: &'a Arc<Source>, problems: &'a RefCell<Problems>) -> Self {
        Reader {
            node,
            source,
            problems,
            next_arg: 0,
            max_args_asked: 0,
            asked_props: Vec::new(),
            asked_children: Vec::new(),
            takes_anything: false,
        }
    }

    /// Readers for all nodes of a document.
    pub fn document(
        document: &'a KdlDocument,
        source: &'a Arc<Source>,
        problems: &'a RefCell<Problems>,
    ) -> Vec<Reader<'a>> {
        document.nodes().iter().map(|node| Reader::new(node, source, problems)).collect()
    }

    /// The node's name.
    pub fn name(&self) -> &'a str {
        self.node.name().value()
    }

    /// Where the node's name stands.
    pub fn span(&self) -> Span {
        let span = self.node.name().span();
        Span::new(self.source, span.offset(), span.len())
    }

    /// Reports a problem.
    pub fn report(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// The next argument, if there is one more.
    pub fn arg(&mut self) -> Option<Text> {
        let entry = self.arguments().nth(self.next_arg);
        self.next_arg += 1;
        self.max_args_asked = self.max_args_asked.max(self.next_arg);
        entry.and_then(|entry| self.text(entry))
    }

    /// The next argument; its absence is a problem that says `what` is missing.
    pub fn required(&mut self, what: &str) -> Option<Text> {
        let text = self.arg();
        if text.is_none() {
            let problem = Problem::error(format!("`{}` needs {what}", self.name()))
                .at(&self.span(), "missing after this")
                .hint(format!("write `{} \"…\"`", self.name()));
            self.report(problem);
        }
        text
    }

    /// All further arguments.
    pub fn args(&mut self) -> Vec<Text> {
        let entries: Vec<_> = self.arguments().skip(self.next_arg).collect();
        self.next_arg = usize::MAX - 1;
        self.max_args_asked = usize::MAX;
        entries.into_iter().filter_map(|entry| self.text(entry)).collect()
    }

    /// The property `name`, or the first argument of a child node of that name: both spellings mean the same.
    pub fn value(&mut self, name: &str) -> Option<Text> {
        self.ask(name);
        let property = self.property(name);
        let child = self.child(name).and_then(|mut child| {
            let text = child.required("a value");
            child.finish();
            text
        });
        if let (Some(property), Some(child)) = (&property, &child) {
            let problem = Problem::error(format!("`{name}` is given twice"))
                .at(&child.span, "here")
                .at(&property.span, "and here");
            self.report(problem);
        }
        property.or(child)
    }

    /// The arguments of all child nodes called `name`, in order; also the property `name`, if it is there.
    pub fn values(&mut self, name: &str) -> Vec<Text> {
        self.ask(name);
        let mut texts: Vec<Text> = self.property(name).into_iter().collect();
        for mut child in self.children(name) {
            texts.extend(child.args());
            child.finish();
        }
        texts
    }

    /// Whether the flag `name` is set: `name`, `name #true` or `name=#true`; `#false` says no, absence says nothing.
    pub fn flag(&mut self, name: &str) -> Option<bool> {
        self.ask(name);
        let given = self.property(name).or_else(|| {
            let mut child = self.child(name)?;
            let text = child.arg().unwrap_or(Text { raw: "true".into(), span: child.span() });
            child.finish();
            Some(text)
        })?;
        match given.raw.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            other => {
                let problem = Problem::error(format!("`{name}` is either #true or #false, not `{other}`"));
                self.report(problem.at(&given.span, ""));
                None
            }
        }
    }

    /// The only child node called `name`. A second one is a problem.
    pub fn child(&mut self, name: &str) -> Option<Reader<'a>> {
        let mut children = self.children(name).into_iter();
        let first = children.next()?;
        for other in children {
            let problem = Problem::error(format!("`{name}` is given twice"))
                .at(&other.span(), "the second one")
                .at(&first.span(), "the first one");
            self.report(problem);
        }
        Some(first)
    }

    /// All child nodes called `name`.
    pub fn children(&mut self, name: &str) -> Vec<Reader<'a>> {
        self.asked_children.push(name.to_string());
        self.nodes().filter(|node| node.name().value() == name).map(|node| self.reader(node)).collect()
    }

    /// All child nodes, whatever they are called. Nothing in the body is unknown after this.
    pub fn all_children(&mut self) -> Vec<Reader<'a>> {
        self.takes_anything = true;
        self.nodes().map(|node| self.reader(node)).collect()
    }

    /// All properties as name and value, in order: for free-form nodes such as `vars`.
    pub fn all_properties(&mut self) -> Vec<(String, Text)> {
        let entries: Vec<_> = self.node.entries().iter().filter(|entry| entry.name().is_some()).collect();
        let mut pairs = Vec::new();
        for entry in entries {
            let name = entry.name().map(|name| name.value().to_string()).unwrap_or_default();
            self.asked_props.push(name.clone());
            if let Some(text) = self.text(entry) {
                pairs.push((name, text));
            }
        }
        pairs
    }

    /// Ends reading: whatever was not asked for is a problem.
    pub fn finish(self) {
        self.report_unknown();
        self.forgive();
    }

    /// What a node is said to lack as a whole may well be in it, where something in it is wrong or misspelt: only the
    /// cause is a problem then.
    fn forgive(&self) {
        let (here, whole) = (self.span(), self.node.span());
        let whole = whole.offset()..whole.offset() + whole.len();
        let mut problems = self.problems.borrow_mut();
        let place = |problem: &Problem| problem.places.first().map(|(place, _)| place.clone());
        let inside = |place: &Span| place.source == here.source && whole.contains(&place.offset) && *place != here;
        let is_error = |problem: &&Problem| problem.severity == Severity::Error;
        if problems.0.iter().filter(is_error).any(|problem| place(problem).is_some_and(|place| inside(&place))) {
            problems.0.retain(|problem| place(problem).is_none_or(|place| place != here));
        }
    }

    fn report_unknown(&self) {
        for (index, entry) in self.arguments().enumerate() {
            if index >= self.max_args_asked {
                let problem = Problem::error(format!("`{}` takes no value here", self.name()));
                self.report(problem.at(&self.entry_span(entry), "not expected"));
            }
        }
        let mut seen: Vec<&str> = Vec::new();
        for entry in self.node.entries() {
            let Some(name) = entry.name().map(kdl::KdlIdentifier::value) else { continue };
            if seen.contains(&name) {
                let problem = Problem::error(format!("`{name}` is given twice"));
                self.report(problem.at(&self.entry_span(entry), "the second one"));
            }
            seen.push(name);
            if !self.asked_props.iter().any(|asked| asked == name) {
                self.report(self.unknown("property", name, &self.asked_props).at(&self.entry_span(entry), "unknown"));
            }
        }
        if self.takes_anything {
            return;
        }
        for node in self.nodes() {
            let name = node.name().value();
            if !self.asked_children.iter().any(|asked| asked == name) {
                let at = self.reader(node).span();
                self.report(self.unknown("node", name, &self.asked_children).at(&at, "unknown"));
            }
        }
    }

    /// What this reader was asked for: property names and child names. For the test that keeps the reference true.
    pub fn asked(&self) -> (&[String], &[String]) {
        (&self.asked_props, &self.asked_children)
    }

    fn unknown(&self, what: &str, name: &str, known: &[String]) -> Problem {
        let inside = self.name();
        let problem = Problem::error(format!("`{inside}` has no {what} called `{name}`"));
        match did_you_mean(name, known.iter().map(String::as_str)) {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None if known.is_empty() => problem.hint(format!("`{inside}` takes none")),
            None => {
                let mut known: Vec<&str> = known.iter().map(String::as_str).collect();
                known.sort_unstable();
                known.dedup();
                problem.hint(format!("it knows: {}", known.join(", ")))
            }
        }
    }

    fn ask(&mut self, name: &str) {
        self.asked_props.push(name.to_string());
    }

    fn nodes(&self) -> impl Iterator<Item = &'a KdlNode> + use<'a> {
        self.node.children().into_iter().flat_map(KdlDocument::nodes)
    }

    fn arguments(&self) -> impl Iterator<Item = &'a KdlEntry> + use<'a> {
        self.node.entries().iter().filter(|entry| entry.name().is_none())
    }

    fn property(&self, name: &str) -> Option<Text> {
        let entry = self.node.entries().iter().find(|entry| entry.name().is_some_and(|n| n.value() == name))?;
        self.text(entry)
    }

    fn reader(&self, node: &'a KdlNode) -> Reader<'a> {
        Reader::new(node, self.source, self.problems)
    }

    fn entry_span(&self, entry: &KdlEntry) -> Span {
        let span = entry.span();
        Span::new(self.source, span.offset(), span.len())
    }

    fn text(&self, entry: &KdlEntry) -> Option<Text> {
        let span = self.entry_span(entry);
        let raw = match entry.value() {
            KdlValue::String(text) => text.clone(),
            KdlValue::Integer(number) => number.to_string(),
            KdlValue::Bool(truth) => truth.to_string(),
            KdlValue::Float(number) => number.to_string(),
            KdlValue::Null => {
                self.report(Problem::error("#null means nothing here").at(&span, "").hint("leave it out instead"));
                return None;
            }
        };
        Some(Text { raw, span })
    }
}
