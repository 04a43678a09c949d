//! The target that every tree has: does this machine run jobs at all?

use jerichoci::model::job::{GuestCommand, JobSpec};

use super::spec::TargetSpec;

/// Name of the built-in target.
pub const SMOKE: &str = "jericho-smoke";

/// Reads some of the snapshot, so that a file that cannot be read is found out.
const SOURCE: &str = r#"set -eu
files=$(find . -type f | wc -l)
find . -type f | head -n 50 | while IFS= read -r file; do
  if [ -f "$file" ]; then cat <"$file" >/dev/null; fi
done
echo "snapshot: $((files)) files, read at $(pwd)"
"#;

/// Writes where a job may write.
const WORKSPACE: &str = r#"set -eu
echo written >jericho-smoke-written-by-a-job
[ "$(cat jericho-smoke-written-by-a-job)" = written ]
[ -d "$ARTIFACTS" ]
echo "hello from jericho-smoke" >"$ARTIFACTS/hello.txt"
echo "workspace: $(pwd)"
echo "artifacts: $ARTIFACTS"
"#;

/// Runs when the others have passed, and must not see what they wrote.
const AFTER: &str = r"set -eu
if [ -e jericho-smoke-written-by-a-job ]; then
  echo 'this workspace has a file that another job wrote' >&2
  exit 1
fi
echo 'each job had a workspace of its own'
";

pub(super) fn targets() -> Vec<TargetSpec> {
    let job = |id: &str, description: &str, script: &str, needs: &[&str]| JobSpec {
        description: description.to_owned(),
        timeout_secs: 60,
        needs: needs.iter().map(|need| (*need).to_owned()).collect(),
        ..JobSpec::host_process(
            id,
            GuestCommand::Argv { argv: ["sh", "-c", script].map(str::to_owned).to_vec() },
        )
    };
    vec![TargetSpec {
        id: SMOKE.to_owned(),
        description: Some("Does this machine run jobs? Seconds, on any tree".to_owned()),
        jobs: vec![
            job("source", "The snapshot can be read", SOURCE, &[]),
            job("workspace", "Workspace and artifacts can be written", WORKSPACE, &[]),
            job("after", "Runs after the others, apart from them", AFTER, &["source", "workspace"]),
        ],
        ..TargetSpec::default()
    }]
}

#[cfg(test)]
mod tests {
    use jerichoci::run::request::RunRequest;

    #[test]
    fn built_in_targets_are_requests_that_make_sense() {
        for target in super::targets() {
            RunRequest::new(target.jobs).target(target.id, target.description).check().unwrap();
        }
    }
}
