#!/usr/bin/env python3
"""Checks that the crates depend on each other only in the direction of the architecture.

Reads `cargo metadata`; uses the standard library only. Exit: 0 fine, 1 a rule is broken, 2 no metadata.
"""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

# Crate: the crates of this repository that it may use. A crate that is not here is an error: say where it
# stands before it is used. See docs/architecture.md.
MAY_USE = {
    "jericho-host": set(),
    "pika-incus-guest-role": set(),
    "pika-cloud": {"jericho-host", "pika-incus-guest-role"},
    "jericho-manifest": {"jericho-host"},
    "jericho-guest": {"jericho-host", "jericho-manifest", "pika-cloud"},
    "jerichoci": {"jericho-host", "jericho-manifest", "pika-cloud", "pika-incus-guest-role"},
    "pikaci": {"jericho-host", "jerichoci", "pika-cloud", "pika-incus-guest-role"},
    "jericho-testkit": {"jericho-host"},
}

# Used by tests alone, and so by every crate.
TESTS_ONLY = {"jericho-testkit"}

# Crate of others: the only crates that may use it directly.
ONLY_IN = {"libc": {"jericho-host"}}


def problems_of(packages):
    """The broken rules, as sentences, of `packages` as `cargo metadata --no-deps` describes them."""
    members = {package["name"] for package in packages}
    for package in sorted(packages, key=lambda package: package["name"]):
        name = package["name"]
        if name not in MAY_USE:
            yield f"{name}: not in MAY_USE of scripts/check_dependencies.py; say where it stands"
            continue
        for dependency in package["dependencies"]:
            used, tests = dependency["name"], dependency["kind"] == "dev"
            if used in ONLY_IN and name not in ONLY_IN[used]:
                yield f"{name} uses {used}, which only {', '.join(sorted(ONLY_IN[used]))} may"
            if used not in members:
                continue
            if used in TESTS_ONLY:
                if not tests:
                    yield f"{name} uses {used} outside its tests"
            elif used not in MAY_USE[name]:
                yield f"{name} uses {used}, against the direction of the architecture"


def lint_problems(packages):
    """The crates whose manifest does not take the lints of the workspace."""
    for package in packages:
        manifest = tomllib.loads(Path(package["manifest_path"]).read_text(encoding="utf-8"))
        if manifest.get("lints") != {"workspace": True}:
            yield f"{package['name']}: its Cargo.toml must say [lints] workspace = true, and nothing else there"


def main():
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1", "--locked"]
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if answer.returncode != 0:
        return 2
    packages = json.loads(answer.stdout)["packages"]
    problems = [*problems_of(packages), *lint_problems(packages)]
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"{len(packages)} crates depend on each other as they should")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
