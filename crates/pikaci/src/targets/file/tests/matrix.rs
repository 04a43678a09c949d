//! What a matrix makes of a job.

use jerichoci::model::demands::CacheSharing;
use jerichoci::model::job::{GuestCommand, JobPlacement, JobSpec};
use proptest::prelude::*;

use super::{declared, told, told_of_jobs};

fn jobs(text: &str) -> Vec<JobSpec> {
    declared(text).targets.remove(0).jobs
}

fn script(job: &JobSpec) -> &str {
    let GuestCommand::Script { script } = &job.command else { panic!("{job:?}") };
    script
}

#[test]
fn there_is_one_job_for_each_combination_in_the_order_of_the_file() {
    let jobs = jobs(
        r#"
        [targets.t.jobs.test]
        matrix = { os = ["linux", "bsd"], features = ["", "--all-features"] }
        command = "cargo test ${features} # ${os}"
        description = "Tests"
        env = { OS = "${os}", PLAIN = "x" }
        "#,
    );
    let shown: Vec<String> = jobs
        .iter()
        .map(|job| format!("{} | {} | {} | {:?}", job.id, job.description, script(job), job.matrix))
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    test.1 | Tests (os=linux, features=) | cargo test  # linux | {"features": "", "os": "linux"}
    test.2 | Tests (os=linux, features=--all-features) | cargo test --all-features # linux | {"features": "--all-features", "os": "linux"}
    test.3 | Tests (os=bsd, features=) | cargo test  # bsd | {"features": "", "os": "bsd"}
    test.4 | Tests (os=bsd, features=--all-features) | cargo test --all-features # bsd | {"features": "--all-features", "os": "bsd"}
    "#);
    let env: Vec<String> = jobs[1].env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        env,
        ["JERICHO_MATRIX_FEATURES=--all-features", "JERICHO_MATRIX_OS=linux", "OS=linux", "PLAIN=x"]
    );
    jerichoci::run::request::RunRequest::new(jobs).check().unwrap();
}

#[test]
fn values_go_into_every_text_of_the_job() {
    let jobs = jobs(
        r#"
        [targets.t.jobs.build-a]
        command = "true"
        [targets.t.jobs.j]
        matrix = { n = ["a", "b"], time = ["5m"], rt = ["incus"] }
        command = ["run", "x${n}y${n}", "${time}"]
        description = "does ${n}"
        needs = ["build-a"]
        timeout = "${time}"
        runtime = "${rt}"
        image = "img/${n}"
        memory = "4GiB"
        group = "g-${n}"
        caches = { "c-${n}" = { path = "/c/${n}", sharing = "shared" } }
        secrets = ["TOKEN_${n}"]
        artifacts = ["out/${n}/**"]
        "#,
    );
    let job = &jobs[2];
    assert_eq!(job.id, "j.2");
    assert_eq!(job.command, GuestCommand::Argv { argv: ["run", "xbyb", "5m"].map(str::to_owned).to_vec() });
    assert_eq!((job.timeout_secs, job.groups.as_slice()), (300, &["g-b".to_owned()][..]));
    assert_eq!(job.caches["c-b"].path, "/c/b");
    assert_eq!(job.caches["c-b"].sharing, CacheSharing::Shared);
    assert_eq!((job.secrets[0].name.as_str(), job.artifacts[0].as_str()), ("TOKEN_b", "out/b/**"));
    assert_eq!(job.description, "does b (n=b, time=5m, rt=incus)");
    assert_eq!(job.placement, JobPlacement::Local);
}

#[test]
fn a_need_of_a_matrix_is_one_of_all_its_jobs_and_one_of_them_has_its_own_name() {
    let jobs = jobs(
        r#"
        [targets.t.jobs.test]
        matrix = { n = ["a", "b", "c"] }
        command = "true"
        [targets.t.jobs.pack]
        needs = ["test"]
        command = "true"
        [targets.t.jobs.some]
        needs = ["test.2"]
        command = "true"
        [targets.t.jobs.each]
        matrix = { n = ["1", "3"] }
        needs = ["test.${n}", "pack"]
        command = "true"
        "#,
    );
    let needs = |id: &str| jobs.iter().find(|job| job.id == id).unwrap().needs.join(" ");
    assert_eq!(needs("pack"), "test.1 test.2 test.3");
    assert_eq!(needs("some"), "test.2");
    assert_eq!((needs("each.1"), needs("each.2")), ("test.1 pack".to_owned(), "test.3 pack".to_owned()));
}

