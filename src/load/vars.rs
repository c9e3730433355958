//! Variables: `vars a="b" { db { port 5432 } }`, values of YAML files, and how they are laid over each other.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::{Problem, Span};
use crate::load::reading::shown;

/// Names that mean something of the program's own in every template.
const OWN_NAMES: [&str; 7] = ["host", "hosts", "stack", "secret", "facts", "managed", "loop"];
/// Words of the template language.
const WORDS: [&str; 14] =
    ["true", "false", "none", "and", "or", "not", "in", "is", "if", "else", "elif", "for", "self", "set"];

/// What a variable stands for, before it is filled in for a host.
#[derive(Debug, Clone, PartialEq)]
pub enum Var {
    /// A value without template parts.
    Plain(Value),
    /// A string with template parts.
    Text(Text),
    /// A list, at least one item of which has template parts.
    List(Vec<Var>),
    /// Names below this one.
    Map(Vars),
}

/// Variables in the order in which they are first named.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Vars {
    entries: Vec<(String, Var)>,
    index: HashMap<String, usize>,
}

/// What filling in a text came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filled {
    /// The text.
    Text(String),
    /// It takes facts that are not known yet.
    Waits,
    /// It cannot be filled in, which has been reported.
    Failed,
}

impl Vars {
    /// No variables.
    pub fn new() -> Self {
        Vars::default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Names and what they stand for, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.entries.iter().map(|(name, var)| (name.as_str(), var))
    }

    /// Lays `over` over these variables: maps are merged name by name, everything else is replaced.
    pub fn lay_over(&mut self, over: &Vars) {
        for (name, var) in over.iter() {
            self.lay_one(name, var.clone());
        }
    }

    /// Fills in all variables, each seeing those in `names` and, being put there, those before it. What has no template
    /// parts comes first: it can be used before the place where it stands. True if all went well; a `false` has been
    /// reported by `fill`, or waits for facts.
    pub fn fill(
        &self,
        names: &mut Map<String, Value>,
        fill: &mut dyn FnMut(&Text, &Map<String, Value>) -> Filled,
    ) -> Vec<Filled> {
        let mut failed = Vec::new();
        let (plain, rest): (Vec<_>, Vec<_>) = self.iter().partition(|(_, var)| var.is_plain());
        for (name, var) in plain.into_iter().chain(rest) {
            match var.filled(names, fill) {
                Ok(value) => {
                    names.insert(name.to_string(), value);
                }
                Err(why) => failed.push(why),
            }
        }
        failed
    }

    fn lay_one(&mut self, name: &str, var: Var) {
        match self.index.get(name) {
            Some(index) => self.entries[*index].1.lay_over(var),
            None => self.append(name, var),
        }
    }

    fn append(&mut self, name: &str, var: Var) {
        self.index.insert(name.to_string(), self.entries.len());
        self.entries.push((name.to_string(), var));
    }

    fn add_new(&mut self, name: &str, var: Var, reader: &Reader<'_>, span: &Span) {
        if self.index.contains_key(name) {
            reader.report(Problem::error(format!("{} is given twice", shown(name))).at(span, "the second one"));
        } else {
            self.append(name, var);
        }
    }
}

impl From<Map<String, Value>> for Vars {
    fn from(map: Map<String, Value>) -> Self {
        let mut vars = Vars::new();
        for (name, value) in map {
            vars.append(&name, Var::Plain(value));
        }
        vars
    }
}

impl Var {
    fn is_plain(&self) -> bool {
        match self {
            Var::Plain(_) => true,
            Var::Text(_) => false,
            Var::List(items) => items.iter().all(Var::is_plain),
            Var::Map(vars) => vars.iter().all(|(_, var)| var.is_plain()),
        }
    }

    fn lay_over(&mut self, over: Var) {
        if let (Some(mut below), Some(above)) = (self.as_vars(), over.as_vars()) {
            below.lay_over(&above);
            *self = Var::Map(below);
        } else {
            *self = over;
        }
    }

    /// The names below this one, if it is of that form.
    fn as_vars(&self) -> Option<Vars> {
        match self {
            Var::Map(vars) => Some(vars.clone()),
            Var::Plain(Value::Object(map)) => Some(map.clone().into()),
            _ => None,
        }
    }

    fn filled(
        &self,
        names: &Map<String, Value>,
        fill: &mut dyn FnMut(&Text, &Map<String, Value>) -> Filled,
    ) -> Result<Value, Filled> {
        Ok(match self {
            Var::Plain(value) => value.clone(),
            Var::Text(text) => match fill(text, names) {
                Filled::Text(text) => Value::String(text),
                other => return Err(other),
            },
            Var::List(items) => {
                Value::Array(items.iter().map(|item| item.filled(names, fill)).collect::<Result<_, _>>()?)
            }
            Var::Map(vars) => {
                let mut map = Map::new();
                for (name, var) in vars.iter() {
                    map.insert(name.to_string(), var.filled(names, fill)?);
                }
                Value::Object(map)
            }
        })
    }
}

