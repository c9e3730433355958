//! The guarantees, each tried on real hosts. The name of a test begins with the number of the guarantee it is for.
#![allow(missing_docs)]

#[path = "../kit/mod.rs"]
mod kit;
#[path = "../shared/planner.rs"]
mod planner;
#[path = "../registry/mod.rs"]
mod registry;
#[path = "../shared/mod.rs"]
mod shared;

mod adoption;
mod bounded;
mod builder;
mod builder_faults;
mod compose;
mod compose_is_apply;
mod crash;
mod docker;
mod expect;
mod extent;
mod fleet;
mod full;
mod going_back;
mod hostile;
mod images;
mod interrupt;
mod kept;
mod laws;
mod lifecycle;
mod matrix;
mod memory;
mod older;
mod overengineered;
mod ownership;
mod plan_is_apply;
mod pool;
mod quoting;
mod races;
mod reading;
mod revert;
mod rollback;
mod rollout;
mod scale;
mod secrets;
mod systems;
mod terminal;
mod tree;
mod versions;
mod watched;
mod waves;
mod words;
