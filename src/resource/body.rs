//! Where the content of a file comes from.

use std::sync::Arc;

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::{Problem, Source, Span};
use crate::resource::lowering::{Lowering, content};
use crate::resource::state::Content;

/// The content of a file, before it is written out for a host.
#[derive(Debug, Clone)]
pub enum Body {
    /// A string of the stack.
    Inline(Text),
    /// A file of the repository, as it is.
    Asset(Text),
    /// A template of the repository.
    Template(Text),
}

impl Body {
    /// Reads `content`, `template` and the property that names a file as it is (`source` or `file`): at most one of
    /// them.
    pub fn decode(reader: &mut Reader<'_>, asset: &str) -> Option<Body> {
        let given = [
            reader.value("content").map(Body::Inline),
            reader.value(asset).map(Body::Asset),
            reader.value("template").map(Body::Template),
        ];
        let mut given = given.into_iter().flatten();
        let body = given.next()?;
        if let Some(other) = given.next() {
            let problem = Problem::error(format!("`{}` takes its content from two places", reader.name()))
                .at(other.span(), "the second")
                .at(body.span(), "the first");
            reader.report(problem.hint(format!("give one of `content`, `{asset}` and `template`")));
        }
        Some(body)
    }

    /// Where it is given.
    pub fn span(&self) -> &Span {
        let (Body::Inline(text) | Body::Asset(text) | Body::Template(text)) = self;
        &text.span
    }

    /// The content on one host, and the file it is, where it is one as it stands: then places in it can be shown.
    pub fn lower_with_source(&self, on: &Lowering<'_>) -> Option<(Content, Option<Arc<Source>>)> {
        let Body::Asset(name) = self else { return self.lower(on).map(|content| (content, None)) };
        let (path, bytes) = on.asset(name)?;
        let source = on.source(&path, &name.span)?;
        Some((Content::plain(bytes), Some(source)))
    }

    /// The content on one host.
    pub fn lower(&self, on: &Lowering<'_>) -> Option<Content> {
        match self {
            Body::Inline(text) => on.rendered(text).map(content),
            Body::Asset(name) => on.asset(name).map(|(_, bytes)| Content::plain(bytes)),
            Body::Template(name) => on.own_template(name),
        }
    }
}
