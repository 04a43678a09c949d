//! Secrets: delivered, and shown by nothing.

use std::fs;
use std::io;
use std::sync::{Arc, Mutex};

use jericho_host::CancelToken;
use jerichoci::model::demands::{SecretDelivery, SecretSpec};
use jerichoci::model::event::JournalEntry;
use jerichoci::model::job::JobSpec;
use jerichoci::model::outcome::Verdict;
use jerichoci::run::request::RequestError;
use jerichoci::{EngineError, NoReporter, OutputWatch, Reporter, RerunRequest, RunRequest};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::rig::{Rig, job, sh};

const TOKEN: &str = "s3cr3t/value+of \"it\"";

fn with_secret(mut job: JobSpec, delivery: SecretDelivery) -> JobSpec {
    job.secrets.push(SecretSpec { name: "TOKEN".into(), delivery });
    job
}

/// Keeps everything a front end is given.
#[derive(Debug, Clone, Default)]
struct Everything(Arc<Mutex<Vec<u8>>>);

impl Reporter for Everything {
    fn report(&mut self, entry: &JournalEntry) -> io::Result<()> {
        self.0.lock().unwrap().extend(serde_json::to_vec(entry).unwrap());
        Ok(())
    }

    fn watch(&self) -> Option<Arc<dyn OutputWatch>> {
        Some(Arc::new(self.clone()))
    }
}

impl OutputWatch for Everything {
    fn output(&self, _: &str, bytes: &[u8]) {
        self.0.lock().unwrap().extend_from_slice(bytes);
    }

    fn ended(&self, _: &str) {}
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_job_gets_a_secret_as_a_variable_or_as_a_file_of_its_own_and_its_log_shows_neither() {
    let mut rig = Rig::new();
    rig.config.secrets.insert("TOKEN", TOKEN);
    let env =
        with_secret(sh("env", "printf %s \"$TOKEN\" | wc -c; echo \"it is $TOKEN\""), SecretDelivery::Env);
    let script =
        "echo \"[${TOKEN-unset}]\"; stat -c %a \"$TOKEN_FILE\"; wc -c < \"$TOKEN_FILE\"; cat \"$TOKEN_FILE\"
        case \"$TOKEN_FILE\" in \"$PWD\"/*) exit 1;; esac; ls; echo \"$TOKEN_FILE\" > $ARTIFACTS/path";
    let file = with_secret(sh("file", script), SecretDelivery::File);
    let none = sh("none", "echo \"[${TOKEN-unset}${TOKEN_FILE-unset}]\"");
    let run = rig.run(vec![env, file, none]);
    assert_eq!(run.verdict, Verdict::Passed, "{run:#?}");
    assert_eq!(rig.log(&run, "env"), "20\nit is ***\n");
    assert_eq!(rig.log(&run, "file"), "[unset]\n400\n20\n***a.txt\n");
    assert_eq!(rig.log(&run, "none"), "[unsetunset]\n");
    assert!(job(&run, "env").environment.contains(&"TOKEN".to_owned()));
    assert!(job(&run, "file").environment.contains(&"TOKEN_FILE".to_owned()));
    let path = fs::read_to_string(rig.job_dir(&run, "file").join("artifacts/path")).unwrap();
    assert!(!fs::exists(path.trim()).unwrap(), "it goes with the job");
    // Also where the caller's whole environment is handed on.
    rig.config.inherit_env = true;
    rig.config.caller_environment.set("TOKEN", TOKEN);
    let file = with_secret(sh("file", "echo \"[${TOKEN-unset}]\""), SecretDelivery::File);
    let run = rig.run(vec![file, sh("other", "echo \"$TOKEN\"")]);
    assert_eq!((rig.log(&run, "file").as_str(), rig.log(&run, "other").as_str()), ("[unset]\n", "***\n"));
}

#[test]
fn a_secret_is_no_argument_of_any_process_and_of_a_process_left_behind_it_is_masked() {
    let mut rig = Rig::new();
    rig.config.secrets.insert("TOKEN", TOKEN);
    #[derive(Debug, Default)]
    struct Looks(Mutex<Vec<String>>);
    impl OutputWatch for Looks {
        fn output(&self, _: &str, _: &[u8]) {
            for process in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
                let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
                if contains(&line, TOKEN.as_bytes()) && !contains(&line, b"left") {
                    self.0.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
                }
            }
        }
        fn ended(&self, _: &str) {}
    }
    struct Watched(Arc<Looks>);
    impl Reporter for Watched {
        fn report(&mut self, _: &JournalEntry) -> io::Result<()> {
            Ok(())
        }
        fn watch(&self) -> Option<Arc<dyn OutputWatch>> {
            Some(Arc::clone(&self.0) as _)
        }
    }
    let looks = Arc::new(Looks::default());
    let script = "echo now; sh -c 'while :; do sleep 10; done' left \"$TOKEN\" & exit 0";
    let request = RunRequest::new(vec![
        with_secret(sh("job", script), SecretDelivery::Env),
        with_secret(sh("file", "echo now"), SecretDelivery::File),
    ]);
    let mut reporter = Watched(Arc::clone(&looks));
    let run = rig.engine().run(&request, &mut reporter, &CancelToken::new().unwrap()).unwrap();
    assert_eq!(*looks.0.lock().unwrap(), Vec::<String>::new());
    let leaked = job(&run, "job").leaked.join("\n");
    assert!(leaked.contains("left ***"), "{leaked}");
    for (path, text) in rig.texts(&run) {
        assert!(!contains(&text, b"s3cr3t"), "{}", path.display());
    }
}

