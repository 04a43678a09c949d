//! A job sees of its caller's environment what it names, and not what it does not name.

use jericho_host::{CancelToken, Environment};
use jerichoci::model::job::{GuestCommand, JobSpec};
use jerichoci::model::outcome::Verdict;
use jerichoci::{Engine, EngineConfig, NoReporter, RunRequest};

#[test]
fn a_job_sees_the_variables_that_it_names_and_its_record_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap().join("tree");
    std::fs::create_dir(&root).unwrap();
    let mut config = EngineConfig::new(root.join(".jerichoci"), &root);
    config.caller_environment =
        [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("WHERE", "a b"), ("OTHER", "x"), ("BOTH", "caller")]
            .into_iter()
            .collect::<Environment>();
    let script = r#"test "$WHERE" = "a b" && test -z "${OTHER+set}${UNSET+set}" && test "$BOTH" = row"#;
    let job = JobSpec {
        pass_env: ["BOTH", "UNSET", "WHERE"].map(str::to_owned).to_vec(),
        env: [("BOTH".to_owned(), "row".to_owned())].into(),
        ..JobSpec::host_process("see", GuestCommand::Script { script: script.to_owned() })
    };
    let cancel = CancelToken::new().unwrap();
    let run = Engine::new(config).run(&RunRequest::new(vec![job]), &mut NoReporter, &cancel).unwrap();
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    let seen = &run.jobs[0].environment;
    assert!(seen.iter().any(|name| name == "WHERE") && !seen.iter().any(|name| name == "OTHER"), "{seen:?}");
}
