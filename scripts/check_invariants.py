#!/usr/bin/env python3
"""Checks what invariants/invariants.toml says about the structure of this repository.

Reads files only; uses the standard library only (Python 3.11 or later).
Exit: 0 all hold, 1 one is broken, 2 wrong usage or the list itself is wrong.
"""

import argparse
import functools
import re
import signal
import sys
import tomllib
from pathlib import Path

from check_dependencies import MAY_USE, ONLY_IN, TESTS_ONLY

FIELDS = ("id", "area", "kind", "statement", "scope", "hint", "check")
KINDS = ("dependency", "data", "structure")
LIST = "invariants/invariants.toml"
CATALOG = "crates/pikaci/src/catalog"
LANE_FILE = f"{CATALOG}/forge-lanes.toml"
JOB_MODEL = "crates/jerichoci/src/model/job.rs"


class Tree:
    """The files of a repository, each read once."""

    def __init__(self, root):
        self.root = Path(root)
        self.texts = {}

    def text(self, name):
        if name not in self.texts:
            self.texts[name] = (self.root / name).read_text(encoding="utf-8")
        return self.texts[name]

    def toml(self, name):
        return tomllib.loads(self.text(name))

    def files(self, *globs):
        """Names of the files that a glob of pathlib or one with one {a,b} matches, sorted."""
        found = set()
        for glob in globs:
            for plain in alternatives(glob):
                found.update(path for path in self.root.glob(plain) if path.is_file())
        return sorted(path.relative_to(self.root).as_posix() for path in found)

    def rust(self, *globs):
        """Name and code of Rust files without comments and unit tests."""
        for name in self.files(*globs):
            if name.endswith(".rs") and not re.search(r"(^|/)tests?(/|\.rs$)", name):
                yield name, code_of(self.text(name))


def alternatives(glob):
    braces = re.search(r"\{([^{}]*)\}", glob)
    if not braces:
        return [glob]
    return [glob[: braces.start()] + word + glob[braces.end() :] for word in braces[1].split(",")]


TOKEN = re.compile(
    r"""
    (?P<comment>//[^\n]*|/\*.*?\*/)
    | (?P<kept>b?r(?P<hash>\#*)".*?"(?P=hash)|b?"(?:[^"\\]|\\.)*"|'(?:[^'\\\n]|\\[^\n]{1,9})')
    """,
    re.VERBOSE | re.DOTALL,
)


@functools.cache
def code_of(text):
    """Rust without its comments and the module of its unit tests, lines kept."""

    def blank(found):
        return "\n" * found[0].count("\n")

    code = TOKEN.sub(lambda token: token["kept"] or blank(token), text)
    # Formatted code ends a module in the first column.
    return re.sub(r"^#\[cfg\(test\)\]\s*mod tests \{.*?^\}", blank, code, flags=re.MULTILINE | re.DOTALL)


def line_of(code, at):
    return code.count("\n", 0, at) + 1


def body(code, head):
    """What stands between the braces of an item, such as `struct JobSpec`."""
    found = re.search(rf"\b{head}\b[^{{;]*\{{", code)
    if not found:
        return None
    depth, start = 1, found.end()
    for at in range(start, len(code)):
        depth += {"{": 1, "}": -1}.get(code[at], 0)
        if depth == 0:
            return code[start:at]
    return None


def fields_of(code, struct):
    """Names of the fields of a struct, or None where there is no such struct."""
    inside = body(code, f"struct {struct}")
    return None if inside is None else re.findall(r"^\s*(?:pub(?:\([^)]*\))?\s+)?(\w+)\s*:", inside, re.MULTILINE)


