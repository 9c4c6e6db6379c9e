"""The bench: what it measures and refuses, how its processes talk, what it writes. No test judges a time."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from ms_ddpm.errors import UserError
from ms_ddpm_bench.speed import agree, cli, contestants, machine, measure, page, results, sizes, tables
from ms_ddpm_bench.speed.child import Child, ContestantFailed
from ms_ddpm_bench.speed.contestants import CONTESTANTS, Entry
from tests.conftest import ROOT

TINY = sizes.Size(8, (1, 2), 8)
FAKE = """
import json, os, sys, time
import numpy as np
value, manner = float(sys.argv[1]), sys.argv[2]
print("a framework's chatter", file=sys.stderr)
for line in sys.stdin:
    command = json.loads(line)
    do = command["do"]
    known = {"start": {"resident": 1000}, "build": {"seconds": 0.1}, "memory": {"resident": 2000, "peak": 3000}}
    known["kernels"] = {"why_not": "not built" if manner == "bare" else ""}
    answer = known.get(do, {})
    if do == manner == "first":
        raise SystemExit("out of luck")
    if do == manner == "build":
        answer = {"error": "ValueError: no such layer"}
    if do == manner == "time":
        os.kill(os.getpid(), 9)
    if do == "wait":
        time.sleep(600)
    if do == "weights":
        np.savez(command["path"], w=np.zeros(1))
    if do == "first":
        np.savez(command["path"], output=np.array([1.0, value]), loss=np.float32(value))
        answer = {"seconds": 0.2}
    if do == "time":
        answer = {"seconds": [0.01 * value] * command["n"]}
    print(json.dumps(answer), flush=True)
