//! Reads logs.
