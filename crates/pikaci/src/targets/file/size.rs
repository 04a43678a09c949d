//! Amounts of memory and disk as people write them: `512MiB`, `4GiB`.

/// Bytes of a size: a whole number from 1 with a unit of `MiB`, `GiB` or `TiB`.
///
/// # Errors
/// Why the text is not one, as the end of a sentence that starts with the text.
pub(crate) fn bytes(text: &str) -> Result<u64, &'static str> {
    const SHAPE: &str = "is not a size";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(SHAPE),
    };
    if number.is_empty() {
        return Err(SHAPE);
    }
    // Too many digits are a number, and more than there is.
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)) {
        Some(0) => Err("is no size at all"),
        Some(bytes) => Ok(bytes),
        None => Err("is more than any machine has"),
    }
}

/// A size in whole units of 2^`shift` bytes.
///
/// # Errors
/// As [`bytes`].
pub(crate) fn units(text: &str, shift: u32) -> Result<u32, &'static str> {
    let bytes = bytes(text)?;
    if bytes % (1 << shift) != 0 {
        return Err("is not a whole number of GiB");
    }
    u32::try_from(bytes >> shift).map_err(|_| "is more than any machine has")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_whole_number_and_a_binary_unit() {
        for (text, expected) in
            [("512MiB", 512 << 20), ("4GiB", 4 << 30), ("1TiB", 1 << 40), ("007MiB", 7 << 20)]
        {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "4", "GiB", "4G", "4GB", "4 GiB", " 4GiB", "4gib", "-4GiB", "1.5GiB", "٣GiB", "4KiB"]
        {
            assert_eq!(bytes(text), Err("is not a size"), "{text}");
        }
        assert_eq!(bytes("0GiB"), Err("is no size at all"));
        for text in ["99999999999999999999TiB", "16777216TiB"] {
            assert_eq!(bytes(text), Err("is more than any machine has"), "{text}");
        }
    }

    #[test]
    fn a_disk_is_whole_gibibytes_and_memory_whole_mebibytes() {
        assert_eq!(units("4GiB", 20), Ok(4096));
        assert_eq!(units("20GiB", 30), Ok(20));
        assert_eq!(units("2048MiB", 30), Ok(2));
        assert_eq!(units("1500MiB", 30), Err("is not a whole number of GiB"));
        assert_eq!(units("8000000TiB", 20), Err("is more than any machine has"));
    }
}
