//! From a word to a guest role, with an error that helps when the word is wrong.

use std::str::FromStr;

use crate::IncusGuestRole;

/// The spelling of older records: read, never written.
const OLD_RUNNER: &str = "pikaci-runner";

/// A word that names no guest role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown guest role {word:?}: allowed are {}{}", allowed(), hint(*.suggestion))]
pub struct UnknownRole {
    /// The word as given.
    pub word: String,
    /// The role the word most resembles, when one is near enough to be meant.
    pub suggestion: Option<IncusGuestRole>,
}

impl FromStr for IncusGuestRole {
    type Err = UnknownRole;

    /// Reads a role's word, exactly as written (no trimming, no case folding).
    fn from_str(word: &str) -> Result<Self, UnknownRole> {
        if word == OLD_RUNNER {
            return Ok(Self::JerichoRunner);
        }
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == word)
            .ok_or_else(|| UnknownRole { word: word.to_owned(), suggestion: suggest(word) })
    }
}

fn allowed() -> String {
    IncusGuestRole::ALL.map(|role| format!("`{role}`")).join(", ")
}

fn hint(suggestion: Option<IncusGuestRole>) -> String {
    suggestion.map(|role| format!("; did you mean `{role}`?")).unwrap_or_default()
}

/// The role that `word` was probably meant to be: one whose word it is a part of, else the nearest
/// one if no more than a third of it differs.
fn suggest(word: &str) -> Option<IncusGuestRole> {
    let word: String = word.trim().chars().take(64).map(normal).collect();
    if word.chars().count() < 3 {
        return None;
    }
    let spellings = IncusGuestRole::ALL
        .map(|role| (role, role.as_str()))
        .into_iter()
        .chain([(IncusGuestRole::JerichoRunner, OLD_RUNNER)]);
    if let Some((role, _)) = spellings.clone().find(|(_, spelling)| spelling.contains(&word)) {
        return Some(role);
    }
    spellings
        .map(|(role, spelling)| (distance(&word, spelling), spelling.len(), role))
        .filter(|(distance, length, _)| distance * 3 <= *length)
        .min_by_key(|(distance, ..)| *distance)
        .map(|(.., role)| role)
}

fn normal(c: char) -> char {
    if c == '_' || c == ' ' { '-' } else { c.to_ascii_lowercase() }
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