class Catalog:
    """The tables of the catalog, as their source says them."""

    def __init__(self, tree):
        targets = code_of(tree.text(f"{CATALOG}/targets.rs"))
        staged = code_of(tree.text(f"{CATALOG}/staged.rs"))
        jobs = "".join(code for _, code in tree.rust(f"{CATALOG}/jobs/*.rs"))
        # Target: trigger, and the variant of the staged target that its group is named after.
        self.targets = {}
        for row in targets.split("TargetRow {")[1:]:
            group = re.search(r"Group::StagedLinux\((\w+)\)", row)
            self.targets[re.search(r'\bid: "([^"]+)"', row)[1]] = (
                re.search(r"Trigger::(\w+)", row)[1].lower(),
                group and group[1],
            )
        # Staged target by variant.
        self.staged = dict(
            re.findall(r'target: PikaStagedLinuxTarget::(\w+),\s*target_id: "([^"]+)"', staged)
        )
        # Staged lane by variant: its name, its target, its wrapper.
        rows = re.findall(r'\brow\(\s*(\w+),\s*"([^"]+)",\s*(\w+),\s*"([^"]+)",?\s*\)', staged)
        self.lanes = {variant: rest for variant, *rest in rows}
        self.outputs = set(re.findall(r'_output_name: "([^"]+)"', staged))
        self.prefixes = set(re.findall(r'prepare_node_prefix: "([^"]+)"', staged))
        self.jobs = {word for word in re.findall(r'\bid: "([^"]+)"', jobs)}
        self.used_lanes = set(re.findall(r"\bLane::(\w+)", jobs))

    def words(self):
        lanes = {word for name, _, wrapper in self.lanes.values() for word in (name, wrapper)}
        return set(self.targets) | self.jobs | lanes | self.outputs | self.prefixes


def lanes_of(tree, name=LANE_FILE):
    """Section and table of each lane of a lane file."""
    document = tree.toml(name)
    return [(when, lane) for when in ("branch", "nightly", "manual") for lane in document.get(when, {}).get("lanes", [])]


def target_of(lane):
    return lane.get("staged_linux_target", lane.get("target"))


def dependency_directions(tree):
    for name in tree.files("crates/*/Cargo.toml"):
        manifest = tree.toml(name)
        crate = manifest["package"]["name"]
        tables = [manifest, *manifest.get("target", {}).values()]
        for table in tables:
            for kind in ("dependencies", "build-dependencies", "dev-dependencies"):
                for key, value in table.get(kind, {}).items():
                    used = value.get("package", key) if isinstance(value, dict) else key
                    if used in ONLY_IN and crate not in ONLY_IN[used]:
                        yield f"{name}: {crate} uses {used}"
                    if used in TESTS_ONLY and kind == "dev-dependencies":
                        continue
                    if used in MAY_USE and used not in MAY_USE.get(crate, set()):
                        yield f"{name}: {crate} uses {used}, against the direction"
    # The facade and the stages of a run are one level: methods of Engine stand where their subject is.
    order = ["model", "snapshot", "executor", "run", "engine"]
    for index, module in enumerate(order[:3]):
        base = f"crates/jerichoci/src/{module}"
        for name, code in tree.rust(f"{base}.rs", f"{base}/**/*.rs"):
            for use in re.finditer(r"\bcrate::(?:\{([^;]*)\}|(\w+))", code):
                used = set(re.findall(r"\w+", use[1])) if use[1] else {use[2]}
                for above in sorted(used.intersection(order[index + 1 :])):
                    yield f"{name}:{line_of(code, use.start())}: {module} uses {above}, against the direction"
    for name, code in tree.rust("crates/jerichoci/src/model/**/*.rs"):
        for use in re.finditer(r"\bstd::(fs|process|env|net)\b", code):
            yield f"{name}:{line_of(code, use.start())}: model uses std::{use[1]}"


def no_catalog_in_the_engine(tree):
    words = sorted(Catalog(tree).words(), key=len, reverse=True)
    known = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, words))})(?![\w-])")
    engine = [name for name in tree.files("crates/*/src/**/*.rs") if not name.startswith("crates/pikaci/")]
    for name, code in tree.rust(*engine):
        if name.startswith("crates/jericho-testkit/"):
            continue
        for text in re.finditer(r'"(?:[^"\\]|\\.)*"', code):
            for word in known.finditer(text[0]):
                yield f"{name}:{line_of(code, text.start())}: {word[0]} is a name of the catalog"
        for use in re.finditer(r"\bpikaci::", code):
            yield f"{name}:{line_of(code, use.start())}: uses pikaci"


