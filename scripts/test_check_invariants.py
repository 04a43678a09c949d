#!/usr/bin/env python3
"""Breaks each invariant in a copy of this repository and sees that it is caught."""

import contextlib
import io
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import check_invariants  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
CATALOG = check_invariants.CATALOG
LANES = check_invariants.LANE_FILE
MODEL = check_invariants.JOB_MODEL


class Copied(unittest.TestCase):
    """A copy of what the checks read, made once and mended after each test."""

    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="jericho-invariants-")
        cls.root = Path(cls.scratch.name)
        tree = check_invariants.Tree(ROOT)
        names = tree.files("invariants/*.toml", "crates/*/Cargo.toml", "crates/*/src/**/*", "ci/**/*.toml")
        for name in names:
            (cls.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, cls.root / name)

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def setUp(self):
        self.changed = {}

    def tearDown(self):
        for path, text in self.changed.items():
            if text is None:
                path.unlink()
            else:
                path.write_text(text, encoding="utf-8")

    def write(self, name, text):
        path = self.root / name
        self.changed.setdefault(path, path.read_text(encoding="utf-8") if path.exists() else None)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def edit(self, name, old, new):
        text = (self.root / name).read_text(encoding="utf-8")
        self.assertIn(old, text, f"{name} is not what this test was written for")
        self.write(name, text.replace(old, new, 1))

    def append(self, name, text):
        self.write(name, (self.root / name).read_text(encoding="utf-8") + text)

    def run_script(self, *arguments):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = check_invariants.main(["--root", str(self.root), *arguments])
        return code, out.getvalue(), err.getvalue()

    def assert_caught(self, name, words):
        """The one invariant is broken, no other is, and what is said has the words."""
        code, _, said = self.run_script()
        self.assertEqual(code, 1, said)
        self.assertIn(words, said)
        self.assertEqual({line.split(":")[0] for line in said.splitlines()}, {name}, said)

    def mended(self):
        self.tearDown()
        self.setUp()


class Invariants(Copied):
    def test_all_hold_today(self):
        code, out, err = self.run_script()
        self.assertEqual((code, err), (0, ""))
        self.assertRegex(out, r"^\d+ invariants hold")

    def test_001_dependency_directions(self):
        manifest = "crates/pika-incus-guest-role/Cargo.toml"
        for table in ("dependencies", "dev-dependencies", "build-dependencies", "target.'cfg(unix)'.dependencies"):
            self.append(manifest, f"\n[{table}.engine]\npackage = 'jerichoci'\npath = '../jerichoci'\n")
            self.assert_caught("PIKACI-001", "pika-incus-guest-role uses jerichoci")
            self.mended()
        self.append("crates/jerichoci/src/executor/mod.rs", "\nuse crate::{model, run::schedule};\n")
        self.assert_caught("PIKACI-001", "executor uses run")
        self.mended()
        self.append("crates/jerichoci/src/model/id.rs", "\nuse std::fs;\n")
        self.assert_caught("PIKACI-001", "model uses std::fs")

    def test_002_no_catalog_in_the_engine(self):
        for word in ("pre-merge-pika-rust", "pika_core_messaging_e2e", "run-pika-actionlint", "apple_host_sanity",
                     "ci.x86_64-linux.rmpWorkspaceDeps"):
            self.append("crates/jerichoci/src/engine.rs", f'\nconst LANE: &str = "{word}";\n')
            self.assert_caught("PIKACI-002", word)
            self.mended()
        self.append("crates/pika-cloud/src/names.rs", "\n// pre-merge-pika-rust, in a comment\n")
        self.assertEqual(self.run_script()[0], 0)

    def test_003_filters_authored_once(self):
        self.append(f"{CATALOG}/targets.rs", '\nconst PATHS: &[&str] = &["crates/pika-git/**"];\n')
        self.assert_caught("PIKACI-003", "is a path filter")
        self.mended()
        self.append("crates/pikaci/src/selection.rs", "\nuse globset::Glob;\n")
        self.assert_caught("PIKACI-003", "globs are made in")
        self.mended()
        self.append("ci/forge-lanes.toml", "\n[[branch.lanes]]\ntarget = 'pre-merge-rmp'\npaths = []\n")
        self.assert_caught("PIKACI-003", "the filters of pre-merge-rmp are in")

    def test_004_placement_apart_from_runtime(self):
        self.edit(MODEL, "pub placement: JobPlacement,", "pub placement: JobRuntimeKind,")
        self.assert_caught("PIKACI-004", "no field `placement: JobPlacement`")
        self.mended()
        self.edit(MODEL, "    RemoteSsh {\n", "    RemoteIncus {\n")
        self.assert_caught("PIKACI-004", "knows RemoteIncus")
        self.mended()
        self.edit(MODEL, "pub struct TartRuntimeConfig {", "pub struct TartRuntimeConfig {\n    pub ssh_host: String,")
        self.assert_caught("PIKACI-004", "TartRuntimeConfig knows ssh_host")
        self.mended()
        self.append("crates/jerichoci/src/executor/process/mod.rs", "\nuse crate::model::job::JobPlacement;\n")
        self.assert_caught("PIKACI-004", "a runtime knows JobPlacement")

    def test_005_backend_settings_inside_the_runtime_config(self):
        for field, words in (("vcpu_count: u8", "setting of IncusRuntimeConfig and TartRuntimeConfig"), ("incus_profile: String", "one runtime")):
            self.edit(MODEL, "pub struct JobSpec {", f"pub struct JobSpec {{\n    pub {field},")
            self.assert_caught("PIKACI-005", words)
            self.mended()

    def test_006_no_generic_engine_modules_in_pikaci(self):
        for name in ("snapshot/mod.rs", "executor.rs", "schedule.rs", "run/mod.rs"):
            self.write(f"crates/pikaci/src/{name}", "//! A part of an engine.\n")
            self.assert_caught("PIKACI-006", "is a module of the engine")
            self.mended()
        self.append("crates/pikaci/src/selection.rs", "\nimpl jerichoci::executor::Executor for Changes {}\n")
        self.assert_caught("PIKACI-006", "any front end")

    def test_007_every_forge_lane_owned_by_pikaci(self):
        self.append(LANES, "\n[[branch.lanes]]\ntarget = 'somewhere-else'\npaths = []\n")
        self.assert_caught("PIKACI-007", "somewhere-else is no target of the catalog")
        self.mended()
        self.edit(LANES, 'target = "nightly_linux"', 'target = "nightly_linux"\ncommand = "make"')
        self.assert_caught("PIKACI-007", "nothing else")
        self.mended()
        self.edit(LANES, '[[nightly.lanes]]\ntarget = "nightly_linux"', '[[branch.lanes]]\ntarget = "nightly_linux"')
        self.assert_caught("PIKACI-007", "its trigger is nightly")
        self.mended()
        self.edit(LANES, '[[nightly.lanes]]\ntarget = "nightly_linux"\npaths = []\n', "")
        self.assert_caught("PIKACI-007", "nightly_linux is run by a forge and has no lane")

    def test_008_staged_targets_and_lanes_agree(self):
        self.edit(LANES, 'staged_linux_target = "pre-merge-rmp"', 'target = "pre-merge-rmp"')
        self.assert_caught("PIKACI-008", "pre-merge-rmp has no lane")
        self.mended()
        self.edit(LANES, 'target = "apple_host_sanity"', 'staged_linux_target = "apple_host_sanity"')
        self.assert_caught("PIKACI-008", "is no staged target")
        self.mended()
        self.edit(f"{CATALOG}/targets.rs", "Group::StagedLinux(PreMergeRmp)", "Group::None")
        self.assert_caught("PIKACI-008", "no row with its group")
        self.mended()
        self.edit(f"{CATALOG}/jobs/staged.rs", "Lane::OpenclawAudioEcho", "Lane::OpenclawInviteAndChat")
        self.assert_caught("PIKACI-008", "no job uses the staged lane openclaw_audio_echo")


