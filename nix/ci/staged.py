"""Steps of the prepared outputs that a shell would do badly.

staged.py skeleton WORKSPACE               gives crates that have only their Cargo.toml empty targets; prints their names
staged.py stage MESSAGES WRAPPER OUT       takes the test binaries that cargo's messages name, and wrappers for $lanes, into OUT
staged.py manifest OUT                     writes the payload manifest of OUT, as $JERICHOCI_PAYLOAD_MANIFEST_* say
"""

import fnmatch
import json
import os
import shutil
import struct
import sys
import tomllib
from pathlib import Path

MANIFEST = "share/jerichoci/payload-manifest.json"
ASSET_ROOTS = {"pikaci_share": "share/jerichoci", "target": "target", "lib": "lib"}
PROGRAM_HEADER_INTERP = 3


def skeleton(workspace):
    """Writes the targets that cargo looks for; returns the names of the packages."""
    names = []
    for manifest in sorted(workspace.glob("crates/*/Cargo.toml")):
        document = tomllib.loads(manifest.read_text())
        names.append(document["package"]["name"])
        targets = [manifest.parent / "src/lib.rs"]
        for kind in ("bin", "test", "example", "bench"):
            for target in document.get(kind, []):
                if "path" in target:
                    targets.append(manifest.parent / target["path"])
        for path in targets:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("//! Empty.\n" if path.name == "lib.rs" else "//! Empty.\nfn main() {}\n")
    return names


def executables(messages):
    """Of each test binary: PACKAGE/KIND/NAME and its path; and how many dependencies had to be compiled."""
    found, compiled = {}, 0
    for line in messages:
        message = json.loads(line)
        if message.get("reason") != "compiler-artifact":
            continue
        directory = Path(message["manifest_path"]).parent
        if directory.parent.name != "crates":
            compiled += not message["fresh"]
        elif message["profile"]["test"] and message["executable"]:
            target = message["target"]
            kind = target["kind"][0]
            found[f"{directory.name}/{kind}/{target['name']}"] = Path(message["executable"])
    return found, compiled


def is_static(path):
    """Whether a 64-bit little-endian ELF file names no loader."""
    data = path.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        raise SystemExit(f"{path} is not a program of x86_64")
    (offset,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    kinds = [struct.unpack_from("<I", data, offset + index * size)[0] for index in range(count)]
    return PROGRAM_HEADER_INTERP not in kinds


def selected(tests, patterns):
    """The tests that any of the patterns selects, in order of their names; each must select one."""
    chosen = set()
    for pattern in patterns:
        matching = fnmatch.filter(tests, pattern)
        if not matching:
            raise SystemExit(f"no test is called {pattern}; there are: {', '.join(sorted(tests))}")
        chosen.update(matching)
    return sorted(chosen)


def stage(tests, lanes, wrapper, out):
    """Copies the tests of all lanes, and writes the list of each lane and the program that runs it."""
    (out / "bin").mkdir(parents=True)
    for lane, patterns in sorted(lanes.items()):
        binaries = []
        for test in selected(tests, patterns):
            package, kind, name = test.split("/")
            binary = Path("tests", package, f"{kind}-{name}")
            binaries.append(f"{binary}\n")
            copy = out / "target" / binary
            if not copy.exists():
                if not is_static(tests[test]):
                    raise SystemExit(f"{tests[test]} needs a loader, which a guest may not have")
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(tests[test], copy)
        share = out / "share/jerichoci"
        share.mkdir(parents=True, exist_ok=True)
        (share / f"{lane}.manifest").write_text("".join(binaries))
        program = out / "bin" / lane
        program.write_text(wrapper.replace("@name@", lane))
        program.chmod(0o755)


def payload_manifest(out, environment):
    """What the output says about itself: the text of its payload manifest."""

    def setting(name):
        return environment[f"JERICHOCI_PAYLOAD_MANIFEST_{name}"]

    programs = sorted(path.name for path in out.glob("bin/*") if path.is_file() or path.is_symlink())
    document = {
        "schema_version": 1,
        "kind": setting("KIND"),
        "entrypoints": [{"name": name, "relative_path": f"bin/{name}"} for name in programs],
        "asset_roots": [
            {"name": name, "relative_path": path} for name, path in ASSET_ROOTS.items() if (out / path).is_dir()
        ],
        "mounts": [
            {
                "name": setting("MOUNT_NAME"),
                "relative_path": ".",
                "guest_path": setting("GUEST_PATH"),
                "read_only": True,
            }
        ],
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n"


def main(arguments):
    match arguments:
        case ["skeleton", workspace]:
            print("\n".join(skeleton(Path(workspace))))
        case ["stage", messages, wrapper, out]:
            with open(messages, encoding="utf-8") as lines:
                tests, compiled = executables(lines)
            print(f"dependencies compiled again: {compiled}")
            stage(tests, json.loads(os.environ["lanes"]), Path(wrapper).read_text(), Path(out))
        case ["manifest", out]:
            path = Path(out, MANIFEST)
            text = payload_manifest(Path(out), os.environ)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