#[test]
fn a_job_that_declares_no_secret_shows_none_that_reached_it_another_way() {
    let mut rig = Rig::new();
    rig.config.secrets.insert("TOKEN", TOKEN);
    rig.config.caller_environment.set("TOKEN", TOKEN);
    let mut passed_on = sh("passed-on", "echo \"it is $TOKEN\"");
    passed_on.pass_env.push("TOKEN".into());
    let quoted = sh("quoted", &format!("echo 'it is {TOKEN}'"));
    let mut not_there = sh("not-there", "");
    not_there.command = jerichoci::model::job::GuestCommand::Argv { argv: vec![format!("/no/such/{TOKEN}")] };
    let request = RunRequest::new(vec![
        with_secret(sh("job", "true"), SecretDelivery::Env),
        passed_on,
        quoted,
        not_there,
    ]);
    let run = rig.run_request(&request.keep_going(true));
    for id in ["passed-on", "quoted"] {
        assert_eq!(rig.log(&run, id), "it is ***\n");
    }
    for (path, text) in rig.texts(&run) {
        // The definitions are kept as they are: a rerun needs them.
        assert!(path.ends_with("spec.json") || !contains(&text, b"s3cr3t"), "{}", path.display());
    }
}

#[test]
fn a_secret_file_of_an_engine_that_died_goes_also_when_its_records_cannot_be_read() {
    for record in ["{", "gone", "not yet"] {
        let rig = Rig::new();
        let run = rig.run(vec![sh("job", "true")]);
        let dir = rig.run_dir(&run);
        let secrets = dir.join("jobs/job/scratch/secrets");
        fs::create_dir_all(&secrets).unwrap();
        fs::write(secrets.join("TOKEN"), TOKEN).unwrap();
        fs::write(rig.config.state_root.join("active").join(&run.run_id), "").unwrap();
        match record {
            "gone" => fs::remove_file(dir.join("run.json")).unwrap(),
            // The job had started, and no record says so.
            "not yet" => {
                let text = fs::read_to_string(dir.join("run.json")).unwrap();
                let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
                record["status"] = "running".into();
                record["jobs"] = serde_json::Value::Array(Vec::new());
                fs::write(dir.join("run.json"), record.to_string()).unwrap();
                fs::write(dir.join("events.jsonl"), "").unwrap();
            }
            text => fs::write(dir.join("run.json"), text).unwrap(),
        }
        drop(rig.engine().reap().unwrap());
        assert!(!secrets.exists(), "{record}");
    }
}

#[test]
fn a_secret_that_is_missing_or_cannot_be_masked_is_an_error_before_anything_is_made() {
    let mut rig = Rig::new();
    let request = RunRequest::new(vec![with_secret(sh("job", "true"), SecretDelivery::Env)]);
    let run = |rig: &Rig| rig.engine().run(&request, &mut NoReporter, &CancelToken::new().unwrap());
    let error = run(&rig).unwrap_err();
    assert!(matches!(error, EngineError::Request(RequestError::MissingSecret { .. })), "{error}");
    for (value, long) in [("", false), ("abc", false), ("  a\n\n ", false), (&*"x".repeat(70_000), true)] {
        rig.config.secrets.insert("TOKEN", value);
        match run(&rig).unwrap_err() {
            EngineError::Request(RequestError::ShortSecret { .. }) => assert!(!long, "{value}"),
            EngineError::Request(RequestError::LongSecret { .. }) => assert!(long),
            other => panic!("{other}"),
        }
    }
    assert!(!rig.config.state_root.exists());
    rig.config.secrets.insert("TOKEN", "abcd");
    let first = run(&rig).unwrap();
    // The value is nowhere: a rerun needs it again.
    rig.config.secrets = jerichoci::Secrets::new();
    let again = RerunRequest::new(first.run_id.parse().unwrap());
    let error = rig.engine().rerun(&again, &mut NoReporter, &CancelToken::new().unwrap()).unwrap_err();
    assert!(matches!(error, EngineError::Request(RequestError::MissingSecret { .. })), "{error}");
    let spec = rig.engine().run_spec(&again.run_id).unwrap();
    assert_eq!(spec.jobs[0].secrets[0].name, "TOKEN");
}

