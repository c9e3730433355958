//! Input that nobody means well with, or that nobody thought of.
