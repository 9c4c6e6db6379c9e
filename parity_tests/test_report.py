"""The reports: one results.json in, and nothing is lost, hidden or misread on the way to a reader."""

import io
import json
import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest

from portparity import report
from portparity.errors import HarnessError
from portparity.report import facts, words
from portparity.runner import BROKEN, Outcome
from portparity.tolerances import tolerance
from portparity.verdict import AGREE, DIFFER, TensorVerdict, judge_tensor

NASTY = 'layers/<script>alert("1")</script>-&\'|`x`-graph'
OURS, COSINE = RULES = ["float64-oracle ratio", "cosine > .99"]


def mutant(name, found_at, *by_rule):
    """A mutant that must be found at step/a."""
    return {
        "name": name, "family": "diffusion", "framework": "torch_ref", "place": "step/a", "found_at": found_at,
        "killed": found_at is not None, "at_place": found_at == "step/a",
        "by_rule": dict(zip(RULES, by_rule, strict=True)),
    }  # fmt: skip


MUTANTS = {
    "rules": RULES,
    "rows": [mutant("noise_sign", "step/a", True, True), mutant("beta_for_beta_tilde", "network/a", True, False)],
    "clean": {"variants": 100, "alarms": {OURS: 0, COSINE: 3}},
}


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def judged(name, factor=1.0, shape=(4, 6)):
    """A tensor whose candidate errs ``factor`` times as much as the reference."""
    rng = np.random.default_rng(len(name))
    truth = rng.standard_normal(shape)
    ulps = 2.0**-24 * rng.standard_normal(shape)
    reference = (truth * (1 + ulps)).astype(np.float32)
    return judge_tensor(name, (truth * (1 + factor * ulps)).astype(np.float32), [reference], truth, tolerance())


def trajectory(steps=500, leaves_at=None):
    """A free run that agrees, or leaves its envelope."""
    truth = np.exp(-np.arange(steps) / steps)
    rng = np.random.default_rng(0)
    runs = [(truth + 1e-7 * rng.standard_normal(steps)).astype(np.float32) for _ in range(3)]
    if leaves_at is not None:
        runs[0][leaves_at:] += 1e-3
    return judge_tensor("loss", runs[0], runs[1:], truth, tolerance(), rule="envelope")


def layers(failing=(), backward=()):
    """A run of layers, of which some fail on their own."""
    paths = ["init_conv", "downs.0.block1.proj", "downs.0.block1.norm", "downs.0", "mid.attn", "ups.0.conv", "final"]
    return [
        {
            "path": path, "depth": depth, "own": 40.0 if path in failing else 0.3, "inherited": 0.5,
            "own_backward": math.inf if path in backward else None, "inherited_backward": None,
            "verdict": DIFFER if path in failing or path in backward else AGREE,
        }
        for depth, path in enumerate(paths)
    ]  # fmt: skip


def outcome(name, tensors, tier="2", **more):
    """An outcome whose verdict is that of its tensors."""
    bad = [t for t in tensors if t.verdict == DIFFER]
    message = f"{bad[0].name}: {bad[0].message}" if bad else ""
    ratio = max(t.ratio for t in tensors)
    return Outcome(name, tier, verdict=DIFFER if bad else AGREE, message=message, ratio=ratio, tensors=tensors, **more)


def agreeing():
    return [
        outcome("maths/betas-linear", [judged("betas")], "0", seconds=0.1),
        outcome("layers/rms_norm-scale30-vjp-graph", [judged("out"), judged("d_x")], layers=layers()),
        outcome("sampling/ddpm-500", [trajectory()], "5"),
    ]


def failing():
    missing = TensorVerdict("d_bias", DIFFER, "missing in the candidate", math.inf)
    return [
        *agreeing(),
        outcome("layers/film-graph", [judged("out", 400.0), judged("d_x")]),
        outcome(
            "network/unet", [judged("out", 90.0)], "3", layers=layers(["downs.0.block1.norm", "downs.0"], ["final"])
        ),
        outcome(NASTY, [missing, judged("out")]),
        outcome("training/free_run", [trajectory(1000, 400)], "4"),
    ]


