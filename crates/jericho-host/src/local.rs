//! This machine.

/// This machine as a [`crate::Host`].
#[derive(Debug, Default)]
pub struct LocalHost;
