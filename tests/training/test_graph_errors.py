"""A graph that MindSpore cannot compile: one line, and everything it leaves behind in one folder."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from ms_ddpm.training.graph_errors import VARIABLE, GraphError, graph_errors, reports_to

pytestmark = pytest.mark.graph


@pytest.fixture(scope="module")
def broken(mindspore):
    """A Cell whose loss the compiler refuses."""
    from mindspore import Parameter, nn, ops

    class Broken(nn.Cell):
        channels, image_size = 1, (8, 8)

        def __init__(self):
            super().__init__()
            self.w = Parameter(np.ones((1, 8, 8), np.float32), name="w")
            self.product = ops.MatMul()

        def draw(self, rng, batch):
            return ()

        def construct(self, image):
            return self.product(self.w * image, 3)

    return Broken


def test_training_says_one_line_and_leaves_its_reports_in_the_output_directory(broken, tmp_path, monkeypatch):
    from ms_ddpm import Trainer

    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    trainer = Trainer(broken(), "digits", results_folder=tmp_path / "run", train_num_steps=1, progress=False)
    with pytest.raises(GraphError) as caught, graph_errors():  # as the command line has it: a block around the block
        trainer.train()
    text = str(caught.value)
    assert "\n" not in text
    assert "MatMul" in text
    whole = tmp_path / "run" / "compiler" / "error.txt"
    assert text.endswith(f"its whole message is in {whole}")
    assert "The Traceback of Net Construct Code" in whole.read_text()
    assert list((tmp_path / "run" / "compiler").rglob("analyze_fail.ir"))
    assert os.listdir(tmp_path) == ["run"]
    assert VARIABLE not in os.environ


def test_a_place_that_the_user_chose_stays(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "/somewhere/else")
    with graph_errors(tmp_path):
        assert os.environ[VARIABLE] == "/somewhere/else"
    assert os.environ[VARIABLE] == "/somewhere/else"


def test_other_errors_pass_and_the_inner_place_counts(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    places = []

    def fails():
        with graph_errors(tmp_path / "outer"), graph_errors(tmp_path / "inner"):
            places.append(Path(os.environ[VARIABLE]))
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fails()
    assert places == [tmp_path / "inner"]
    assert VARIABLE not in os.environ
    assert os.listdir(tmp_path) == []


def test_each_thread_has_its_own_place(tmp_path, monkeypatch):
    """One Trainer ends while another's graph fails, as in a page that trains in threads."""
    monkeypatch.delenv(VARIABLE, raising=False)
    entered, left, said = threading.Event(), threading.Event(), []

    def other():
        with graph_errors(tmp_path / "other"):
            entered.set()
            left.wait(30)
        said.append(os.environ.get(VARIABLE))

    def fails():
        with graph_errors(tmp_path / "mine"):
            thread = threading.Thread(target=other)
            thread.start()
            entered.wait(30)
            left.set()
            thread.join()
            raise TypeError("wrong\n- C++ Call Stack: (For framework developers)")

    with pytest.raises(GraphError, match=r"/mine/error\.txt$"):
        fails()
    assert said == [str(tmp_path / "mine")]
    assert VARIABLE not in os.environ


def test_a_command_may_say_later_where_it_writes(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)

    def fails():
        with graph_errors():
            reports_to(tmp_path / "out" / "compiler")
            raise TypeError("wrong\n- C++ Call Stack: (For framework developers)\nmany lines")

    with pytest.raises(GraphError, match=r"a graph: wrong; its whole message is in .*/out/compiler/error\.txt$"):
        fails()
    assert "many lines" in (tmp_path / "out" / "compiler" / "error.txt").read_text()
    assert VARIABLE not in os.environ
