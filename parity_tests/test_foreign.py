"""The list of other people's ports and the page of it: nothing of theirs is needed here."""

import json
from pathlib import Path

import pytest

from .foreign import bugs, chinese, pairs, schedulers, trainers
from .foreign import page as pages
from .foreign.judging import FOUND
from .foreign.page import page

ROOT = Path(__file__).resolve().parent.parent


def record(verdict="agree", ratio=0.2):
    return {"verdict": verdict, "culprit": None, "parts": {"forward": [verdict, ratio, ""]}, "notes": []}


def test_there_are_sixty_right_pairs_of_many_projects():
    assert len(pairs.PAIRS) >= 60
    assert len({pair.project for pair in pairs.PAIRS}) >= 5


def test_every_name_is_there_once():
    listed = [pair.name for pair in (*pairs.PAIRS, *trainers.TRAINERS, *schedulers.SCHEDULERS)]
    wrong = [bug.pair.name for bug in bugs.BUGS]
    assert len(set(listed)) == len(listed)
    assert len(set(wrong)) == len(wrong)
    chains = {pair.name for pair in schedulers.SCHEDULERS}
    assert set(listed) & set(wrong) <= chains  # a chain that turned out to show a bug stays in the list


def test_a_chain_that_agrees_with_exact_functions_is_told_apart_from_one_that_differs_still():
    names = [pair.name for pair in schedulers.SCHEDULERS if pair.name.startswith("DDIMScheduler")]
    differing = record("differ", 3.0)
    found = {names[0]: record(), names[1]: {**differing, "exact": "agree"}, names[2]: {**differing, "exact": "differ"}}
    (row,) = [line for line in page({"versions": {}, "pairs": found}).splitlines() if line.startswith("| DDIM")]
    assert row.startswith("| DDIMScheduler | 3 | 1 | 1 | not explained, 3 (")


def test_every_remark_of_the_table_is_in_chinese():
    found = json.loads(FOUND.read_text())["pairs"]
    listed = [pair.name for pair in (*pairs.PAIRS, *trainers.TRAINERS) if pair.name in found]
    remarks = {pages.EXPLAINED.get(name) or pages._remark(found[name]) for name in listed} - {""}
    assert [words for words in (*remarks, *pages.OF_CHAINS.values()) if chinese.remark(words) == words] == []


def test_the_page_counts_what_was_found():
    right, wrong = pairs.PAIRS[:3], bugs.BUGS[:2]
    found = {
        "versions": {"mindspore": "2.10.0"},
        "pairs": {
            **{pair.name: record() for pair in right}, wrong[0].pair.name: record("differ", "inf"),
            wrong[1].pair.name: record(),
        },
    }  # fmt: skip
    text = page(found)
    assert "3 were judged and 3 agree" in text
    assert "Of 2 bugs in MindSpore it finds 1" in text
    assert "| inf |" in text


@pytest.mark.parametrize("language", ["", ".zh"])
def test_the_page_in_the_docs_is_of_what_was_found(language):
    written = (ROOT / f"docs/real_ports{language}.md").read_text(encoding="utf-8")
    assert written == page(json.loads(FOUND.read_text()), language)


def test_every_bug_is_told_in_chinese_and_nothing_else_is():
    assert {words for bug in bugs.BUGS for words in (bug.cause, bug.intent)} == set(chinese.WORDS)