/// What a tool may make of a value.
fn encodings(value: &str) -> Vec<Vec<u8>> {
    let mut all = vec![value.as_bytes().to_vec()];
    all.extend(value.lines().map(|line| line.trim().as_bytes().to_vec()));
    let json = serde_json::to_string(value).unwrap();
    all.push(json.as_bytes()[1..json.len() - 1].to_vec());
    let percent: String = value
        .bytes()
        .map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect();
    all.push(percent.into_bytes());
    for before in ["", "x", "xy"] {
        all.push(base64(&format!("{before}{value}"), before.len()));
    }
    all.retain(|form| form.len() >= 4);
    all
}

/// As base64(1) prints it; without the digits in which other bytes have a part.
fn base64(text: &str, before: usize) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), text).unwrap();
    let command = jericho_host::Command::new("base64")
        .args(["-w", "0", "f"])
        .cwd(dir.path())
        .env(crate::rig::environment());
    use jericho_host::Host as _;
    let output = jericho_host::LocalHost::new().run(&command, &CancelToken::new().unwrap()).unwrap();
    let first = (before * 8).div_ceil(6);
    output.stdout[first..text.len() * 8 / 6].to_vec()
}

#[test]
fn whatever_jobs_print_of_a_secret_in_whatever_pieces_none_appears() {
    let mut runner = TestRunner::deterministic();
    let line = "[a-zA-Z0-9+/=\"'\\\\%& ]{4,24}";
    let value = prop_oneof![
        Just(TOKEN.to_owned()),
        line,
        prop::collection::vec(line, 2..5).prop_map(|l| l.join("\n"))
    ];
    let pieces = prop::collection::vec(1..30usize, 200);
    for _ in 0..8 {
        let value = loop {
            let value = value.new_tree(&mut runner).unwrap().current();
            if value.lines().all(|line| line.trim().len() >= 4) {
                break value;
            }
        };
        let pieces = pieces.new_tree(&mut runner).unwrap().current();
        let mut rig = Rig::new();
        rig.config.secrets.insert("TOKEN", &value);
        // In a file of the tree, which the job prints piece by piece.
        let mut text = Vec::new();
        for form in encodings(&value) {
            text.extend(b"say ");
            text.extend(&form);
            text.extend(b"\n  and ");
            text.extend(
                form.iter().flat_map(|byte| [*byte].into_iter().chain((*byte == b'9').then_some(b'\n'))),
            );
        }
        fs::write(rig.root.join("text"), &text).unwrap();
        let dd: String = pieces.iter().map(|size| format!("dd bs={size} count=1 status=none; ")).collect();
        let script = format!("( {dd} cat ) < text; printf '%s' \"$TOKEN\" | base64 -w 11; exit 1");
        let mut job = with_secret(sh("job", &script), SecretDelivery::Env);
        job.retries = 1;
        job.description = format!("uses {value}");
        let mut reporter = Everything::default();
        let request = RunRequest::new(vec![job]);
        let run = rig.engine().run(&request, &mut reporter, &CancelToken::new().unwrap()).unwrap();
        let mut seen = rig.texts(&run);
        seen.retain(|(path, _)| !path.ends_with("spec.json"));
        seen.push(("what was told".into(), reporter.0.lock().unwrap().clone()));
        for (path, text) in &seen {
            let unwrapped: Vec<u8> = text.iter().copied().filter(|byte| *byte != b'\n').collect();
            for form in encodings(&value) {
                let form: Vec<u8> = form.into_iter().filter(|byte| *byte != b'\n').collect();
                let shown = String::from_utf8_lossy(text).into_owned();
                assert!(!contains(&unwrapped, &form), "{:?} in {}:\n{shown}", form, path.display());
            }
        }
        assert!(rig.log(&run, "job").matches("***").count() >= 2 * encodings(&value).len());
    }
}