def broken():
    return Outcome("modes/bf16", "7", verdict=BROKEN, message="RuntimeError: no \x1b[31mop\x00 \ud800", ratio=math.inf)


def found(outcomes, **more):
    """The results of ``outcomes``."""
    told = {
        "candidate": "MindSpore", "reference": "PyTorch", "environment": {"numpy": "1.26", "threads": 2},
        "command": "python scripts/parity.py check", "check": "python scripts/parity.py check", "seconds": 12.5,
    }  # fmt: skip
    return report.results(outcomes, **(told | more))


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [([], 3), ([AGREE], 0), ([AGREE, DIFFER], 1), ([AGREE, BROKEN], 2), ([BROKEN, DIFFER], 1), ([BROKEN], 2)],
)
def test_the_exit_code_says_agree_differ_broken_or_nothing_ran(verdicts, code):
    outcomes = [Outcome(f"a/{i}", "0", verdict=verdict) for i, verdict in enumerate(verdicts)]
    assert report.exit_code(outcomes) == code
    assert found(outcomes)["summary"]["exit_code"] == code


def test_the_summary_counts_what_ran():
    assert found([*failing(), broken()])["summary"] == {
        "agree": 3, "differ": 4, "broken": 1, "total": 8, "exit_code": 1,
    }  # fmt: skip