def filters_authored_once(tree):
    for name, code in tree.rust(f"{CATALOG}/**/*.rs"):
        for text in re.finditer(r'"(?:[^"\\]|\\.)*"', code):
            if "/**" in text[0] or "*." in text[0]:
                yield f"{name}:{line_of(code, text.start())}: {text[0]} is a path filter"
        for use in re.finditer(r"\bFilters::new\b|\b(?:paths|filters): &\[", code):
            yield f"{name}:{line_of(code, use.start())}: {use[0]} makes path filters of a table"
    home = "crates/pikaci/src/targets/filters/"
    for name, code in tree.rust("crates/pikaci/src/**/*.rs"):
        for use in re.finditer(r"\bglobset\b|\bGlobSet", code):
            if not name.startswith(home):
                yield f"{name}:{line_of(code, use.start())}: globs are made in {home} only"
    homes = {}
    for name in tree.files(LANE_FILE, "ci/*.toml", "ci/**/forge-lanes.toml"):
        for _, lane in lanes_of(tree, name):
            target = target_of(lane)
            if target in homes:
                yield f"{name}: the filters of {target} are in {homes[target]} too"
            homes[target] = name


def placement_apart_from_runtime(tree):
    code = code_of(tree.text(JOB_MODEL))
    spec = body(code, "struct JobSpec") or ""
    for field, kind in (("placement", "JobPlacement"), ("runtime", "JobRuntimeConfig")):
        if not re.search(rf"\bpub {field}: {kind}\b", spec):
            yield f"{JOB_MODEL}: JobSpec has no field `{field}: {kind}`"
    for head, foreign in (
        ("enum JobPlacement", r"Incus|Tart|HostProcess|Runtime|incus|tart|runtime|image"),
        ("enum JobPlacementKind", r"Incus|Tart|HostProcess|Runtime"),
        ("enum JobRuntimeConfig", r"Ssh|Remote|Local|Placement"),
        ("enum JobRuntimeKind", r"Ssh|Remote|Local|Placement"),
    ):
        inside = body(code, head)
        if inside is None:
            yield f"{JOB_MODEL}: there is no {head}"
        elif word := re.search(rf"\b\w*(?:{foreign})\w*", inside):
            yield f"{JOB_MODEL}: {head} knows {word[0]}"
    for struct in re.findall(r"\bstruct (\w+RuntimeConfig)\b", code):
        inside = body(code, f"struct {struct}") or ""
        if word := re.search(r"\b\w*(?:ssh|Ssh|placement|Placement|remote|Remote)\w*", inside):
            yield f"{JOB_MODEL}: {struct} knows {word[0]}"
    for name, code in tree.rust("crates/jerichoci/src/executor/{process,incus,tart}/**/*.rs"):
        for word in re.finditer(r"\bJobPlacement(?:Kind)?\b|\bSshHost\b|\bRemoteSsh\b", code):
            yield f"{name}:{line_of(code, word.start())}: a runtime knows {word[0]}"


def backend_settings_inside_the_runtime_config(tree):
    code = code_of(tree.text(JOB_MODEL))
    job = fields_of(code, "JobSpec")
    if not job:
        yield f"{JOB_MODEL}: there is no struct JobSpec"
        return
    own = {}
    for struct in re.findall(r"\bstruct (\w+RuntimeConfig)\b", code):
        for field in fields_of(code, struct) or []:
            own.setdefault(field, []).append(struct)
    if not own:
        yield f"{JOB_MODEL}: no runtime has a config"
    for field in job:
        if field in own:
            yield f"{JOB_MODEL}: `{field}` of JobSpec is a setting of {' and '.join(own[field])}"
        elif re.search(r"incus|tart|xcode|(?:^|_)vm(?:_|$)|image|vcpu|cpus|memory|disk|nix|guest|network", field):
            yield f"{JOB_MODEL}: `{field}` of JobSpec is a setting of one runtime"


