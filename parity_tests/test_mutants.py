"""The harness tested: seeded port bugs are found, each at its place, and correct variants are left alone."""

import functools
import shutil

import pytest

from parity_tests import trusted
from parity_tests.mutants import (
    MUTANTS,
    NOT_HERE,
    Bench,
    Mutant,
    StaleMutant,
    Variant,
    clean_variants,
    count_alarms,
    examine,
    found,
    is_good,
    kill_matrix,
    why_not,
)
from parity_tests.mutants.found import FEW, VARIANTS, already
from parity_tests.mutants.variants import KINDS
from portparity.mutants.editing import edit, swap
from portparity.rivals import OURS, RULES
from portparity.sources import hash_of

from .conftest import ROOT, RUN_ALL

bench = functools.cache(Bench)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_killed_at_its_place(mutant):
    if reason := why_not(mutant):
        pytest.skip(reason)
    if not RUN_ALL and mutant.name in already(mutant.framework):
        with mutant.apply():  # raises where it no longer fits the source
            return
    finding = examine(mutant, bench(mutant.framework), first_tier_only=True)
    assert finding.killed, str(finding)
    assert finding.at_place, str(finding)


def test_what_was_found_counts_while_the_code_is_what_it_was(monkeypatch, tmp_path):
    monkeypatch.setattr(found, "FILE", tmp_path / "found.json")
    monkeypatch.setattr(found, "code", lambda framework: {"code": framework})
    found.keep({"torch": ["b", "a"], "mindspore": ["c"]})
    assert already.__wrapped__("torch") == {"a", "b"}
    assert already.__wrapped__("mindspore") == {"c"}
    monkeypatch.setattr(found, "code", lambda framework: {"code": framework.replace("mindspore", "other")})
    assert already.__wrapped__("torch") == {"a", "b"}
    assert already.__wrapped__("mindspore") == frozenset()


OF_TORCH = (
    "torch_ref/systems/score/sde.py", "portparity/verdict.py", "parity_tests/cases.py",
    "parity_tests/systems/latent/mutants.py", "parity_tests/systems/score/oracle/nets.py",
)  # fmt: skip
OF_MINDSPORE = (
    "ms_ddpm/nn/norms.py", "ms_ddpm/ops/csrc/kernels.cpp", "ms_ddpm/ops/csrc/simd.h", "portparity/on_mindspore.py",
    "parity_tests/systems/core/on_mindspore/nets.py", "parity_tests/systems/core/mutants/kernels.py",
    "parity_tests/orchestration/draws.py",
)  # fmt: skip


def test_the_code_that_decides_is_all_that_has_a_say(monkeypatch, tmp_path):
    """A change of torch_ref, of the checks or of a mutant makes every mutant run again, one of ms_ddpm its own."""
    for folder in ("torch_ref", "parity_tests", "portparity", "ms_ddpm"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("bundles", "__pycache__"))
    shutil.copy(ROOT / "setup.py", tmp_path)
    monkeypatch.setattr(trusted, "ROOT", tmp_path)

    of_texts = {}

    def of(places):  # what `hash_of` says, file by file, so that each is parsed once
        files = [file for place in places for file in (sorted(place.rglob("*.py")) if place.is_dir() else [place])]
        for file in files:
            if (key := (file, file.read_text())) not in of_texts:
                of_texts[key] = hash_of([file])
        return [of_texts[file, file.read_text()] for file in files]

    def now():
        found.code.cache_clear()
        return found.code("torch"), found.code("mindspore")

    monkeypatch.setattr(found, "hash_of", of)
    torch, mindspore = now()
    for place in (*OF_TORCH, *OF_MINDSPORE):
        text = (tmp_path / place).read_text()
        (tmp_path / place).write_text(f"{text}\nCHANGED = 1\n")
        assert (now()[0] == torch) == (place in OF_MINDSPORE), place
        assert now()[1] != mindspore, place
        (tmp_path / place).write_text(text)
    assert now() == (torch, mindspore)
    found.code.cache_clear()


def test_there_are_enough_mutants_and_each_says_where_it_is_known_from():
    names = [mutant.name for mutant in MUTANTS]
    assert len(names) >= 60
    assert len(set(names)) == len(names)
    assert all(mutant.source and mutant.place for mutant in MUTANTS)
    assert all(NOT_HERE.values())


def test_what_a_mutant_quotes_stands_in_the_page():
    quoted, wrong = set(), []
    for source in (*(mutant.source for mutant in MUTANTS), *NOT_HERE):
        page, _, words = source.partition(": ")
        if (file := ROOT / "docs" / "design" / f"{page}.md").exists():
            quoted.add(page)
            if words.lower() not in " ".join(file.read_text(encoding="utf-8").split()).lower():
                wrong.append(source)
    assert wrong == []
    assert quoted >= {"mindspore", "peers", "verdict"}


@pytest.mark.parametrize("count", [FEW, pytest.param(100, marks=pytest.mark.slow)])
def test_clean_variants_raise_no_alarm_and_rivals_do(count):
    """Every kind is among twenty; the kill matrix and ``--all`` run a hundred."""
    if not RUN_ALL and VARIANTS in already("mindspore"):
        return
    alarms, ours = count_alarms(clean_variants(count), progress=False)
    assert not ours, "\n".join(ours)
    assert alarms[OURS] == 0
    assert alarms["mean, rtol 1e-7 (PaDiff default)"] > count // 10, alarms