"""


def fakes(**manners):
    """A maker of processes that answers as a contestant of that value and manner would."""

    def start(entry, threads, scratch):
        value, manner = manners.get(entry.name, (1.0, "well"))
        return Child(entry, threads, scratch, [sys.executable, "-c", FAKE, str(value), manner])

    return start


def session(workload=None, names=("ours", "torch"), settings=None, said=None, **manners):
    """The session after measuring fakes at one workload."""
    workload = workload or sizes.Workload(TINY, 2, ("train", "denoise"))
    settings = settings or measure.Settings(threads=1, rounds=2, steps=2)
    with measure.Session(settings, (said if said is not None else []).append, start=fakes(**manners)) as running:
        running.run(workload, contestants.find(names))
    return running


# --- what is measured -----------------------------------------------------------------------------------------------


def test_sizes_are_read_by_name_or_spelled():
    assert sizes.read_size("dim32") == sizes.Size(32, (1, 2, 4), 32)
    assert sizes.read_size("8:1,2@8") == TINY


@pytest.mark.parametrize("text", ["dim33", "8:1,2", "8:1,2@9", "12:1,2@8", "8:0,2@8", "8:1,2@0", "a:b@c"])
def test_a_size_that_cannot_be_is_refused_by_name(text):
    with pytest.raises(UserError, match=re.escape(text)):
        sizes.read_size(text)


def test_the_table_is_the_issues():
    found = sizes.table(list(sizes.SIZES.values()), None, list(sizes.WHAT))
    assert [(w.size.dim, w.batch) for w in found] == [
        (16, 1), (16, 16), (16, 64), (32, 1), (32, 16), (32, 64), (64, 1), (64, 16)
    ]  # fmt: skip
    assert {w.batch for w in found if "sample" in w.what} == {16}
    everyone = contestants.find(contestants.DEFAULT)
    with_stock = {w.size.dim for w in found if any(e.name == "stock" for e in measure.entered(w, everyone, False))}
    assert with_stock == {32}
    assert CONTESTANTS["stock"].most_steps == 3


def test_growth_varies_one_axis_at_a_time():
    found = sizes.growth(["train", "sample"])
    for axis in sizes.GROWTH:
        points = [w for w in found if w.series == axis]
        assert len({sizes.axis_value(w) for w in points}) == len(points) == 4
        held = {(w.batch if axis != "batch" else 0, w.size.side if axis != "resolution" else 0,
                 w.size.dim if axis != "width" else 0) for w in points}  # fmt: skip
        assert len(held) == 1
    assert {w.what for w in found} == {("train",)}


GUIDED = sizes.Size(8, (1,), 4, guided=True)


def test_a_guided_network_is_asked_for_by_name_and_not_trained():
    size = sizes.read_size("text2image")
    assert size.guided
    assert size not in sizes.SIZES.values()
    (workload,) = sizes.table([size], [1], list(sizes.WHAT), ddim_steps=30)
    assert workload.what == ("denoise", "sample")
    assert sizes.Workload.from_json(json.loads(json.dumps(workload.as_json()))) == workload
    entries = contestants.find(["ours", "torch", "stock"])
    assert [entry.name for entry in measure.entered(workload, entries, True)] == ["ours", "torch"]


def test_both_guided_contestants_draw_the_same(mindspore, tmp_path):
    pytest.importorskip("torch")
    from ms_ddpm_bench.speed.contestants import ours, pytorch

    workload = sizes.Workload(GUIDED, 2, ("denoise", "sample"), ddim_steps=2)
    ours.write_weights(workload, tmp_path / "weights.npz")
    with np.load(tmp_path / "weights.npz") as file:
        weights = {name: file[name] + np.float32(0.1) for name in file.files}
    sides = [module.Guided(workload, weights, {}) for module in (ours, pytorch)]
    for side in sides:
        side.load()
    for kind in workload.what:
        outputs = {name: getattr(side, kind)() for name, side in zip(("ours", "torch"), sides, strict=True)}
        agree.check(outputs, "torch", kind)


def test_a_workload_survives_json():
    workload = sizes.Workload(TINY, 2, ("train",), layout="group", series="width")
    assert sizes.Workload.from_json(json.loads(json.dumps(workload.as_json()))) == workload


def test_calls_keep_to_the_budget_and_to_their_least():
    settings = measure.Settings(threads=1, rounds=5, steps=6, budget=10)
    assert measure.calls("train", 0.001, settings, None) == [6] * 5
    assert sum(measure.calls("train", 1.0, settings, None)) == 10
    assert sum(measure.calls("train", 99.0, settings, None)) == 3
    assert sum(measure.calls("sample", 99.0, settings, None)) == 1
    assert sum(measure.calls("train", 0.001, settings, 3)) == 3


def test_every_contestant_gets_the_same_threads_and_no_onednn_variable_of_the_users(monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("MS_DDPM_KERNELS", "0")
    found = {name: contestants.environment(entry, 2, "/x") for name, entry in CONTESTANTS.items()}
    assert all("ONEDNN_MAX_CPU_ISA" not in variables for variables in found.values())
    assert {variables["OMP_NUM_THREADS"] for variables in found.values()} == {"2"}
    assert "MS_DDPM_KERNELS" not in found["ours"]
    assert found["ours-no-kernels"]["MS_DDPM_KERNELS"] == "0"
    assert found["stock"]["MS_DDPM_ONEDNN_ISA"] == "keep"
    assert found["stock"]["MS_DEV_HOST_BLOCKING_RUN"] == "0"


# --- what is refused ------------------------------------------------------------------------------------------------


def test_outputs_that_differ_are_named_with_their_difference():
    right = {"denoise: output": np.ones(10)}
    wrong = {"denoise: output": np.ones(10) * (1 + 2 * agree.TOLERANCE)}
    near = {"denoise: output": np.ones(10) * (1 + agree.TOLERANCE / 2)}
    assert agree.check({"torch": right, "ours": near}, "torch", "here")["ours"]["denoise: output"] < agree.TOLERANCE
    with pytest.raises(agree.Disagreement, match=r"here: ours's denoise: output differs .* 2\.0e-05 .*parity\.py"):
        agree.check({"torch": right, "ours": wrong}, "torch", "here")


def test_only_the_loss_after_an_update_may_differ_by_where_adam_adds_its_eps():
    name = f"train: {agree.UPDATED}"
    assert agree.check({"torch": {name: np.ones(1)}, "stock": {name: np.ones(1) + 2e-5}}, "torch", "here")
    for output, by in ((name, 2e-4), ("train: loss", 2e-5), ("train: gradient norm", 2e-5)):
        with pytest.raises(agree.Disagreement):
            agree.check({"torch": {output: np.ones(1)}, "stock": {output: np.ones(1) + by}}, "torch", "here")


@pytest.mark.parametrize("other", [np.full(3, np.nan), np.ones(4), np.full(3, np.inf)])
def test_no_shape_or_nan_passes_for_agreement(other):
    with pytest.raises(agree.Disagreement):
        agree.check({"torch": {"y": np.ones(3)}, "ours": {"y": other}}, "torch", "here")
    with pytest.raises(agree.Disagreement, match="nothing could be compared"):
        agree.check({"torch": {"y": np.ones(3)}, "ours": {"z": np.ones(3)}}, "torch", "here")


def test_a_contestant_that_computes_something_else_is_not_timed():
    said = []
    running = session(said=said, ours=(1.01, "well"))
    assert running.problems == said
    assert "ours's train: loss differs from torch's by 1.0e-02" in said[0]
    assert all(row["disagrees"] and not row["times"] for row in running.rows)
    found = document(running.rows)
    assert "differs" in tables.markdown(found)
    assert page.page(found)


@pytest.mark.parametrize(
    ("manner", "why"),
    [
        ("first", "its process ended (exit code 1): out of luck"),
        ("build", "ValueError: no such layer"),
        ("time", "its process ended (killed by SIGKILL): a framework's chatter"),
    ],
)
def test_a_contestant_that_fails_leaves_the_race_and_the_others_go_on(manner, why):
    running = session(ours=(1.0, manner))
    ours, torch = running.rows
    assert ours["failed"] == why
    assert running.problems
    assert len(torch["times"]["train"]) == len(torch["times"]["denoise"]) == 4
    assert "failed" in tables.terminal(document(running.rows))
    assert why.split(":")[0] in tables.markdown(document(running.rows))


def test_torch_compile_may_fail_without_failing_the_run():
    running = session(names=("torch", "torch-compile"), **{"torch-compile": (1.0, "first")})
    assert running.problems == []
    assert running.rows[1]["failed"]


def test_weights_that_cannot_be_made_are_one_line():

    def start(entry, threads, scratch):
        return Child(entry, threads, scratch, [sys.executable, "-c", "raise SystemExit('no MindSpore')"])

    with (
        measure.Session(measure.Settings(threads=1), start=start) as running,
        pytest.raises(UserError, match=r"initial weights.*no MindSpore"),
    ):
        running.run(sizes.Workload(TINY, 2, ("train",)), contestants.find(["torch"]))


# --- processes ------------------------------------------------------------------------------------------------------


def test_turns_alternate_and_change_their_order():
    asked = []

    class Noted(Child):
        def ask(self, do, patience=None, **arguments):
            if do == "time" and arguments["n"] == 2:
                asked.append(self.entry.name)
            return super().ask(do, patience, **arguments)

    def start(entry, threads, scratch):
        return Noted(entry, threads, scratch, [sys.executable, "-c", FAKE, "1.0", "well"])

    with measure.Session(measure.Settings(threads=1, rounds=3, steps=2), start=start) as running:
        running.run(sizes.Workload(TINY, 2, ("train",)), contestants.find(["ours", "torch"]))
    assert asked == ["ours", "torch", "torch", "ours", "ours", "torch"]


def test_a_workload_of_two_series_is_measured_once():
    made = []

    def start(entry, threads, scratch):
        made.append(entry.name)
        return fakes()(entry, threads, scratch)

    workload = sizes.Workload(TINY, 2, ("train",), series="batch")
    with measure.Session(measure.Settings(threads=1, rounds=1, steps=1), start=start) as running:
        for axis in ("batch", "width"):
            running.run(dataclasses.replace(workload, series=axis), contestants.find(["torch"]))
    assert made == ["ours", "torch"]  # the weights are made by ours
    first, second = running.rows
    assert second["times"] == first["times"]
    assert [r["workload"]["series"] for r in running.rows] == ["batch", "width"]


def test_memory_is_the_growth_above_what_import_left():
    row = session().rows[0]
    assert (row["resident"], row["growth"], row["memory_of"]) == (1000, 2000, "train")


def test_patience_has_an_end(tmp_path):
    child = Child(CONTESTANTS["ours"], 1, tmp_path, [sys.executable, "-c", FAKE, "1.0", "well"])
    try:
        with pytest.raises(ContestantFailed, match=r"no answer to 'wait' within 0\.2 s"):
            child.ask("wait", 0.2)
    finally:
        child.close()


def test_no_process_outlives_the_session(tmp_path):
    child = Child(CONTESTANTS["ours"], 1, tmp_path, [sys.executable, "-c", FAKE, "1.0", "well"])
    child.ask("start")
    child.close()
    assert child.process.poll() is not None
    with pytest.raises(ProcessLookupError):
        os.kill(child.process.pid, 0)


def test_the_worker_keeps_its_answers_apart_from_what_a_framework_prints(tmp_path, monkeypatch):
    """A module whose import and calls print: the answers still are the only lines that the parent reads."""
    (tmp_path / "loud.py").write_text(
        "import os\nprint('hello')\nos.system('echo from below; cat')\n"
        "def start(threads):\n    print('starting', threads)\n"
    )
    code = (
        "import sys; from ms_ddpm_bench.speed import contestants, worker;"
        "contestants.CONTESTANTS['loud'] = contestants.Entry('loud', 'loud', 'loud', 'prints');"
        f"contestants.__path__.append({str(tmp_path)!r}); worker.main(['loud', '1'])"
    )
    child = Child(Entry("loud", "loud", "loud", "prints"), 1, tmp_path / "scratch", [sys.executable, "-c", code])
    try:
        answer = child.ask("start", 30)
        assert answer["resident"] > 0
        assert child.ask("memory", 30)["peak"] > 0
        with pytest.raises(ContestantFailed, match="AttributeError"):
            child.ask("load", 30)
        assert "starting 1" in child.stderr()
        assert "from below" in child.stderr()
    finally:
        child.close()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_what_was_measured_survives_an_interruption(tmp_path, how):
    """Ctrl-C or kill in the second workload: exit 130, the first workload's times in all three files."""
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); from tests.bench import test_speed;"
        "from ms_ddpm_bench.speed import cli, measure; from ms_ddpm.cli import run;"
        "given = measure.Session.__init__.__defaults__;"
        "measure.Session.__init__.__defaults__ = (*given[:-1], test_speed.slow_second()); run(cli.main)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(ROOT), "--sizes", "8:1,2@8", "--batches", "1", "2", "--contestants", "ours",
         "--what", "train", "--json", "a.json", "--markdown", "a.md", "--html", "a.html"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while process.poll() is None and not (tmp_path / "a.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(how)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    found = results.load(tmp_path / "a.json")
    assert not found["complete"]
    assert found["rows"][0]["times"]["train"]
    assert "interrupted" in output
    assert "interrupted" in (tmp_path / "a.md").read_text()
    assert (tmp_path / "a.html").read_text().endswith("</html>\n")


def slow_second():
    """A maker of fakes of which the third process (weights, first workload, second workload) never answers."""
    made = []

    def start(entry, threads, scratch):
        made.append(entry)
        code = FAKE if len(made) < 3 else "import time; time.sleep(600)"
        return Child(entry, threads, scratch, [sys.executable, "-c", code, "1.0", "well"])

    return start


# --- the report -----------------------------------------------------------------------------------------------------


def document(rows, complete=True):
    """A results document of a machine that does not exist."""
    settings = {"threads": 2, "ddim_steps": 50, "layout": "rms", "seed": 0}
    facts = {"processor": "a <fast> one", "instruction sets": "avx2", "cores": 4, "memory (GiB)": 8, "system": "Linux",
             "python": "3.11", "mindspore": "2.10", "torch": "2.13", "numpy": "1.26"}  # fmt: skip
    found = results.empty("python scripts/bench.py", "2026-01-02T03:04", facts, settings)
    return found | {"rows": rows, "complete": complete}


def row(name, batch=16, series="", size=TINY, **times):
    """A row of the results."""
    return {
        "workload": sizes.Workload(size, batch, tuple(sizes.WHAT), series=series).as_json(), "contestant": name,
        "failed": "", "disagrees": "", "differences": {} if name == "torch" else {"train: loss": 1e-7}, "times": times,
        "first": {"train": 7.5}, "import_s": 1.0, "build_s": 0.5, "first_step_s": 9.0, "resident": 400 * results.MIB,
        "growth": 100 * batch * results.MIB, "memory_of": "train",
    }  # fmt: skip


def example():
    """Two contestants at one workload, and a growth curve of exactly p = 1."""
    rows = [row("ours", train=[0.2, 0.2, 0.5], sample=[5.0]), row("torch", train=[0.1] * 3, sample=[4.0])]
    rows += [row(name, batch, "batch", train=[0.01 * batch]) for batch in (1, 4, 16) for name in ("ours", "torch")]
    return document(rows)


def test_markdown_holds_medians_ratios_spread_memory_machine_and_command():
    text = tables.markdown(example())
    assert "| dim 8 (1,2) @ 8x8 | 16 | 200 (2.0x) | 100 |" in text
    assert "DDIM-50 sample" in text
    assert "| 5,000 (1.25x) | 4,000 |" in text
    assert "| 9.00 (8.00) | 9.00 (8.00) |" in text
    assert "| 1,600 (400) |" in text
    assert "| training step | ms_ddpm | 3 | 200 | 200 | 200 to 350 | 2.50 | 80.0 | 1e-07 |" in text
    assert "slowest of 3 took 2.5 times the median" in text
    assert "python scripts/bench.py" in text
    assert "2 of 4 cores" in text
    assert "2026-01-02" in text


def test_a_checkout_without_its_kernels_is_said_once_and_in_every_report():
    line = "ms_ddpm ran by MindSpore's operators, not by its C++ kernels: not built"
    said = []
    with measure.Session(
        measure.Settings(threads=1, rounds=1, steps=1), said.append, start=fakes(ours=(1.0, "bare"))
    ) as running:
        for batch in (2, 4):
            running.run(sizes.Workload(TINY, batch, ("denoise",)), contestants.find(["ours", "torch"]))
    assert said == [line]
    found = document(running.rows)
    assert tables.markdown(found).count(line) == tables.terminal(found).count(line) == 1
    assert page.page(found).count(line.replace("'", "&#x27;")) == 1
    assert all("C++ kernels" not in render(example()) for render in (tables.markdown, tables.terminal, page.page))


def test_a_busy_machine_is_admitted():
    found = example()
    found["others"] = 0.38
    assert "Other processes took 38 %" in tables.markdown(found)
    assert "Other processes" not in tables.markdown(example())


def test_what_others_take_is_what_is_busy_less_what_is_ours(monkeypatch):
    busy, own, clock = iter([100.0, 160.0]), iter([10.0, 30.0]), iter([0.0, 50.0])
    monkeypatch.setattr(machine.Others, "_busy", lambda self: next(busy))
    monkeypatch.setattr(machine.Others, "_own", lambda self: next(own))
    monkeypatch.setattr(machine.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 2)
    assert machine.Others().share() == 0.4  # 60 s of 100 were worked, 20 of them by us


def test_markdown_tables_have_as_many_cells_in_every_row():
    for block in re.findall(r"(?:^\|.*\n)+", tables.markdown(example()), re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1, block


def test_growth_is_the_power_that_fits():
    assert results.exponent([(1, 3.0), (2, 12.0), (4, 48.0)]) == pytest.approx(2)
    assert results.exponent([(1, 3.0)]) is None
    table = tables.growth_tables(example())[0]
    assert table.head == ["step", "who", "1", "4", "16", "p"]
    assert ["training step", "ms_ddpm", "10.0", "40.0", "160", "1.00"] in table.rows


def test_the_page_is_one_file_with_bars_and_curves():
    text = page.page(example())
    assert "a &lt;fast&gt; one" in text
    assert text.count("<svg") >= 2 + 2  # train and sample; a training step and memory along the batch
    assert not re.search(r"(?:src|href)=\"(?!#)", text)
    assert "A training step of ms_ddpm takes 2 times as long" in text
    assert "nan" not in text.lower().replace("nano", "")


@pytest.mark.parametrize(("number", "said"), [(0.4731, "0.473"), (4.731, "4.73"), (47.31, "47.3"), (473.1, "473"),
                                          (4731.0, "4,730"), (21449.0, "21,400"), (None, tables.NONE)])  # fmt: skip
def test_numbers_have_three_digits(number, said):
    assert tables.number(number) == said


def test_results_are_read_back_and_nothing_else_is(tmp_path):
    path = tmp_path / "a.json"
    results.save(path, example())
    assert results.load(path) == example()
    for text in ("{", "[]", '{"format": 99, "rows": []}'):
        path.write_text(text)
        with pytest.raises(UserError, match=r"a\.json"):
            results.load(path)
    with pytest.raises(UserError, match="cannot read"):
        results.load(tmp_path / "none.json")


def test_a_saved_run_is_shown_again(tmp_path, capsys):
    results.save(tmp_path / "a.json", example())
    assert cli.main(["--from", str(tmp_path / "a.json"), "--markdown", str(tmp_path / "a.md")]) == 0
    assert (tmp_path / "a.md").read_text() == tables.markdown(example())
    assert "200 (2.0x)" in capsys.readouterr().out


def test_the_machine_is_described():
    found = machine.describe()
    assert found["cores"] >= 1
    assert found["processor"]
    assert all(found[name] for name in ("mindspore", "torch", "numpy", "python", "system", "instruction sets"))


# --- the command line -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sizes", "dim7"], "dim7"),
        (["--batches", "0"], "--batches"),
        (["--contestants", "jax"], "jax"),
        (["--rounds", "0"], "--rounds"),
        (["--budget", "nan"], "--budget"),
        (["--threads", "100000"], "--threads"),
        (["--ddim_steps", "1000"], "--ddim_steps"),
        (["--json", "/no/such/folder/a.json"], "--json"),
        (["--growth", "only", "--what", "sample"], "nothing is left"),
        (["--from", "/no/such.json"], "cannot read"),
    ],
)
def test_bad_input_is_one_line(arguments, said):
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        cli.main(arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "contenders", "batches", "kinds"),
    [
        ([], contestants.DEFAULT, {1, 16, 64}, set(sizes.WHAT)),
        (["--quick"], ("ours", "torch"), {16}, {"train", "denoise"}),
        (["--quick", "--what", "sample", "--contestants", "stock"], ("stock",), {16}, {"sample"}),
    ],
)
def test_options_make_the_plan(arguments, contenders, batches, kinds):
    workloads, entries, chosen = cli._plan(cli.build_parser().parse_args(arguments))
    assert tuple(entry.name for entry in entries) == tuple(contenders)
    assert {w.batch for w in workloads} == batches
    assert {kind for w in workloads for kind in w.what} == kinds
    assert chosen == ("--contestants" in arguments)