def no_generic_engine_modules_in_pikaci(tree):
    engine = {
        Path(name).parts[3].removesuffix(".rs")
        for name in tree.files("crates/jerichoci/src/*.rs", "crates/jerichoci/src/*/mod.rs")
    } - {"lib", "config"}
    engine |= {"scheduler", "schedule", "dispatch", "store", "journal", "runtime", "placement", "materialize"}
    for name in tree.files("crates/pikaci/src/**/*.rs"):
        parts = Path(name).parts[3:]
        module = parts[0].removesuffix(".rs")
        if module in engine:
            yield f"{name}: {module} is a module of the engine"
    for name, code in tree.rust("crates/pikaci/src/**/*.rs"):
        for item in re.finditer(r"\bimpl\b[^{;]*\b(Executor|Host)\s+for\b", code):
            yield f"{name}:{line_of(code, item.start())}: an implementation of {item[1]} is of use to any front end"


def every_forge_lane_owned_by_pikaci(tree):
    catalog = Catalog(tree)
    keys = {"id", "title", "staged_linux_target", "target", "concurrency_group", "paths"}
    seen = {}
    for when, lane in lanes_of(tree):
        target = target_of(lane)
        if unknown := sorted(set(lane) - keys):
            yield f"{LANE_FILE}: the lane of {target} says {', '.join(unknown)}; a lane runs its target and nothing else"
        if target not in catalog.targets:
            yield f"{LANE_FILE}: {target} is no target of the catalog"
            continue
        seen[target] = when
        trigger = {"none": "manual"}.get(catalog.targets[target][0], catalog.targets[target][0])
        if trigger != when:
            yield f"{LANE_FILE}: {target} is in [[{when}.lanes]], and its trigger is {trigger}"
    for target, (trigger, _) in catalog.targets.items():
        if trigger != "none" and target not in seen:
            yield f"{CATALOG}/targets.rs: {target} is run by a forge and has no lane in {LANE_FILE}"


def staged_targets_and_lanes_agree(tree):
    catalog = Catalog(tree)
    lanes = {lane["staged_linux_target"] for _, lane in lanes_of(tree) if "staged_linux_target" in lane}
    staged = set(catalog.staged.values())
    for target in sorted(staged - lanes):
        yield f"{LANE_FILE}: the staged target {target} has no lane with `staged_linux_target`"
    for target in sorted(lanes - staged):
        yield f"{CATALOG}/staged.rs: {target} has a staged lane and is no staged target"
    for target, (_, variant) in catalog.targets.items():
        if variant is not None and catalog.staged.get(variant) != target:
            yield f"{CATALOG}/targets.rs: the group of {target} is that of {catalog.staged.get(variant)}"
    named = {target for target, (_, variant) in catalog.targets.items() if variant is not None}
    for target in sorted(staged - named):
        yield f"{CATALOG}/targets.rs: the staged target {target} has no row with its group"
    for variant, (name, target, _) in catalog.lanes.items():
        if target not in catalog.staged:
            yield f"{CATALOG}/staged.rs: the lane {name} is of {target}, which is no staged target"
        if variant not in catalog.used_lanes:
            yield f"{CATALOG}/jobs: no job uses the staged lane {name}"
    without = set(catalog.staged) - {target for _, target, _ in catalog.lanes.values()}
    for variant in sorted(without):
        yield f"{CATALOG}/staged.rs: the staged target {catalog.staged[variant]} has no lane"


CHECKS = {
    check.__name__: check
    for check in (
        dependency_directions,
        no_catalog_in_the_engine,
        filters_authored_once,
        placement_apart_from_runtime,
        backend_settings_inside_the_runtime_config,
        no_generic_engine_modules_in_pikaci,
        every_forge_lane_owned_by_pikaci,
        staged_targets_and_lanes_agree,
    )
}


