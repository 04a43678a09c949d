//! The lane file: what it may say, and what is said about what it may not.

use super::*;
use crate::lanes::FILE_NAME;

fn all() -> Vec<TargetSpec> {
    catalog::targets()
}

/// What a file that is wrong is told, one line a problem.
#[track_caller]
fn told(text: &str) -> Vec<String> {
    told_with(text, &mut all())
}

#[track_caller]
fn told_with(text: &str, targets: &mut [TargetSpec]) -> Vec<String> {
    match read(text, Rows::OfTree, targets) {
        Err(TargetError::Toml { problems, .. }) => problems
            .iter()
            .map(|problem| problem.to_string().strip_prefix(&format!("{FILE_NAME}:")).unwrap().to_owned())
            .collect(),
        other => panic!("{other:?}"),
    }
}

const LANE: &str = "[[branch.lanes]]\nstaged_linux_target = 'pre-merge-rmp'\n";

#[test]
fn only_paths_are_needed_beside_the_target() {
    let mut targets = all();
    let text =
        format!("{LANE}paths = ['a/**']\n[[nightly.lanes]]\ntarget = 'nightly_pika_ui_android'\npaths = []");
    let lanes = read(&text, Rows::OfTree, &mut targets).unwrap().lanes;
    let [rmp, android] = lanes.lanes.as_slice() else { panic!("{lanes:?}") };
    assert_eq!([rmp.id.as_str(), &rmp.title, &rmp.target], ["pre-merge-rmp", "check-rmp", "pre-merge-rmp"]);
    assert_eq!(rmp.concurrency_group.as_deref(), Some("staged-linux:pre-merge-rmp"));
    assert_eq!((rmp.trigger, rmp.staged, rmp.definition), (Trigger::Branch, true, Some(FILE_NAME)));
    assert_eq!(rmp.filters.patterns(), ["a/**"]);
    assert_eq!((android.trigger, android.staged, android.definition), (Trigger::Nightly, false, None));
    assert_eq!(android.concurrency_group.as_deref(), Some("nightly-android"));
    let target = targets.iter().find(|target| target.id == "pre-merge-rmp").unwrap();
    assert_eq!(target.filters.patterns(), ["a/**"]);
}

#[test]
fn what_agrees_with_the_catalog_may_be_said() {
    let text = format!(
        "version = 1\ncatalog = 'pika'\nnightly_schedule_utc = '23:59'\n{LANE}id = 'pre-merge-rmp'\ntitle = 'check-rmp'\n\
         concurrency_group = 'staged-linux:pre-merge-rmp'\npaths = []"
    );
    let lanes = read(&text, Rows::OfTree, &mut all()).unwrap().lanes;
    assert_eq!(lanes.nightly_schedule_utc.as_deref(), Some("23:59"));
    assert_eq!(lanes.lanes.len(), 1);
}

#[test]
fn a_contradiction_is_an_error_with_its_place() {
    for (line, expected) in [
        ("id = 'rmp'", "4:6: `id` is `rmp`, and the catalog says `pre-merge-rmp`; leave it out"),
        ("title = 'x'", "4:9: `title` is `x`, and the catalog says `check-rmp`; leave it out"),
        (
            "concurrency_group = ''",
            "4:21: `concurrency_group` is ``, and the catalog says `staged-linux:pre-merge-rmp`; leave it out",
        ),
    ] {
        assert_eq!(told(&format!("{LANE}paths = []\n{line}")), [expected]);
    }
    assert_eq!(
        told("[[branch.lanes]]\ntarget = 'nightly_linux'\npaths = []\nconcurrency_group = 'x'"),
        [
            "2:10: target `nightly_linux` is not run by a forge for a branch; move the lane to [[nightly.lanes]]",
            "4:21: `concurrency_group` is `x`, and the catalog says none; leave it out",
        ]
    );
    assert_eq!(
        told("[[branch.lanes]]\nstaged_linux_target = 'apple_host_sanity'\npaths = []"),
        ["2:23: target `apple_host_sanity` has no prepared outputs; write `target = \"apple_host_sanity\"`"]
    );
    assert_eq!(
        told(&format!(
            "{LANE}paths = []\n[[manual.lanes]]\ntarget = 'tart-env-probe'\npaths = []\n{LANE}paths = []"
        )),
        ["8:23: target `pre-merge-rmp` has a lane already; keep one of them"]
    );
}

#[test]
fn a_lane_is_not_called_as_another_target_or_lane() {
    let mut targets = all();
    for (index, id) in ["own", "other"].iter().enumerate() {
        targets[index].origin = Origin::BuiltIn;
        (*id).clone_into(&mut targets[index].id);
        targets[index].trigger = Trigger::None;
    }
    let lane =
        |target: &str, id: &str| format!("[[branch.lanes]]\ntarget = '{target}'\nid = '{id}'\npaths = []\n");
    assert_eq!(
        told_with(&lane("own", "other"), &mut targets.clone()),
        ["3:6: `other` is the name of another target; a lane is called as its target, or as none"]
    );
    assert_eq!(
        told_with(&(lane("own", "x") + &lane("other", "x")), &mut targets.clone()),
        ["7:6: a lane is called `x` already; give it another `id`"]
    );
    assert!(
        told_with(&lane("own", "a b"), &mut targets.clone())[0].starts_with("3:6: `a b` cannot be the name")
    );
    let lanes = read(&lane("own", "x"), Rows::OfTree, &mut targets).unwrap().lanes;
    assert_eq!([lanes.lanes[0].id.as_str(), &lanes.lanes[0].target], ["x", "own"]);
    // A target that has a trigger of its own has its lane there.
    targets[1].trigger = Trigger::Nightly;
    assert_eq!(
        told_with(&lane("other", "other"), &mut targets),
        ["2:10: target `other` is not run by a forge for a branch; move the lane to [[nightly.lanes]]"]
    );
}

