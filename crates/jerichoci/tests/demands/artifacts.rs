//! Files that are kept from a workspace.

use std::fs;

use jerichoci::model::demands::{ArtifactsWhen, CacheSharing, CacheSpec};
use jerichoci::model::job::JobSpec;
use jerichoci::model::outcome::{FailureKind, Verdict};
use jerichoci::model::record::RunRecord;

use crate::rig::{Rig, job, sh};

fn keeps(script: &str, patterns: &[&str]) -> JobSpec {
    let mut job = sh("job", script);
    job.artifacts = patterns.iter().map(ToString::to_string).collect();
    job
}

fn kept(run: &RunRecord) -> Vec<(&str, u64)> {
    job(run, "job").artifacts.iter().map(|file| (file.path.as_str(), file.bytes)).collect()
}

#[test]
fn files_that_match_are_kept_with_their_paths_and_are_in_the_record() {
    let rig = Rig::new();
    fs::create_dir_all(rig.root.join("docs/old")).unwrap();
    fs::write(rig.root.join("docs/page.md"), "page").unwrap();
    fs::write(rig.root.join("docs/old/gone.md"), "gone").unwrap();
    fs::write(rig.root.join("docs/old/stays.md"), "stays").unwrap();
    let script = "mkdir -p out/a/b dist; echo 1 > out/r.xml; echo 22 > out/a/b/r.xml; echo x > out/no.txt
        rm docs/old/gone.md; mv docs/old docs/new; echo new > docs/new/n.md; echo d > dist/.hidden; chmod 755 dist/.hidden
        rm -r docs/page.md; mkdir docs/page.md; echo i > docs/page.md/inner.md";
    let run = rig.run(vec![keeps(script, &["out/*.xml", "docs/**/*.md", "!**/n.md", "dist/"])]);
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    let expected =
        [("dist/.hidden", 2), ("docs/new/stays.md", 5), ("docs/page.md/inner.md", 2), ("out/r.xml", 2)];
    assert_eq!(kept(&run), expected);
    assert_eq!(job(&run, "job").warnings, Vec::<String>::new());
    let dir = rig.job_dir(&run, "job").join("artifacts");
    assert_eq!(fs::read_to_string(dir.join("docs/new/stays.md")).unwrap(), "stays");
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(dir.join("dist/.hidden")).unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn artifacts_are_kept_after_a_failure_and_a_time_out_and_only_when_asked_for() {
    let rig = Rig::new();
    for (script, when, verdict, count) in [
        ("echo x > f; exit 3", ArtifactsWhen::Always, Verdict::Failed(FailureKind::TestFailure), 1),
        ("echo x > f; exec sleep 100", ArtifactsWhen::Failure, Verdict::Failed(FailureKind::Timeout), 1),
        ("echo x > f", ArtifactsWhen::Failure, Verdict::Passed, 0),
        ("echo x > f; exit 3", ArtifactsWhen::Never, Verdict::Failed(FailureKind::TestFailure), 0),
    ] {
        let mut job = keeps(script, &["f"]);
        (job.artifacts_when, job.timeout_secs) = (when, 1);
        let run = rig.run(vec![job]);
        assert_eq!((run.verdict, kept(&run).len()), (verdict, count), "{script} {when:?}");
    }
}

#[test]
fn what_is_no_file_of_the_workspace_is_left_out_and_named() {
    let rig = Rig::new();
    let secret = rig.outside().join("secret");
    fs::write(&secret, "mine").unwrap();
    let script = format!(
        "ln -s '{}' link; ln -s '{}' dir; mkfifo pipe; echo own > result.json; echo x > $ARTIFACTS/both; echo y > both
         ln -s '{}' $ARTIFACTS/sub; mkdir sub; echo z > sub/z",
        secret.display(),
        rig.outside().display(),
        rig.outside().display(),
    );
    let run = rig
        .run(vec![keeps(&script, &["link", "dir/**", "pipe", "result.json", "both", "sub/z", "nothing*"])]);
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    assert_eq!(kept(&run), []);
    let warnings = job(&run, "job").warnings.join("\n");
    for part in [
        "link is left out: it is a symbolic link",
        "dir is left out: it is a symbolic link",
        "pipe is left out: it is not a file",
        "result.json is left out",
        "both is left out",
        "sub/z is left out",
        "no file matches `nothing*`",
    ] {
        assert!(warnings.contains(part), "{part} in {warnings}");
    }
    assert!(!rig.outside().join("z").exists());
    let artifacts = rig.job_dir(&run, "job").join("artifacts");
    assert_eq!(fs::read_to_string(artifacts.join("both")).unwrap(), "x\n");
}

#[test]
fn what_cannot_be_kept_keeps_nothing_else_out_and_is_not_told_file_by_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let rig = Rig::new();
    let script = "mkdir out; for n in $(seq 30); do echo x > $ARTIFACTS/f$n; echo y > f$n; done; echo z > g";
    let run = rig.run(vec![keeps(script, &["f*", "g"])]);
    assert_eq!(kept(&run), [("g", 2)]);
    let warnings = &job(&run, "job").warnings;
    assert!(warnings.len() < 15, "{warnings:?}");
    assert!(warnings.last().unwrap().contains("20 more"), "{warnings:?}");
    // Nobody but root may read these.
    let script = "mkdir closed; echo x > closed/f; echo x > a; echo x > z; chmod 0 a closed";
    let run = rig.run(vec![keeps(script, &["a", "closed/**", "z"])]);
    assert!(kept(&run).contains(&("z", 2)), "{:?}", job(&run, "job").warnings);
    for (path, mode) in [("artifacts/a", 0o600), ("artifacts/closed", 0o700)] {
        let path = rig.job_dir(&run, "job").join(path);
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(mode));
    }
}

#[test]
fn what_is_too_much_is_left_out_with_a_warning() {
    let mut rig = Rig::new();
    rig.config.artifact_limits.files = 2;
    let run = rig.run(vec![keeps("touch f1 f2 f3 f4", &["f*"])]);
    assert_eq!(kept(&run), [("f1", 0), ("f2", 0)]);
    assert!(job(&run, "job").warnings[0].contains("f3 and what follows is left out"));
    rig.config.artifact_limits = jerichoci::executor::process::ArtifactLimits { files: 9, bytes: 5 };
    let run = rig.run(vec![keeps("echo 123 > f1; echo 123 > f2", &["f*"])]);
    assert_eq!(kept(&run), [("f1", 4)]);
}

#[test]
fn what_cargo_and_caches_hold_is_found_where_the_job_saw_it() {
    let rig = Rig::new();
    let script = "mkdir -p $CARGO_TARGET_DIR/nextest/ci; echo j > $CARGO_TARGET_DIR/nextest/ci/junit.xml; echo c > kept/c.xml";
    let mut asks = keeps(script, &["target/nextest/**/*.xml", "kept/*.xml"]);
    asks.caches.insert("k".into(), CacheSpec { path: "kept".into(), sharing: CacheSharing::Locked });
    let run = rig.run(vec![asks]);
    assert_eq!(kept(&run), [("kept/c.xml", 2), ("target/nextest/ci/junit.xml", 2)], "{run:#?}");
}