#[test]
fn what_a_script_gives_itself_is_left_to_it() {
    let text = r#"
        [targets.t.jobs.j]
        matrix = { mode = ["fast"] }
        env = { given = "x" }
        command = '''
for name in a b; do echo "${name}_${HOME}"; done
read -r line; echo "${line}" "${given}" "${mode:-slow}" "${#line}" "$other" "${http_proxy}" "${1}"
echo "${JERICHO_MATRIX_MODE}" ${mode}
'''
        "#;
    let jobs = jobs(text);
    let expected = text.split("'''\n").nth(1).unwrap().replace("${mode}", "fast");
    assert_eq!(script(&jobs[0]), expected);
    let without = text.replace("matrix = { mode = [\"fast\"] }\n", "");
    assert!(script(&self::jobs(&without)[0]).contains("${mode}"), "without a matrix nothing is filled in");
}

#[test]
fn values_are_filled_in_once_and_as_they_are() {
    let jobs = jobs(
        "[targets.t.jobs.j]\nmatrix = { a = ['${b}'], b = ['\"; $x `y`'] }\ncommand = ['echo', '${a}${b}', '${a']",
    );
    let GuestCommand::Argv { argv } = &jobs[0].command else { panic!() };
    assert_eq!(argv[1..], ["${b}\"; $x `y`", "${a"]);
}

