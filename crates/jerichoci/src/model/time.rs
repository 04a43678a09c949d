//! How records write times: RFC 3339 in UTC with the offset `+00:00` and as many digits as
//! needed. Any offset is read.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(super) fn serialize<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    time.to_rfc3339().serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
    DateTime::deserialize(deserializer)
}

/// The same for a time that may be null or absent.
pub(super) mod option {
    use super::{DateTime, Deserialize, Deserializer, Serialize, Serializer, Utc};

    #[expect(clippy::ref_option, reason = "the signature serde asks for")]
    pub(in crate::model) fn serialize<S: Serializer>(
        time: &Option<DateTime<Utc>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.as_ref().map(DateTime::to_rfc3339).serialize(serializer)
    }

    pub(in crate::model) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<DateTime<Utc>>, D::Error> {
        Option::deserialize(deserializer)
    }
}
