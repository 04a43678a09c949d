#!/usr/bin/env python3
"""Checks that every dependency has a licence that deny.toml allows and comes from the one registry.

The same two rules of deny.toml that `cargo deny` checks, for machines without it. Uses the standard
library only. Exit: 0 fine, 1 a rule is broken, 2 no metadata.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOKEN = re.compile(r"\s*(\(|\)|/|[A-Za-z0-9.+-]+)")


def satisfied(expression, allowed):
    """Whether the SPDX `expression` can be met with licences of the set `allowed`.

    `A/B` is the old spelling of `A OR B`. AND binds closer than OR. Raises ValueError for what is no
    expression.
    """
    tokens, position, length = [], 0, len(expression.rstrip())
    while position < length:
        match = TOKEN.match(expression, position)
        if match is None:
            raise ValueError(f"not a licence expression: {expression!r}")
        tokens.append("OR" if match[1] == "/" else match[1])
        position = match.end()

    def take(expected=None):
        if not tokens or (expected is not None and tokens[0] != expected):
            raise ValueError(f"not a licence expression: {expression!r}")
        return tokens.pop(0)

    def alternatives():
        met = conjunction()
        while tokens and tokens[0] == "OR":
            take()
            met = conjunction() or met
        return met

    def conjunction():
        met = term()
        while tokens and tokens[0] == "AND":
            take()
            met = term() and met
        return met

    def term():
        if tokens and tokens[0] == "(":
            take()
            met = alternatives()
            take(")")
            return met
        name = take()
        if name in {")", "OR", "AND", "WITH"}:
            raise ValueError(f"not a licence expression: {expression!r}")
        if tokens and tokens[0] == "WITH":
            take()
            name = f"{name} WITH {take()}"
        return name in allowed

    met = alternatives()
    if tokens:
        raise ValueError(f"not a licence expression: {expression!r}")
    return met


def problems_of(packages, allowed):
    """The broken rules, as sentences, of `packages` as `cargo metadata` describes them."""
    registries = {p["source"] for p in packages if (p["source"] or "").startswith("registry+")}
    if len(registries) > 1:
        yield f"dependencies come from {len(registries)} registries: {', '.join(sorted(registries))}"
    for package in packages:
        name = f"{package['name']} {package['version']}"
        source, licence = package["source"], package["license"]
        if source is not None and not source.startswith("registry+"):
            yield f"{name} comes from {source}, not from the registry"
        if not licence:
            yield f"{name} names no licence"
            continue
        try:
            if not satisfied(licence, allowed):
                yield f"{name} is under {licence}, which deny.toml does not allow"
        except ValueError as error:
            yield f"{name}: {error}"


def main():
    deny = tomllib.loads((ROOT / "deny.toml").read_text(encoding="utf-8"))
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--all-features"]
    answer = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if answer.returncode != 0:
        return 2
    packages = json.loads(answer.stdout)["packages"]
    problems = list(problems_of(packages, set(deny["licenses"]["allow"])))
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"{len(packages)} packages are under licences that deny.toml allows, from one registry")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