def test_clean_variants_differ_from_each_other():
    variants = clean_variants(100)
    assert len(variants) == len({str(variant) for variant in variants}) == 100
    assert {v.kind for v in variants if v.framework == "torch"} == set(KINDS["torch"])


@pytest.mark.parametrize("kind", ["batch order", "channels last", "without oneDNN"])
def test_a_variant_is_another_order_of_the_same_sums(kind):
    """Otherwise a hundred of them would show nothing."""
    variant = Variant("torch", kind, 4)
    cases = [case for case in variant.cases() if case.computation.key.startswith(("layers/", "network/"))]
    varied = Bench("torch", cases)
    varied.run(varied.cases, variant.around)
    assert any(
        (varied.given(case)[name] != value).any()
        for case in varied.cases
        for name, value in varied.reference(case).items()
    )


def test_the_kill_matrix_is_what_the_report_reads():
    chosen = [m for m in MUTANTS if m.name in ("RMSNorm without sqrt(C)", "sign of the noise")]
    matrix = kill_matrix(chosen, variants=2, progress=False)
    assert matrix["rules"] == list(RULES)
    assert matrix["rules"][0] == OURS
    assert {row["name"] for row in matrix["rows"]} == {mutant.name for mutant in chosen}
    for row in matrix["rows"]:
        assert row["killed"]
        assert row["at_place"]
        assert row["by_rule"].keys() == set(RULES)
        assert row["found_at"] in {case.id for case in bench("torch").cases}
    assert matrix["clean"]["variants"] == 2
    assert is_good(matrix)


@pytest.mark.parametrize(
    "broken",
    [
        {"rows": []},
        {"clean": {"variants": 0, "alarms": {OURS: 0}}},
        {"clean": {"variants": 100, "alarms": {OURS: 1}}},
        {"rows": [{"killed": False, "at_place": False}]},
        {"rows": [{"killed": True, "at_place": False}]},
    ],
)
def test_the_gate_is_shut(broken):
    good = {"rows": [{"killed": True, "at_place": True}], "clean": {"variants": 100, "alarms": {OURS: 0}}}
    assert is_good(good)
    assert not is_good(good | broken)


def test_a_mutant_that_does_nothing_survives():
    nothing = edit("torch_ref.layers:RMSNorm.forward", ("* self.scale", "* self.scale * 1.0"))
    finding = examine(Mutant("nothing", "norms", "torch", "layers/rms_norm-*", nothing, "here", ()), bench("torch"))
    assert not finding.killed
    assert not finding.at_place
    assert finding.found_at is None
    assert not any(finding.by_rule.values())


def test_a_mutant_found_elsewhere_is_not_at_its_place():
    change = edit("torch_ref.layers:RMSNorm.forward", (" * self.scale", ""))
    cases = ("layers/rms_norm-scale1-forward-pynative",)
    finding = examine(Mutant("elsewhere", "norms", "torch", "layers/upsample-*", change, "here", cases), bench("torch"))
    assert finding.killed
    assert not finding.at_place
    assert finding.found_at == cases[0]
    assert "layers/upsample-*" in str(finding)


def test_a_crash_is_no_kill_unless_the_mutant_is_one():
    """A mutant with an error of its own would otherwise count."""
    crash = edit("torch_ref.layers:RMSNorm.forward", ("return x", "return unknown + x"))
    finding = examine(Mutant("crash", "norms", "torch", "layers/rms_norm-*", crash, "here", ()), bench("torch"))
    assert finding.found_at
    assert not finding.killed
    assert not finding.at_place


@pytest.mark.parametrize(
    "stale",
    [
        edit("torch_ref.layers:RMSNorm.forward", ("no such text", "")),
        edit("torch_ref.layers:RMSNorm.forward", ("x", "y")),
        swap("torch_ref.diffusion:LOSSES[l3]", None),
    ],
)
def test_a_mutant_that_no_longer_fits_its_source_says_so(stale):
    with pytest.raises(StaleMutant):
        examine(Mutant("stale", "norms", "torch", "layers/rms_norm-*", stale, "here", ()), bench("torch"))


def test_a_mutant_leaves_nothing_behind():
    from torch_ref import layers, samplers, schedules

    before = layers.RMSNorm.forward, samplers.ddim_times, schedules.BETA_SCHEDULES["cosine"]
    for mutant in MUTANTS:
        if mutant.framework == "torch":
            with mutant.apply():
                pass
    assert before == (layers.RMSNorm.forward, samplers.ddim_times, schedules.BETA_SCHEDULES["cosine"])


def test_a_function_is_changed_wherever_it_was_imported():
    import torch_ref
    from torch_ref import samplers, schedules

    with edit("torch_ref.schedules:ddim_times", ("return ", "return [7] or "))():
        assert torch_ref.ddim_times(10, 2) == samplers.ddim_times(10, 2) == schedules.ddim_times(10, 2) == [7]
    with edit("torch_ref.schedules:cosine", ("return ", "return 5 or "))():
        assert schedules.BETA_SCHEDULES["cosine"](10) == 5
    assert len(torch_ref.ddim_times(10, 2)) == 3
