"""The list of other people's ports and the page of it: nothing of theirs is needed here."""

import json
from pathlib import Path

import pytest

from .foreign import bugs, chinese, pairs
from .foreign.judging import FOUND
from .foreign.page import page

ROOT = Path(__file__).resolve().parent.parent


def record(verdict="agree", ratio=0.2):
    return {"verdict": verdict, "culprit": None, "parts": {"forward": [verdict, ratio, ""]}, "notes": []}


def test_there_are_sixty_right_pairs_of_many_projects():
    assert len(pairs.PAIRS) >= 60
    assert len({pair.project for pair in pairs.PAIRS}) >= 5


def test_every_name_is_there_once():
    names = [pair.name for pair in pairs.PAIRS] + [bug.pair.name for bug in bugs.BUGS]
    assert len(set(names)) == len(names)


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
