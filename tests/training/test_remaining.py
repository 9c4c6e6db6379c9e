"""How long a run will take: said once, after ten steps, of steps that compile nothing."""

import logging

import pytest

from ms_ddpm.training.remaining import Remaining, duration, step_time


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (40, "40 s"), (60, "1 min"), (23 * 60 + 20, "23 min"), (59 * 60 + 40, "1 h"), (12000, "3 h 20 min"),
        (24 * 3600, "1 d"), (2 * 86400 + 4 * 3600, "2 d 4 h"), (2 * 86400 - 60, "2 d"),
    ],
)  # fmt: skip
def test_durations_are_in_two_units(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.0004, "0.4 ms"), (0.045, "45 ms"), (0.9, "900 ms"), (1.5, "1.5 s"), (12.3, "12 s")]
)
def test_steps_are_in_ms_or_s(seconds, said):
    assert step_time(seconds) == said


def said(seconds, total):
    remaining = Remaining()
    lines = [remaining.after_step(one, total - number) for number, one in enumerate(seconds, 1)]
    return {number: line for number, line in enumerate(lines, 1) if line}


def test_it_is_said_after_ten_steps_and_not_again():
    """The first step compiles for 30 s, and so does the fourth, which is the first with the other flag."""
    steps = [30.0, 0.05, 0.04, 20.0, *[0.045] * 20]
    assert said(steps, 10 + 12000 // 45 * 1000) == {
        10: "about 3 h 20 min to go: 45 ms a step, without checkpoints and pictures"
    }


@pytest.mark.parametrize(("total", "expected"), [(10, 0), (600, 0), (610, 1)])
def test_of_a_short_run_nothing_is_said(total, expected):
    """At 0.1 s a step 600 more are a minute."""
    assert len(said([9.0] + [0.1] * 19, total)) == expected


@pytest.mark.parametrize("show", [True, False])
def test_it_is_said_with_the_progress_bar_and_without(show, capsys, caplog):
    from ms_ddpm.training.epochs import Progress

    caplog.set_level(logging.INFO, "ms_ddpm")
    bar = Progress(0, 100, None, show)
    bar.remark("about 1 h to go")
    bar.close()
    shown, logged = capsys.readouterr().err.count("about 1 h to go"), [r.getMessage() for r in caplog.records]
    assert (shown > 0, logged) == ((True, []) if show else (shown > 0, ["about 1 h to go"]))
