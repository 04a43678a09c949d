//! The known name that a mistyped one was probably meant to be.

/// The candidate nearest to `word`, when it is near enough to be worth a question: a third of the
/// letters may be wrong (a swap of neighbours counts once), and upper and lower case are the same.
/// The first of several equally near ones.
#[must_use]
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let letters = word.chars().count();
    // Names have at most 200 bytes. The distance costs the product of the lengths.
    if letters > 200 {
        return None;
    }
    let word = word.to_lowercase();
    let limit = letters.max(3) / 3;
    candidates
        .into_iter()
        .filter(|candidate| candidate.chars().count().abs_diff(letters) <= limit)
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_finds_its_name_and_a_far_one_finds_none() {
        let known = ["command", "needs", "env", "timeout"];
        for (word, expected) in [
            ("comand", Some("command")),
            ("commnad", Some("command")),
            ("Command", Some("command")),
            ("TIMEOUT", Some("timeout")),
            ("need", Some("needs")),
            ("enf", Some("env")),
            ("x", None),
            ("", None),
            ("artifact", None),
            ("ä", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }

    #[test]
    fn of_two_equally_near_names_the_first_is_taken() {
        assert_eq!(nearest("tesd", ["test", "tess"]), Some("test"));
    }
}
