"""What this machine has, lacks and needs to run ms_ddpm on CPU, GPU and Ascend.

  python -m ms_ddpm.doctor
  python -m ms_ddpm.doctor --device_target GPU
  python -m ms_ddpm.doctor --json

One line per thing: ok, missing (with the command that repairs it) or note. A device of which nothing is missing is then
started in a process of its own and computes numbers whose result is known. Exit code 0 where the device asked for
(CPU where none is) is ready, 1 where it is not; with --no-start, where nothing is missing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict

from ..cli import Parser, run
from . import ascend, cpu, gpu
from .machine import MISSING, NOTE, OK, Finding, Machine, examine
from .start import start

DEVICES = {"CPU": cpu.PROBES, "GPU": gpu.PROBES, "Ascend": ascend.PROBES}
COLOURS = {OK: "32", MISSING: "31", NOTE: "33"}


def diagnose(
    machine: Machine,
    devices: Iterable[str],
    starter: Callable[[str], list[Finding]] | None,
) -> dict[str, list[Finding]]:
    """Section -> findings: "Python" for what all devices need, then each device.

    ``starter`` is called for each device of which nothing is missing; None starts none.
    """
    sections = {"Python": list(examine(machine, cpu.COMMON))}
    for device in devices:
        found = list(examine(machine, DEVICES[device]))
        if starter and not missing([*sections["Python"], *found]):
            found += starter(device)
        sections[device] = found
    return sections


def missing(findings: Iterable[Finding]) -> list[Finding]:
    """Those without which a device does not run."""
    return [finding for finding in findings if finding.state == MISSING]


def repairs(findings: Iterable[Finding]) -> list[str]:
    """What to run, in this order."""
    return list(dict.fromkeys(finding.repair for finding in missing(findings) if finding.repair))


def summary(sections: dict[str, list[Finding]], started: bool) -> dict[str, str]:
    """Device -> "ready", or "not ready" with what to run."""
    words = {}
    for device in sections.keys() & DEVICES.keys():
        lost = missing([*sections["Python"], *sections[device]])
        if not lost:
            words[device] = "ready" if started else "nothing missing (not started)"
        else:
            words[device] = "".join([f"not ready, {len(lost)} missing; to do:", *(f"\n  {r}" for r in repairs(lost))])
    return {device: words[device] for device in DEVICES if device in words}


def text(sections: dict[str, list[Finding]], results: dict[str, str], colours: bool) -> str:
    """The report for people."""
    lines = []
    for name, findings in sections.items():
        lines.append(name)
        for finding in findings:
            state = f"{finding.state:<7}"
            shown = f"\033[{COLOURS[finding.state]}m{state}\033[0m" if colours else state
            lines.append(f"  {shown}  {finding.what}")
            if finding.repair:
                lines.append(f"           to do: {finding.repair}")
        lines.append("")
    lines += [f"{device} {result}" for device, result in results.items()]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None, machine: Machine | None = None) -> int:
    """Prints the report; 0 where the device asked for is ready, 1 where it is not."""
    parser = Parser(prog="python -m ms_ddpm.doctor", description=__doc__)
    parser.add_argument("--device_target", choices=list(DEVICES), help="look at this one only [all, CPU decides]")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    parser.add_argument("--no-start", action="store_true", help="only look, start nothing")
    parser.add_argument("--timeout", type=float, metavar="S", help="seconds a device may take to start")
    options = parser.parse_args(argv)
    if options.timeout is not None and not options.timeout > 0:
        parser.error(f"--timeout is {options.timeout:g}, expected seconds above 0")
    devices = [options.device_target] if options.device_target else list(DEVICES)
    starter = None if options.no_start else lambda device: start(device, options.timeout)
    sections = diagnose(machine or Machine(), devices, starter)
    results = summary(sections, starter is not None)
    asked = options.device_target or "CPU"
    ready = not missing([*sections["Python"], *sections[asked]])
    if options.json:
        report = {
            "asked": asked,
            "ready": ready,
            "devices": {
                name: {"summary": results[name], "repairs": repairs([*sections["Python"], *sections[name]])}
                for name in results
            },
            "sections": {name: [asdict(finding) for finding in found] for name, found in sections.items()},
        }
        print(json.dumps(report, indent=2))
    else:
        print(text(sections, results, colours=sys.stdout.isatty()))
    return 0 if ready else 1


if __name__ == "__main__":
    run(main)
