//! Ages and sizes as people type them: `14d`, `36h`, `20GiB`.

use std::time::Duration;

/// The value of an option that is an age: whole numbers of weeks, days, hours, minutes or seconds,
/// the greatest first.
pub(super) fn age(text: &str) -> Result<Duration, String> {
    let wrong = || "an age such as 14d, 36h or 1w2d".to_owned();
    let mut units = [('w', 7 * 24 * 3600), ('d', 24 * 3600), ('h', 3600), ('m', 60), ('s', 1)].into_iter();
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (number, tail) = leading_number(rest).ok_or_else(wrong)?;
        let mut tail = tail.chars();
        let unit = tail.next().ok_or_else(wrong)?;
        let (_, factor) = units.find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        total = number.checked_mul(factor).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = tail.as_str();
    }
    Ok(Duration::from_secs(total))
}

/// The value of an option that is a number of bytes: a number, which may have decimals, and a
/// unit. `GiB` is 2^30, `GB` is 10^9, without a unit it is bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let wrong = || "a size such as 20GiB, 1.5TiB or 500MB".to_owned();
    let text = text.trim();
    let (whole, rest) = leading_number(text).ok_or_else(wrong)?;
    let (decimals, unit) = match rest.strip_prefix('.') {
        None => ("", rest),
        Some(rest) => rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count()),
    };
    if rest.starts_with('.') && (decimals.is_empty() || decimals.len() > 6) {
        return Err(wrong());
    }
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" | "k" => 1 << 10,
        "mib" | "m" => 1 << 20,
        "gib" | "g" => 1 << 30,
        "tib" | "t" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    let bytes = whole.checked_mul(factor).ok_or_else(wrong)?;
    let parts = match decimals {
        "" => 0,
        digits => {
            let digits_value: u64 = digits.parse().map_err(|_| wrong())?;
            // At most six digits of at most a tebibyte: no more than 2^60.
            digits_value * factor / 10u64.pow(u32::try_from(digits.len()).unwrap_or(0))
        }
    };
    bytes.checked_add(parts).ok_or_else(wrong)
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let (digits, rest) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    digits.parse().ok().map(|number| (number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_weeks_days_hours_minutes_and_seconds() {
        for (text, seconds) in
            [("14d", 1_209_600), ("36h", 129_600), ("1w2d", 777_600), ("90s", 90), ("0s", 0), (" 5m ", 300)]
        {
            assert_eq!(age(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "14",
            "d",
            "14 d",
            "1d1w",
            "1d1d",
            "-1d",
            "1.5d",
            "14D",
            "99999999999999999999d",
            "18446744073709551615w",
        ] {
            assert!(age(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_size_is_a_number_and_a_unit() {
        for (text, bytes) in [
            ("20GiB", 20 << 30),
            ("1.5TiB", 3 << 39),
            ("500MB", 500_000_000),
            ("0.5 gib", 1 << 29),
            ("1G", 1 << 30),
            ("0", 0),
            ("123", 123),
            ("1.000001MB", 1_000_001),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "GiB",
            "-1GiB",
            "1.GiB",
            ".5GiB",
            "1GiB2",
            "1 XB",
            "1,5GiB",
            "18446744073709551615KiB",
            "1e3",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
