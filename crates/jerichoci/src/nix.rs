//! What all calls of nix have in common: how it is named, and how its complaints are passed on.

use std::ffi::OsString;
use std::path::Path;

/// Lines of nix's complaint that are passed on.
const LINES: usize = 8;

/// Bytes of one line that are passed on.
const LINE_BYTES: usize = 600;

const FULL: &str = "No space left on device";

/// `nix-store` of the same installation.
pub(crate) fn store_program(nix: &Path) -> OsString {
    nix.with_file_name("nix-store").into_os_string()
}

/// Whether nix says that the disk is full: then nothing else it says is the reason.
pub(crate) fn says_disk_full(said: &[u8]) -> bool {
    said.windows(FULL.len()).any(|window| window == FULL.as_bytes())
}

/// The end of what nix said, in one line; what matters most when that is not the end.
pub(crate) fn complaint(stderr: &[u8]) -> String {
    let said = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last: Vec<String> =
        lines[lines.len().saturating_sub(LINES)..].iter().map(|line| shortened(line)).collect();
    let last = last.join("; ");
    match says_disk_full(stderr) {
        true if !last.contains(FULL) => format!("{FULL}; {last}"),
        _ if last.is_empty() => "it said nothing".to_owned(),
        _ => last,
    }
}

/// Beginning and end of a line that is too long: it goes into records, and is shown to people.
fn shortened(line: &str) -> String {
    let (begin, end) = (LINE_BYTES / 4 * 3, LINE_BYTES / 4);
    match line.len() > LINE_BYTES {
        true => {
            let begin = &line[..line.floor_char_boundary(begin)];
            format!("{begin} … {}", &line[line.ceil_char_boundary(line.len() - end)..])
        }
        false => line.to_owned(),
    }
}

/// A narHash inside a URL: base64 has three characters that mean something else there.
pub(crate) fn percent_encode(hash: &str) -> String {
    hash.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_in_a_url_has_no_character_that_means_something_there() {
        assert_eq!(percent_encode("sha256-a+b/c="), "sha256-a%2Bb%2Fc%3D");
    }

    #[test]
    fn a_complaint_is_the_end_of_what_nix_said_and_a_full_disk_is_never_left_out() {
        let many: String = (0..20).map(|n| format!("  line {n}\n\n")).collect();
        assert_eq!(
            complaint(many.as_bytes()),
            "line 12; line 13; line 14; line 15; line 16; line 17; line 18; line 19"
        );
        let long =
            complaint(format!("error: {}ö{} at the end", "ö".repeat(400), "x".repeat(1 << 20)).as_bytes());
        assert!(
            long.starts_with("error: ö") && long.contains(" … x") && long.ends_with(" at the end"),
            "{long}"
        );
        assert!(long.len() <= LINE_BYTES + 8, "{}", long.len());
        let full = format!("error: writing: No space left on device\n{many}");
        assert!(complaint(full.as_bytes()).starts_with("No space left on device; line 12"));
        assert_eq!(complaint(b""), "it said nothing");
    }

    #[test]
    fn the_store_program_lies_beside_nix() {
        assert_eq!(store_program(Path::new("nix")), "nix-store");
        assert_eq!(store_program(Path::new("/nix/bin/nix")), "/nix/bin/nix-store");
    }
}
