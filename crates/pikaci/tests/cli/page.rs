//! `pikaci report`: the page and the trace.

use std::path::PathBuf;

use jericho_testkit::need::needs_program;
use serde_json::Value;

use crate::browser::Browser;
use crate::common::Tree;

/// Names and output that would do harm where they are taken for markup.
const TARGETS: &str = r#"
[targets.check]
description = "</script><script>document.title = 'owned'</script><img src=x onerror=document.title='owned'>"
default = true
[targets.check.jobs.long]
description = "<b>Five</b> thousand lines"
command = '''
i=1
while [ $i -le 5000 ]; do echo "line $i of the log"; i=$((i + 1)); done
printf '\033[1;31merr\033[32mor\033[0m \033]0;title\007end\r\n10%%\r100%%\n'
echo "</script><script>document.title = 'owned'</script><!--"
printf '\xff\xfe\x00 needle-in-the-hay <mark>\n'
'''
[targets.check.jobs.bad]
needs = ["long"]
command = "echo out; exit 7"
"#;

fn page_of(tree: &Tree) -> PathBuf {
    let run_id = tree.run_ids()[0].clone();
    let told = tree.run(&["report", &run_id]).code(0).stdout;
    let page = tree.state_root().join("runs").join(run_id).join("report.html");
    assert_eq!(told, format!("{}\n", page.display()));
    page
}

#[test]
fn the_page_opens_from_a_file_and_its_search_finds_one_of_five_thousand_lines() {
    let name = "the_page_opens_from_a_file_and_its_search_finds_one_of_five_thousand_lines";
    if !needs_program(name, "chromium") {
        return;
    }
    let tree = Tree::with_targets(TARGETS);
    tree.run(&["run"]).code(1);
    let page = page_of(&tree);
    let mut browser = Browser::open(&page);
    assert_eq!(browser.value("document.querySelectorAll('details.job').length"), 2);
    // What failed is open, what passed is not.
    assert_eq!(
        browser.value("[...document.querySelectorAll('details.job')].map((job) => job.open)"),
        serde_json::json!([false, true])
    );
    assert_eq!(browser.value("document.querySelector('#job-bad .l').textContent"), "out");
    assert_eq!(browser.value("document.querySelector('.callout.failed').textContent"), "Did not pass: bad");

    browser.presses("/", "/");
    assert_eq!(browser.value("document.activeElement.id"), "query");
    browser.types("NEEDLE-in-the");
    browser.wait_for("document.getElementById('found').textContent === '1 of 1'");
    assert_eq!(browser.value("document.querySelector('.here').dataset.n"), "5004");
    assert_eq!(
        browser.value("document.querySelector('.here').textContent"),
        "\u{fffd}\u{fffd}\u{2400} needle-in-the-hay <mark>"
    );
    assert_eq!(browser.value("document.querySelector('.here mark').textContent"), "needle-in-the");
    let seen = "(() => { const box = document.querySelector('.here').getBoundingClientRect(); \
                return box.top > 0 && box.bottom < innerHeight; })()";
    browser.wait_for(seen);
    assert_eq!(browser.value("document.getElementById('job-long').open"), true);

    // From match to match, and around.
    browser.value("document.getElementById('query').select()");
    browser.types("line 4999 of");
    browser.wait_for("document.querySelector('.here')?.textContent === 'line 4999 of the log'");
    browser.value("document.getElementById('query').select()");
    browser.types("line 49");
    browser.wait_for("document.getElementById('found').textContent === '1 of 111'");
    browser.presses("Enter", "\r");
    browser.wait_for("document.getElementById('found').textContent === '2 of 111'");
    browser.value("document.getElementById('previous').click()");
    browser.value("document.getElementById('previous').click()");
    browser.wait_for("document.getElementById('found').textContent === '111 of 111'");
    assert_eq!(browser.value("document.querySelectorAll('.here').length"), 1);
    browser.value("document.getElementById('query').select()");
    browser.types("nowhere");
    browser.wait_for("document.getElementById('found').textContent === 'not found'");

    // Colours are classes, and what a terminal would not show is not there.
    let line = "[...document.querySelectorAll('#job-long .l')].find((line) => line.dataset.n === '5001')";
    assert_eq!(browser.value(&format!("{line}.textContent")), "error end");
    assert_eq!(browser.value(&format!("{line}.querySelector('.c1').textContent")), "err");
    let overwritten =
        "[...document.querySelectorAll('#job-long .l')].find((line) => line.dataset.n === '5002')";
    assert_eq!(browser.value(&format!("{overwritten}.textContent")), "100%");

    // Nothing of the log or of a name became markup, and nothing was loaded from anywhere.
    assert_eq!(
        browser.value("document.title.split(' ').slice(0, 2)"),
        serde_json::json!(["check", "failed"])
    );
    assert_eq!(browser.value("document.querySelectorAll('img, main script, main b').length"), 0);
    assert_eq!(browser.complaints, Vec::<String>::new());
    assert_eq!(browser.requests, [format!("file://{}", page.display())]);
    // Had it become markup, it would still not run.
    browser.value("(() => { const script = document.createElement('script'); script.textContent = 'document.title = `owned`'; document.body.append(script); })()");
    assert_ne!(browser.value("document.title"), "owned");
    assert!(!browser.complaints.is_empty());
}