/// The variables of all `vars` children of a node.
pub(super) fn read(parent: &mut Reader<'_>) -> Vars {
    let mut vars = Vars::new();
    for reader in parent.children("vars") {
        read_node(reader, &mut vars);
    }
    vars
}

/// The variables of one `vars` node, which come on top of `vars`.
pub(super) fn read_node(mut reader: Reader<'_>, vars: &mut Vars) {
    for (name, text) in reader.all_properties() {
        if usable(&name, &text.span, &reader) {
            vars.add_new(&name, plain_or_text(text), &reader, &reader.span());
        }
    }
    for child in reader.all_children() {
        let (name, span) = (child.name(), child.span());
        if usable(name, &span, &reader) {
            let var = read_value(child);
            vars.add_new(name, var, &reader, &span);
        }
    }
    reader.finish();
}

/// What a node below `vars` stands for: `port 5432`, `names "a" "b"`, `db { host "x" }`, `list { - "a"; - "b" }`.
fn read_value(mut reader: Reader<'_>) -> Var {
    let span = reader.span();
    let args = reader.args();
    let properties = reader.all_properties();
    let children = reader.all_children();
    let has_names = !properties.is_empty() || !children.is_empty();
    if has_names != args.is_empty() {
        let name = reader.name();
        let problem = if has_names {
            Problem::error(format!("{} has both a value and names below it", shown(name))).at(&span, "here")
        } else {
            let problem = Problem::error(format!("the variable {} has no value", shown(name))).at(&span, "here");
            problem.hint(format!("write `{name} \"…\"`, or `{name} #true` for a flag"))
        };
        reader.report(problem);
    }
    let var = if !has_names {
        let mut items: Vec<Var> = args.into_iter().map(plain_or_text).collect();
        if items.len() == 1 { items.remove(0) } else { list(items) }
    } else if properties.is_empty() && children.iter().all(|child| child.name() == "-") {
        list(children.into_iter().map(read_value).collect())
    } else {
        let mut vars = Vars::new();
        for (name, text) in properties {
            vars.add_new(&name, plain_or_text(text), &reader, &span);
        }
        for child in children {
            let (name, span) = (child.name(), child.span());
            let var = read_value(child);
            vars.add_new(name, var, &reader, &span);
        }
        Var::Map(vars)
    };
    reader.finish();
    var
}

fn list(items: Vec<Var>) -> Var {
    if !items.iter().all(|item| matches!(item, Var::Plain(_))) {
        return Var::List(items);
    }
    let plain = items.into_iter().map(|item| if let Var::Plain(value) = item { value } else { Value::Null });
    Var::Plain(Value::Array(plain.collect()))
}

/// Numbers and truths stay what they are, so that `{% if debug %}` and `{{ port + 1 }}` do what one expects.
fn plain_or_text(text: Text) -> Var {
    if ["{{", "{%", "{#"].iter().any(|mark| text.raw.contains(mark)) {
        return Var::Text(text);
    }
    let number = || serde_json::from_str(&text.raw).ok().filter(|value: &Value| value.is_number());
    let value = match text.raw.as_str() {
        "true" if !is_string(&text) => Some(Value::Bool(true)),
        "false" if !is_string(&text) => Some(Value::Bool(false)),
        _ if !is_string(&text) => number(),
        _ => None,
    };
    Var::Plain(value.unwrap_or(Value::String(text.raw)))
}

/// Whether it is written as a string: in quotes, or as a bare word.
fn is_string(text: &Text) -> bool {
    let written = text.span.source.text.get(text.span.offset..text.span.offset + text.span.len).unwrap_or("\"");
    // The place of a property is all of `name=value`. A `=` inside a string leaves its closing quote.
    let value = written.rsplit('=').next().unwrap_or(written).trim();
    value.contains('"') || !value.trim_start_matches(['+', '-']).starts_with(|c: char| c == '#' || c.is_ascii_digit())
}

/// Whether a variable can be called `name`; why not, is reported.
fn usable(name: &str, span: &Span, reader: &Reader<'_>) -> bool {
    match unusable(name) {
        None => true,
        Some((why, hint)) => {
            let problem = Problem::error(format!("a variable cannot be called {}: {why}", shown(name)));
            reader.report(problem.at(span, "here").hint(hint));
            false
        }
    }
}

/// Why a variable cannot be called `name`, and what to do about it.
pub(super) fn unusable(name: &str) -> Option<(&'static str, String)> {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    if OWN_NAMES.contains(&name) {
        return Some(("the program gives this name a meaning of its own", "choose another name".into()));
    }
    if WORDS.contains(&name) {
        return Some(("it is a word of the template language", "choose another name".into()));
    }
    if name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit()) {
        return None;
    }
    let hint = if name.contains('-') && unusable(&name.replace('-', "_")).is_none() {
        format!("write `{}`: in a template, `-` is a minus", name.replace('-', "_"))
    } else {
        "a name begins with a letter and has letters, digits and `_`".into()
    };
    Some(("templates could not name it", hint))
}
