"""With pytest-xdist: what shares compiled graphs stays with one worker."""

import re

import pytest


def pytest_itemcollected(item):
    """Tests of a file run together, the harness's cases by what they compile (the scale of an input is none of it)."""
    case = getattr(item, "callspec", None) and item.callspec.params.get("case")
    key = getattr(getattr(case, "computation", None), "key", None)
    item.add_marker(pytest.mark.xdist_group(re.sub(r"-scale[\d.]+", "", key) if key else item.nodeid.split("::")[0]))
