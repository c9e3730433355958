//! Floor 1: reaching a host and running our programs there.

pub mod answer;
pub mod archive;
pub mod discovery;
pub mod hold;
pub mod images;
mod local;
pub mod observation;
pub mod observer;
pub mod program;
pub mod ssh;
pub mod transport;
