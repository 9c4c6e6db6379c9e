"""With pytest-xdist: what shares compiled graphs stays with one worker."""

import re

import pytest

APART = ("tests/test_recipes.py", "tests/test_endurance.py")  # long tests that share nothing


def pytest_itemcollected(item):
    """A file's tests run together, the harness's cases by what they compile (the scale of an input is none of it)."""
    given = item.callspec.params if hasattr(item, "callspec") else {}
    group = item.nodeid.split("::")[0]
    if hasattr(given.get("case"), "computation"):
        group = re.sub(r"-scale[\d.]+", "", given["case"].computation.key)
    elif hasattr(given.get("mutant"), "place"):
        group = f"mutant {given['mutant'].name}"
    elif group in APART:
        group = item.nodeid
    item.add_marker(pytest.mark.xdist_group(group))
