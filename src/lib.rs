//! reconcile: makes ordinary Linux servers match a Git repository.

#![deny(unsafe_code)]

pub mod base;
pub mod host;
pub mod ledger;
pub mod load;
pub mod plan;
pub mod resource;
