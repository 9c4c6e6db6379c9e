"""Every check of the harness, MindSpore against PyTorch, one line a check; what `scripts/parity.py check` runs."""

from collections import Counter

import pytest

from parity_tests.cases import TIERS, TITLES, all_cases
from portparity.backends import why_not
from portparity.verdict import AGREE

CASES = all_cases()
MEMBERS = {}
for _case in CASES:
    MEMBERS.setdefault(_case.computation, []).append(_case)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_agrees(case, outcomes):
    if reason := why_not("mindspore", case.computation.spec):
        pytest.skip(reason)
    outcome = outcomes(case, MEMBERS[case.computation])
    assert outcome.verdict == AGREE, f"{outcome.message}; see: python scripts/parity.py check --case '{case.id}'"


def test_there_are_at_least_400_checks_and_every_name_is_unique():
    names = Counter(case.id for case in CASES)
    assert len(names) >= 400
    assert [name for name, count in names.items() if count > 1] == []
    assert len(MEMBERS) == len({computation.key for computation in MEMBERS})


def test_every_tier_has_checks_and_calls_them_by_its_name():
    for tier in TIERS:
        ids = [case.id for case in CASES if case.tier == tier]
        assert ids, tier
        assert all(name.startswith(f"{TITLES[tier]}/") for name in ids), tier


def test_both_execution_modes_are_covered():
    for tier in ("0", "1", "2", "3", "4"):
        assert {case.mode for case in CASES if case.tier == tier} == {"graph", "pynative"}, tier


def test_the_kernels_are_judged_beside_what_they_replace():
    ids = {case.id for case in CASES}
    by_kernels = [name for name in ids if "-kernels-" in name]
    assert len(by_kernels) >= 500
    plain = {name.replace("-kernels-", "-") for name in by_kernels if name.startswith("network/")}
    assert plain <= ids
    assert {case.computation.spec.get("kernels", False) for case in CASES if "-kernels-" in case.id} == {True}


def test_specs_are_json_and_no_two_computations_share_one():
    import json

    specs = Counter(json.dumps(computation.spec, sort_keys=True) + computation.key for computation in MEMBERS)
    assert max(specs.values()) == 1
