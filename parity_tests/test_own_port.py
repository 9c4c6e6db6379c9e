"""docs/own_port.md works as written, on a model that is not ours."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from portparity import bundles
from portparity.errors import BundleError
from portparity.ports import sources_of

from .conftest import ROOT

PAGE = (ROOT / "docs" / "own_port.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def in_its_own_process(tmp_path_factory, code):
    """What ``code`` prints, run as a reader runs it: with nothing before it.

    Why: after some other PyNative gradients in the process, MindSpore 2.10 says of stock LayerNorm's gradient that "the
    index 7 is out of range of input num 7".
    """
    page = tmp_path_factory.mktemp("own_port") / "page.py"
    page.write_text(code, encoding="utf-8")
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PYTHONPATH": path}
    result = subprocess.run([sys.executable, str(page)], capture_output=True, text=True, timeout=300, env=env)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What the page's code blocks print, one after another."""
    code = "\nprint('-- next block', flush=True)\n".join(BLOCKS)
    return in_its_own_process(tmp_path_factory, code).split("-- next block\n")


def test_the_verdict_takes_two_lines():
    assert len([line for line in BLOCKS[0].splitlines() if line.startswith(("report =", "print"))]) == 2


def test_the_page_prints_what_it_says(printed):
    shown = re.search(r"```text\n(.*?)```", PAGE, re.DOTALL)[1].strip().splitlines()
    verdicts = ("differ", "agree", "forward:", "backward:")
    got = [line for line in printed[0].strip().splitlines() if line.split()[0].startswith(verdicts)]
    assert [line.split()[:4] for line in got] == [line.split()[:4] for line in shown]


def test_recorded_and_checked_again(printed):
    assert printed[1].split() == ["differ"]  # the first port is wrong there too


def test_another_framework_pair_is_judged(printed):
    assert printed[4].startswith("agree")


def test_a_function_of_tensors_is_judged(printed):
    assert printed[3].split() == ["agree"]


def test_the_chinese_page_has_the_same_code():
    chinese = (ROOT / "docs" / "own_port.zh.md").read_text(encoding="utf-8")
    code = re.findall(r"```(?:python|text)\n(.*?)```", chinese, re.DOTALL)
    english = re.findall(r"```(?:python|text)\n(.*?)```", PAGE, re.DOTALL)
    assert [re.sub("#.*", "", block) for block in code] == [re.sub("#.*", "", block) for block in english]


BOTH_MODES = """
import json

from portparity import Case, run
from portparity.examples.classifier import LAYERS, NAMES, Classifier, FirstPort, Port, inputs
from portparity.localise import first_culprit, localise_layers
from portparity.ports import layer_taps, port

said = {}
for mode in ("graph", "pynative"):
    (outcome,) = run([Case("own", "3", port("own", inputs, Classifier, Port, NAMES, mode))])
    said[mode] = [outcome.verdict, outcome.message]
right = localise_layers(layer_taps(inputs(), Classifier(), Port(), LAYERS, NAMES))
wrong = localise_layers(layer_taps(inputs(), Classifier(), FirstPort(), LAYERS, NAMES))
said["culprit"] = first_culprit(right)
said["differ"] = [layer.path for layer in wrong if layer.verdict == "differ"]
print(json.dumps(said))
"""


def test_the_right_port_agrees_in_both_modes(tmp_path_factory):
    said = json.loads(in_its_own_process(tmp_path_factory, BOTH_MODES).splitlines()[-1])
    for mode in ("graph", "pynative"):
        verdict, message = said[mode]
        assert verdict == "agree", f"{mode}: {message}"
    assert said["culprit"] is None
    assert said["differ"] == ["norm", "act"]


ORIGINAL = """
import numpy as np

SCALE = {scale}


def inputs():
    return {{"x": np.full((2, 3), {value}, np.float32)}}


def make():
    import torch

    class Net(torch.nn.Module):
        def forward(self, x):
            return x * SCALE

    return Net()
"""


def own_case(folder, scale=2.0, value=1.5):
    """A case of an own port, whose original and inputs are as written now."""
    from portparity import Case
    from portparity.ports import port
    from portparity.sides.places import loaded

    (folder / "original.py").write_text(ORIGINAL.format(scale=scale, value=value))
    sys.modules.pop("portparity_place_original", None)
    make, inputs = (loaded(f"{folder / 'original.py'}:{name}") for name in ("make", "inputs"))
    computation = port("own/net", lambda: {**inputs(), "cotangent": np.ones((2, 3), np.float32)}, make, None)
    return Case("own/net", "3", replace(computation, sources=sources_of(make)))


def test_a_bundle_of_an_own_port_is_refused_when_the_original_or_the_inputs_have_changed(tmp_path):
    """With an empty spec the old bundle went on agreeing."""
    bundles.source_hash.cache_clear()
    case = own_case(tmp_path)
    bundles.record_all([case], tmp_path / "bundles", "torch", flags={})
    known = bundles.Recorded(tmp_path / "bundles", [case])(case.computation)
    assert known.truth["y"][0, 0] == 3.0
    for changed, why in (({"scale": 2.5}, "is stale"), ({"value": 1.25}, "is stale")):
        bundles.source_hash.cache_clear()
        now = own_case(tmp_path, **changed)
        with pytest.raises(BundleError, match=why):
            bundles.Recorded(tmp_path / "bundles", [now])(now.computation)
    bundles.source_hash.cache_clear()
    case = own_case(tmp_path)
    other = replace(case.computation, inputs=lambda: {name: v + 1 for name, v in case.computation.inputs().items()})
    with pytest.raises(BundleError, match="other inputs"):
        bundles.Recorded(tmp_path / "bundles", [case])(other)
