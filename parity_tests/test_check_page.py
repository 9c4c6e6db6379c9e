"""The page of a port: everything that `check` found is on it, whatever its names and numbers are."""

import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from portparity import check, report
from portparity.checking.histograms import of_layer
from portparity.checking.trees import Row, Trees
from portparity.localise import Sides, Tap

from .models import sentence

NASTY = 'a<b>&"c"\'</script>'


class Page(HTMLParser):
    """The page as a browser would take it: tags that are left open or closed twice are errors."""

    VOID = frozenset({"meta", "input", "br", "path"})
    LEFT_OPEN = frozenset({"td", "th", "tr", "li", "dt", "dd"})  # HTML closes them by itself

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.tags, self.words = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []
        assert len(set(self.ids)) == len(self.ids)
        assert set(self.links) <= {f"#{name}" for name in self.ids}

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes["href"]] if "href" in attributes else []
        if tag not in self.VOID | self.LEFT_OPEN:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID | self.LEFT_OPEN:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def lines(self):
        """The attributes of each pair's line by what its data says: "ORIGINAL PORT"."""
        return {a["data-path"]: a for _, a in self.tags if "line" in (a.get("class") or "").split()}


class Other(sentence.with_fault(epsilon=1e-6)):
    """The port with a fault, and a layer of its own."""

    def __init__(self):
        super().__init__()
        self.extra = sentence.ms_nn.ReLU()

    def construct(self, tokens, t, mask=None, scale=1.0):
        found = super().construct(tokens, t, mask, scale)
        return {"logits": found["logits"], "pooled": self.extra(found["pooled"] + 9) - 9}


@pytest.fixture(scope="module")
def found():
    return check(
        sentence.Sentence, Other, sentence.inputs(), modes=("pynative",), training=False, references=2, scales=(1.0,)
    )


def written(found, folder):
    return Page((found.write(folder) / "report.html").read_text("utf-8"))


def test_four_files_hold_what_was_found(found, tmp_path):
    page = written(found, tmp_path)
    loaded = report.load(tmp_path / "results.json")
    assert [case["id"] for case in loaded["cases"]] == [outcome.id for outcome in found.outcomes]
    assert loaded["first_culprit"] == "norm"
    assert loaded["trees"]["pairs"]["norm"] == "norm"
    assert ET.parse(tmp_path / "junit.xml").getroot().get("tests") == str(len(found.outcomes))
    assert "First culprit: `norm`" in (tmp_path / "summary.md").read_text("utf-8")
    said = "".join(page.words)
    for layer in found.layers:
        assert layer.path in said
        assert f"report.about({layer.path!r})" in said
        assert {h.where for h in found.histograms[layer.path]} >= {"alone"}
    assert all(outcome.id in said for outcome in found.outcomes)
    assert not re.search(r'(src|href)="(?!#)|url\(|@import', (tmp_path / "report.html").read_text("utf-8"))


def test_the_culprit_is_marked_and_stands_open(found, tmp_path):
    page = written(found, tmp_path)
    lines = page.lines()
    assert [path for path, line in lines.items() if "culprit" in line["class"]] == ["norm norm"]
    opened = [a["id"] for _, a in page.tags if a.get("class") == "panel opened"]
    assert opened == [lines["norm norm"]["href"][1:]]
    assert "data-over" in lines["norm norm"]
    assert "norm: own error" in found.about("norm")


def test_an_unpaired_layer_is_grey_and_says_so(found, tmp_path):
    page = written(found, tmp_path)
    line = page.lines()["None extra"]
    assert "grey" in line["class"].split()
    assert "href" not in line
    assert "no counterpart in the original" in page.words


def test_a_layer_that_was_not_tried_says_why(found, tmp_path):
    page = written(replace(found, left_out={"conv": f"it raised {NASTY}"}), tmp_path)
    assert f"not tried alone: it raised {NASTY}" in page.words


def test_names_and_words_are_no_markup(found, tmp_path):
    path = f"conv.{NASTY}"
    trees = Trees(
        {**found.trees.original, path: NASTY}, {**found.trees.port, path: NASTY}, {**found.trees.pairs, path: path}
    )
    layer = replace(found.layers[1], path=path, message=NASTY)
    nasty = replace(
        found, trees=trees, layers=[*found.layers, layer], title=NASTY, notes=[NASTY], command=f"check {NASTY}"
    )
    page = written(nasty, tmp_path)
    assert f"{path} {path}" in page.lines()
    assert page.words.count(NASTY) >= 5
    assert not any(tag == "b" and "c" in attributes for tag, attributes in page.tags)
    json.loads((tmp_path / "results.json").read_text("utf-8"))
    ET.parse(tmp_path / "junit.xml")


@pytest.mark.parametrize("number", [math.nan, math.inf, 0.0, 1e300, 1e-300])
def test_no_number_breaks_the_page(found, tmp_path, number):
    tensors = [replace(tensor, ratio=number, candidate=number, rms_error=number) for tensor in found.layers[0].alone]
    layer = replace(found.layers[0], own=number, inherited_backward=number, alone=tensors)
    outcomes = [replace(found.outcomes[0], ratio=number, tensors=tensors), *found.outcomes[1:]]
    page = written(replace(found, layers=[layer, *found.layers[1:]], outcomes=outcomes), tmp_path)
    line = page.lines()["embed embed"]
    assert ("data-over" in line) == (not number <= 1)
    json.loads((tmp_path / "results.json").read_text("utf-8"))


def test_a_report_of_nothing_is_a_page(tmp_path):
    from portparity.checking import Report

    page = written(Report("nothing"), tmp_path)
    assert page.lines() == {}


def test_trees_keep_every_layer_once_and_in_order():
    trees = Trees(
        {"": "A", "a": "L", "b": "L", "b.0": "L", "c": "L"},
        {"": "B", "start": "L", "a": "L", "wrap": "L", "b": "L", "b.x": "L", "b.y": "L"},
        {"a": "a", "b": "b", "b.x": "b.0"},
    )
    assert trees.rows() == [
        Row("", ""), Row(None, "start"), Row("a", "a"), Row(None, "wrap"), Row("b", "b"), Row("b.0", "b.x"),
        Row(None, "b.y"), Row("c", None),
    ]  # fmt: skip


def test_histograms_count_what_is_finite_and_tell_the_rest():
    truth = {"y": np.linspace(-1, 1, 81), "y.1": np.zeros(3), "grad.0": np.ones(2)}
    ours = {"y": np.append(np.linspace(-1, 2, 80), np.nan).astype(np.float32), "grad.0": np.ones(2)}
    first, second = of_layer(Tap("a", Sides(ours, [truth], truth)))
    assert (first.low, first.high, first.not_finite) == (-1, 2, 1)
    assert (sum(first.truth), sum(first.candidate)) == (81, 80)
    assert (second.name, second.candidate, sum(second.truth)) == ("y.1", (), 3)
    assert second.low < 0 < second.high
