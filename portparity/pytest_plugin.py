"""In pytest: ``def test_my_port(assert_port): assert_port(TorchNet, MindSporeNet, {"x": x})``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def assert_port(tmp_path: Path) -> Callable:
    """`portparity.check`, which fails the test where the port does not agree, and says where its page lies."""

    def asserted(original, port, inputs=None, **options):
        __tracebackhide__ = True
        from .checking import check

        report = check(original, port, inputs, **options)
        if not report.agrees:
            page = report.write(tmp_path / "portparity") / "report.html"
            pytest.fail(f"{report}\nthe page: {page}", pytrace=False)
        return report

    return asserted
