//! Durations, counts and verdicts in words.

use jerichoci::model::outcome::Verdict;
use jerichoci::model::record::JobRecord;

/// `340 ms`, `4.2 s`, `3 min 05 s`, `2 h 07 min`.
pub(crate) fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {:02} s", ms / 60_000, ms % 60_000 / 1_000),
        _ => format!("{} h {:02} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

/// `1 file`, `2 files`.
pub(crate) fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// `512 bytes`, `1.5 KiB`, `20.0 GiB`.
pub(crate) fn bytes(n: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if n < 1024 {
        return format!("{n} bytes");
    }
    let exponent = (n.ilog2() / 10).min(4);
    let tenths = (u128::from(n) * 10) >> (10 * exponent);
    format!("{}.{} {}", tenths / 10, tenths % 10, units[exponent as usize - 1])
}

/// `2 passed, 1 timed out`: how many jobs have which verdict, the good ones first.
pub(crate) fn tally(jobs: &[JobRecord]) -> String {
    let mut words: Vec<(&'static str, usize)> = Vec::new();
    let mut verdicts: Vec<Verdict> = jobs.iter().map(|job| job.verdict).collect();
    verdicts.sort_by_key(|verdict| match verdict {
        Verdict::Passed => (0, None),
        Verdict::Failed(kind) => (1, Some(*kind)),
        Verdict::Skipped => (2, None),
        Verdict::Running => (3, None),
    });
    for verdict in verdicts {
        match words.last_mut() {
            Some((word, n)) if *word == verdict.word() => *n += 1,
            _ => words.push((verdict.word(), 1)),
        }
    }
    let words: Vec<String> = words.into_iter().map(|(word, n)| format!("{n} {word}")).collect();
    if words.is_empty() { "no jobs".to_owned() } else { words.join(", ") }
}

/// The word that a document uses for a value, for example `fulfill_request_cli_v1`.
pub(crate) fn spelling(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample::job;
    use jerichoci::model::outcome::FailureKind;

    #[test]
    fn durations_keep_the_digits_that_matter() {
        let shown: Vec<_> =
            [0, 999, 1_000, 4_290, 59_999, 60_000, 185_000, 3_600_000, 7_620_000].map(duration).into();
        assert_eq!(
            shown,
            [
                "0 ms",
                "999 ms",
                "1.0 s",
                "4.2 s",
                "59.9 s",
                "1 min 00 s",
                "3 min 05 s",
                "1 h 00 min",
                "2 h 07 min"
            ]
        );
    }

    #[test]
    fn sizes_have_the_unit_that_fits() {
        let shown: Vec<_> = [0, 1023, 1024, 1536, 1 << 30, u64::MAX].map(bytes).into();
        assert_eq!(shown, ["0 bytes", "1023 bytes", "1.0 KiB", "1.5 KiB", "1.0 GiB", "16777215.9 TiB"]);
    }

    #[test]
    fn a_tally_says_errored_and_timed_out_where_that_is_meant() {
        let jobs = [
            job("a", Verdict::Skipped),
            job("b", Verdict::Failed(FailureKind::Infrastructure)),
            job("c", Verdict::Passed),
            job("d", Verdict::Failed(FailureKind::Timeout)),
            job("e", Verdict::Passed),
            job("f", Verdict::Failed(FailureKind::TestFailure)),
        ];
        assert_eq!(tally(&jobs), "2 passed, 1 failed, 1 timed out, 1 errored, 1 skipped");
        assert_eq!(tally(&[]), "no jobs");
    }
}
