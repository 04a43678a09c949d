#!/usr/bin/env python3
"""The scripts that find pikaci and read its JSON, with a pikaci that is none."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent
ROOT = SCRIPTS.parent
PROGRAMS = ("pikaci", "pikaci-fulfill-prepared-output", "pikaci-launch-fulfill-prepared-output")
VARIABLES = (
    "JERICHOCI_BIN",
    "JERICHOCI_PREPARED_OUTPUT_FULFILL_BINARY",
    "JERICHOCI_PREPARED_OUTPUT_FULFILL_LAUNCHER_BINARY",
)
DEFAULTS = {
    "ssh_binary": "/usr/bin/ssh",
    "ssh_nix_binary": "nix",
    "ssh_host": "pika-build",
    "remote_work_dir": "/var/tmp/jerichoci-prepared-output",
    "remote_launcher_binary": "/run/current-system/sw/bin/pikaci-launch-fulfill-prepared-output",
    "remote_helper_binary": "/run/current-system/sw/bin/pikaci-fulfill-prepared-output",
    "store_uri": "ssh://pika-build",
}
TARGET = {
    "target_id": "pre-merge-rmp",
    "target_description": "it's a \"smoke\"; $(false)",
    "shared_prepare_node_prefix": "rmp-linux-rust",
    "shared_prepare_description": "Build both",
    "workspace_deps_output_name": "ci.x86_64-linux.rmpWorkspaceDeps",
    "workspace_build_output_name": "ci.x86_64-linux.rmpWorkspaceBuild",
    "workspace_output_system": "x86_64-linux",
    "workspace_deps_installable": ".#ci.x86_64-linux.rmpWorkspaceDeps",
    "workspace_build_installable": ".#ci.x86_64-linux.rmpWorkspaceBuild",
}
# Answers as the files beside it say, and writes down what it was asked and in which environment.
FAKE = """#!/bin/sh
here=$(dirname "$0")/..
echo "$*" >>"$here/calls"
env | grep ^JERICHOCI_ | sort >"$here/environment"
[ ! -e "$here/$1.hook" ] || . "$here/$1.hook"
[ ! -e "$here/$1.out" ] || cat "$here/$1.out"
[ ! -e "$here/$1.code" ] || exit "$(cat "$here/$1.code")"
"""


class WithFakes(unittest.TestCase):
    """A package of fake programs, and an environment in which they are the ones."""

    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory(prefix="jericho-scripts-")
        self.addCleanup(self.scratch.cleanup)
        self.dir = Path(self.scratch.name).resolve()
        (self.dir / "bin").mkdir()
        for name in PROGRAMS:
            self.program(name, FAKE)
        self.answer("staged-linux-remote-defaults", json.dumps(DEFAULTS))
        self.answer("staged-linux-target-info", json.dumps(TARGET))
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(self.dir), "TMPDIR": str(self.dir)}
        self.named = {variable: str(self.dir / "bin" / name) for variable, name in zip(VARIABLES, PROGRAMS)}

    def program(self, name, text):
        path = self.dir / "bin" / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def answer(self, command, text, code=0):
        (self.dir / f"{command}.out").write_text(text)
        (self.dir / f"{command}.code").write_text(str(code))

    def calls(self):
        path = self.dir / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def told(self):
        """The variables that the last call of a fake saw."""
        return dict(line.split("=", 1) for line in (self.dir / "environment").read_text().splitlines())

    def run_command(self, *command, **environment):
        return subprocess.run(
            command, env=self.environment | environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )

    def shell(self, script, **environment):
        """Runs bash with the functions of pikaci-tools.sh."""
        prelude = f"set -euo pipefail; source '{SCRIPTS}/lib/pikaci-tools.sh'; "
        return self.run_command("bash", "-c", prelude + script, **environment)


class Resolution(WithFakes):
    SHOW = 'resolve_pikaci_tools; env | grep ^JERICHOCI_ | sort; log_pikaci_tool_resolution'

    def test_all_three_variables_come_first(self):
        shown = self.shell(self.SHOW, **self.named, JERICHOCI_USE_PATH_TOOLS="1")
        self.assertEqual(shown.returncode, 0, shown.stderr)
        self.assertIn(f"JERICHOCI_BIN={self.dir}/bin/pikaci\n", shown.stdout)
        self.assertIn("JERICHOCI_TOOL_RESOLUTION=env\n", shown.stdout)
        self.assertIn(f"JERICHOCI_PACKAGE_ROOT={self.dir}\n", shown.stdout)
        self.assertEqual(
            shown.stderr, f"[pikaci-tools] resolution=env package={self.dir} pikaci={self.dir}/bin/pikaci\n"
        )

    def test_path_is_asked_when_it_may_be(self):
        path = f"{self.dir}/bin:{os.environ['PATH']}"
        shown = self.shell(self.SHOW, PATH=path, JERICHOCI_USE_PATH_TOOLS="1", JERICHOCI_BIN="/elsewhere/pikaci")
        self.assertEqual(shown.returncode, 0, shown.stderr)
        for variable, program in self.named.items():
            self.assertIn(f"{variable}={program}\n", shown.stdout)
        self.assertIn("JERICHOCI_TOOL_RESOLUTION=path\n", shown.stdout)
        self.assertIn("not all of the three programs are named, so this is ignored: JERICHOCI_BIN\n", shown.stderr)

    def test_the_flake_is_built_otherwise(self):
        self.program("nix", f'#!/bin/sh\necho "$*" >>"{self.dir}/calls"\n'
                     f"""echo '[{{"drvPath":"d","outputs":{{"out":"{self.dir}"}}}}]'\n""")
        shown = self.shell(self.SHOW, PATH=f"{self.dir}/bin:{os.environ['PATH']}")
        self.assertEqual(shown.returncode, 0, shown.stderr)
        self.assertIn(f"JERICHOCI_BIN={self.dir}/bin/pikaci\n", shown.stdout)
        self.assertIn("JERICHOCI_TOOL_RESOLUTION=nix-build\n", shown.stdout)
        [call] = self.calls()
        self.assertTrue(call.endswith(f"build --no-link --json {ROOT}#pikaci"), call)

    def test_what_is_no_program_is_named(self):
        gone = self.named | {"JERICHOCI_PREPARED_OUTPUT_FULFILL_BINARY": "/nowhere/helper"}
        shown = self.shell(self.SHOW, **gone)
        self.assertEqual(shown.returncode, 3)
        self.assertIn("/nowhere/helper (JERICHOCI_PREPARED_OUTPUT_FULFILL_BINARY) is not a program", shown.stderr)
        (self.dir / "bin/pikaci").unlink()
        alone = f"{self.dir}/bin"
        for name in ("bash", "dirname"):
            (self.dir / "bin" / name).symlink_to(shutil.which(name))
        shown = self.shell(self.SHOW, PATH=alone, JERICHOCI_USE_PATH_TOOLS="1")
        self.assertEqual(shown.returncode, 3)
        self.assertIn("pikaci is not on PATH", shown.stderr)
        shown = self.shell(self.SHOW, PATH=alone)
        self.assertEqual(shown.returncode, 3)
        self.assertIn("there is no nix to build pikaci with", shown.stderr)


class Fields(WithFakes):
    def fields(self, document, *names):
        script = f"read_pikaci_json_fields {' '.join(names)} <<'END'\n{document}\nEND\n"
        shown = self.shell(script + 'printf "<%s>" "${pikaci_json_fields[@]}"')
        return shown.returncode, shown.stdout, shown.stderr

    def test_in_the_order_asked_for(self):
        document = json.dumps({"a": "it's $(here) `x`", "b": None, "c": 7, "d": "é \\"})
        self.assertEqual(self.fields(document, "d", "c", "b", "a")[:2], (0, "<é \\><7><><it's $(here) `x`>"))

    def test_what_cannot_be_one_line_is_refused(self):
        for document in ('{"b": "x"}', '{"a": "x\\ny"}', '{"a": []}', '{"a": true}', "[]", "", "{"):
            code, shown, error = self.fields(document, "a")
            self.assertNotEqual(code, 0, document)
            self.assertEqual(shown, "", document)
            self.assertIn("[pikaci-tools]", error, document)

    def test_defaults_and_targets_become_variables(self):
        shown = self.shell(
            "resolve_pikaci_tools; load_pikaci_staged_linux_remote_defaults; load_pikaci_staged_linux_target_info t; "
            + "".join(f'printf "%s\\n" "$default_{name}"; ' for name in DEFAULTS)
            + "".join(f'printf "%s\\n" "${name}"; ' for name in TARGET),
            **self.named,
        )
        self.assertEqual(shown.returncode, 0, shown.stderr)
        self.assertEqual(shown.stdout.splitlines(), [*DEFAULTS.values(), *TARGET.values()])
        self.assertEqual(self.calls(), ["staged-linux-remote-defaults --json", "staged-linux-target-info t --json"])

    def test_an_error_of_pikaci_ends_the_script(self):
        self.answer("staged-linux-target-info", "", code=4)
        shown = self.shell("resolve_pikaci_tools; load_pikaci_staged_linux_target_info t; echo on", **self.named)
        self.assertEqual((shown.returncode, shown.stdout), (4, ""))


class Remote(WithFakes):
    SCRIPT = SCRIPTS / "pikaci-staged-linux-remote.sh"
    PREFIX = "JERICHOCI_PREPARED_OUTPUT_FULFILL_"

    def remote(self, *arguments, **environment):
        return self.run_command(str(self.SCRIPT), *arguments, **self.named, **environment)

    def test_run_fills_in_what_is_not_set_and_becomes_pikaci(self):
        self.answer("run", "the record\n", code=1)
        ran = self.remote("run", "pre-merge-rmp", "--output", "json", JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_HOST="mine")
        self.assertEqual((ran.returncode, ran.stdout), (1, "the record\n"), ran.stderr)
        self.assertEqual(self.calls()[-1], "run pre-merge-rmp --output json")
        told = self.told()
        expected = {
            "SSH_BINARY": DEFAULTS["ssh_binary"],
            "SSH_NIX_BINARY": DEFAULTS["ssh_nix_binary"],
            "SSH_HOST": "mine",
            "SSH_REMOTE_WORK_DIR": DEFAULTS["remote_work_dir"],
            "SSH_REMOTE_LAUNCHER_BINARY": DEFAULTS["remote_launcher_binary"],
            "SSH_REMOTE_HELPER_BINARY": DEFAULTS["remote_helper_binary"],
            "INVOCATION": "external_wrapper_command_v1",
            "LAUNCHER_TRANSPORT": "ssh_launcher_transport_v1",
        }
        for name, value in expected.items():
            self.assertEqual(told[self.PREFIX + name], value)
        self.assertEqual(told["JERICHOCI_PRE_MERGE_PIKA_RUST_SUBPROCESS_FULFILL"], "1")
        for variable, program in self.named.items():
            self.assertEqual(told[variable], program)

    def test_wrong_usage_starts_nothing(self):
        for arguments in (
            (),
            ("prepare",),
            ("run",),
            ("run", "--output"),
            ("run", "t", "more"),
            ("run", "t", "--output"),
            ("run", "t", "--output", "xml"),
            ("prepare", "t", "--output", "json"),
            ("build", "t"),
        ):
            ran = self.remote(*arguments)
            self.assertEqual((ran.returncode, ran.stdout), (2, ""), arguments)
            self.assertIn("see --help", ran.stderr)
        self.assertEqual(self.calls(), [])

    def test_prepare_builds_both_from_one_snapshot_and_removes_it(self):
        work_dir = self.dir / "work dir"
        for failing in (None, "rmpWorkspaceDeps", "rmpWorkspaceBuild"):
            self.program("nix", f"""#!/bin/sh
