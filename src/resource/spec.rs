//! What a stack says of one resource, before it is written out for a host.

use crate::base::decode::Reader;
use crate::resource::Resource;
use crate::resource::lowering::Lowering;

/// One resource as a stack's node describes it.
#[derive(Debug, Clone)]
pub enum Spec {}

impl Spec {
    /// The node names that describe resources.
    pub const NODES: [&'static str; 8] =
        ["packages", "directory", "file", "unit", "timer", "site", "compose", "tunnel"];

    /// Reads a node whose name is one of [`Spec::NODES`]. Reports what is wrong with it.
    pub fn decode(reader: Reader<'_>) -> Option<Spec> {
        reader.finish();
        None
    }

    /// The resources this makes on one host: none where it has reported a problem.
    pub fn lower(&self, _on: &Lowering<'_>) -> Vec<Resource> {
        Vec::new()
    }
}
