//! reconcile: makes ordinary Linux servers match a Git repository.

#![deny(unsafe_code)]

pub mod apply;
pub mod base;
pub mod cli;
pub mod engine;
pub mod host;
pub mod ledger;
pub mod load;
pub mod observe;
pub mod plan;
pub mod render;
pub mod resource;
pub mod source;
