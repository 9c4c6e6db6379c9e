"""Huawei's Ascend: driver, CANN toolkit, its environment, MindSpore's plugin. Never run on an Ascend machine so far."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from .machine import MISSING, NOTE, OK, Finding, Machine

INSTALL = "/usr/local/Ascend"
GUIDE = "see CANN's installation guide on hiascend.com"
TOOLKITS = (f"{INSTALL}/ascend-toolkit/latest", f"{INSTALL}/cann", "~/Ascend/ascend-toolkit/latest", "~/Ascend/cann")
ENVIRONMENT = {  # variable: what MindSpore's AscendEnvChecker looks for in it
    "ASCEND_OPP_PATH": "/opp",
    "PYTHONPATH": "opp/built-in/op_impl/ai_core/tbe",
    "LD_LIBRARY_PATH": "/lib64",
}


def plugin(machine: Machine) -> Iterator[Finding]:
    """MindSpore's Ascend plugin."""
    mindspore = machine.package("mindspore")
    if mindspore is None:
        yield Finding(MISSING, "Ascend plugin: there is no MindSpore", "pip install 'mindspore>=2.9,<2.12'")
    elif found := sorted((mindspore / "lib" / "plugin").glob("libmindspore_ascend.so.*")):
        yield Finding(OK, f"Ascend plugin: {found[0].name}")
    else:
        where = mindspore / "lib" / "plugin"
        reinstall = "pip install --force-reinstall --no-deps 'mindspore>=2.9,<2.12'"
        yield Finding(MISSING, f"Ascend plugin: no libmindspore_ascend.so.2 in {where}", reinstall)


def _version(text: str) -> str:
    match = re.search(r"^\s*[Vv]ersion\s*=\s*\[?([\w.]+)", text, re.M)
    return match[1] if match else ""


def devices(machine: Machine) -> Iterator[Finding]:
    """Devices, the driver's version, npu-smi."""
    found = sorted(machine.file("/dev").glob("davinci[0-9]*"))
    version = _version(machine.read(f"{INSTALL}/driver/version.info"))
    if version:
        yield Finding(OK, f"Ascend driver {version}")
    elif found:
        words = f"the driver's version is unknown: no {INSTALL}/driver/version.info; a container needs that directory"
        yield Finding(NOTE, words, f"docker run -v {INSTALL}/driver:{INSTALL}/driver ...")
    if found:
        yield Finding(OK, f"{len(found)} Ascend devices: {', '.join(file.name for file in found)}")
    elif version:
        yield Finding(
            MISSING,
            "the Ascend driver is installed but shows no device (/dev/davinci*)",
            "npu-smi info   (in a container: docker run --device /dev/davinci0 --device /dev/davinci_manager ...)",
        )
    else:
        yield Finding(
            MISSING, "no Ascend device (/dev/davinci*) and no driver", f"install driver and firmware: {GUIDE}"
        )
    if found and not machine.file("/dev/davinci_manager").exists():
        add = "docker run --device /dev/davinci_manager --device /dev/devmm_svm --device /dev/hisi_hdc ..."
        yield Finding(MISSING, "/dev/davinci_manager is not there", add)
    if found or version:
        try:
            chips = sorted(set(re.findall(r"\|\s*\d+\s+(\w*910\w*|\w*310\w*)\s+\|", machine.run(["npu-smi", "info"]))))
            yield Finding(OK, f"npu-smi answers{': ' + ', '.join(chips) if chips else ''}")
        except Exception as error:  # not there, not allowed, hangs
            yield Finding(NOTE, f"npu-smi does not answer ({error})", f"export PATH={INSTALL}/driver/tools:$PATH")


def supported(machine: Machine) -> list[str]:
    """The CANN versions that the installed MindSpore says it supports; empty where it does not say."""
    mindspore = machine.package("mindspore")
    file = mindspore / "run_check" / "_check_version.py" if mindspore else None
    text = file.read_text(errors="replace") if file and file.is_file() else ""
    match = re.search(r"class AscendEnvChecker.*?self\.version = \[(.*?)\]", text, re.S)
    return re.findall(r"\d+\.\d+", match[1]) if match else []


