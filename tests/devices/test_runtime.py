"""Start-up: what must happen before MindSpore starts, each in a process of its own."""

import subprocess
import sys

import numpy as np
import pytest

from ms_ddpm import runtime
from ms_ddpm.errors import UserError
from tests.conftest import ROOT

CONVOLUTION = """
import sys, time
sys.path.insert(0, {root!r})
from ms_ddpm import runtime
{before}
import mindspore as ms, numpy as np
from mindspore import ops
x, w = (ms.Tensor(np.ones(s, np.float32)) for s in ((4, 32, 16, 16), (32, 32, 3, 3)))
conv = ops.Conv2D(32, 3, pad_mode="pad", pad=1)
conv(x, w).asnumpy()
times = []
for _ in range(5):
    start = time.perf_counter()
    conv(x, w).asnumpy()
    times.append(time.perf_counter() - start)
print(sorted(times)[2] * 1e3)
"""


def python(code, **env):
    """Standard output of a fresh Python process."""
    import os

    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **env}, cwd=ROOT, timeout=300
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.strip()


@pytest.mark.slow  # that it is applied is tested below; that it is needed is of MindSpore alone
@pytest.mark.skipif(not runtime._has_avx512(), reason="no AVX-512 here, so no trap")
def test_onednn_cap_is_still_needed_and_works():
    """20 times faster here means 60 in a network; asked for only 5, so a busy machine does not fail it."""
    capped = float(python(CONVOLUTION.format(root=str(ROOT), before="runtime.setup('CPU')")))
    stock = float(python(CONVOLUTION.format(root=str(ROOT), before="import mindspore; mindspore.set_device('CPU')")))
    assert stock > 5 * capped, (
        f"stock {stock:.2f} ms, capped {capped:.2f} ms: runtime.cap_onednn can go if both are fast"
    )


def test_the_cap_leaves_the_environment_and_so_pytorch_alone():
    code = """
import os
from ms_ddpm import runtime
runtime.setup('CPU')
print(os.environ.get('ONEDNN_MAX_CPU_ISA'))
"""
    assert python(code) == "None"


@pytest.mark.parametrize("env", [{"MS_DDPM_ONEDNN_ISA": "keep"}, {"ONEDNN_MAX_CPU_ISA": "AVX2"}])
def test_the_user_can_switch_the_cap_off(env):
    assert python("from ms_ddpm import runtime; print(runtime.cap_onednn())", **env) == "False"


@pytest.fixture
def uncapped(mindspore, monkeypatch):
    """As on an AVX-512 machine whose oneDNN was not held at AVX2."""
    monkeypatch.setattr(runtime, "_onednn_capped", False)
    monkeypatch.setattr(runtime, "_has_avx512", lambda: True)
    monkeypatch.setattr("ms_ddpm.nn.layers.device_target", lambda: "CPU")  # whatever another test tried to start
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    runtime.warn_of_slow_convolutions.cache_clear()
    yield monkeypatch
    runtime.warn_of_slow_convolutions.cache_clear()


@pytest.mark.parametrize(
    ("isa", "words"),
    [
        ("keep", "MS_DDPM_ONEDNN_ISA=keep leaves MindSpore's oneDNN at AVX-512; unset it"),
        (
            "",
            "nothing holds MindSpore's oneDNN at AVX2; call ms_ddpm.runtime.setup('CPU') before the first network",
        ),
    ],
)
def test_slow_convolutions_are_said_once_to_who_gets_them(uncapped, caplog, isa, words):
    from ms_ddpm.models.basic import BasicNet

    uncapped.setenv(runtime.ISA_VARIABLE, isa)
    for _ in range(2):
        BasicNet(1, 1, use_kernels=False)
    said = [record.getMessage() for record in caplog.records]  # others may speak, too
    assert [line for line in said if "convolutions" in line] == [
        f"convolutions run 60 times slower here than they could: {words}"
    ]


def test_of_onednn_nothing_is_said_to_who_does_not_run_by_it(uncapped, caplog):
    """With the kernels, with the cap, with the user's own, without AVX-512: all of no concern."""
    from ms_ddpm.models.basic import BasicNet
    from ms_ddpm.ops import kernels

    if not kernels.why_not():
        BasicNet(1, 1)
    for patch in (
        lambda patch: patch.setattr(runtime, "_onednn_capped", True),
        lambda patch: patch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2"),
        lambda patch: patch.setattr(runtime, "_has_avx512", lambda: False),
    ):
        with uncapped.context() as here:
            patch(here)
            runtime.warn_of_slow_convolutions.cache_clear()
            BasicNet(1, 1, use_kernels=False)
    assert not caplog.records


def test_the_library_prepares_the_cpu_without_setup():
    code = "from ms_ddpm import Unet, runtime; print(runtime._cpu_prepared)"
    expected = "False" if runtime.accelerator_present() else "True"
    assert python(code).split()[0] == expected


def test_importing_the_package_loads_no_framework():
    code = """
import sys, ms_ddpm
from ms_ddpm import config, data, checkpoint, schedules, images, evaluation, random, lr_schedules, runtime, errors
print([m for m in ('mindspore', 'torch', 'PIL', 'sklearn', 'scipy') if m in sys.modules])
"""
    assert python(code) == "[]"


def test_an_unknown_device_is_named_with_the_known_ones():
    with pytest.raises(UserError, match=r"'TPU', expected one of: CPU, GPU, Ascend"):
        runtime.setup("TPU")


@pytest.mark.skipif(runtime.accelerator_present(), reason="an accelerator is here")
def test_a_missing_device_lists_what_is_there(mindspore):
    with pytest.raises(UserError, match=r"Ascend is not available here; available: CPU"):
        runtime.setup("Ascend")


@pytest.mark.parametrize("options", [{"mode": 2}, {"threads": 0}])
def test_impossible_options_are_named(mindspore, options):
    with pytest.raises(UserError, match=next(iter(options))):
        runtime.setup("CPU", **options)


def test_the_peak_of_memory_is_this_processs_own_not_that_of_who_started_it():
    filled = np.ones(50_000_000)  # 400 MB
    code = "from ms_ddpm import runtime; print(runtime.peak_rss_mb())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 10 < float(result.stdout) < 300 < runtime.peak_rss_mb()
    assert filled.all()


def test_a_notebook_that_has_computed_before_goes_on():
    """MindSpore refuses to be told of a device after the first kernel, also of the one that it is on."""
    computes = "import mindspore as ms; (ms.ops.ones((2,)) + 1).asnumpy()"
    code = f"{computes}; from ms_ddpm import runtime; runtime.setup('CPU')"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert said.returncode == 0, said.stderr[-500:]
