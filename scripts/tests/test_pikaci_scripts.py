"""The scripts for CI systems and for build hosts: with a pikaci and an ssh that are none, and the real nix."""

import json
import os
import platform
import select
import shutil
import signal
import stat
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from test_pikaci_tools_json import ROOT, SCRIPTS, WithFakes  # noqa: E402

RUN = "20260401T120000Z-0a1b2c3d"


class CiRun(WithFakes):
    SCRIPT = str(SCRIPTS / "pikaci-ci-run.sh")
    RECORD = json.dumps({"run_id": RUN, "status": "failed"}, indent=2) + "\n"

    def ci_run(self, *arguments):
        return self.run_command(self.SCRIPT, *arguments, **self.named)

    def metadata(self, *jobs):
        self.answer("logs", json.dumps({"run_id": RUN, "status": "failed", "jobs": jobs}))

    def job(self, name, text):
        path = self.dir / f"{name}.log"
        if text is not None:
            path.write_text(text)
        return {"id": name, "host_log_path": str(path), "host_log_exists": True, "guest_log_exists": False}

    def test_a_run_that_passes_has_its_record_printed_and_no_log(self):
        self.answer("run", self.RECORD)
        ran = self.ci_run("pre-merge-rmp")
        self.assertEqual((ran.returncode, ran.stdout), (0, self.RECORD))
        self.assertEqual(self.calls(), ["run pre-merge-rmp --output json"])

    def test_a_run_that_fails_has_its_host_logs_printed(self):
        self.answer("run", self.RECORD, code=1)
        absent = self.job("absent", None) | {"host_log_exists": False}
        self.metadata(self.job("one", "first log\n"), absent, self.job("two words", "second log\n"))
        ran = self.ci_run("pre-merge-rmp")
        self.assertEqual((ran.returncode, ran.stdout), (1, self.RECORD))
        self.assertIn(
            f"\n== host log of {RUN}/one ==\nfirst log\n\n== host log of {RUN}/two words ==\nsecond log\n", ran.stderr
        )
        self.assertNotIn("absent", ran.stderr)
        self.assertEqual(self.calls()[1], f"logs {RUN} --metadata-json")

    def test_trouble_with_logs_only_warns(self):
        for record, jobs in ((self.RECORD, [self.job("gone", None)]), (self.RECORD, None), ("no json", []), ("", [])):
            self.answer("run", record, code=3)
            self.metadata(*(jobs or []))
            if jobs is None:
                self.answer("logs", "", code=1)
            ran = self.ci_run("pre-merge-rmp")
            self.assertEqual((ran.returncode, ran.stdout), (3, record))
            self.assertIn("warning: ", ran.stderr)

    def test_wrong_usage_starts_nothing(self):
        for arguments in ((), ("a", "b"), ("--output",)):
            self.assertEqual(self.ci_run(*arguments).returncode, 2, arguments)
        self.assertEqual(self.calls(), [])

    def test_a_signal_is_for_the_run_which_says_how_it_ended(self):
        os.mkfifo(self.dir / "started")
        # A signal that comes before the child is `sleep` would be taken by the trap of the shell it still is.
        started = """until read -r name <"/proc/$!/comm" && [ "$name" = sleep ]; do :; done"""
        (self.dir / "run.hook").write_text(
            f"""trap 'kill "$!"; echo "{{}}"; exit 5' TERM\nsleep 600 &\n{started}\necho go >"{self.dir}/started"\nwait\n"""
        )
        with subprocess.Popen(
            [self.SCRIPT, "t"], env=self.environment | self.named, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as running:
            (self.dir / "started").read_text()
            running.send_signal(signal.SIGTERM)
            stdout, _ = running.communicate(timeout=60)
        self.assertEqual((running.returncode, stdout), (5, b"{}\n"))


class Summary(WithFakes):
    OUTPUTS = ("run_id", "run_status", "run_duration_seconds", "artifact_name")

    def record(self, run_id, target, created, **fields):
        directory = self.dir / "state/runs" / run_id
        directory.mkdir(parents=True)
        run = {"run_id": run_id, "status": "passed", "target_id": target, "created_at": created, "finished_at": None}
        (directory / "run.json").write_text(json.dumps(run | fields))
        return directory

    def summary(self, *options):
        outputs = self.dir / "outputs"
        outputs.unlink(missing_ok=True)
        done = self.run_command(
            str(SCRIPTS / "pikaci-run-summary.py"),
            "--state-root", str(self.dir / "state"), "--github-output", str(outputs), *options,
        )
        lines = outputs.read_text().splitlines() if outputs.exists() else []
        return done, dict(line.split("=", 1) for line in lines)

    def test_the_newest_run_of_the_target_unless_another_is_named(self):
        self.record("a", "t", "2026-04-01T12:00:00+00:00")
        # Later, though its text is less.
        self.record("b", "t", "2026-04-01T11:30:00-02:00", finished_at="2026-04-01T13:31:40.4+00:00")
        self.record("c", "other", "2026-04-02T12:00:00+00:00")
        self.assertEqual(
            self.summary("--target-id", "t")[1],
            {"run_id": "b", "run_status": "passed", "run_duration_seconds": "100", "artifact_name": "pikaci-run-b"},
        )
        self.assertEqual(self.summary("--run-id", "c")[1]["run_id"], "c")
        since = ("--min-created-at-exclusive", "2026-04-01T13:30:00+00:00")
        done, outputs = self.summary("--target-id", "t", *since)
        self.assertEqual((done.returncode, outputs), (1, {}), "exclusive")
        self.assertIn("there is no run of t", done.stderr)
        done, outputs = self.summary("--target-id", "t", *since, "--allow-missing")
        self.assertEqual((done.returncode, outputs), (0, dict.fromkeys(self.OUTPUTS, "")))

    def test_a_record_that_cannot_be_read_is_left_out_and_said(self):
        self.record("a", "t", "2026-04-01T12:00:00+00:00")
        self.record("b", "t", "yesterday")
        (self.record("c", "t", "2026-04-01T13:00:00+00:00") / "run.json").write_text("{")
        done, outputs = self.summary("--target-id", "t")
        self.assertEqual(outputs["run_id"], "a", done.stderr)
        self.assertEqual(done.stderr.count("is left out"), 2)

    def test_a_run_id_is_a_name_and_no_path(self):
        done, outputs = self.summary("--run-id", "../runs/a")
        self.assertEqual((done.returncode, outputs), (1, {}))
        self.assertIn("../runs/a is not a run id", done.stderr)

    def test_what_a_job_says_is_text_in_the_markdown(self):
        job = {"id": "j", "status": "failed", "message": "a | b\n<img src=x> `c`", "started_at": None}
        self.record("a", "t", "2026-04-01T12:00:00+00:00", jobs=[job], failure_kind="test_failure", status="failed")
        done, _ = self.summary("--target-id", "t")
        self.assertIn("## t: failed (test\\_failure)\n", done.stdout)
        self.assertIn("| j | failed | - | a \\| b \\<img src=x\\> \\`c\\` |\n", done.stdout)

    def test_documents_and_logs_are_copied_under_their_names(self):
        directory = self.record("a", "t", "2026-04-01T12:00:00+00:00", jobs=[{"id": "j"}, {"id": "../evil"}])
        (directory / "jobs/j/artifacts").mkdir(parents=True)
        (directory / "plan.json").write_text("plan")
        (directory / "jobs/j/host.log").write_text("host")
        (directory / "jobs/j/artifacts/guest.log").write_text("guest")
        (directory / "prepared-outputs.json").symlink_to("/etc/passwd")
        done, _ = self.summary("--target-id", "t", "--artifact-dir", str(self.dir / "out"))
        self.assertEqual(done.returncode, 0, done.stderr)
        copied = {str(path.relative_to(self.dir / "out")) for path in (self.dir / "out").rglob("*") if path.is_file()}
        self.assertEqual(copied, {"run.json", "plan.json", "jobs/j/host.log", "jobs/j/guest.log"})
        self.assertEqual((self.dir / "out/jobs/j/guest.log").read_text(), "guest")


@unittest.skipUnless(platform.machine() == "x86_64", "the outputs are built by x86_64-linux")
class BuildHost(WithFakes):
    """The scripts in a tree of the fixture flake, a host that is this machine, and a store of their own."""

    def setUp(self):
        super().setUp()
        self.tree = self.dir / "tree"
        shutil.copytree(ROOT / "crates/jericho-testkit/fixtures/staged-flake", self.tree)
        shutil.copytree(SCRIPTS / "lib", self.tree / "scripts/lib")
        for name in ("pika-build-run-workspace-deps.sh", "pika-build-prewarm-workspace-deps.sh"):
            shutil.copy(SCRIPTS / name, self.tree / "scripts" / name)
        for directory in ("ios", "android", "docs/ios"):
            (self.tree / directory).mkdir(parents=True)
            (self.tree / directory / "file").write_text("")
        (self.dir / "conf").mkdir()
        (self.dir / "conf/nix.conf").write_text(
            "sandbox = false\nsubstituters =\nbuild-users-group =\nflake-registry =\nmax-jobs = 2\n"
        )
        self.addCleanup(self.make_writable)
        self.environment |= {
            "NIX_CONF_DIR": f"{self.dir}/conf",
            "NIX_STORE_DIR": f"{self.dir}/store",
            "NIX_STATE_DIR": f"{self.dir}/state",
            "NIX_LOG_DIR": f"{self.dir}/log",
            "XDG_CACHE_HOME": f"{self.dir}/cache",
        }
        self.ssh = self.program("ssh", f'#!/bin/sh\necho "$1" >>"{self.dir}/hosts"\nexec sh -c "$2"\n')
        self.work_dir = self.dir / "work's dir"

    def make_writable(self):
        for directory, _, _ in os.walk(self.dir):
            os.chmod(directory, stat.S_IRWXU)

    def build(self, *options):
        return self.run_command(
            str(self.tree / "scripts/pika-build-run-workspace-deps.sh"),
            "--ssh-binary", str(self.ssh), "--remote-host", "mine", "--remote-work-dir", str(self.work_dir), *options,
        )

    def kept(self):
        """The files of each snapshot on the host."""
        return {
            helper.name: {str(path.relative_to(helper)) for path in helper.rglob("*") if path.is_file()}
            for helper in self.work_dir.glob("helpers/*")
        }

    def test_an_output_is_built_there_and_nothing_stays_but_the_output(self):
        built = self.build("--installable", ".#ci.x86_64-linux.rmpWorkspaceBuild")
        self.assertEqual(built.returncode, 0, built.stderr)
        output = Path(built.stdout.removesuffix("\n"))
        self.assertEqual(output.parent, self.dir / "store")
        self.assertTrue((output / "bin/run-rmp-init-smoke-ci").is_file())
        self.assertIn("building rmpWorkspaceDeps", built.stderr)
        self.assertEqual((self.dir / "hosts").read_text(), "mine\n" * 3, "upload, build, removal")
        self.assertEqual(self.kept(), {})

    def test_a_builder_that_fails_is_told_by_its_code_and_nothing_stays(self):
        (self.tree / "knobs.toml").write_text('broken = ["rmpWorkspaceDeps"]\n')
        built = self.build("--installable", ".#ci.x86_64-linux.rmpWorkspaceDeps")
        self.assertEqual((built.returncode, built.stdout), (100, ""), built.stderr)
        self.assertEqual(self.kept(), {})

    def test_a_snapshot_that_is_kept_can_be_built_from_again(self):
        first = self.build("--snapshot-id", "mine", "--keep-remote-snapshot")
        self.assertEqual(first.returncode, 0, first.stderr)
        files = self.kept()["mine"]
        self.assertLessEqual({"snapshot/jerichoci-snapshot.json", "snapshot/flake.nix", "snapshot/docs/ios/file"}, files)
        self.assertFalse({"snapshot/ios/file", "snapshot/android/file"} & files)
        marker = json.loads((self.work_dir / "helpers/mine/snapshot/jerichoci-snapshot.json").read_text())
        self.assertEqual(marker, {"schema_version": 1})

        (self.tree / "dependencies.txt").write_text("newer\n")
        again = self.build("--snapshot-id", "mine", "--reuse-existing-snapshot")
        self.assertEqual((again.returncode, again.stdout), (0, first.stdout), "the tree of now is not looked at")
        self.assertEqual(self.kept()["mine"], files)
        # Another upload under the same name changes nothing there.
        again = self.build("--snapshot-id", "mine", "--keep-remote-snapshot")
        self.assertEqual((again.stdout, self.kept()["mine"]), (first.stdout, files))

    def test_a_flake_that_reads_itself_gives_what_a_run_builds(self):
        self.build("--snapshot-id", "mine", "--keep-remote-snapshot")
        sources = [path for path in (self.dir / "store").glob("*-source") if path.is_dir()]
        self.assertEqual(len(sources), 1)
        self.assertTrue((sources[0] / "flake.nix").is_file())
        self.assertFalse((sources[0] / "jerichoci-snapshot.json").exists())

    def test_a_build_ends_with_the_script_that_asked_for_it(self):
        os.mkfifo(self.dir / "begun")
        # The nix of the host, which says when it builds and which process that is.
        real = {name: shutil.which(name) for name in ("nix", "nix-store")}
        (self.dir / "host").mkdir()
        for name, text in (
            ("nix", f'exec {real["nix"]} "$@"'),
            ("nix-store", f'echo $$ >"{self.dir}/begun"\nexec sleep 600'),
        ):
            (self.dir / "host" / name).write_text(f"#!/bin/sh\n{text}\n")
            (self.dir / "host" / name).chmod(0o755)
        command = [
            str(self.tree / "scripts/pika-build-run-workspace-deps.sh"),
            "--ssh-binary", str(self.ssh), "--remote-host", "mine", "--remote-work-dir", str(self.work_dir),
            "--remote-nix-binary", str(self.dir / "host/nix"),
        ]
        with subprocess.Popen(
            command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as running:
            builder = int((self.dir / "begun").read_text())
            watched = os.pidfd_open(builder)
            self.addCleanup(os.close, watched)
            running.send_signal(signal.SIGTERM)
            self.assertEqual(running.wait(timeout=60), 143)
        ended, _, _ = select.select([watched], [], [], 60)
        self.assertEqual(ended, [watched], "the build goes on")
        self.assertEqual(self.kept(), {})

    def test_the_followup_outputs_see_the_android_tree(self):
        built = self.build(
            "--installable", ".#ci.x86_64-linux.pikaFollowupWorkspaceDeps", "--snapshot-id", "f", "--keep-remote-snapshot"
        )
        self.assertEqual(built.returncode, 0, built.stderr)
        self.assertIn("snapshot/android/file", self.kept()["f"])
        self.assertNotIn("snapshot/ios/file", self.kept()["f"])

    def test_a_snapshot_that_is_not_there_is_an_error(self):
        built = self.build("--snapshot-id", "none", "--reuse-existing-snapshot")
        self.assertEqual(built.returncode, 1)
        self.assertIn("helpers/none/snapshot on this host is no complete snapshot", built.stderr)

    def test_wrong_usage_reaches_no_host(self):
        for options in (
            ("--installable", ".#ci.x86_64-linux.default"),
            ("--installable", "/elsewhere#ci.x86_64-linux.workspaceDeps"),
            ("--installable", ".#ci.x86_64-linux.RmpWorkspaceDeps"),
            ("--installable",),
            ("--snapshot-id", "../../etc"),
            ("--snapshot-id", ".."),
            ("--remote-work-dir", "relative"),
            ("--remote-host", "-oProxyCommand=touch /tmp/x"),
            ("--unknown",),
        ):
            built = self.build(*options)
            self.assertEqual((built.returncode, built.stdout), (2, ""), options)
        self.assertFalse((self.dir / "hosts").exists())

    def test_prewarming_brings_the_derivation_and_its_sources_to_another_store(self):
        cache = self.dir / "other"
        warmed = self.run_command(
            str(self.tree / "scripts/pika-build-prewarm-workspace-deps.sh"),
            "--store-uri", f"file://{cache}", "--installable", ".#ci.x86_64-linux.rmpWorkspaceBuild",
        )
        self.assertEqual(warmed.returncode, 0, warmed.stderr)
        stored = [
            Path(line.removeprefix("StorePath: ")).name
            for narinfo in cache.glob("*.narinfo")
            for line in narinfo.read_text().splitlines()
            if line.startswith("StorePath: ")
        ]
        names = {name.split("-", 1)[1] for name in stored}
        self.assertLessEqual({"rmpWorkspaceDeps.drv", "rmpWorkspaceBuild.drv", "wrapper.sh", "dependencies.txt"}, names)


if __name__ == "__main__":
    unittest.main()
