//! The guarantees, each tried on real hosts. The name of a test begins with the number of the guarantee it is for.
#![allow(missing_docs)]

#[path = "../kit/mod.rs"]
mod kit;
#[path = "../shared/planner.rs"]
mod planner;

mod adoption;
mod bounded;
mod compose_is_apply;
mod crash;
mod expect;
mod extent;
mod fleet;
mod full;
mod going_back;
mod hostile;
mod interrupt;
mod kept;
mod laws;
mod matrix;
mod older;
mod ownership;
mod plan_is_apply;
mod pool;
mod quoting;
mod races;
mod reading;
mod revert;
mod rollback;
mod scale;
mod secrets;
mod watched;
mod waves;
mod words;
