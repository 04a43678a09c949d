//! The one shell quoting.
