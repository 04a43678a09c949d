//! Limits of time as people write them: `90s`, `5m`, `1h30m`.

/// Longest limit: a year. It keeps every sum with a clock in range.
const MOST_SECS: u64 = 365 * 24 * 3600;

/// Seconds of a duration: whole numbers of `h`, `m` and `s`, each at most once and in this order;
/// more than nothing, at most a year.
///
/// # Errors
/// Why the text is not one, as the end of a sentence that starts with the text.
pub(super) fn seconds(text: &str) -> Result<u64, &'static str> {
    const SHAPE: &str = "is not a duration";
    let mut units = [('h', 3600), ('m', 60), ('s', 1)].into_iter();
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let mut tail = tail.chars();
        let unit = tail.next().ok_or(SHAPE)?;
        let (_, factor) = units.find(|(name, _)| *name == unit).ok_or(SHAPE)?;
        if number.is_empty() {
            return Err(SHAPE);
        }
        // Too many digits are a number, and more than a year.
        let number = number.parse::<u64>().unwrap_or(u64::MAX);
        total = total.saturating_add(number.saturating_mul(factor));
        rest = tail.as_str();
    }
    match total {
        _ if text.is_empty() => Err(SHAPE),
        0 => Err("is no time at all"),
        1..=MOST_SECS => Ok(total),
        _ => Err("is longer than a year"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_hours_minutes_and_seconds_in_this_order() {
        for (text, expected) in [
            ("90s", 90),
            ("5m", 300),
            ("1h30m", 5400),
            ("1h1s", 3601),
            ("1h2m3s", 3723),
            ("0h5m", 300),
            ("007s", 7),
            ("8760h", MOST_SECS),
        ] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in [
            "", "5", "m", "5 m", " 5m", "5m ", "5M", "-5m", "+5m", "5.5m", "500ms", "1d", "5m1h", "5m5m",
            "5min", "٣m", "1h30", "1_000s",
        ] {
            assert_eq!(seconds(text), Err("is not a duration"), "{text}");
        }
        for text in ["0s", "0h0m0s"] {
            assert_eq!(seconds(text), Err("is no time at all"), "{text}");
        }
        for text in
            ["8760h1s", "99999999999999999999999h", "18446744073709551615h", "18446744073709551615s1s"]
        {
            assert_ne!(seconds(text).ok(), Some(1), "{text}");
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
