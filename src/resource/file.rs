//! `file`: a file or a symbolic link, and what happens when it changes.

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::{Problem, Span, did_you_mean};
use crate::base::id::Kind;
use crate::base::secret::SecretTree;
use crate::resource::access::Access;
use crate::resource::body::Body;
use crate::resource::lowering::Lowering;
use crate::resource::reaction::OnChange;
use crate::resource::state::{Content, PathState};
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
    Secret(Text),
    Link(Text),
}

impl File {
    /// Reads `file "/etc/app.conf" { … }`.
    pub fn decode(mut reader: Reader<'_>) -> Option<Self> {
        let path = reader.required("a path");
        let body = Body::decode(&mut reader, "source");
        let secret = reader.value("secret");
        let link = reader.value("link");
        let access = Access::decode_file(&mut reader);
        let on_change = reader.children("on-change").into_iter().filter_map(OnChange::decode).collect();
        let origin = reader.span();
        let mut given = [body.map(What::Body), secret.map(What::Secret), link.map(What::Link)].into_iter().flatten();
        let what = given.next();
        match (&what, given.next()) {
            (None, _) => {
                let problem = Problem::error("`file` does not say what is in it").at(&origin, "this file");
                reader.report(problem.hint("give one of `content`, `source`, `template`, `secret` and `link`"));
            }
            (Some(first), Some(second)) => {
                let problem = Problem::error("a file has content, or is a secret, or is a link: only one of them");
                reader.report(problem.at(second.span(), "the second").at(first.span(), "the first"));
            }
            (Some(_), None) => {}
        }
        reader.finish();
        Some(File { path: path?, what: what?, access, on_change, origin })
    }

    /// The file on one host.
    pub fn lower(&self, on: &Lowering<'_>) -> Option<Resource> {
        let path = path::lower(on, &self.path);
        let state = match &self.what {
            What::Body(body) => body.lower(on).and_then(|content| self.access.file(on, content)),
            What::Secret(name) => secret(on, name).and_then(|content| self.access.file(on, content)),
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

impl What {
    fn span(&self) -> &Span {
        match self {
            What::Body(body) => body.span(),
            What::Secret(text) | What::Link(text) => &text.span,
        }
    }
}

/// The secret called so, byte for byte.
fn secret(on: &Lowering<'_>, name: &Text) -> Option<Content> {
    let path = on.text(name)?;
    let mut parts = path.split('.');
    let first = parts.next().and_then(|name| on.scope.secret(name));
    let found = parts.try_fold(first, |tree, name| tree.map(|tree| tree.get(name))).flatten();
    if let Some(SecretTree::One(secret)) = found {
        return Some(Content::secret(secret.bytes()));
    }
    let what = if found.is_some() { "there are several secrets below" } else { "there is no secret called" };
    let problem = Problem::error(format!("{what} `{}`", path.escape_debug())).at(&name.span, "here");
    on.report(match did_you_mean(&path, on.scope.secret_names()) {
        Some(near) if found.is_none() => problem.hint(format!("did you mean `{near}`?")),
        _ => {
            problem.hint("name one of `secret`, `secrets` or the values of SOPS, such as \"token\" or \"db.password\"")
        }
    });
    None
}
