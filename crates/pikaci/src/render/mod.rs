//! Words for humans, and documents for programs. Nothing else in this crate formats output.

pub(crate) mod text;
