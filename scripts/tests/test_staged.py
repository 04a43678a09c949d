"""What nix/ci/staged.py makes of cargo's messages, and the payload manifests that it writes."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "nix/ci"))

import staged  # noqa: E402

SETTINGS = {
    "JERICHOCI_PAYLOAD_MANIFEST_KIND": "staged_linux_workspace_build_v1",
    "JERICHOCI_PAYLOAD_MANIFEST_MOUNT_NAME": "workspace_build_root",
    "JERICHOCI_PAYLOAD_MANIFEST_GUEST_PATH": "/staged/linux-rust/workspace-build",
}


def elf(*kinds):
    """A program of x86_64 with program headers of these kinds."""
    header = bytearray(64)
    header[:6] = b"\x7fELF\x02\x01"
    header[32:40] = (64).to_bytes(8, "little")
    header[54:58] = (56).to_bytes(2, "little") + len(kinds).to_bytes(2, "little")
    return bytes(header) + b"".join(kind.to_bytes(4, "little") + bytes(52) for kind in kinds)


def message(manifest, kind, name, executable=None, test=True, fresh=False):
    return json.dumps(
        {
            "reason": "compiler-artifact",
            "manifest_path": manifest,
            "target": {"kind": [kind], "name": name},
            "profile": {"test": test},
            "executable": executable,
            "fresh": fresh,
        }
    )


class Scratch(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="jericho-staged-")
        self.addCleanup(scratch.cleanup)
        self.dir = Path(scratch.name)

    def file(self, name, content=b""):
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path


class Manifest(Scratch):
    def test_bytes_of_the_contract(self):
        for name in ("bin/run-b", "bin/run-a", "share/jerichoci/x", "target/tests/p/lib-p"):
            self.file(name)
        self.assertEqual(
            staged.payload_manifest(self.dir, SETTINGS),
            '{"asset_roots":[{"name":"pikaci_share","relative_path":"share/jerichoci"},'
            '{"name":"target","relative_path":"target"}],'
            '"entrypoints":[{"name":"run-a","relative_path":"bin/run-a"},{"name":"run-b","relative_path":"bin/run-b"}],'
            '"kind":"staged_linux_workspace_build_v1",'
            '"mounts":[{"guest_path":"/staged/linux-rust/workspace-build","name":"workspace_build_root",'
            '"read_only":true,"relative_path":"."}],"schema_version":1}\n',
        )

    def test_an_output_without_programs_has_none(self):
        document = json.loads(staged.payload_manifest(self.dir, SETTINGS))
        self.assertEqual((document["entrypoints"], document["asset_roots"]), ([], []))


class Skeleton(Scratch):
    def test_every_target_with_a_path_is_there(self):
        self.file("crates/a/Cargo.toml", b'[package]\nname = "a-name"\n[[bin]]\nname = "x"\npath = "src/bin/x.rs"\n')
        self.file("crates/b/Cargo.toml", b'[package]\nname = "b"\n')
        self.assertEqual(staged.skeleton(self.dir), ["a-name", "b"])
        for path in ("crates/a/src/lib.rs", "crates/a/src/bin/x.rs", "crates/b/src/lib.rs"):
            self.assertTrue((self.dir / path).is_file(), path)


class Stage(Scratch):
    def test_tests_of_the_workspace_alone_are_found(self):
        tests, compiled = staged.executables(
            [
                message("/w/crates/a/Cargo.toml", "lib", "a", "/t/a-1"),
                message("/w/crates/a/Cargo.toml", "bin", "x", "/t/x", test=False),
                message("/w/crates/a/Cargo.toml", "lib", "a", None, test=False),
                message("/vendor/dep-1.0.0/Cargo.toml", "lib", "dep", None, test=False, fresh=True),
                message("/vendor/late-1.0.0/Cargo.toml", "lib", "late", None, test=False),
                '{"reason":"build-finished","success":true}',
            ]
        )
        self.assertEqual((tests, compiled), ({"a/lib/a": Path("/t/a-1")}, 1))

    def test_a_pattern_that_selects_nothing_is_an_error(self):
        tests = {"a/lib/a": 1, "b/test/t": 2}
        self.assertEqual(staged.selected(tests, ["b/test/*", "*/lib/*"]), ["a/lib/a", "b/test/t"])
        with self.assertRaisesRegex(SystemExit, "no test is called c/lib/.*there are: a/lib/a, b/test/t"):
            staged.selected(tests, ["*/lib/*", "c/lib/*"])

    def stage(self, content):
        out = self.dir / "out"
        tests = {"a/lib/a": self.file("built/a-1", content)}
        wrapper = (ROOT / "nix/ci/run-tests.sh").read_text()
        staged.stage(tests, {"run-a": ["a/*/*"], "run-also": ["a/lib/*"]}, wrapper, out)
        return out

    def test_each_lane_has_its_list_and_its_program(self):
        out = self.stage(elf(1, 2))
        self.assertEqual((out / "share/jerichoci/run-a.manifest").read_text(), "tests/a/lib-a\n")
        self.assertTrue((out / "target/tests/a/lib-a").is_file())
        for lane in ("run-a", "run-also"):
            self.assertIn(f"name='{lane}'\n", (out / "bin" / lane).read_text())
            self.assertTrue((out / "bin" / lane).stat().st_mode & 0o111)

    def test_a_program_that_needs_a_loader_is_refused(self):
        with self.assertRaisesRegex(SystemExit, "needs a loader"):
            self.stage(elf(1, 3))

    def test_what_is_no_program_of_the_guest_is_refused(self):
        with self.assertRaisesRegex(SystemExit, "is not a program of x86_64"):
            self.stage(b"#!/bin/sh\n")


class Wrapper(Scratch):
    def wrapper(self, *tests):
        """What the wrapper does with these tests, each a shell script; of the place of the output, a copy is made."""
        text = (ROOT / "nix/ci/run-tests.sh").read_text().replace("@name@", "run-it")
        text = text.replace("/staged/linux-rust/workspace-build", str(self.dir))
        lines = []
        for package, script in tests:
            binary = self.file(f"target/tests/{package}/lib-{package}", f"#!/bin/sh\n{script}\n".encode())
            binary.chmod(0o755)
            lines.append(f"tests/{package}/lib-{package}\n")
            (self.dir / "source/crates" / package).mkdir(parents=True)
        self.file("share/jerichoci/run-it.manifest", "".join(lines).encode())
        program = self.file("bin/run-it", text.encode())
        (self.dir / "source").mkdir(exist_ok=True)
        return subprocess.run(["sh", program], cwd=self.dir / "source", capture_output=True, text=True, check=False)

    def test_each_test_runs_in_its_crate(self):
        ran = self.wrapper(("a", "pwd; echo $CARGO_MANIFEST_DIR"), ("b", "cat; pwd"))
        source = self.dir.resolve() / "source"
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertEqual(
            ran.stdout,
            f"==> tests/a/lib-a\n{source}/crates/a\n{source}/crates/a\n"
            f"==> tests/b/lib-b\n{source}/crates/b\nrun-it: 2 test binaries passed\n",
        )

    def test_one_that_fails_turns_it_red_and_the_others_run(self):
        ran = self.wrapper(("a", "exit 101"), ("b", "echo ran"))
        self.assertEqual((ran.returncode, ran.stderr), (1, "run-it: failed: tests/a/lib-a\n"))
        self.assertIn("ran\n", ran.stdout)

    def test_no_test_at_all_is_no_success(self):
        self.assertEqual(self.wrapper().returncode, 1)


if __name__ == "__main__":
    unittest.main()
