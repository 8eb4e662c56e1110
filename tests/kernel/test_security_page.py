"""The page about security names only tests that there are."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
FILES = {"E": "tests/kernel/test_kernel_escape.py", "S": "tests/kernel/test_kernel_sandbox.py"}


def named():
    for code in re.findall(r"`([^`]+)`", PAGE):
        words = code.split()
        if len(words) == 2 and words[0] in FILES:
            yield FILES[words[0]], words[1]
        elif len(words) == 2 and words[0].endswith(".py"):
            (path,) = ROOT.glob(f"tests/**/{Path(words[0]).name}")
            yield str(path.relative_to(ROOT)), words[1]
        elif code.endswith(".py") and " " not in code:
            assert list(ROOT.glob(f"tests/**/{Path(code).name}")), code


def test_every_test_that_is_named_exists():
    found = list(named())
    assert len(found) > 20
    for path, name in found:
        assert f"def test_{name}" in (ROOT / path).read_text(), (path, name)


def test_every_test_of_the_suite_is_on_the_page():
    on_page = set(named())
    for path in FILES.values():
        for name in re.findall(r"^def test_(\w+)", (ROOT / path).read_text(), re.MULTILINE):
            known = any(name.startswith(part) for where, part in on_page if where == path)
            assert known or name in NOT_ATTACKS, (path, name)


#: What shows that honest agents are served.
NOT_ATTACKS = {
    "the_network_is_open_to_who_was_given_it",
    "programs_are_confined_as_the_agent_is",
    "paths_that_are_given",
    "what_cannot_be_given_keeps_an_agent_from_starting",
    "what_is_in_force_is_shown_and_on_the_log",
    "a_trusted_agent_is_not_confined_and_says_so",
    "scratch_folders_are_new_private_and_gone_with_their_agent",
    "what_a_killed_kernel_leaves_is_removed_by_the_next",
}
