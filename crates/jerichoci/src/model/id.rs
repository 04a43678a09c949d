//! Ids that become part of a path, checked before they do.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a run id.
    #[error("`{0}` is not a run id; a run id looks like 20260401T120000Z-0a1b2c3d")]
    Run(String),
    /// Not a job or target name.
    #[error(
        "`{0}` is not a name; a name starts with a letter or digit and has only letters, digits, `.`, `_`, `-`"
    )]
    Name(String),
}

/// Id of a run: UTC start to the second, `-`, eight hexadecimal digits of randomness.
/// Sorting ids sorts runs by their start.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

impl RunId {
    /// A fresh id. `random` gives its first eight characters, lower case hexadecimal digits as
    /// [`jericho_host::IdSource::fresh`] returns.
    #[must_use]
    pub fn new(now: DateTime<Utc>, random: &str) -> Self {
        let digits: String = random.chars().take(8).collect();
        Self(format!("{}-{digits}", now.format("%Y%m%dT%H%M%SZ")))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let digit = |b: &u8| b.is_ascii_digit();
        let hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
        let ok = match text.as_bytes() {
            b if b.len() == 25 => {
                b[..8].iter().all(digit)
                    && b[8] == b'T'
                    && b[9..15].iter().all(digit)
                    && b[15] == b'Z'
                    && b[16] == b'-'
                    && b[17..].iter().all(hex)
            }
            _ => false,
        };
        if ok { Ok(Self(text.to_owned())) } else { Err(IdError::Run(text.to_owned())) }
    }
}

impl TryFrom<String> for RunId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Checks the name of a job, target, group or cache: `[A-Za-z0-9][A-Za-z0-9._-]*`, at most 200
/// bytes, so that it is always one harmless path component.
///
/// # Errors
/// [`IdError::Name`].
pub fn check_name(text: &str) -> Result<(), IdError> {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if first && rest && text.len() <= 200 { Ok(()) } else { Err(IdError::Name(text.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_are_checked_against_their_pattern() {
        assert!("20260401T120000Z-0a1b2c3d".parse::<RunId>().is_ok());
        for bad in [
            "",
            "../x",
            "20260401T120000Z-0A1B2C3D",
            "20260401T120000Z-0a1b2c3",
            "20260401T120000Z-0a1b2c3d/",
            "20260401T120000Z-0a1b2c3d\n",
            "x0260401T120000Z-0a1b2c3d",
        ] {
            assert_eq!(bad.parse::<RunId>(), Err(IdError::Run(bad.to_owned())));
        }
    }

    #[test]
    fn a_fresh_run_id_matches_its_own_pattern() {
        let now = "2026-04-01T12:00:00.9Z".parse().unwrap();
        let id = RunId::new(now, "0a1b2c3dffffffffffffffffffffffff");
        assert_eq!(id.as_str(), "20260401T120000Z-0a1b2c3d");
        assert_eq!(id.as_str().parse::<RunId>().unwrap(), id);
    }

    #[test]
    fn names_cannot_leave_their_directory() {
        for good in ["a", "A-1.x_y", "0"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "-a", "ä", "a b", "a\0", &"a".repeat(201)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