#[test]
fn what_is_not_understood_is_an_error_with_its_place_and_the_nearest_word() {
    for (text, expected) in [
        (
            "catalogue = 'pika'",
            "1:1: unknown key `catalogue` at the top of the file; did you mean `catalog`?",
        ),
        ("catalog = 'pikka'", "1:11: `catalog` cannot be `pikka`; did you mean `pika`?"),
        ("version = 2", "1:11: version 2 of this file is not known; write `version = 1`"),
        (
            "nightly_schedule_utc = '24:00'",
            "1:24: `24:00` is no time of day; write hours and minutes in UTC, such as `\"08:00\"`",
        ),
        ("[[branch.lane]]", "1:10: unknown key `lane` in `branch`; did you mean `lanes`?"),
        (
            "branch.lanes = 'x'",
            "1:16: `lanes`: expected an array of tables, [[branch.lanes]], found the string `x`",
        ),
        (
            "[[branch.lanes]]\npaths = []",
            "1:1: a lane without a target; add `target` or `staged_linux_target`",
        ),
        (LANE, "1:1: a lane without `paths`; write `paths = []` for one that always runs"),
        (
            "[[branch.lanes]]\ntarget = 'pre-merge-rmpp'\npaths = []",
            "2:10: no target is called `pre-merge-rmpp`; did you mean `pre-merge-rmp`?",
        ),
        (
            "[[branch.lanes]]\ntarget = 'pre-merge-rmp'\nstaged_linux_target = 'pre-merge-rmp'\npaths = []",
            "3:1: a lane has `target` or `staged_linux_target`, not both; keep one of them",
        ),
    ] {
        let told = told(text);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0] == expected, "{} is not {expected}", told[0]);
    }
    let told = told(&format!("{LANE}path = ['a']"));
    assert_eq!(told, ["3:1: unknown key `path` in a lane; did you mean `paths`?"]);
    let told = self::told(&format!("{LANE}paths = ['a', '../b', '/c', '']"));
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].starts_with("3:15: the pattern `../b` cannot match"), "{told:?}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_the_file_holds_there_is_an_answer_and_every_problem_has_its_place(
        cut in 0_usize..2000,
        drop in 0_usize..40,
        put in "[a-z\\[\\]=\"'# \n\u{e4}0-9.*!/]{0,12}",
    ) {
        let built_in: Vec<char> = catalog::LANE_FILE.chars().take(2000).collect();
        let text: String =
            built_in[..cut].iter().copied().chain(put.chars()).chain(built_in.iter().copied().skip(cut + drop)).collect();
        if let Err(TargetError::Toml { problems, .. }) = read(&text, Rows::OfTree, &mut all()) {
            let lines = text.lines().count();
            for problem in problems {
                proptest::prop_assert!((1..=lines + 1).contains(&problem.line) && problem.column > 0, "{problem}");
                proptest::prop_assert!(!problem.to_string().contains('\n'), "{problem}");
            }
        }
        asks_for_catalog(&text);
    }
}

#[test]
fn without_the_catalog_a_lane_of_pikas_says_how_to_get_it() {
    assert_eq!(
        told_with(&format!("{LANE}paths = []"), &mut []),
        [
            "2:23: no target is called `pre-merge-rmp`; it is one of Pika's: add `catalog = \"pika\"` at the top of \
             the file"
        ]
    );
}

#[test]
fn the_built_in_file_has_a_lane_for_every_staged_target_and_the_reverse() {
    let mut targets = all();
    let lanes = read(catalog::LANE_FILE, Rows::BuiltIn, &mut targets).unwrap().lanes;
    let mut staged: Vec<&str> = catalog::PikaStagedLinuxTarget::all().map(|target| target.id()).collect();
    let mut of_lanes: Vec<&str> =
        lanes.iter().filter(|lane| lane.staged).map(|lane| lane.target.as_str()).collect();
    staged.sort_unstable();
    of_lanes.sort_unstable();
    assert_eq!(staged, of_lanes);
    let count = |trigger| lanes.iter().filter(|lane| lane.trigger == trigger).count();
    assert_eq!((count(Trigger::Branch), count(Trigger::Nightly)), (12, 5));
    assert!(lanes.iter().all(|lane| lane.definition.is_none()));
    assert!(asks_for_catalog(catalog::LANE_FILE));
    for text in ["", "catalog = 'x'", "catalog = 1", "catalog = "] {
        assert!(!asks_for_catalog(text), "{text}");
    }
}