def test_results_survive_a_round_trip_through_strict_json(tmp_path):
    results = found([*failing(), broken()], mutants=MUTANTS, bundle=tmp_path / "bundle")
    report.save(tmp_path / "results.json", results)
    assert report.load(tmp_path / "results.json") == results

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    json.loads((tmp_path / "results.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_infinities_survive_in_numbers_and_a_tensor_called_inf_stays_a_name(tmp_path):
    odd = TensorVerdict("inf", DIFFER, "nan", math.inf, max_error=math.inf, candidate=-math.inf, truth=math.nan)
    report.save(tmp_path / "results.json", found([outcome("a/i", [odd])]))
    tensor = report.load(tmp_path / "results.json")["cases"][0]["tensors"][0]
    assert (tensor["name"], tensor["message"]) == ("inf", "nan")
    assert (tensor["ratio"], tensor["max_error"], tensor["candidate"]) == (math.inf, math.inf, -math.inf)
    assert math.isnan(tensor["truth"])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99, "cases": []}'])
def test_a_file_that_is_no_results_json_is_a_broken_harness(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(HarnessError, match=r"results\.json"):
        report.load(tmp_path / "results.json")


def test_every_case_has_a_command_that_reproduces_it():
    cases = found([outcome("a/b c", [judged("x")])], bundle="bundles/x")["cases"]
    assert cases[0]["reproduce"] == "python scripts/parity.py check --case 'a/b c' --bundle bundles/x"
    kept = found([outcome("a/b", [judged("x")], reproduce="make it")])["cases"]
    assert kept[0]["reproduce"] == "make it"


def test_write_makes_all_four_files(tmp_path):
    written = report.write(found([*failing(), broken()], mutants=MUTANTS), tmp_path / "new")
    assert [path.name for path in written] == ["results.json", "junit.xml", "summary.md", "report.html"]
    assert all(path.stat().st_size for path in written)


def test_the_culprit_is_the_innermost_first_failing_layer_and_backward_starts_at_the_end():
    followed = layers(["downs.0.block1.norm", "downs.0", "ups.0.conv"], ["mid.attn", "final"])
    assert facts.culprit(followed)["path"] == "downs.0.block1.norm"
    assert facts.culprit(followed, facts.BACKWARD)["path"] == "final"
    assert facts.culprit(layers()) is None
    container_first = [{"path": p, "own": own, "inherited": own} for p, own in [("a", 9.0), ("a.b", 0.1), ("a.c", 9.0)]]
    assert facts.culprit(container_first)["path"] == "a.c"


def test_the_tree_stops_at_the_culprit_and_folds_what_agrees():
    lines = words.tree(layers(["mid.attn"]))
    assert [line.split()[0] for line in lines] == ["init_conv", "downs", "mid", "attn"]
    assert "(3 layers)" in lines[1]
    assert lines[-1].endswith("<- first culprit")
    assert lines[-1].startswith("  attn")


@pytest.mark.parametrize(
    ("outcomes", "sentence"),
    [
        (agreeing(), "3 of 3 checks agree: MindSpore computes what PyTorch computes."),
        (agreeing()[:1], "The one check agrees: MindSpore computes what PyTorch computes."),
        (failing()[:4], "1 of 4 checks differs; it is layers/film-graph."),
        (failing()[:5], "2 of 5 checks differ; the first is layers/film-graph."),
        (
            [broken(), *failing()[:4]],
            "1 of 5 checks differs and 1 could not be judged; the first is layers/film-graph.",
        ),
        ([broken()], "1 of 1 check could not be judged; it is modes/bf16."),
        ([], "Nothing ran, so nothing is known."),
    ],
)
def test_the_headline_says_the_whole_in_one_sentence(outcomes, sentence):
    assert words.headline(found(outcomes)) == sentence


def test_a_line_names_verdict_id_ratio_error_ulp_and_index_within_100_columns():
    cases = found([*failing(), broken()])["cases"]
    line = report.terminal.line(cases[3], io.StringIO())
    tensor = facts.worst_tensor(cases[3])
    assert re.search(
        rf"^DIFFER layers/film-graph +{re.escape(words.ratio(tensor['ratio']))} +max .*e-\d\d +\d+ ulp +\[\d,\d\]$",
        line,
    ), line
    assert all(len(report.terminal.line(case, io.StringIO())) <= 100 for case in cases)


def test_the_summary_of_the_terminal_has_values_tree_command_and_fits_100_columns():
    text = report.terminal.summary(found([*failing(), broken()], mutants=MUTANTS), io.StringIO())
    assert max(len(line) for line in text.splitlines() if "reproduce: " not in line) <= 100
    for expected in (
        "float64",
        "norm",
        "<- first culprit",
        "reproduce: python scripts/parity.py check --case",
        "4 of 8",
    ):
        assert expected in text, expected
    assert "\x1b" not in text
    assert "no ?[31mop? ?" in text
    text.encode("utf-8")


def test_colour_only_where_a_terminal_wants_it(monkeypatch):
    case = found(agreeing())["cases"][0]
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in report.terminal.line(case, Terminal())
    assert "\x1b[" not in report.terminal.line(case, io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in report.terminal.line(case, Terminal())


def test_junit_parses_and_counts():
    root = ET.fromstring(report.junit.render(found([*failing(), broken()])))
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("8", "4", "1")
    assert sum(int(suite.get("tests")) for suite in root) == len(root.findall(".//testcase")) == 8
    assert [suite.get("name") for suite in root][:2] == ["0 maths", "2 layers"]
    assert NASTY in {test.get("name") for test in root.iter("testcase")}
    assert len(root.findall(".//failure")) == 4
    error = root.find(".//error")
    assert error.get("message") == "RuntimeError: no ?[31mop? ?"
    assert "reproduce: " in error.text


def test_markdown_shows_failures_first_and_stays_short():
    many = [outcome(f"layers/film-{i}", [judged("out", 400.0)], layers=layers(["final"])) for i in range(300)]
    text = report.markdown.summary(found([*agreeing(), *many], mutants=MUTANTS))
    assert len(text) <= report.markdown.LIMIT
    first, table, kills, environment = (text.index(s) for s in ("layers/film-0", "| tier |", "killed", "| threads |"))
    assert first < table < kills < environment
    assert "reproduce: python scripts/parity.py check --case layers/film-0" in text
    assert "more, in the report" in text
    assert "| 1 of 2 | 3 of 100 |" in text


def test_markdown_of_huge_messages_is_still_whole_within_its_limit():
    huge = [Outcome(f"a/{i}", "0", verdict=BROKEN, message="x" * 5000 + "```", ratio=math.inf) for i in range(40)]
    text = report.markdown.summary(found(huge))
    assert len(text) <= report.markdown.LIMIT
    assert "| threads | `2` |" in text


def test_the_kill_matrix_has_every_mutant_every_rule_and_the_totals():
    rows = report.markdown.kill_matrix(MUTANTS).splitlines()
    assert len(rows) == 2 + 2 + 2
    assert {row.count(" | ") for row in rows} == {5}
    assert "found at `network/a`" in rows[3]
    assert rows[3].endswith("| ✓ | · |")
    assert rows[4].endswith("| 2 of 2 | 1 of 2 |")
    assert rows[5].endswith("| 0 of 100 | 3 of 100 |")


class Page(HTMLParser):
    """Reads a page: its text, its scripts, what it links to and what it loads."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.loads, self.ids, self.texts = [], [], [], set(), []
        self.feed(text)
        self.text = " ".join(self.texts)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for key, value in attrs:
            {"href": self.links, "src": self.loads, "srcset": self.loads}.get(key, []).append(value)
            if key == "id":
                assert value not in self.ids, f"id {value} twice"
                self.ids.add(value)

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_escapes_what_it_is_told():
    text = report.html.page(found([*failing(), broken()], environment={"<b>": "<img src=x onerror=y>"}))
    page = Page(text)
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert "b" not in page.tags
    assert "alert" not in text.split("<script>")[-1]
    assert NASTY in page.text
    assert "\x00" not in text
    assert "\x1b" not in text
    text.encode("utf-8")


def test_the_page_loads_nothing_and_its_links_lead_somewhere():
    text = report.html.page(found([*failing(), broken()], mutants=MUTANTS))
    page = Page(text)
    assert page.loads == []
    assert {"link", "iframe", "object", "embed", "image"}.isdisjoint(page.tags)
    assert not re.search(r"@import|url\(", text)
    assert page.links
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)


def test_the_page_names_every_case_and_has_every_part():
    results = found([*failing(), broken()], mutants=MUTANTS)
    page = Page(report.html.page(results))
    assert all(case["id"] in page.text for case in results["cases"])
    assert {"failures", "about", "ratios", "depth", "trajectories", "mutants", "checks"} <= page.ids
    assert words.headline(results) in page.text
    assert "first culprit" in page.text
    assert "outside from step 400" in page.text
    assert "found at network/a" in page.text


@pytest.mark.parametrize(
    ("rows", "alarms", "passed"),
    [
        ([mutant("a", "step/a", True, True)], 0, True),
        ([mutant("a", "step/a", True, True)], 1, False),
        ([mutant("a", "step/b", True, True)], 0, False),
        ([mutant("a", "step/a", True, True), mutant("b", None, False, False)], 0, False),
        ([], 0, False),
    ],
)
def test_mutants_alone_are_good_when_all_die_at_their_place_without_an_alarm(rows, alarms, passed):
    mutants = {"rules": RULES, "rows": rows, "clean": {"variants": 100, "alarms": {OURS: alarms, COSINE: 50}}}
    assert facts.is_good(found([], mutants=mutants)) == passed


@pytest.mark.parametrize("mutants", [None, MUTANTS])
def test_a_page_of_nothing_says_so(mutants):
    page = Page(report.html.page(found([], mutants=mutants)))
    assert ("Nothing ran" in page.text) == (mutants is None)
    assert "failures" not in page.ids


def test_a_page_of_odd_numbers_is_drawn():
    nothing = TensorVerdict("empty", shape=(0,))
    curves = {"error": [0.0, math.nan], "bound": [0.0, math.inf], "reference": [0.0, 0.0], "first_outside": 0}
    odd = TensorVerdict("odd", DIFFER, "odd", math.nan, trajectory=curves, index=(0,))
    one = {
        "error": [0.0],
        "bound": [0.0],
        "reference": [0.0],
        "first_outside": None,
        "candidate": [1.0],
        "truth": [1.0],
    }
    outcomes = [
        outcome("a/empty", [nothing]),
        outcome(
            "a/odd", [odd], layers=[{"path": "x", "depth": 0, "own": math.nan, "inherited": None, "verdict": DIFFER}]
        ),
        outcome("a/one", [TensorVerdict("one", trajectory=one, index=(0,))]),
        Outcome("a/none", "unheard-of"),
    ]
    results = found(outcomes)
    text = report.html.page(results)
    assert not re.search(r'(?:d|x|y|cx|cy|width|height)="[^"]*(?:nan|inf)', text)
    ET.fromstring(report.junit.render(results))
    assert report.markdown.summary(results)
    assert report.terminal.summary(results, io.StringIO())


def test_charts_have_the_pages_colours_and_letters_and_nothing_that_could_clash():
    drawn = re.findall(r"<svg.*?</svg>", report.html.page(found(failing())), re.S)
    assert len(drawn) == 8  # ratios, depth of two checks and once backward, two free runs with their values
    colours = {colour for chart in drawn for colour in re.findall(r"(?:fill|stroke): ([^;\"]+)", chart)}
    assert {"var(--accent)", "var(--soft)", "var(--bad)"} <= colours
    assert all(colour == "none" or re.fullmatch(r"var\(--[a-z0-9]+\)", colour) for colour in colours), colours
    variables = {name for colour in colours for name in re.findall("--[a-z0-9]+", colour)}
    assert all(f"{name}:" in report.style.CSS for name in variables), variables
    for chart in drawn:
        assert ET.fromstring(chart).get("aria-label")
        assert not re.search(r"\bid=|<g|<defs|<use|<style|clip-path|DejaVu", chart)
        assert chart.count("<text") == chart.count("var(--sans)") > 3


def test_every_check_and_every_layer_can_be_pointed_at():
    results = found([*failing(), broken()])
    told = re.findall(r"<title>(\d+) checks? with", report.charts.histogram(results["cases"]))
    assert sum(map(int, told)) == len(results["cases"]) - 1  # one could not be judged
    followed = layers(["mid.attn"])
    dots = re.findall(r"<circle[^>]*><title>([^:]*): own ([^,]*)", report.charts.depth(followed))
    assert {path for path, _ in dots} == {layer["path"] for layer in followed}
    assert dots[-1] == ("mid.attn", "40.0")


def test_a_layer_of_any_name_is_drawn(capfd):
    odd = [{**layer, "path": f"{layer['path']} $x^{{2$ <b>&\x00\ud800\u4e2d"} for layer in layers(["mid.attn"])]
    for layer in odd:
        layer["own"] = 40.0 if layer["path"].startswith("mid") else 0.3
    drawn = report.charts.depth(odd)
    ET.fromstring(drawn)
    assert "mid.attn $x^{2$ &lt;b&gt;&amp;\ufffd\ufffd\u4e2d  40.0</text>" in drawn
    assert capfd.readouterr() == ("", "")


def test_the_same_results_give_the_same_page():
    results = found([*failing(), broken()], mutants=MUTANTS)
    assert report.html.page(results) == report.html.page(results)


def test_a_page_of_700_checks_stays_below_two_megabytes():
    tensors = [judged(f"downs.{i}.block1.proj.weight", shape=(2, 3, 4, 5)) for i in range(12)]
    outcomes = [outcome(f"layers/resnet_block-scale30-vjp-{i}", tensors) for i in range(700)]
    size = len(report.html.page(found(outcomes, mutants=MUTANTS)).encode())
    assert size < 2_000_000, f"{size} bytes"
