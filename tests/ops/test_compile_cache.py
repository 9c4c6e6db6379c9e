"""MindSpore's compile cache: what it does to a second start, and that ours never uses it."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.graph

NETWORK = """
import os, sys
import numpy as np
{before}
import mindspore as ms
from mindspore import Parameter, Tensor, nn
{after}

class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.w = Parameter(Tensor(np.arange(4), ms.float32), name="w")
        self.number = float(sys.argv[1])
        self.tensor = Tensor(np.full(4, 10 * self.number), ms.float32)

    def construct(self, x):
        return x * self.w + self.number + self.tensor

net = Net()

def call(x):
    return net(x)

print(*ms.jit(call)(Tensor(np.ones(4), ms.float32)).asnumpy().tolist())
"""
ONE, TWO = "11.0 12.0 13.0 14.0", "22.0 23.0 24.0 25.0"  # w + 11 number: what is right


def start(tmp_path, number, before="", after="", **env):
    """(what a fresh process printed, what it said on stderr, the files of the cache)."""
    code = tmp_path / "program.py"
    code.write_text(NETWORK.format(before=before, after=after))
    cache = tmp_path / "cache"
    result = subprocess.run(
        [sys.executable, str(code), str(number)], capture_output=True, text=True, timeout=300, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "GLOG_v": "3", "MS_COMPILER_CACHE_PATH": str(cache), **env},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.strip(), result.stderr, [path for path in cache.rglob("*") if path.is_file()]


def test_a_second_start_computes_what_the_first_does_whatever_the_environment_says(tmp_path):
    first, said, files = start(tmp_path, 1, before="import ms_ddpm", MS_COMPILER_CACHE_ENABLE="1")
    assert (first, files) == (ONE, [])  # nothing is left for a second start to read
    assert said.count("compile cache (MS_COMPILER_CACHE_ENABLE) is switched off") == 1


@pytest.fixture
def cache(mindspore, monkeypatch):
    """The module, with what MindSpore was told put back afterwards."""
    from ms_ddpm.ops import compile_cache

    yield compile_cache
    mindspore.set_context(enable_compile_cache=False)


def test_the_context_is_switched_off_too_whenever_a_graph_is_made(cache, mindspore, monkeypatch, caplog):
    from ms_ddpm import runtime

    monkeypatch.setenv(cache.VARIABLE, "1")
    mindspore.set_context(enable_compile_cache=True)
    runtime.compiled(lambda x: x)
    assert mindspore.get_context("enable_compile_cache") is False
    assert cache.VARIABLE not in os.environ
    runtime.compiled(lambda x: x)
    said = [record for record in caplog.records if record.name == "ms_ddpm"]  # MindSpore says that it is deprecated
    assert [record.getMessage().partition(":")[0] for record in said] == [
        "MindSpore's compile cache (MS_COMPILER_CACHE_ENABLE, enable_compile_cache) is switched off"
    ]


def test_a_network_switches_it_off_before_anything_is_compiled(cache, mindspore):
    """`Cell.__call__` in graph mode compiles without `runtime.compiled`."""
    from ms_ddpm.models.unet import Unet

    mindspore.set_context(enable_compile_cache=True)
    Unet(8, dim_mults=(1,), channels=1)
    assert mindspore.get_context("enable_compile_cache") is False


@pytest.mark.parametrize("value", ["0", ""])
def test_nothing_is_said_where_it_was_off(cache, monkeypatch, caplog, value):
    monkeypatch.setenv(cache.VARIABLE, value)
    cache.switch_off()
    assert not caplog.records


@pytest.mark.slow
@pytest.mark.parametrize("how", ["variable", "context"])
def test_the_cache_still_computes_garbage(tmp_path, how):
    """If this fails, MindSpore's cache may be right: ms_ddpm/ops/compile_cache.py may go, and a start is faster."""
    env = {"MS_COMPILER_CACHE_ENABLE": "1"} if how == "variable" else {}
    after = "" if env else "ms.set_context(enable_compile_cache=True)"
    assert start(tmp_path, 1, after=after, **env)[0] == ONE
    second, _, files = start(tmp_path, 2, after=after, **env)
    assert files
    assert second != TWO, "a second start computes the right numbers from the cache now"
