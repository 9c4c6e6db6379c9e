"""The operators' atlas finds what is planted, says where, and its reproducers show what its rows say."""

import re
import subprocess
import sys

import numpy as np
import pytest

from portparity.atlas import __main__ as command
from portparity.atlas import differences, page, rows, table, worst
from portparity.atlas import run as run_atlas
from portparity.atlas.entries import Entry
from portparity.atlas.measure import measure
from portparity.errors import NothingRan

from .conftest import ROOT

REAL = {"x": "real"}
PLANTED = [
    Entry("planted offset", "ops.sin(x) + 0.1 * (x > 9.9)", "torch.sin(x)", REAL),
    Entry("planted gradient", "ops.stop_gradient(x) * x", "x * x", {"x": "normal 4 5"}),
    Entry("planted order", "ops.flip(x, (1,))", "x", {"x": "normal 2 3"}, tags=("exact",)),
    Entry("planted NaN", "ops.select(ops.isnan(x), ops.zeros_like(x), x)", "x * 1", REAL),
    Entry("planted nothing", "x * 1", "x * 1", REAL),
    Entry("planted absence", "ops.not_there(x)", "x", REAL),
    Entry("planted end", "__import__('os').abort()", "x", REAL),
]


@pytest.fixture(scope="module")
def found():
    """Rows of exp and of what is planted; the last of that ends the process."""
    pytest.importorskip("mindspore")
    pytest.importorskip("torch")
    exp = [entry for entry in table() if entry.name == "ops.exp"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["portparity.atlas.run"], "ENDINGS", 1)  # not asked again in other ways
        return run_atlas(dtypes=("float32",), modes=("pynative",), table=[*exp, *PLANTED])


def of(found, name, part="y"):
    return [row for row in found if row.operator == name and row.part == part]


def test_the_table_has_what_networks_use():
    operators = table()
    names = {entry.name for entry in operators}
    assert len(names) == len(operators) >= 120
    assert {entry.module for entry in operators} >= {"ops", "nn", "mint"}
    assert len(differences.table()) >= 100
    assert all(len(differences.lines_of(text)) for d in differences.table() for text in (d.mindspore, d.torch))


def test_exp_is_further_off_than_pytorchs(found):
    row = next(row for row in of(found, "ops.exp") if row.ulp)
    assert row.ulp > 4 * row.torch_ulp
    assert row.torch_ulp <= 1
    assert row.verdict == rows.IMPRECISE


def test_an_offset_is_found_where_it_is(found):
    row = next(row for row in of(found, "planted offset") if row.ulp)
    assert row.verdict == rows.IMPRECISE
    assert row.ulp > 1e5
    assert float(row.where.removeprefix("x = ")) > 9.9
    assert float(row.mindspore) - float(row.truth) == pytest.approx(0.1, abs=1e-5)


def test_half_a_gradient_is_wrong_and_its_result_is_not(found):
    [result], [gradient, *_] = of(found, "planted gradient"), of(found, "planted gradient", "grad x")
    assert (result.verdict, gradient.verdict) == (rows.AGREES, rows.WRONG)
    assert gradient.said == "off by 0.5 of the size of the result"


def test_a_number_that_only_had_to_move_may_not_change(found):
    assert {row.verdict for row in of(found, "planted order")} & {rows.WRONG}


def test_a_lost_nan_is_a_difference(found):
    assert [row.said for row in of(found, "planted NaN") if row.verdict == rows.DIFFERS] == [
        "special: 0 where the truth is NaN"
    ]


def test_what_is_right_agrees(found):
    assert {row.verdict for row in found if row.operator == "planted nothing"} == {rows.AGREES}


def test_what_is_not_there_and_what_ends_the_process_are_rows(found):
    assert [row.verdict for row in of(found, "planted absence")] == [rows.UNSUPPORTED]
    [row] = of(found, "planted end")
    assert (row.verdict, row.said) == (rows.CRASHES, "ended the process with signal 6 (pynative, ordinary)")


def test_a_reproducer_prints_what_its_row_says(found, tmp_path):
    row = next(row for row in of(found, "ops.exp") if row.ulp)
    path = tmp_path / "reproducer.py"
    path.write_text(row.reproducer)
    assert len(row.reproducer.splitlines()) <= 10
    result = subprocess.run([sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    told = re.fullmatch(r"MindSpore (\S+) PyTorch (\S+) float64 (\S+)\n", result.stdout)
    assert told, result.stderr
    assert np.float32(told[1]) == np.float32(row.mindspore)
    assert np.float32(told[2]) == np.float32(row.torch)
    assert float(told[3]) == pytest.approx(float(row.truth), rel=1e-8)


def test_the_page_holds_every_row(found):
    text = page.page(found, {"mindspore": "2.10"})
    assert [int(n) for n in re.findall(r'<tbody id="r(\d+)"', text)] == list(range(len(found)))
    for row in found:
        assert row.operator in text
    assert text.count('class="inside"><td') == sum(bool(row.reproducer) for row in found)
    assert not re.search(r'(?:src|href)="https?://', text)


def test_rows_come_back_from_json(found):
    assert [rows.Row.from_json(row.as_json()) for row in found] == found


def test_the_worst_stand_between_the_marks_of_a_page(found):
    text = worst.into(f"a\n{worst.BEGIN}\nold\n{worst.END}\nb\n", found)
    assert "planted gradient" in text
    assert "old" not in text
    assert (text[0], text[-2]) == ("a", "b")


def test_measures():
    one = np.float32([1, 2, 3])
    next_ = np.nextafter(one, np.float32(9))
    assert measure(next_, one, one.astype(np.float64), "float32").ulp == 1
    assert measure(one[:2], one, one.astype(np.float64), "float32").problem == "shape (2,), PyTorch's (3,)"
    lost = measure(np.float32([0]), np.float32([np.nan]), np.float64([np.nan]), "float32")
    assert lost.problem == "0 where the truth is NaN"
    overflow = measure(np.float32([np.nan]), np.float32([np.inf]), np.float64([1e30]), "float32")
    assert overflow.problem == ""  # PyTorch is not right either
    assert measure(np.float32([-0.0]), np.float32([0]), np.float64([0]), "float32", special=True).sign_at == 0
    assert measure(np.float32([1 + 2**-7]), np.float32([1]), np.float64([1]), "bfloat16").ulp == 1
    assert measure(np.int64([1]), np.int64([2]), np.int64([2]), "float32").problem == "1 where PyTorch has 2"


def test_an_unknown_operator_is_said(tmp_path, capsys):
    with pytest.raises(NothingRan):
        run_atlas(["ops.nothing"])
    assert command.main(["--only", "ops.nothing", "--output_dir", str(tmp_path)]) == 3
    assert "ops.nothing" in capsys.readouterr().err
    assert command.main(["--list"]) == 0
    assert "ops.exp\n" in capsys.readouterr().out


def test_importing_it_asks_for_no_framework():
    code = "import sys, portparity.atlas; print(sorted({'torch', 'mindspore'} & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert found.stdout.strip() == "[]", found.stderr
