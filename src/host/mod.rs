//! Floor 1: reaching a host and running our two programs there.

mod local;
pub mod ssh;
pub mod transport;
