"""What stands around the arithmetic: it is as written down in numpy, and every known bug of it is found."""

import pytest

from ms_ddpm import runtime
from parity_tests.mutants.found import already
from parity_tests.mutants.orchestration import ORCHESTRATION
from parity_tests.orchestration import CHECKS, prepare
from parity_tests.orchestration.training import check_fixtures_differ

from .conftest import RUN_ALL


@pytest.fixture(scope="module", autouse=True)
def _started():
    """MindSpore as the scripts start it, so that the C++ kernels compute where they are built."""
    runtime.setup("CPU")
    prepare()


@pytest.mark.parametrize("name", CHECKS)
def test_it_is_as_written_down(name, tmp_path):
    """Training as graphs; of the rest, that is tested as graphs elsewhere, nothing is compiled."""
    with runtime.execution_mode(0 if name.startswith("training/") else 1):
        CHECKS[name](tmp_path)


def test_in_the_runs_whatever_can_be_confused_differs():
    check_fixtures_differ()


@pytest.mark.parametrize("mutant", ORCHESTRATION, ids=lambda mutant: mutant.name)
def test_a_mutant_is_found_by_its_check(mutant, tmp_path):
    if not RUN_ALL and mutant.name in already("mindspore"):
        with mutant.apply():  # raises where it no longer fits the source
            return
    with runtime.execution_mode(1), mutant.apply(), pytest.raises(AssertionError):  # nothing is compiled: cheap
        CHECKS[mutant.check](tmp_path)


def test_there_is_a_mutant_for_every_check():
    names = [mutant.name for mutant in ORCHESTRATION]
    assert len(set(names)) == len(names)
    assert {mutant.check for mutant in ORCHESTRATION} == set(CHECKS)
