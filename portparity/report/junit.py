"""results.json as JUnit XML: a suite per tier, a test case per case."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping

from ..runner import BROKEN
from ..verdict import DIFFER
from . import facts, words

# What XML 1.0 has no way to write: most control characters, surrogates, two non-characters.
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ELEMENTS = {DIFFER: "failure", BROKEN: "error"}


def _clean(text: object) -> str:
    return _UNWRITABLE.sub("?", str(text))


def _element(parent: ET.Element, tag: str, text: str | None = None, **attributes: object) -> ET.Element:
    made = ET.SubElement(parent, tag, {key: _clean(value) for key, value in attributes.items()})
    made.text = None if text is None else _clean(text)
    return made


def _counts(cases: list[Mapping]) -> dict[str, object]:
    verdicts = [case["verdict"] for case in cases]
    seconds = sum(case["seconds"] for case in cases)
    return {
        "tests": len(cases), "failures": verdicts.count(DIFFER), "errors": verdicts.count(BROKEN),
        "skipped": 0, "time": f"{seconds:.3f}",
    }  # fmt: skip


def render(results: Mapping) -> str:
    """The XML document as text."""
    name = f"parity of {results['candidate']} with {results['reference']}"
    root = ET.Element("testsuites", {"name": _clean(name)})
    root.attrib |= {key: str(value) for key, value in _counts(results["cases"]).items()}
    for tier, cases in facts.by_tier(results["cases"]).items():
        suite = _element(root, "testsuite", name=words.tier(tier), **_counts(cases))
        properties = _element(suite, "properties")
        for key, value in results["environment"].items():
            _element(properties, "property", name=key, value=value)
        for case in cases:
            test = _element(
                suite,
                "testcase",
                classname=f"parity.{words.tier(tier).replace(' ', '_')}",
                name=case["id"],
                time=f"{case['seconds']:.3f}",
            )
            if element := _ELEMENTS.get(case["verdict"]):
                text = "\n".join(words.failure(case))
                _element(test, element, text, type=case["verdict"], message=case["message"])
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"
