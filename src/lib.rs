//! reconcile: makes ordinary Linux servers match a Git repository.

#![deny(unsafe_code)]

pub mod base;
pub mod host;
pub mod load;
pub mod resource;
pub mod source;
