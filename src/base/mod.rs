//! Floor 0: the words everything else is made of. No input or output happens here.

mod brace;
pub mod decode;
pub mod diagnostic;
pub mod digest;
pub mod error;
pub mod event;
pub mod id;
pub mod mask;
pub mod memory;
pub mod secret;
pub mod template;