class TheList(Copied):
    def test_every_invariant_that_is_asked_for_is_there(self):
        invariants, problems = check_invariants.read_list(check_invariants.Tree(self.root))
        self.assertEqual(problems, [])
        ids = [entry["id"] for entry in invariants]
        self.assertEqual(ids, [f"PIKACI-{number:03}" for number in range(1, len(ids) + 1)])
        self.assertEqual(len(ids), len(check_invariants.CHECKS))

    def test_what_is_wrong_in_it_is_found(self):
        for old, new, words in (
            ('hint = "Say', 'advice = "Say', "PIKACI-002 has no hint"),
            ('id = "PIKACI-002"', 'id = "PIKACI-001"', "is there twice"),
            ('kind = "data"', 'kind = "wish"', "the kinds are"),
            ('check = "filters_authored_once"', 'check = "nothing"', "no check is called nothing"),
            ('scope = ["crates/jerichoci/src/model/job.rs"]', 'scope = ["gone.rs"]', "there is no gone.rs"),
        ):
            self.edit(check_invariants.LIST, old, new)
            code, _, said = self.run_script()
            self.assertEqual(code, 2, said)
            self.assertIn(words, said)
            self.mended()

    def test_a_brief_has_statement_scope_hint_and_verdict(self):
        for name in ("PIKACI-001", "pikaci-008"):
            code, out, _ = self.run_script("--brief", name)
            self.assertEqual(code, 0)
            for words in (name.upper(), "Where it does not hold:", "Scope:", "crates/", "it holds"):
                self.assertIn(words, out)
        self.append(LANES, "\n[[branch.lanes]]\ntarget = 'somewhere-else'\npaths = []\n")
        code, out, _ = self.run_script("--brief", "PIKACI-007")
        self.assertEqual(code, 1)
        self.assertIn("somewhere-else is no target", out)
        code, _, said = self.run_script("--brief", "PIKACI-999")
        self.assertEqual(code, 2)
        self.assertIn("they are PIKACI-001", said)


class Code(unittest.TestCase):
    def test_comments_and_unit_tests_are_no_code(self):
        code = check_invariants.code_of(
            'let a = "// kept"; // gone\n/* gone\n */ let b = r#"/* kept */"#; \'"\'; // gone\n'
            "#[cfg(test)]\nmod tests {\n gone\n}\n"
        )
        self.assertNotIn("gone", code)
        self.assertEqual(code.count("kept"), 2)
        self.assertEqual(check_invariants.line_of(code, code.index("let b")), 3)


if __name__ == "__main__":
    unittest.main()
