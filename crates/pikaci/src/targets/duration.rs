//! Durations as people write them: `90s`, `5m`, `1h30m`.

use std::time::Duration;

/// No limit is longer. It keeps every deadline far from the end of the clock.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Parses whole days, hours, minutes and seconds, each at most once, the greater unit first.
///
/// # Errors
/// One sentence that says what is wrong, without the text itself.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];
    let mut units = UNITS.iter();
    let mut rest = text;
    let mut seconds: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        if number.is_empty() {
            return Err("is not a duration".to_owned());
        }
        let Some(unit) = after.chars().next() else {
            return Err(format!("lacks a unit after {number}: s, m, h or d"));
        };
        let Some((_, factor)) = units.find(|(name, _)| *name == unit) else {
            return Err(if UNITS.iter().any(|(name, _)| *name == unit) {
                "has its units in the wrong order: days, hours, minutes, seconds, each once".to_owned()
            } else {
                format!("has an unknown unit `{}`: s, m, h or d", unit.escape_default())
            });
        };
        seconds = number
            .parse::<u64>()
            .ok()
            .and_then(|count| count.checked_mul(*factor))
            .and_then(|part| seconds.checked_add(part))
            .filter(|sum| *sum <= LONGEST.as_secs())
            .ok_or_else(|| "is longer than a year".to_owned())?;
        rest = &after[unit.len_utf8()..];
    }
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if seconds == 0 {
        return Err("is no time at all".to_owned());
    }
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let table =
            [("90s", 90), ("5m", 300), ("1h30m", 5400), ("2d", 172_800), ("1d1h1m1s", 90_061), ("007s", 7)];
        for (text, seconds) in table {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn a_bad_duration_says_what_is_wrong() {
        let table = [
            ("", "is empty"),
            ("5", "lacks a unit after 5: s, m, h or d"),
            ("5 m", "has an unknown unit ` `: s, m, h or d"),
            ("m", "is not a duration"),
            ("-5m", "is not a duration"),
            ("1.5h", "has an unknown unit `.`: s, m, h or d"),
            ("5x", "has an unknown unit `x`: s, m, h or d"),
            ("5m1h", "has its units in the wrong order: days, hours, minutes, seconds, each once"),
            ("1m1m", "has its units in the wrong order: days, hours, minutes, seconds, each once"),
            ("0s", "is no time at all"),
            ("0h0m", "is no time at all"),
            ("400d", "is longer than a year"),
            ("99999999999999999999s", "is longer than a year"),
            ("5ü", "has an unknown unit `\\u{fc}`: s, m, h or d"),
        ];
        for (text, problem) in table {
            assert_eq!(parse(text).unwrap_err(), problem, "{text}");
        }
    }
}
