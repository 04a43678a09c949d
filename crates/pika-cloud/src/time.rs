//! Times of guest documents: RFC 3339 with a numeric offset, sub-second digits as needed.

use chrono::{DateTime, Datelike, FixedOffset, Utc};
use serde::{Deserialize, Deserializer, Serializer, de, ser};

/// A point in time that keeps the offset it was written with: a guest writes its local one.
pub type Timestamp = DateTime<FixedOffset>;

/// Writes `2026-04-01T12:00:30+00:00`; a zero offset is never written as `Z`.
pub(crate) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    // RFC 3339 has no seconds in an offset: such a time would be written as another instant.
    let utc: Timestamp = time.with_timezone(&Utc).into();
    let time = if time.offset().local_minus_utc() % 60 == 0 { time } else { &utc };
    if !(0..=9999).contains(&time.year()) {
        return Err(ser::Error::custom("RFC 3339 has no year outside 0000 to 9999"));
    }
    serializer.serialize_str(&time.to_rfc3339())
}

/// Reads any RFC 3339 time, with `Z` or an offset.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    DateTime::parse_from_rfc3339(&text)
        .map_err(|error| de::Error::custom(format_args!("{text:?} is not an RFC 3339 time: {error}")))
}
