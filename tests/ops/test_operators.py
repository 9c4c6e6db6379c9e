"""Every primitive that a GPU or an Ascend is handed is one that MindSpore's documentation has for both."""

import json
import subprocess
import sys

import pytest

from tests import operators

LISTED = operators.listed(operators.PAGE.read_text(encoding="utf-8"))


def collected(prefix):
    """What a process of its own finds: the graphs are dumped, and not run."""
    result = subprocess.run(
        [sys.executable, str(operators.ROOT / "tests" / "operators.py"), "collect", prefix],
        capture_output=True, text=True, timeout=580, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


def not_listed(found):
    """What of {recipe: {primitive: dtypes}} the page does not have."""
    for recipe, names in found.items():
        for name, dtypes in names.items():
            if name not in LISTED:
                yield f"{recipe}: {name} ({', '.join(dtypes)})"
            elif set(dtypes) - set(LISTED[name][2]):
                yield f"{recipe}: {name} of {', '.join(sorted(set(dtypes) - set(LISTED[name][2])))}"


def check(prefix, least, in_all=("Conv2D", "Softmax")):
    found = collected(prefix)
    assert {recipe for recipe in operators.RECIPES if recipe.startswith(prefix)} == set(found)
    assert list(not_listed(found)) == [], "write docs/operators.md anew and read what it says of them"
    for recipe, names in found.items():
        assert set(in_all) <= set(names), recipe
        assert ("Conv2DBackpropFilter" in names) == ("training" in recipe), recipe
    assert len(operators.rows(found)) >= least
    return found


def test_the_graphs_hold_no_primitive_that_is_not_listed():
    check("A", 60)


MARKS = {  # what shows that a recipe of another system is what it is called
    "score": {"Conv2DTranspose", "Sin"}, "conditional": {"Softmax", "Gather"}, "latent score": {"Softmax", "PadV3"},
    "latents to images": {"Conv2DTranspose", "Sigmoid"}, "autoencoder": {"Sigmoid", "Assign"},
    "gradient loss": {"AvgPoolGrad"}, "LPIPS": {"MaxPoolGrad"}, "corruption": {"MaxPool", "ReLU"},
    "DDPM": {"ClampScalar", "Exp"}, "DDIM": {"TopK"},
}  # fmt: skip


@pytest.mark.slow
def test_nor_do_those_of_the_other_systems():
    for recipe, names in check("C", 60, in_all=()).items():
        marks = [mark for name, mark in MARKS.items() if name in recipe]
        assert marks, recipe
        assert set().union(*marks) <= set(names), recipe


@pytest.mark.slow
def test_nor_do_those_of_every_other_choice():
    check("B", 50)


def test_the_page_says_what_the_installed_documentation_says(mindspore):
    assert len(LISTED) > 60
    said = {name: platforms for name, (_, platforms, _) in LISTED.items()}
    assert said == {name: operators.platforms(name) for name in LISTED}


def test_every_listed_primitive_is_for_ascend_and_gpu_in_dtypes_that_both_have():
    for name, (_, platforms, dtypes) in LISTED.items():
        assert {"Ascend", "GPU"} <= set(platforms), name
        assert set(dtypes) <= operators.DTYPES, name


DUMP = """
  %1(equiv_CNode_1) = Conv2D(%2, %3) {instance name: conv}
      : (<Tensor[Float32], (2, 1, 8, 8)>, <Tensor[Float64], (8, 1, 7, 7)>) -> (<Tensor[Float32], (2, 8, 8, 8)>)
  %4(CNode_2) = PrimFunc_NewOperator(%1, I64(2))
      : (<Tensor[Int32], (2)>, <Int64, NoShape>) -> (<Tensor[Int32], (2)>)
  %5(CNode_3) = MakeTuple(%1, %4)
      : (<Tensor[Float32], (2)>, <Tensor[Int32], (2)>) -> (<Tuple[Tensor[Float32], Tensor[Int32]]>)
"""


def test_a_new_primitive_and_a_new_dtype_are_found():
    found = operators.primitives([DUMP])
    assert found == {"Conv2D": ["Float32", "Float64"], "NewOperator": ["Int32"]}
    assert list(not_listed({"a": found})) == ["a: Conv2D of Float64", "a: NewOperator (Int32)"]