def read_list(tree):
    """The invariants, and what is wrong with the list itself."""
    invariants = tree.toml(LIST).get("invariants", [])
    problems = [] if invariants else [f"{LIST}: no invariants"]
    seen = set()
    for entry in invariants:
        name = entry.get("id", "?")
        if missing := [field for field in FIELDS if not entry.get(field)]:
            problems.append(f"{LIST}: {name} has no {', '.join(missing)}")
        if unknown := sorted(set(entry) - set(FIELDS)):
            problems.append(f"{LIST}: {name} has unknown fields: {', '.join(unknown)}")
        if not re.fullmatch(r"PIKACI-\d{3}", name) or name in seen:
            problems.append(f"{LIST}: {name} is no id, or is there twice")
        if entry.get("kind") not in KINDS:
            problems.append(f"{LIST}: {name}: the kinds are {', '.join(KINDS)}")
        if entry.get("check") not in CHECKS:
            problems.append(f"{LIST}: {name}: no check is called {entry.get('check')}")
        for glob in entry.get("scope", []):
            # A runtime may have no files yet; the whole scope must have some.
            if not any(char in glob for char in "*{") and not tree.files(glob):
                problems.append(f"{LIST}: {name}: there is no {glob}")
        if entry.get("scope") and not tree.files(*entry["scope"]):
            problems.append(f"{LIST}: {name}: its scope is empty")
        seen.add(name)
    for check in sorted(set(CHECKS) - {entry.get("check") for entry in invariants}):
        problems.append(f"{LIST}: no invariant has the check {check}")
    return invariants, problems


def brief(tree, entry):
    """What a reviewer of a change needs to know about an invariant."""
    files = tree.files(*entry["scope"])
    shown = [f"  {name}" for name in files[:20]] + ([f"  and {len(files) - 20} more"] if len(files) > 20 else [])
    broken = [f"  {problem}" for problem in CHECKS[entry["check"]](tree)]
    return "\n".join(
        [
            f"{entry['id']} ({entry['area']}, {entry['kind']})",
            "",
            entry["statement"],
            "",
            f"Where it does not hold: {entry['hint']}",
            "",
            f"Scope: {', '.join(entry['scope'])}",
            *shown,
            "",
            f"The script checks the letter ({entry['check']}); a reviewer checks the sense: would the statement still",
            "be true of the change if every name in it were another one?",
            "",
            "Now: " + ("it is broken:" if broken else "it holds."),
            *broken,
        ]
    )


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Checks the invariants of this repository.")
    parser.add_argument("--brief", metavar="ID", help="print what a reviewer needs to know about one, and check it")
    parser.add_argument("--list", action="store_true", help="print ids and statements")
    parser.add_argument("--root", default=Path(__file__).resolve().parent.parent, help="top of the repository")
    given = parser.parse_args(arguments)
    tree = Tree(given.root)
    invariants, problems = read_list(tree)
    if problems:
        print("\n".join(problems), file=sys.stderr)
        return 2
    if given.list:
        for entry in invariants:
            print(f"{entry['id']}  {entry['statement']}")
        return 0
    if given.brief:
        chosen = [entry for entry in invariants if entry["id"] == given.brief.upper()]
        if not chosen:
            known = ", ".join(entry["id"] for entry in invariants)
            print(f"no invariant is called {given.brief}; they are {known}", file=sys.stderr)
            return 2
        print(brief(tree, chosen[0]))
        return 1 if list(CHECKS[chosen[0]["check"]](tree)) else 0
    broken = 0
    for entry in invariants:
        found = list(CHECKS[entry["check"]](tree))
        for problem in found:
            print(f"{entry['id']}: {problem}", file=sys.stderr)
        if found:
            broken += 1
            print(f"{entry['id']}: {entry['hint']} See scripts/check_invariants.py --brief {entry['id']}", file=sys.stderr)
    if not broken:
        print(f"{len(invariants)} invariants hold")
    return 1 if broken else 0


if __name__ == "__main__":
    # A reader that goes away, such as head(1), is no fault of the tree.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
