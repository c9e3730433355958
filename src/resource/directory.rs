//! `directory`: a directory with its mode and owner. What is in it is not its business.

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::Span;
use crate::base::id::Kind;
use crate::resource::access::Access;
use crate::resource::lowering::Lowering;
use crate::resource::{Resource, path};

/// A directory as a stack describes it.
#[derive(Debug, Clone)]
pub struct Directory {
    path: Text,
    access: Access,
    origin: Span,
}

impl Directory {
    /// Reads `directory "/srv/app" mode="0750" owner="app"`.
    pub fn decode(mut reader: Reader<'_>) -> Option<Self> {
        let path = reader.required("a path");
        let access = Access::decode(&mut reader);
        let origin = reader.span();
        reader.finish();
        Some(Directory { path: path?, access, origin })
    }

    /// The directory on one host.
    pub fn lower(&self, on: &Lowering<'_>) -> Option<Resource> {
        let path = path::lower(on, &self.path);
        let state = self.access.directory(on);
        let (path, state) = (path?, state?);
        let mut resource = Resource::empty(Kind::Directory, path.as_str(), on, &self.origin);
        resource.state.paths.insert(path, state);
        Some(resource)
    }
}
