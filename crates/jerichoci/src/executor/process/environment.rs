//! What a host job sees of the caller's environment: nothing, but for what is known to be
//! harmless and needed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use jericho_host::Environment;

/// Variables that pass. Not among them: `SSH_AUTH_SOCK`, tokens, `GIT_*`, `LD_*`.
const ALLOWED: &[&str] = &[
    "ALL_PROXY",
    "CURL_CA_BUNDLE",
    "DEVELOPER_DIR",
    "GIT_SSL_CAINFO",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "LANG",
    "LANGUAGE",
    "LOGNAME",
    "NIX_PATH",
    "NIX_PROFILES",
    "NIX_SSL_CERT_FILE",
    "NO_PROXY",
    "PATH",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "SDKROOT",
    "SHELL",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TERM",
    "TMPDIR",
    "TZ",
    "USER",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// What a job starts with. `asked` are names that the job itself asks for.
pub(super) fn base(caller: &Environment, inherit: bool, asked: &[String]) -> Environment {
    if inherit {
        return caller.clone();
    }
    let is_asked = |name: &OsStr| asked.iter().any(|asked| name == asked.as_str());
    caller.iter().filter(|(name, _)| is_allowed(name) || is_asked(name)).collect()
}

fn is_allowed(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"LC_") || name.to_str().is_some_and(|name| ALLOWED.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_jobs_get_a_cleared_environment_plus_an_allow_list() {
        let caller: Environment =
            [("PATH", "/bin"), ("LC_ALL", "C"), ("SSH_AUTH_SOCK", "/s"), ("MY_TOKEN", "t")]
                .into_iter()
                .collect();
        let names = |asked: &[String]| {
            let seen = base(&caller, false, asked);
            seen.iter().map(|(name, _)| name.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["LC_ALL", "PATH"]);
        assert_eq!(names(&["MY_TOKEN".to_owned(), "UNSET".to_owned()]), ["LC_ALL", "MY_TOKEN", "PATH"]);
        assert_eq!(base(&caller, true, &[]), caller);
    }

    #[test]
    fn the_allow_list_is_sorted_so_that_it_can_be_read() {
        assert!(ALLOWED.is_sorted());
    }
}