def _toolkit(machine: Machine) -> str:
    """The installed toolkit: the one whose environment is set, or where installers put it; empty where none is."""
    candidates = [machine.env.get("ASCEND_HOME_PATH", ""), *TOOLKITS]
    candidates += [str(folder) for path in machine.paths for folder in sorted(Path(path).glob("ascend/cann-*"))]
    home = machine.env.get("HOME", "/root")
    expanded = (path.replace("~", home, 1) if path.startswith("~") else path for path in candidates if path)
    return next((path for path in expanded if machine.file(path).is_dir()), "")


def set_env(machine: Machine, toolkit: str) -> str:
    """The command that sets a toolkit's environment."""
    scripts = (Path(toolkit) / "set_env.sh", Path(toolkit).parent / "set_env.sh")
    script = next((path for path in scripts if machine.file(path).is_file()), scripts[1])
    return f"source {script}"


def toolkit(machine: Machine) -> Iterator[Finding]:
    """CANN: where, which version, whether this MindSpore supports it, operators."""
    versions = supported(machine)
    expected = f"MindSpore {machine.version('mindspore')} supports CANN {', '.join(versions)}" if versions else ""
    wanted = machine.env.get("ASCEND_HOME_PATH")
    if wanted and not machine.file(wanted).is_dir():
        yield Finding(MISSING, f"ASCEND_HOME_PATH={wanted} is not a directory", "unset ASCEND_HOME_PATH")
    folder = _toolkit(machine)
    if not folder:
        what = f"no CANN toolkit in {INSTALL}; {expected or 'MindSpore is not there to say which it supports'}"
        newest = f" {versions[-1]}" if versions else ""
        yield Finding(MISSING, what, f"install CANN{newest}, toolkit and operators: {GUIDE}")
        return
    version = _version(machine.read(f"{folder}/compiler/version.info"))
    short = ".".join(version.split(".")[:2])
    if not version:
        yield Finding(NOTE, f"CANN in {folder}, of unknown version: it has no compiler/version.info. {expected}")
    elif versions and short not in versions:
        what = f"CANN {version} in {folder}: {expected}"
        yield Finding(MISSING, what, f"install CANN {versions[-1]}, toolkit and operators: {GUIDE}")
    else:
        yield Finding(OK, f"CANN {version} in {folder}. {expected}".rstrip(". "))
    if not machine.file(f"{folder}/opp/built-in/op_impl/ai_core/tbe/kernel").is_dir():
        yield Finding(
            NOTE,
            f"no binary operators in {folder}/opp: MindSpore compiles each it needs, or stops",
            f"install CANN's package of operators (kernels, ops) of the same version: {GUIDE}",
        )
    yield from _environment(machine, folder)


def _environment(machine: Machine, folder: str) -> Iterator[Finding]:
    """Whether set_env.sh was sourced in this shell: MindSpore's plugin finds CANN's libraries by it alone."""
    unset = [] if machine.env.get("ASCEND_HOME_PATH") else ["ASCEND_HOME_PATH"]
    unset += [name for name, part in ENVIRONMENT.items() if part not in machine.env.get(name, "")]
    if unset:
        what = f"CANN's environment is not set in this shell ({', '.join(unset)})"
        yield Finding(MISSING, what, set_env(machine, folder))
    else:
        yield Finding(OK, "CANN's environment is set in this shell")
    where = [machine.file(path) for path in machine.env.get("PYTHONPATH", "").split(":") if path]
    where += [machine.file(f"{folder}/python/site-packages"), *map(Path, machine.paths)]
    for name in ("te", "hccl"):
        if any((path / name).is_dir() for path in where):
            yield Finding(OK, f"CANN's Python package {name}")
        else:
            what = f"CANN's Python package {name} is not found"
            yield Finding(
                NOTE if unset or name == "hccl" else MISSING,
                what,
                f"pip install {folder}/lib64/{name}-*-py3-none-any.whl",
            )


PROBES = (plugin, devices, toolkit)
