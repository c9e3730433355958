//! YAML files of others (Compose, cloudflared), read without expecting anything of their shape.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::Spanned;

use crate::base::diagnostic::{Problem, Source, Span};

/// A value and where it stands.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it begins, in bytes.
    pub offset: usize,
    /// How long it is, in bytes.
    pub len: usize,
}

/// A value.
#[derive(Debug, Clone)]
pub enum Value {
    /// Nothing.
    Null,
    /// A string, number or truth value, as text.
    Scalar(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in order.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// What stands under `key` of a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    /// The entries of a mapping; of anything else none.
    pub fn entries(&self) -> &[(String, Node)] {
        if let Value::Map(entries) = &self.value { entries } else { &[] }
    }

    /// The items of a list; of anything else none.
    pub fn items(&self) -> &[Node] {
        if let Value::List(items) = &self.value { items } else { &[] }
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        if let Value::Scalar(text) = &self.value { Some(text) } else { None }
    }

    /// The texts of a scalar or of a list of scalars: what Compose allows in many places.
    pub fn texts(&self) -> Vec<&str> {
        match &self.value {
            Value::Scalar(text) => vec![text],
            _ => self.items().iter().filter_map(Node::text).collect(),
        }
    }
}

/// Parses a file, or says what is wrong with it. Text that was rendered stands nowhere and may hold secrets: then the
/// line of the stack is shown `instead`, and nothing of the text.
pub fn parse(source: &Arc<Source>, instead: Option<&Span>) -> Result<Node, Box<Problem>> {
    let mut options = serde_yaml::Options::default();
    options.strict_booleans = true;
    options.with_snippet = false;
    options.non_finite_float_policy = serde_yaml::NonFiniteFloatPolicy::AsString;
    match serde_yaml::from_str_with_options::<Spanned<Value>>(&source.text, options) {
        Ok(parsed) => Ok(node(parsed)),
        Err(error) => {
            let message = error.without_snippet().to_string();
            let message = plain(&message);
            let span = match error.location() {
                Some(at) => place(source, at),
                None => Span::new(source, 0, 0),
            };
            Err(Box::new(match instead {
                None => Problem::error(format!("not valid YAML: {message}")).at(&span, "here"),
                Some(used) => {
                    let line = span.line_column().0;
                    Problem::error(format!("what this makes is not valid YAML (line {line} of the result)"))
                        .at(used, "here")
                }
            }))
        }
    }
}

/// The library's words without the place, which is shown apart, and without advice on its own options.
fn plain(message: &str) -> &str {
    let line = message.lines().next().unwrap_or_default();
    let line = line.split(" at line ").next().unwrap_or(line);
    line.split(", set ").next().unwrap_or(line).trim_end_matches('.')
}

fn place(source: &Arc<Source>, at: serde_yaml::Location) -> Span {
    let line = usize::try_from(at.line()).unwrap_or(1).max(1);
    let column = usize::try_from(at.column()).unwrap_or(1).max(1);
    let begin: usize = source.text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let rest = &source.text[begin..];
    let within: usize = rest.chars().take(column - 1).take_while(|c| *c != '\n').map(char::len_utf8).sum();
    Span::new(source, begin + within, 1.min(rest.len() - within))
}

fn node(spanned: Spanned<Value>) -> Node {
    let span = spanned.referenced.span();
    let number = |value: Option<u64>| value.and_then(|value| usize::try_from(value).ok()).unwrap_or(0);
    Node { value: spanned.value, offset: number(span.byte_offset()), len: number(span.byte_len()) }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Anything)
    }
}

struct Anything;

macro_rules! scalar {
    ($($method:ident: $type:ty),*) => {
        $(fn $method<E>(self, value: $type) -> Result<Value, E> {
            Ok(Value::Scalar(value.to_string()))
        })*
    };
}

impl<'de> Visitor<'de> for Anything {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    scalar!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_i128: i128, visit_u128: u128, visit_f64: f64, visit_str: &str);

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(Value::Scalar(String::from_utf8_lossy(value).into_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(Anything)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(Anything)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Value>>()? {
            list.push(node(item));
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Value>()? {
            let value = node(entries.next_value::<Spanned<Value>>()?);
            if let Value::Scalar(key) = key {
                map.push((key, value));
            }
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Node {
        parse(&Source::new("compose.yaml", text), None).expect("valid YAML")
    }

    #[test]
    fn anchors_merges_tags_and_odd_scalars_are_read() {
        let node = read(
            "x-base: &base\n  image: nginx:1\n  restart: no\nservices:\n  web:\n    <<: *base\n    ports: [\"80:80\", 8080]\n    mem: .inf\n    \
             volumes: !override\n      - ./a:/a\n    cpus: 0.5\n    labels:\n    1: x\n",
        );
        let web = node.get("services").and_then(|services| services.get("web")).expect("there");
        assert_eq!(web.get("image").and_then(Node::text), Some("nginx:1"));
        assert_eq!(web.get("restart").and_then(Node::text), Some("no"));
        assert_eq!(web.get("ports").map(Node::texts), Some(vec!["80:80", "8080"]));
        assert_eq!(web.get("volumes").map(Node::texts), Some(vec!["./a:/a"]));
        assert!(matches!(web.get("labels").map(|node| &node.value), Some(Value::Null)));
    }

    #[test]
    fn values_know_their_place() {
        let text = "services:\n  wéb:\n    ports:\n      - \"80:80\"\n";
        let node = read(text);
        let ports = node.get("services").and_then(|services| services.get("wéb")).and_then(|web| web.get("ports"));
        let port = &ports.expect("there").items()[0];
        assert_eq!(&text[port.offset..port.offset + port.len], "\"80:80\"");
    }

    #[test]
    fn mistakes_and_bombs_are_problems_with_a_place() {
        let problem = parse(&Source::new("compose.yaml", "a: 1\nb: [1, 2\nc: 3\n"), None).expect_err("broken");
        assert!(problem.message.starts_with("not valid YAML: "), "{}", problem.message);
        assert!(!problem.places.is_empty());
        let twice = parse(&Source::new("compose.yaml", "a: 1\na: 2\n"), None).expect_err("twice");
        assert_eq!(twice.places[0].0.line_column().0, 2, "{}", twice.message);
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let before = level - 1;
            let items = vec![format!("*a{before}"); 9].join(", ");
            bomb.extend([format!("a{level}: &a{level} [{items}]\n")]);
        }
        parse(&Source::new("compose.yaml", bomb), None).expect_err("refused");
    }
}
