//! `file`: a file or a symbolic link, and what happens when it changes.

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::{Problem, Span};
use crate::base::id::Kind;
use crate::resource::access::Access;
use crate::resource::body::Body;
use crate::resource::lowering::Lowering;
use crate::resource::reaction::OnChange;
use crate::resource::state::PathState;
use crate::resource::{Reaction, Resource, path, value};

/// A file as a stack describes it.
#[derive(Debug, Clone)]
pub struct File {
    path: Text,
    what: What,
    access: Access,
    on_change: Vec<OnChange>,
    origin: Span,
}

#[derive(Debug, Clone)]
enum What {
    Body(Body),
    Link(Text),
}

impl File {
    /// Reads `file "/etc/app.conf" { … }`.
    pub fn decode(mut reader: Reader<'_>) -> Option<Self> {
        let path = reader.required("a path");
        let body = Body::decode(&mut reader, "source");
        let link = reader.value("link");
        let access = Access::decode_file(&mut reader);
        let on_change = reader.children("on-change").into_iter().filter_map(OnChange::decode).collect();
        let origin = reader.span();
        let what = match (body, link) {
            (Some(body), None) => Some(What::Body(body)),
            (None, Some(link)) => Some(What::Link(link)),
            (Some(body), Some(link)) => {
                let problem = Problem::error("a file is either a link or has content, not both");
                reader.report(problem.at(&link.span, "a link").at(body.span(), "and content"));
                None
            }
            (None, None) => {
                let problem = Problem::error("`file` does not say what is in it").at(&origin, "this file");
                reader.report(problem.hint("give one of `content`, `source`, `template` and `link`"));
                None
            }
        };
        reader.finish();
        Some(File { path: path?, what: what?, access, on_change, origin })
    }

    /// The file on one host.
    pub fn lower(&self, on: &Lowering<'_>) -> Option<Resource> {
        let path = path::lower(on, &self.path);
        let state = match &self.what {
            What::Body(body) => body.lower(on).and_then(|content| self.access.file(on, content)),
            What::Link(target) => value::word(on, target).map(|target| PathState::Link { target }),
        };
        let actions: Vec<_> = self.on_change.iter().filter_map(|change| change.lower(on)).collect();
        let (path, state) = (path?, state?);
        let mut resource = Resource::empty(Kind::File, path.as_str(), on, &self.origin);
        resource.reactions = actions.into_iter().map(|action| Reaction { paths: vec![path.clone()], action }).collect();
        resource.state.paths.insert(path, state);
        Some(resource)
    }
}