def test_help_teaches_without_a_framework():
    code = (
        "import runpy, sys, atexit\nheavy = {'mindspore', 'torch', 'ms_ddpm.nn'}\n"
        "atexit.register(lambda: print('loaded', sorted(heavy & sys.modules.keys())))\n"
        "sys.argv = ['bench.py', '--help']\n"
        f"runpy.run_path({str(ROOT / 'scripts' / 'bench.py')!r}, run_name='__main__')\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "loaded []" in result.stdout
    assert all(name in result.stdout for name in (*CONTESTANTS, *sizes.SIZES, "Exit codes"))


@pytest.mark.parametrize(("value", "code"), [(1.0, 0), (1.01, 1)])
def test_the_exit_code_says_whether_outputs_differ(monkeypatch, capsys, value, code):
    given = measure.Session.__init__.__defaults__
    monkeypatch.setattr(measure.Session.__init__, "__defaults__", (*given[:-1], fakes(ours=(value, "well"))))
    arguments = ["--sizes", "8:1,2@8", "--batches", "1", "--contestants", "ours", "torch", "--quiet", "--rounds", "1"]
    assert cli.main(arguments) == code
    assert ("error: dim 8 (1,2) @ 8x8, batch 1: ours's" in capsys.readouterr().err) == bool(code)


# --- for real -------------------------------------------------------------------------------------------------------


NOT_COMPILED = """
import functools, sys
from ms_ddpm import runtime
runtime.setup = functools.partial(runtime.setup, mode=1)
from ms_ddpm_bench.speed import worker
worker.main(sys.argv[1:])
"""


def operator_by_operator(entry, threads, scratch):
    """The process of a contestant, in which MindSpore compiles nothing."""
    command = [sys.executable, "-c", NOT_COMPILED, entry.name, str(threads)] if entry.name == "ours" else None
    return Child(entry, threads, scratch, command)


def test_ours_and_torch_agree_and_are_timed(tmp_path, monkeypatch):
    """The next test compiles."""
    given = measure.Session.__init__.__defaults__
    monkeypatch.setattr(measure.Session.__init__, "__defaults__", (*given[:-1], operator_by_operator))
    arguments = ["--sizes", "8:1@8", "--batches", "2", "--contestants", "ours", "torch", "--rounds", "1",
                 "--steps", "2",
                 "--ddim_steps", "3", "--budget", "1", "--quiet", "--json", str(tmp_path / "a.json")]  # fmt: skip
    assert cli.main(arguments) == 0
    rows = results.load(tmp_path / "a.json")["rows"]
    assert [r["contestant"] for r in rows] == ["ours", "torch"]
    for r in rows:
        assert not r["failed"]
        assert not r["disagrees"]
        assert {kind: len(seconds) for kind, seconds in r["times"].items()} == {"train": 2, "denoise": 2, "sample": 1}
        assert r["growth"] > 0
        assert r["first_step_s"] > r["import_s"] > 0
    assert set(rows[0]["differences"]) == {
        "train: loss", "train: gradient norm", "train: loss after an update", "denoise: output", "sample: images"
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("layout", sizes.LAYOUTS)
def test_every_contestant_computes_the_same_in_both_layouts(tmp_path, layout):
    arguments = ["--sizes", "8:1,2@8", "--batches", "2", "--contestants", *CONTESTANTS, "--rounds", "1", "--steps", "1",
                 "--ddim_steps", "2", "--budget", "1", "--layout", layout, "--quiet",
                 "--json", str(tmp_path / "a.json")]  # fmt: skip
    assert cli.main(arguments) == 0
    for r in results.load(tmp_path / "a.json")["rows"]:
        if r["contestant"] != "torch-compile":  # which needs a C++ compiler
            assert not r["failed"]
            assert r["times"]["train"]


def test_the_parents_modules_see_no_framework():
    """Only what a worker imports may import one: two frameworks in a process share threads and memory."""
    for path in (ROOT / "ms_ddpm_bench" / "speed").glob("*.py"):
        assert not re.search(r"^\s*(?:import|from) (?:torch|mindspore)", path.read_text(), re.MULTILINE), path.name
