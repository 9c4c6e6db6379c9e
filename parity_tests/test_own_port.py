"""docs/own_port.md works as written, on a model that is not ours."""

import re
import subprocess
import sys

import pytest

from .conftest import ROOT

PAGE = (ROOT / "docs" / "own_port.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What the page's code blocks print, run one after another in a process of their own.

    Why: after some other PyNative gradients in the process, MindSpore 2.10 says of stock LayerNorm's gradient that "the
    index 7 is out of range of input num 7". It depends on what ran before; a reader's process has nothing before.
    """
    page = tmp_path_factory.mktemp("own_port") / "page.py"
    page.write_text("\nprint('-- next block', flush=True)\n".join(BLOCKS), encoding="utf-8")
    result = subprocess.run([sys.executable, str(page)], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.split("-- next block\n")


def test_the_first_block_is_thirty_lines():
    assert len(BLOCKS[0].strip().splitlines()) <= 30


def test_the_page_prints_what_it_says(printed):
    shown = re.search(r"```text\n(.*?)```", PAGE, re.DOTALL)[1].strip().splitlines()
    got = printed[0].strip().splitlines()
    assert [line.split()[:2] for line in got] == [line.split()[:2] for line in shown]
    assert got[-1] == "first culprit: norm"


def test_another_framework_pair_is_judged(printed):
    assert printed[1].startswith("agree")


def test_recorded_and_checked_again(printed):
    assert printed[2].split()[0] == "differ"  # the first port is wrong there too


def test_the_right_port_agrees_in_both_modes():
    from parity_tests import Case, run
    from parity_tests.examples.classifier import NAMES, Classifier, FirstPort, Port, inputs
    from parity_tests.localise import first_culprit, localise_layers
    from parity_tests.ports import layer_taps, port

    for mode in ("graph", "pynative"):
        (outcome,) = run([Case("own", "3", port("own", inputs, Classifier, Port, NAMES, mode))])
        assert outcome.verdict == "agree", outcome.message
    layers = ("stem", "norm", "hidden", "act", "out", "head")
    assert first_culprit(localise_layers(layer_taps(inputs(), Classifier(), Port(), layers, NAMES))) is None
    wrong = localise_layers(layer_taps(inputs(), Classifier(), FirstPort(), layers, NAMES))
    assert [layer.path for layer in wrong if layer.verdict == "differ"] == ["norm", "act"]
