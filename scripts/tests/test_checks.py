"""The rules that the checks of scripts/ hold, on small inputs."""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import check_dependencies  # noqa: E402
import check_licenses  # noqa: E402


def crate(name, *uses):
    """A crate as `cargo metadata` describes it; `uses` are (name, kind)."""
    return {"name": name, "dependencies": [{"name": used, "kind": kind} for used, kind in uses]}


class Dependencies(unittest.TestCase):
    def problems(self, *crates):
        return list(check_dependencies.problems_of(crates))

    def test_the_direction_of_the_architecture_is_fine(self):
        self.assertEqual(
            self.problems(
                crate("jericho-host", ("libc", None), ("jericho-testkit", "dev")),
                crate("jericho-testkit", ("tempfile", None)),
                crate("pika-cloud", ("jericho-host", None)),
            ),
            [],
        )

    def test_the_other_direction_is_not_even_in_tests(self):
        for kind in (None, "dev", "build"):
            problems = self.problems(crate("jericho-host", ("jerichoci", kind)), crate("jerichoci"))
            self.assertEqual(len(problems), 1, kind)
            self.assertIn("jericho-host uses jerichoci", problems[0])

    def test_the_testkit_is_for_tests(self):
        for kind in (None, "build"):
            problems = self.problems(crate("pikaci", ("jericho-testkit", kind)), crate("jericho-testkit"))
            self.assertEqual(problems, ["pikaci uses jericho-testkit outside its tests"])

    def test_libc_is_for_one_crate(self):
        for kind in (None, "dev"):
            self.assertEqual(len(self.problems(crate("jerichoci", ("libc", kind)))), 1)

    def test_a_crate_without_a_place_is_an_error(self):
        self.assertIn("say where it stands", self.problems(crate("newcomer"))[0])


class Licences(unittest.TestCase):
    ALLOWED = {"MIT", "Apache-2.0", "Unicode-3.0"}

    def test_expressions(self):
        for expression, met in {
            "MIT": True,
            "GPL-3.0-only": False,
            "Unlicense/MIT": True,
            "GPL-3.0-only OR MIT": True,
            "MIT AND GPL-3.0-only": False,
            "(MIT OR GPL-3.0-only) AND Unicode-3.0": True,
            "GPL-3.0-only OR MIT AND Zlib": False,
            "MIT OR Zlib AND GPL-3.0-only": True,
            "Apache-2.0 WITH LLVM-exception": False,
            "Apache-2.0 WITH LLVM-exception OR MIT": True,
        }.items():
            self.assertEqual(check_licenses.satisfied(expression, self.ALLOWED), met, expression)

    def test_what_is_no_expression_is_an_error(self):
        for expression in ("", "MIT OR", "(MIT", "MIT)", "MIT Apache-2.0", "AND", "MIT WITH", "?"):
            with self.assertRaises(ValueError, msg=expression):
                check_licenses.satisfied(expression, self.ALLOWED)

    def test_sources_and_missing_licences_are_found(self):
        def package(name, source, licence="MIT"):
            return {"name": name, "version": "1.0.0", "source": source, "license": licence}

        def problems(*packages):
            return list(check_licenses.problems_of(packages, self.ALLOWED))

        self.assertEqual(problems(package("own", None), package("a", "registry+r")), [])
        self.assertIn("git+x", problems(package("a", "git+x"))[0])
        self.assertIn("2 registries", problems(package("a", "registry+r"), package("b", "registry+s"))[0])
        self.assertIn("no licence", problems(package("a", "registry+r", None))[0])
        self.assertIn("does not allow", problems(package("a", "registry+r", "GPL-3.0-only"))[0])


if __name__ == "__main__":
    unittest.main()
