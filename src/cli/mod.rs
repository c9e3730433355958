//! Floor 5: the command line.

mod content;
pub mod failure;
#[cfg(test)]
mod fixtures;
pub mod origin;
pub mod page;
pub mod plan_json;
pub mod plan_markdown;
pub mod plan_text;
pub mod problems;
pub mod report;
pub mod words;
