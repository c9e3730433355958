//! Mode, owner and group of a path.

use crate::base::decode::{Reader, Text};
use crate::base::diagnostic::Problem;
use crate::resource::lowering::Lowering;
use crate::resource::state::{Content, Owner, PathState};
use crate::resource::value;

/// What a stack says about who may do what with a path.
#[derive(Debug, Clone, Default)]
pub struct Access {
    mode: Option<Text>,
    owner: Option<Text>,
    group: Option<Text>,
    allow_readable: Option<bool>,
}

impl Access {
    /// Reads `mode`, `owner` and `group`.
    pub fn decode(reader: &mut Reader<'_>) -> Self {
        Access {
            mode: reader.value("mode"),
            owner: reader.value("owner"),
            group: reader.value("group"),
            allow_readable: None,
        }
    }

    /// Reads `owner` and `group` alone.
    pub fn decode_owner(reader: &mut Reader<'_>) -> Self {
        Access { owner: reader.value("owner"), group: reader.value("group"), ..Access::default() }
    }

    /// Reads the same for a file, which may hold a secret: then also `allow-readable`.
    pub fn decode_file(reader: &mut Reader<'_>) -> Self {
        Access { allow_readable: reader.flag("allow-readable"), ..Access::decode(reader) }
    }

    /// The mode where none is given.
    fn mode(&self, on: &Lowering<'_>, default: u32) -> Option<u32> {
        self.mode.as_ref().map_or(Some(default), |mode| value::mode(on, mode))
    }

    /// Owner and group: the group is the user's namesake only where the user is root or a group is given.
    pub fn owner(&self, on: &Lowering<'_>) -> Option<Owner> {
        let user = self.owner.as_ref().map_or(Some("root".into()), |owner| value::account(on, owner))?;
        let group = match &self.group {
            Some(group) => value::account(on, group)?,
            None => user.clone(),
        };
        Some(Owner { user, group })
    }

    /// A directory with these permissions.
    pub fn directory(&self, on: &Lowering<'_>) -> Option<PathState> {
        Some(PathState::Directory { mode: self.mode(on, 0o755)?, owner: self.owner(on)? })
    }

    /// A file with these permissions: 0600 by default, and at most, where a secret is in it.
    pub fn file(&self, on: &Lowering<'_>, content: Content) -> Option<PathState> {
        let mode = self.mode(on, if content.secret { 0o600 } else { 0o644 })?;
        if content.secret && mode & 0o177 != 0 && self.allow_readable != Some(true) {
            let mut problem =
                Problem::error(format!("the file has a secret in it and its mode {mode:04o} is wider than 0600"));
            if let Some(given) = &self.mode {
                problem = problem.at(&given.span, "this mode");
            }
            on.report(problem.hint("leave the mode out, or say `allow-readable #true` if others must read it"));
            return None;
        }
        Some(PathState::File { content, mode, owner: self.owner(on)? })
    }
}
