//! `registry`: how a registry of images is reached, and as whom.

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::{Problem, Span};
use crate::base::secret::Secret;
use crate::provider::registry::Access;
use crate::resource::lowering::{Lowering, join_within};

/// A registry as a stack, or a file of hosts, describes it.
#[derive(Debug, Clone)]
pub struct Registry {
    name: Text,
    user: Option<Text>,
    password: Option<Text>,
    plain_http: bool,
    ca: Option<Text>,
    folder: Utf8PathBuf,
    span: Span,
}

impl Registry {
    /// Reads `registry "registry.example.org" user="ci" password="{{ secret.registry }}"`. `folder` is where `ca` is
    /// looked for.
    pub fn decode(mut reader: Reader<'_>, folder: &Utf8Path) -> Option<Self> {
        let name = reader.required("the host of a registry");
        let registry = Registry {
            user: reader.value("user"),
            password: reader.value("password"),
            plain_http: reader.flag("plain-http").unwrap_or(false),
            ca: reader.value("ca"),
            folder: folder.to_owned(),
            span: reader.span(),
            name: name.clone().unwrap_or(Text { raw: String::new(), span: reader.span() }),
        };
        if registry.user.is_some() != registry.password.is_some() {
            let problem = Problem::error("a registry takes both `user` and `password`, or neither");
            reader.report(problem.at(&registry.span, "this registry"));
        }
        reader.finish();
        name.map(|_| registry)
    }

    fn lower(&self, on: &Lowering<'_>) -> Option<Access> {
        let login = match (&self.user, &self.password) {
            (Some(user), Some(password)) => Some((on.text(user)?, Secret::new(on.rendered(password)?.text))),
            _ => None,
        };
        let ca = match &self.ca {
            Some(text) => {
                let path = join_within(&self.folder, &on.text(text)?);
                let bytes = path.and_then(|path| on.files.get(&path));
                if bytes.is_none() {
                    let problem = Problem::error("the repository has no such file").at(&text.span, "named here");
                    on.report(problem.hint(format!("the path is relative to `{}`", self.folder)));
                }
                Some(bytes?.clone())
            }
            None => None,
        };
        Some(Access { login, plain_http: self.plain_http, ca })
    }
}

/// How a registry is reached: as the last node that names it says, else anonymously.
pub fn access(on: &Lowering<'_>, registry: &str) -> Option<Arc<Access>> {
    for described in on.registries.iter().rev() {
        let name = on.text(&described.name)?;
        if name == registry || (registry == "docker.io" && name == "registry-1.docker.io") {
            return described.lower(on).map(Arc::new);
        }
    }
    Some(Arc::default())
}
