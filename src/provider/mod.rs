//! Floor 1: what answers over the network besides the hosts: container registries, and the Docker Engine of a host.

pub mod docker;
mod http;
pub mod reference;
pub mod registry;
mod transfer;
