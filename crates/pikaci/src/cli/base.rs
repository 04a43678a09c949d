//! The revision that changes are counted from: where it comes from, and that it is there.

use jericho_host::CancelToken;
use jerichoci::snapshot::git_commit_of;

use super::session::Session;
use crate::config::{BASE_REF, Origin, Setting, Settings};
use crate::error::CliError;
use crate::render::text::shorten;
use crate::source::Source;
use crate::targets::FILE_NAME;

/// The base that was asked for.
pub(super) fn base(
    flag: Option<&str>,
    source: &Source,
    settings: &Settings,
) -> Result<Option<Setting<String>>, CliError> {
    let Some(base) = flag else {
        let Setting { value, origin } = settings.base_ref.clone();
        return Ok(value.map(|value| Setting { value, origin }));
    };
    if let Some(why) = &source.without_git {
        let message = format!("--base {} needs git: {why}", shorten(base));
        return Err(CliError::usage(message).hint("leave --base out: every target runs then"));
    }
    Ok(Some(Setting { value: base.to_owned(), origin: Origin::Flag }))
}

/// Refuses a base that is no commit. A check against something else than what was asked for would
/// look like the one that was asked for.
pub(super) fn check_base(
    session: &Session,
    base: &Setting<String>,
    source: &Source,
    cancel: &CancelToken,
) -> Result<(), CliError> {
    let file = |file: &str, line, column| {
        (format!("{file}:{line}:{column}: `base_ref`"), format!("leave it out of {file}"))
    };
    let (name, without) = match base.origin {
        Origin::Flag => ("--base".to_owned(), "leave --base out".to_owned()),
        Origin::Environment | Origin::UserFile | Origin::Default => {
            (BASE_REF.to_owned(), format!("unset {BASE_REF}"))
        }
        Origin::Repository(line, column) => file(FILE_NAME, line, column),
        Origin::User(line, column) => file(&session.operator()?.place, line, column),
    };
    let without = format!("{without}, for the upstream's default branch");
    check_commit(session, (&name, &without), &base.value, source, cancel)
}

/// Refuses what is no commit; with what it was given by, and how to do without.
pub(super) fn check_commit(
    session: &Session,
    (name, without): (&str, &str),
    rev: &str,
    source: &Source,
    cancel: &CancelToken,
) -> Result<(), CliError> {
    if source.without_git.is_some() {
        return Ok(());
    }
    let environment = session.surroundings().environment();
    let commit = git_commit_of(&source.root, rev, environment, cancel)
        .map_err(|error| session.engine_error(error.into()))?;
    if commit.is_some() {
        return Ok(());
    }
    let message = format!("{name} is `{}`, which is no commit in this repository", shorten(rev));
    Err(CliError::usage(message).hint(format!("git fetch, when a remote has it; or {without}")))
}
