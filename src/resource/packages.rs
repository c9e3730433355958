//! `packages`: Debian packages that must be there.

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::{Problem, Span};
use crate::base::id::Kind;
use crate::resource::Resource;
use crate::resource::lowering::Lowering;

/// Packages, each of which becomes a resource of its own.
#[derive(Debug, Clone)]
pub struct Packages {
    names: Vec<Text>,
    origin: Span,
}

impl Packages {
    /// Reads `packages "nginx" "curl"`.
    pub fn decode(mut reader: Reader<'_>) -> Option<Self> {
        let origin = reader.span();
        let names = reader.args();
        if names.is_empty() {
            let problem = Problem::error("`packages` names no package").at(&origin, "nothing follows");
            reader.report(problem.hint("write `packages \"nginx\" \"curl\"`"));
        }
        reader.finish();
        (!names.is_empty()).then_some(Packages { names, origin })
    }

    /// One resource for each package.
    pub fn lower(&self, on: &Lowering<'_>) -> Vec<Resource> {
        self.names.iter().filter_map(|name| self.package(on, name)).collect()
    }

    fn package(&self, on: &Lowering<'_>, name: &Text) -> Option<Resource> {
        let name =
            on.parsed(name, "the name of a Debian package", |word| is_package(word).then(|| word.to_string()))?;
        let mut resource = Resource::empty(Kind::Packages, &name, on, &self.origin);
        resource.state.packages.insert(name);
        Some(resource)
    }
}

/// Debian policy 5.6.1: lower case letters, digits, `+`, `-` and `.`, at least two characters.
fn is_package(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    word.len() >= 2 && word.starts_with(plain) && word.chars().all(|c| plain(c) || "+-.".contains(c))
}
