"""What shares compiled graphs stays with one worker of pytest-xdist, and a worker does not age."""

import contextlib
import gc
import re
import signal
import sys

import pytest

pytest_plugins = ["pytester"]

APART = ("tests/whole/test_recipes.py", "tests/whole/test_endurance.py")  # long tests that share nothing
OFTEN = 100  # tests after which a worker is tidied up within a file


def pytest_configure(config):
    """A shell starts what runs in its background with Ctrl-C ignored, and so would be all that the tests interrupt."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_itemcollected(item):
    """A file's tests run together, the harness's cases by what they compile and what is the truth of both modes.

    The scale of an input is none of it.
    """
    given = item.callspec.params if hasattr(item, "callspec") else {}
    group = item.nodeid.split("::")[0]
    if hasattr(given.get("case"), "computation"):
        group = re.sub(r"-scale[\d.]+|-graph$|-pynative$", "", given["case"].computation.key)
    elif hasattr(given.get("mutant"), "place"):
        group = f"mutant {given['mutant'].name}"
    elif group in APART:
        group = item.nodeid
    item.add_marker(pytest.mark.xdist_group(group))


def pytest_collection_finish(session):
    """Python's garbage collector need not look at thousands of tests again and again, nor often at a graph."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def give_back_graphs():
    """`mindspore.ms_memory_recycle`, until it gets through: a graph may be the last to hold a Cell, and when that goes
    it changes the dict that MindSpore goes through (2.10: "dictionary changed size during iteration")."""
    import mindspore

    for _ in range(1000):
        with contextlib.suppress(RuntimeError):
            mindspore.ms_memory_recycle()
            return


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    """After a file, and now and then within one, gives back what MindSpore keeps of the graphs that nobody needs.

    It goes through all of them, and Python through all its objects, at every compilation (2.10): after some thousand
    tests a network that takes a second took fifteen, and the worker 5 GB.
    """
    result = yield
    item.session.done = getattr(item.session, "done", 0) + 1
    ends = nextitem is None or nextitem.path != item.path
    if "mindspore" in sys.modules and (ends or item.session.done % OFTEN == 0):
        give_back_graphs()
        gc.collect()
        gc.freeze()
    return result


@pytest.fixture(scope="module", autouse=True)
def _execution_mode(request):
    """PyNative, where no test waits for a compiler, but for files marked `graph`; whatever ran in this process before.

    Graphs of everything are compared with PyTorch by parity_tests, and made by whatever starts a script.
    """
    if "mindspore" not in sys.modules:  # whoever starts it says how
        yield
        return
    import mindspore

    from ms_ddpm import runtime

    mode, before = int(request.node.get_closest_marker("graph") is None), mindspore.get_context("mode")
    mindspore.set_context(mode=mode)
    with runtime.execution_mode(mode):
        yield
    mindspore.set_context(mode=before)
