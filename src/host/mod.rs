//! Floor 1: reaching a host and running our programs there.

pub mod archive;
pub mod observation;
pub mod program;
pub mod transport;
