"""Shared set-up: both frameworks in one process, and every computation run once for all the cases on it."""

import json
import os
import sys
from collections import OrderedDict
from contextlib import nullcontext
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
KEPT = 8  # records of the trusted side, for the cases next to them
RUN_ALL = os.environ.get("MS_DDPM_FUZZ") == "all"  # scripts/test.sh --all: every mutant here, and more inputs in tests/
sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="session", autouse=True)
def _no_stray_files(tmp_path_factory):
    """MindSpore writes rank_0/ into the working directory when a graph fails to parse."""
    os.environ["PYTHONPATH"] = str(ROOT)  # for the processes that tests start
    os.chdir(tmp_path_factory.mktemp("cwd"))


@pytest.fixture(scope="session")
def outcomes():
    """(case, its computation's cases) -> its Outcome; the first case of a computation runs it for the others.

    ``around`` is a context of the candidate's leg, whose outcomes are others.
    """
    from parity_tests.cases import LONG
    from portparity.bundles import known_or_run
    from portparity.runner import run

    found, trusted = {}, OrderedDict()

    def recorded(made):
        """What the trusted side gives, once for both execution modes, of which it knows nothing."""
        name = made.key.removesuffix("-graph").removesuffix("-pynative")
        of_both = json.dumps([name, {key: value for key, value in made.spec.items() if key != "mode"}], sort_keys=True)
        if of_both not in trusted:
            trusted[of_both] = known_or_run(made, LONG)
            if len(trusted) > KEPT:
                trusted.popitem(last=False)
        return trusted[of_both]

    def outcome_of(case, members, around=nullcontext):
        if (case.id, around) not in found:
            made = run(members, recorded=recorded, around=around)
            found.update({(outcome.id, around): outcome for outcome in made})
        return found[case.id, around]

    return outcome_of
