"""A small process between msrun and each worker, so that a worker lives long enough to save.

Why: when any worker ends with an error, and on Ctrl-C, msrun (2.10) sends SIGKILL to the process groups of all the
others; a worker that msrun started itself could neither save a checkpoint nor say what happened. The worker proper is
therefore a child in a session of its own, and the kernel sends it SIGTERM when this process is gone, and this one when
msrun is: SIGTERM ends msrun alone. Still needed as long as ``_ProcessManager.kill_worker_processes`` of
mindspore/parallel/cluster uses SIGKILL.

MindSpore is not imported: this process only waits.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys

_PARENT = "MS_DDPM_SUPERVISOR"  # process number of the supervisor, in the worker's environment
_PR_SET_PDEATHSIG = 1  # Linux: prctl(2)


def supervise() -> None:
    """Starts this program again as a child, waits for it and exits with its code; in that child it returns.

    SIGTERM and SIGINT are passed on as SIGTERM, with which a worker stops after its step and saves.
    """
    parent = os.environ.pop(_PARENT, None)
    if parent is not None:
        _end_with(int(parent))
        return
    msrun = os.getppid()
    environment = {**os.environ, _PARENT: str(os.getpid())}
    worker = subprocess.Popen([sys.executable, *sys.orig_argv[1:]], env=environment, start_new_session=True)

    def pass_on(number, frame):
        worker.send_signal(signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, pass_on)
    _end_with(msrun)
    code = worker.wait()
    sys.exit(128 - code if code < 0 else code)


def _end_with(parent: int) -> None:
    """Has the kernel send this process SIGTERM when its ``parent`` ends (Linux; elsewhere nothing)."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it was gone before the kernel was told
        os.kill(os.getpid(), signal.SIGTERM)
