//! The header of a stack.