#[test]
fn what_is_wrong_in_a_matrix_is_told_once_with_its_place() {
    let wide: Vec<String> = (0..300).map(|n| format!("'{n}'")).collect();
    let wide = format!("command = 'x'\nmatrix = {{ n = [{}] }}", wide.join(", "));
    let told = told_of_jobs(&[
        "command = 'x'\nmatrix = {}",
        "command = 'x'\nmatrix = 'n'",
        "command = 'x'\nmatrix = { n = 'a' }",
        "command = 'x'\nmatrix = { n = [] }",
        "command = 'x'\nmatrix = { n = [1, 'a'] }",
        "command = 'x'\nmatrix = { n = ['a', 'b', 'a'] }",
        "command = 'x'\nmatrix = { 'n m' = ['a'] }",
        "command = 'x'\nmatrix = { n-m = ['a'], n_m = ['b'] }",
        "command = 'x'\nmatrix = { n = [\"a\\nb\"] }",
        "command = 'x ${featurs}'\nmatrix = { features = ['a'] }",
        "command = 'x ${FEATURES}'\nmatrix = { features = ['a'] }",
        "command = 'x ${profile} ${features}'\nmatrix = { features = ['a', 'b'] }",
        "command = ['x', '${os}']\nenv = { A = '${arch}' }\nmatrix = { features = ['a', 'b'] }",
        "command = 'x'\ntimeout = '${t}'\nmatrix = { t = ['5m', 'soon', 'later'] }",
        "comand = 'x'\nmatrix = { t = ['a', 'b'] }",
        "command = 'x'\nmatrix = { t = ['a'] }\nenv = { JERICHO_MATRIX_T = 'x' }",
        "command = 'x'\nmatrix = { t = ['a'] }\nneeds = ['a.1']",
        "command = 'x'\nmatrix = { t = ['a'] }\n[targets.t.jobs.'a.1']\ncommand = 'x'",
        "command = 'x'\nmatrix = { a = ['1', '2'] }\nneeds = ['b']\n[targets.t.jobs.b]\ncommand = 'x'\nneeds = ['a']",
    ]);
    insta::assert_snapshot!(told, @r#"
    command = 'x'\nmatrix = {}
        jericho.toml:3:1: the matrix has no names; write `matrix = { name = ["value", "other"] }`
    command = 'x'\nmatrix = 'n'
        jericho.toml:3:10: `matrix`: expected a table, found the string `n`
    command = 'x'\nmatrix = { n = 'a' }
        jericho.toml:3:16: `n`: expected an array of strings, found the string `a`
    command = 'x'\nmatrix = { n = [] }
        jericho.toml:3:16: the matrix has no value for `n`; write at least one, or leave the name out
    command = 'x'\nmatrix = { n = [1, 'a'] }
        jericho.toml:3:17: `n`: expected a string, found the integer 1
    command = 'x'\nmatrix = { n = ['a', 'b', 'a'] }
        jericho.toml:3:27: the matrix has `a` twice for `n`; leave one out
    command = 'x'\nmatrix = { 'n m' = ['a'] }
        jericho.toml:3:12: `n m` cannot be the name of a dimension of a matrix; a name starts with a letter or digit and has only letters, digits, `.`, `_`, `-`, at most 200
    command = 'x'\nmatrix = { n-m = ['a'], n_m = ['b'] }
        jericho.toml:3:25: `n-m` and `n_m` are the same variable; both would be `JERICHO_MATRIX_N_M`
    command = 'x'\nmatrix = { n = ["a\nb"] }
        jericho.toml:3:17: `a\nb` is not one line of text
    command = 'x ${featurs}'\nmatrix = { features = ['a'] }
        jericho.toml:2:14: `${featurs}` is not in the matrix; did you mean `features`?
    command = 'x ${FEATURES}'\nmatrix = { features = ['a'] }
        jericho.toml:2:14: `${FEATURES}` is not in the matrix; did you mean `features`?
    command = 'x ${profile} ${features}'\nmatrix = { features = ['a', 'b'] }
        jericho.toml:2:14: `${profile}` is not in the matrix; its names are `features`; for a variable of the script write `$profile`
    command = ['x', '${os}']\nenv = { A = '${arch}' }\nmatrix = { features = ['a', 'b'] }
        jericho.toml:2:18: `${os}` is not in the matrix; its names are `features`; for a variable of the script write `$os`
        jericho.toml:3:14: `${arch}` is not in the matrix; its names are `features`; for a variable of the script write `$arch`
    command = 'x'\ntimeout = '${t}'\nmatrix = { t = ['5m', 'soon', 'later'] }
        jericho.toml:3:11: `soon` is not a duration; write whole hours, minutes and seconds, such as `"90s"`, `"5m"`, `"1h30m"`
        jericho.toml:3:11: `later` is not a duration; write whole hours, minutes and seconds, such as `"90s"`, `"5m"`, `"1h30m"`
    comand = 'x'\nmatrix = { t = ['a', 'b'] }
        jericho.toml:2:1: unknown key `comand` in job `a`; did you mean `command`?
    command = 'x'\nmatrix = { t = ['a'] }\nenv = { JERICHO_MATRIX_T = 'x' }
        jericho.toml:1:17: `env` has `JERICHO_MATRIX_T`, which the matrix sets; leave it out of `env`
    command = 'x'\nmatrix = { t = ['a'] }\nneeds = ['a.1']
        jericho.toml:4:10: job `a.1` needs itself; leave it out
    command = 'x'\nmatrix = { t = ['a'] }\n[targets.t.jobs.'a.1']\ncommand = 'x'
        jericho.toml:4:17: the jobs `a` and `a.1` both make a job `a.1`; jobs of a matrix have its name, a dot and a number; rename one
    command = 'x'\nmatrix = { a = ['1', '2'] }\nneeds = ['b']\n[targets.t.jobs.b]\ncommand = 'x'\nneeds = ['a']
        jericho.toml:4:10: jobs need each other in a circle: `a` -> `b` -> `a`; leave one of these needs out
    "#);
    assert!(
        super::told(format!("[targets.t.jobs.a]\n{wide}").as_bytes())
            .contains("jericho.toml:3:1: the matrix makes 300 jobs; a matrix makes 256 jobs at most")
    );
}

#[test]
fn a_file_does_not_make_jobs_without_end() {
    let values = |n: usize| (0..n).map(|n| format!("'{n}'")).collect::<Vec<_>>().join(", ");
    let many: String = (0..9)
        .map(|job| {
            format!(
                "[targets.t.jobs.j{job}]\ncommand = 'x'\nmatrix = {{ a = [{0}], b = [{0}] }}\n",
                values(16)
            )
        })
        .collect();
    assert!(
        told(many.as_bytes())
            .starts_with("jericho.toml:15:1: the matrices of the file make more than 1024 jobs")
    );
    let huge = (0..20).map(|n| format!("d{n} = [{}]", values(100))).collect::<Vec<_>>().join(", ");
    let huge = format!("[targets.t.jobs.a]\ncommand = 'x'\nmatrix = {{ {huge} }}");
    assert!(told(huge.as_bytes()).contains("a matrix makes 256 jobs at most"));
}

#[test]
fn values_do_not_make_text_without_end() {
    let value = "v".repeat(1000);
    let command = "${n}".repeat(10_000);
    let text = format!("[targets.t.jobs.a]\ncommand = '{command}'\nmatrix = {{ n = ['{value}{value}'] }}");
    assert!(told(text.as_bytes()).starts_with(
        "jericho.toml:3:1: the matrices of the file make more than 16 MiB of text; let the job call a script"
    ));
    let jobs: String = (0..300)
        .map(|n| {
            format!(
                "[targets.t.jobs.j{n}]\ncommand = '{}'\nmatrix = {{ n = ['{value}'] }}\n",
                "${n}".repeat(60)
            )
        })
        .collect();
    assert!(told(jobs.as_bytes()).contains("more than 16 MiB of text"));
    let few = text.replace(&command, &"${n}".repeat(30));
    assert_eq!(told(few.as_bytes()), "accepted");
    // Each text has its own limit, as it is filled in.
    let long = text.replace(&command, &"${n}".repeat(40));
    assert!(told(long.as_bytes()).contains("80000 bytes are more than the 65536"));
}

#[test]
fn a_matrix_that_needs_a_matrix_is_quick() {
    let values = (0..256).map(|n| format!("'{n}'")).collect::<Vec<_>>().join(", ");
    let jobs = jobs(&format!(
        "[targets.t.jobs.a]\ncommand = 'x'\nmatrix = {{ n = [{values}] }}\n[targets.t.jobs.b]\ncommand = 'x'\nneeds = ['a', 'a.7']\nmatrix = {{ n = [{values}] }}\n"
    ));
    assert_eq!(jobs.len(), 512);
    assert_eq!(jobs[511].needs.len(), 256, "one of them is not named twice");
}

proptest! {
    #[test]
    fn every_combination_is_there_once(sizes in prop::collection::vec(1..5_usize, 1..4)) {
        let dimensions: Vec<String> = sizes
            .iter()
            .enumerate()
            .map(|(n, size)| {
                let values: Vec<String> = (0..*size).map(|value| format!("'v{value}'")).collect();
                format!("d{n} = [{}]", values.join(", "))
            })
            .collect();
        let line: String = (0..sizes.len()).map(|n| format!("${{d{n}}}.")).collect();
        let jobs = jobs(&format!(
            "[targets.t.jobs.j]\ncommand = 'echo {line}'\nmatrix = {{ {} }}", dimensions.join(", ")
        ));
        prop_assert_eq!(jobs.len(), sizes.iter().product::<usize>());
        let ids: Vec<String> = (1..=jobs.len()).map(|n| format!("j.{n}")).collect();
        prop_assert_eq!(jobs.iter().map(|job| job.id.clone()).collect::<Vec<_>>(), ids);
        let scripts: Vec<&str> = jobs.iter().map(script).collect();
        let mut sorted = scripts.clone();
        sorted.sort_unstable();
        sorted.dedup();
        // In the order of counting, and none twice.
        prop_assert_eq!(scripts, sorted);
    }
}
