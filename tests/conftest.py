"""Shared set-up: MindSpore on the CPU, started once, and small networks compiled once a session."""

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="session", autouse=True)
def _no_stray_files(tmp_path_factory):
    """MindSpore writes rank_0/ into the working directory when a graph fails to parse."""
    import os

    os.environ["PYTHONPATH"] = str(ROOT)  # for the processes that tests start
    os.chdir(tmp_path_factory.mktemp("cwd"))


@pytest.fixture(scope="session")
def mindspore():
    """MindSpore, started as the scripts start it."""
    from ms_ddpm import runtime

    runtime.setup("CPU")
    import mindspore as ms

    ms.runtime.launch_blocking()  # errors name the operator that made them
    return ms


@pytest.fixture
def train_script():
    """The module of the command train."""
    from ms_ddpm.cli import train

    return train


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def relative_rms(actual, truth):
    """rms of the error over rms of the truth, in float64."""
    truth = np.asarray(truth, np.float64)
    return float(np.sqrt(np.mean((np.asarray(actual, np.float64) - truth) ** 2) / np.mean(truth**2)))


@pytest.fixture
def words_of(monkeypatch):
    """A function that gives the words of every figure drawn since it was called last."""
    from ms_ddpm.pictures import figures

    said, rendered = [], figures.rendered

    def recording(figure, *args, **options):
        from matplotlib.text import Text

        picture = rendered(figure, *args, **options)
        said.extend(text.get_text() for text in figure.findobj(Text) if text.get_visible() and text.get_text())
        return picture

    def words():
        now = list(said)
        said.clear()
        return now

    monkeypatch.setattr(figures, "rendered", recording)
    return words