case "$*" in
  *builtins.path*)
    [ -e "$TREE/flake.nix" ] && [ -e "$TREE/jerichoci-snapshot.json" ] || exit 9
    echo "$TREE" >>"{self.dir}/snapshots"; echo /store/source ;;
  *'hash path'*) echo sha256-a+b/c= ;;
  *'path-info'*'path:/store/source?narHash=sha256-a%2Bb%2Fc%3D#ci.x86_64-linux.'*{failing}) exit 1 ;;
  *path-info*) echo "/store/of-$(echo "$*" | sed 's/.*[.]//').drv" ;;
  *copy*) ;;
esac
""")
            self.program("nix-store", '#!/bin/sh\n[ "$1" != --realise ] || echo "${2%.drv}"\n')
            ssh = self.program("ssh", f'#!/bin/sh\necho "$1" >>"{self.dir}/hosts"\nexec sh -c "$2"\n')
            prepared = self.remote(
                "prepare",
                "pre-merge-rmp",
                PATH=f"{self.dir}/bin:{os.environ['PATH']}",
                JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_BINARY=str(ssh),
                JERICHOCI_PREPARED_OUTPUT_FULFILL_SSH_REMOTE_WORK_DIR=str(work_dir),
            )
            built = ["/store/of-rmpWorkspaceDeps\n", "/store/of-rmpWorkspaceBuild\n"]
            # The first two failing calls: before anything is sent, or after the first output.
            if failing is None:
                self.assertEqual((prepared.returncode, prepared.stdout), (0, "".join(built)), prepared.stderr)
                snapshots = set((self.dir / "snapshots").read_text().splitlines())
                self.assertEqual(len(snapshots), 1, "one for both")
                self.assertRegex(snapshots.pop(), r"/helpers/prepare-\d{8}T\d{6}Z-\d+/snapshot$")
                self.assertEqual(set((self.dir / "hosts").read_text().splitlines()), {"pika-build"})
            else:
                self.assertNotEqual(prepared.returncode, 0)
            helpers = work_dir / "helpers"
            self.assertEqual(list(helpers.iterdir()), [], "the snapshot is gone")


if __name__ == "__main__":
    unittest.main()