#[test]
fn a_long_log_is_cut_in_the_middle_and_the_page_says_what_is_left_out() {
    let tree = Tree::with_targets("targets.check.jobs.one.command = \"seq 1000000; echo the end\"\n");
    tree.run(&["run", "check"]).code(0);
    let page = std::fs::read_to_string(page_of(&tree)).unwrap();
    let data = page.split("<script type=\"application/json\" id=\"data\">").nth(1).unwrap();
    let data: Value = serde_json::from_str(data.split("</script>").next().unwrap()).unwrap();
    let log = &data["jobs"][0]["logs"][0];
    let (head, tail) = (log["head"].as_str().unwrap(), log["tail"].as_str().unwrap());
    assert!(head.starts_with("1\n2\n") && head.ends_with('\n'), "{:?}", &head[..20]);
    assert!(tail.ends_with("1000000\nthe end\n"));
    let whole = 6_888_896 + 8;
    assert_eq!(log["bytes"], whole);
    assert_eq!(log["left_out"], whole - head.len() - tail.len());
    assert!(page.len() < 6 << 20, "{}", page.len());
}

#[test]
fn the_page_goes_where_it_is_told_and_one_document_fits_standard_output() {
    let tree = Tree::with_targets("targets.check.jobs.one.command = \"true\"");
    tree.run(&["run", "check"]).code(0);
    let run_id = tree.run_ids()[0].clone();
    let page = tree.run(&["report", &run_id, "--output", "-"]).code(0).stdout;
    assert!(page.starts_with("<!doctype html>"), "{page}");
    let (html, trace) = (tree.outside().join("r.html"), tree.outside().join("t.json"));
    let both = ["--output", html.to_str().unwrap(), "--trace", trace.to_str().unwrap()];
    let ended = tree.run(&[&["report", &run_id][..], &both].concat()).code(0);
    assert_eq!(ended.stdout, format!("{}\n{}\n", html.display(), trace.display()));
    assert_eq!(std::fs::read_to_string(&html).unwrap(), page);
    let ended = tree.run(&["report", &run_id, "--output", "-", "--trace", "-"]).code(2);
    assert!(ended.stdout.is_empty() && ended.stderr.contains("standard output can take one"), "{ended:#?}");
    let ended = tree.run(&["report", &run_id, "--output", "/nonexistent/x.html"]).code(2);
    assert!(ended.stderr.contains("hint: mkdir -p /nonexistent"), "{ended:#?}");
    tree.run(&["report", "20260401T120000Z-0a1b2c3d"]).code(5);
}

#[test]
fn a_trace_has_a_lane_for_the_engine_and_each_job_and_parts_lie_inside_their_wholes() {
    let tree = Tree::with_targets(
        "[targets.check]\njobs.one.command = \"true\"\njobs.two.command = \"true\"\njobs.two.needs = [\"one\"]\n",
    );
    tree.run(&["run", "check"]).code(0);
    let trace = tree.run(&["report", &tree.run_ids()[0], "--trace", "-"]).code(0).json();
    let events = trace["traceEvents"].as_array().unwrap();
    let lanes = events.iter().filter(|event| event["name"] == "thread_name");
    let lanes: Vec<&Value> = lanes.map(|event| &event["args"]["name"]).collect();
    assert_eq!(lanes, ["engine", "one", "two"]);
    let times = |event: &Value| {
        (event["ts"].as_u64().unwrap(), event["ts"].as_u64().unwrap() + event["dur"].as_u64().unwrap())
    };
    let wholes: Vec<&Value> = events.iter().filter(|event| event["cat"] == "job").collect();
    assert_eq!(wholes.len(), 2);
    assert!(times(wholes[0]).1 <= times(wholes[1]).0 + 2000, "{wholes:#?}");
    for whole in wholes {
        assert_eq!(whole["args"]["verdict"], "passed");
        let mut at = times(whole).0;
        let parts: Vec<&Value> =
            events.iter().filter(|event| event["cat"] == "phase" && event["tid"] == whole["tid"]).collect();
        assert!(!parts.is_empty());
        for part in parts {
            let (start, end) = times(part);
            assert!(at <= start && end <= times(whole).1, "{part} {whole}");
            at = end;
        }
    }
}

#[test]
fn no_report_shows_a_secret() {
    let tree = Tree::with_targets(
        "[targets.check.jobs.leaky]\nsecrets = [\"TOKEN\"]\ncommand = \"echo token=$TOKEN; exit 1\"\n",
    );
    let secret = "hunter2-and-more-of-it";
    let (xml, html, trace) =
        (tree.outside().join("j.xml"), tree.outside().join("r.html"), tree.outside().join("t.json"));
    let mut run = tree.pikaci(&["run", "check", "--junit", xml.to_str().unwrap()]);
    assert_eq!(run.env("TOKEN", secret).output().unwrap().status.code(), Some(1));
    let run_id = tree.run_ids()[0].clone();
    let both = ["--output", html.to_str().unwrap(), "--trace", trace.to_str().unwrap()];
    tree.run(&[&["report", &run_id][..], &both].concat()).code(0);
    for file in [xml, html, trace] {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains(secret), "{}", file.display());
        assert!(file.ends_with("t.json") || text.contains("token="), "{}", file.display());
    }
}
