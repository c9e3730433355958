//! Floor 1: reaching a host and running our two programs there.

pub mod transport;
