//! Floor 5: the command line.

mod content;
#[cfg(test)]
mod fixtures;
pub mod origin;
pub mod page;
pub mod plan_text;
pub mod words;
