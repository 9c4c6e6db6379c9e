"""The doctor, on directories that play machines and on this one."""

import json
import os
import re
import subprocess
import sys

import pytest

from ms_ddpm import runtime
from ms_ddpm.devices import cuda_wheels, nvidia
from ms_ddpm.doctor import __main__ as doctor
from ms_ddpm.doctor import ascend, cpu, gpu, start
from ms_ddpm.doctor.machine import MISSING, NOTE, OK, Finding, Machine, examine, within
from tests.conftest import ROOT

HOPPER = nvidia.Driver((12, 4), (nvidia.Gpu("NVIDIA H100", (9, 0), 80 * 2**30),))
NO_DRIVER = nvidia.Driver(problem="there is no NVIDIA driver; install it")
CHECK_VERSION = """
class GPUEnvChecker(EnvChecker):
    def __init__(self):
        self.version = ["10.1", "11.1", "11.6"]
class AscendEnvChecker(EnvChecker):
    def __init__(self):
        self.version = ["8.5", "9.0"]
"""
CANN = "/usr/local/Ascend/ascend-toolkit/latest"
SOURCED = {
    "ASCEND_HOME_PATH": CANN,
    "ASCEND_OPP_PATH": f"{CANN}/opp",
    "PYTHONPATH": f"{CANN}/python/site-packages:{CANN}/opp/built-in/op_impl/ai_core/tbe",
    "LD_LIBRARY_PATH": f"{CANN}/lib64",
}


class Fake:
    """Directories that play a machine: ``root`` and ``site`` (the installed packages)."""

    def __init__(self, folder):
        self.root, self.site = folder / "root", folder / "site"
        self.root.mkdir()
        self.site.mkdir()
        self.file("/proc/meminfo", "MemTotal: 16000000 kB\nMemAvailable: 12000000 kB\n")
        for name, version in {
            "mindspore": "2.10.0", "numpy": "1.26.4", "tqdm": "4.67", "Pillow": "11.0", "matplotlib": "3.10",
            "PyYAML": "6.0", "safetensors": "0.5",
        }.items():  # fmt: skip
            self.install(name, version)
        plugin = self.site / "mindspore" / "lib" / "plugin"
        plugin.mkdir(parents=True)
        for name in ("libmindspore_gpu.so.11.6", "libmindspore_ascend.so.2"):
            (plugin / name).touch()
        (self.site / "mindspore" / "__init__.py").touch()
        (self.site / "mindspore" / "run_check").mkdir()
        (self.site / "mindspore" / "run_check" / "_check_version.py").write_text(CHECK_VERSION)

    def file(self, path, text=""):
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def install(self, name, version, files=()):
        self.uninstall(name)
        info = self.site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "RECORD").write_text("".join(f"{file},,{size}\n" for file, size in files))

    def uninstall(self, name):
        for info in self.site.glob(f"{name.replace('-', '_')}-*.dist-info"):
            for file in info.iterdir():
                file.unlink()
            info.rmdir()

    def cuda(self):
        for library in cuda_wheels.LIBRARIES:
            path = f"nvidia/{library.folder}/lib/{library.soname}"
            (self.site / path).parent.mkdir(parents=True, exist_ok=True)
            (self.site / path).write_text("1234")
            siblings = [other for other in cuda_wheels.LIBRARIES if other.folder == library.folder]
            files = [(f"nvidia/{other.folder}/lib/{other.soname}", 4) for other in siblings]
            self.install(library.package, "8.9.6" if library.folder == "cudnn" else "11.8.89", files)

    def ascend(self, version="9.0.0"):
        for path in ("/dev/davinci0", "/dev/davinci_manager"):
            self.file(path)
        self.file("/usr/local/Ascend/driver/version.info", "Version=25.2.0\n")
        self.file("/usr/local/Ascend/ascend-toolkit/set_env.sh")
        self.file(f"{CANN}/compiler/version.info", f"Version={version}\n")
        for folder in ("opp/built-in/op_impl/ai_core/tbe/kernel", "python/site-packages/te"):
            (self.root / CANN.lstrip("/") / folder).mkdir(parents=True)
        (self.root / CANN.lstrip("/") / "python/site-packages/hccl").mkdir()

    def machine(self, env=None, driver=HOPPER, system_libraries=("libz.so.1", "libgomp.so.1"), **other):
        def run(command):
            if command[0] == "npu-smi":
                return "| 0     910B3               | OK            | 95.1        43                0    / 0  |\n"
            raise FileNotFoundError(command[0])

        return Machine(
            root=self.root, env={"HOME": "/root", **(env or {})}, paths=(str(self.site),), run=run,
            loads=lambda name: name in system_libraries, driver=lambda: driver, **other,
        )  # fmt: skip


@pytest.fixture
def fake(tmp_path):
    return Fake(tmp_path)


def findings(machine, probes):
    return list(examine(machine, probes))


def lost(machine, probes):
    return doctor.missing(findings(machine, probes))


def words(found):
    return "\n".join(f"{finding.state} {finding.what} | {finding.repair}" for finding in found)


# --- what every device needs --------------------------------------------------------------------------------------


def test_a_whole_machine_misses_nothing(fake):
    assert lost(fake.machine(), [*cpu.COMMON, *cpu.PROBES]) == []


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("numpy", "2.1.0", "numpy 2.1.0, expected >=1.26,<2"),
        ("mindspore", "2.8.0", "mindspore 2.8.0, expected >=2.9,<2.12"),
        ("mindspore", "2.12.0", "mindspore 2.12.0"),
    ],
)
def test_a_wrong_version_is_named_with_the_command(fake, name, version, expected):
    fake.install(name, version)
    (finding,) = lost(fake.machine(), cpu.COMMON)
    assert finding.what.startswith(expected)
    assert finding.repair.startswith(f"pip install '{name}>=")


def test_an_absent_package_is_missing_for_every_device(fake):
    fake.cuda()
    fake.uninstall("mindspore")
    (fake.site / "mindspore" / "__init__.py").unlink()
    sections = doctor.diagnose(fake.machine(), ["CPU", "GPU", "Ascend"], starter=pytest.fail)
    for device in ("CPU", "GPU", "Ascend"):
        assert "pip install 'mindspore>=2.9,<2.12'" in doctor.summary(sections, True)[device]


def test_a_python_without_wheels_is_missing(fake):
    assert "Python 3.13.0" in lost(fake.machine(python=(3, 13, 0)), cpu.COMMON)[0].what


def test_the_requirements_are_those_of_setup_py():
    text = (ROOT / "setup.py").read_text()
    listed = re.findall(r'"([^"]+)"', re.search(r"install_requires=\[(.*?)\]", text, re.S)[1])
    assert listed == [requirement for requirement, _ in cpu.REQUIREMENTS]


@pytest.mark.parametrize(
    ("version", "inside"), [("1.26.4", True), ("1.26", True), ("1.25.9", False), ("2.0.0", False), ("1.27rc1", True)]
)
def test_versions_are_compared_as_numbers(version, inside):
    assert within(version, "numpy>=1.26,<2") == inside


@pytest.mark.parametrize("variable", ["MS_DDPM_ONEDNN_ISA", "ONEDNN_MAX_CPU_ISA"])
def test_a_variable_that_slows_the_cpu_is_noted(fake, variable):
    fake.file("/proc/cpuinfo", "flags: avx2 avx512f")
    assert f"note {variable}=keep" in words(findings(fake.machine({variable: "keep"}), [cpu.processor]))
    assert "note" not in words(findings(fake.machine(), [cpu.processor]))


# --- GPU ----------------------------------------------------------------------------------------------------------


def test_a_whole_gpu_machine_is_started(fake):
    fake.cuda()
    started = []

    def starter(device):
        started.append(device)
        return [Finding(OK, "it computes")]

    sections = doctor.diagnose(fake.machine(), ["GPU"], starter)
    assert doctor.summary(sections, True) == {"GPU": "ready"}
    assert started == ["GPU"]
    said = words(sections["GPU"])
    assert "libcudnn.so.8: nvidia-cudnn-cu11 8.9.6" in said
    assert "GPU 0: NVIDIA H100, compute capability 9.0, 80.0 GiB" in said
    assert "note MindSpore's kernels hold no machine code for GPU 0" in said


def test_a_device_that_fails_to_start_is_not_ready(fake):
    fake.cuda()
    sections = doctor.diagnose(fake.machine(), ["GPU"], lambda device: [Finding(MISSING, "does not start", "look")])
    assert doctor.summary(sections, True)["GPU"] == "not ready, 1 missing; to do:\n  look"


def test_without_a_driver_that_alone_is_missing(fake):
    fake.cuda()
    sections = doctor.diagnose(fake.machine(driver=NO_DRIVER), ["GPU"], starter=pytest.fail)
    assert doctor.summary(sections, True)["GPU"] == "not ready, 1 missing; to do:\n  install it"


def test_without_packages_one_command_installs_them_all(fake):
    missing = lost(fake.machine(), gpu.PROBES)
    assert [finding.what for finding in missing] == [f"{lib.soname} not found" for lib in cuda_wheels.LIBRARIES]
    assert doctor.repairs(missing) == [cuda_wheels.pip_command(cuda_wheels.LIBRARIES)]


def test_libraries_of_the_system_will_do(fake):
    names = [library.soname for library in cuda_wheels.LIBRARIES]
    assert lost(fake.machine(system_libraries=[*names, "libz.so.1", "libgomp.so.1"]), gpu.PROBES) == []


def test_the_wrong_cudnn_is_recognised(fake):
    fake.cuda()
    folder = fake.site / "nvidia" / "cudnn" / "lib"
    (folder / "libcudnn.so.8").rename(folder / "libcudnn.so.9")
    fake.install("nvidia-cudnn-cu11", "9.1.0")
    (finding,) = lost(fake.machine(), gpu.PROBES)
    assert "libcudnn.so.9 is there, and MindSpore's plugin needs cuDNN 8" in finding.what
    assert finding.repair == "pip install 'nvidia-cudnn-cu11>=8.5,<9'"


def test_a_file_that_another_package_put_over_is_noted(fake):
    fake.cuda()
    assert "is not the file" not in words(findings(fake.machine(), [gpu.libraries]))
    (fake.site / "nvidia" / "curand" / "lib" / "libcurand.so.10").write_text("CUDA 12's")
    said = words(findings(fake.machine(), [gpu.libraries]))
    assert said.count("is not the file") == 1
    assert "note libcurand.so.10 is not the file that nvidia-curand-cu11 brought" in said


@pytest.mark.parametrize(("release", "state"), [("11.8", OK), ("12.4", NOTE)])
def test_cuda_home_is_judged_by_its_nvcc(fake, release, state):
    fake.file("/opt/cuda/bin/nvcc", f'#!/bin/sh\necho "Cuda compilation tools, release {release}, V{release}.1"\n')
    (fake.root / "opt/cuda/bin/nvcc").chmod(0o755)
    (finding,) = findings(fake.machine({"CUDA_HOME": "/opt/cuda"}), [gpu.home])
    assert (finding.state, f"CUDA {release}" in finding.what) == (state, True)


def test_a_mindspore_without_the_plugin_is_missing(fake):
    fake.cuda()
    (fake.site / "mindspore" / "lib" / "plugin" / "libmindspore_gpu.so.11.6").unlink()
    (finding,) = lost(fake.machine(), gpu.PROBES)
    assert "GPU plugin: none" in finding.what


# --- Ascend -------------------------------------------------------------------------------------------------------


def test_a_whole_ascend_machine_misses_nothing(fake):
    fake.ascend()
    found = findings(fake.machine(SOURCED), ascend.PROBES)
    assert {finding.state for finding in found} == {OK}, words(found)
    assert "CANN 9.0.0 in" in words(found)
    assert "910B3" in words(found)


def test_an_environment_that_was_not_sourced_is_one_command(fake):
    fake.ascend()
    (finding,) = lost(fake.machine(), ascend.PROBES)
    assert finding.repair == "source /usr/local/Ascend/ascend-toolkit/set_env.sh"
    half = {name: value for name, value in SOURCED.items() if name != "LD_LIBRARY_PATH"}
    (finding,) = lost(fake.machine(half), ascend.PROBES)
    assert "(LD_LIBRARY_PATH)" in finding.what


def test_a_cann_that_this_mindspore_does_not_know_is_missing(fake):
    fake.ascend("8.0.RC1")
    (finding,) = lost(fake.machine(SOURCED), ascend.PROBES)
    assert "CANN 8.0.RC1" in finding.what
    assert "MindSpore 2.10.0 supports CANN 8.5, 9.0" in finding.what
    assert "install CANN 9.0" in finding.repair


def test_a_driver_without_devices_points_at_the_container(fake):
    fake.ascend()
    (fake.root / "dev/davinci0").unlink()
    (finding,) = lost(fake.machine(SOURCED), ascend.PROBES)
    assert "--device /dev/davinci0" in finding.repair


def test_the_supported_versions_are_read_from_the_installed_mindspore():
    assert len(ascend.supported(Machine())) >= 3, "run_check/_check_version.py has changed: see ascend.supported"


# --- the report ---------------------------------------------------------------------------------------------------


def test_an_empty_machine_is_a_report_and_no_crash(tmp_path, capsys):
    (tmp_path / "root").mkdir()

    def run(command):
        raise FileNotFoundError(command[0])

    machine = Machine(
        tmp_path / "root", {}, (str(tmp_path),), (3, 9, 0), "darwin", "arm64", run, lambda name: False,
        lambda: NO_DRIVER,
    )  # fmt: skip
    assert doctor.main([], machine) == 1
    said = capsys.readouterr().out
    assert "could not be looked at" not in said
    for device in ("CPU", "GPU", "Ascend"):
        assert re.search(rf"^{device} not ready, \d+ missing; to do:", said, re.M)


def test_a_probe_that_fails_is_a_line(fake):
    def broken_thing(machine):
        yield Finding(OK, "first")
        raise PermissionError("no")

    assert [f.what for f in findings(fake.machine(), [broken_thing, cpu.kernels])][:2] == [
        "first",
        "broken thing: could not be looked at (PermissionError('no'))",
    ]


@pytest.mark.parametrize(("driver", "code"), [(HOPPER, 0), (NO_DRIVER, 1)])
def test_the_exit_code_and_the_json_are_of_the_device_asked_for(fake, capsys, driver, code):
    fake.cuda()
    arguments = ["--device_target", "GPU", "--json", "--no-start"]
    assert doctor.main(arguments, fake.machine(driver=driver)) == code
    report = json.loads(capsys.readouterr().out)
    assert (report["asked"], report["ready"]) == ("GPU", code == 0)
    assert set(report["sections"]) == {"Python", "GPU"}
    assert report["devices"]["GPU"]["repairs"] == ([] if code == 0 else ["install it"])
    assert doctor.main(["--no-start"], fake.machine(driver=driver)) == 0, "without --device_target the CPU decides"


def test_colours_are_for_terminals(fake, capsys, monkeypatch):
    doctor.main(["--no-start"], fake.machine())
    assert "\033" not in capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    doctor.main(["--no-start"], fake.machine())
    assert "\033[32mok" in capsys.readouterr().out


def command(*arguments, **env):
    run = [sys.executable, "-m", "ms_ddpm.doctor", *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    return subprocess.run(run, capture_output=True, text=True, env=env, timeout=300)


@pytest.mark.parametrize("arguments", [["--device_target", "TPU"], ["--timeout", "0"], ["--colour"]])
def test_wrong_usage_is_one_line_and_exit_code_2(arguments):
    done = command(*arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert arguments[0] in done.stderr


def test_help_loads_no_framework():
    code = """
import sys
from ms_ddpm.doctor import __main__ as doctor
try:
    doctor.main(["--help"])
except SystemExit:
    print([name for name in ("mindspore", "numpy", "torch") if name in sys.modules])
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=60).stdout
    assert out.splitlines()[-1] == "[]"


# --- this machine -------------------------------------------------------------------------------------------------


def test_this_machine_is_ready_for_the_cpu_and_proves_it():
    done = command("--device_target", "CPU")
    assert done.returncode == 0, done.stdout
    assert "ok       CPU computes: matrix product and convolution right" in done.stdout
    assert done.stdout.splitlines()[-1] == "CPU ready"


@pytest.mark.skipif(runtime.accelerator_present(), reason="an accelerator is here")
def test_a_device_that_does_not_start_tells_its_last_words():
    (finding,) = start.start("GPU")
    assert finding.state == MISSING
    assert "GPU does not start: UserError: device_target GPU is not available here" in finding.what


def test_a_device_that_hangs_is_given_up():
    (finding,) = start.start("CPU", timeout=0.001)
    assert "did not start within 0.001 s" in finding.what


@pytest.mark.parametrize("wrong", ["MatMul", "Conv2D"])
def test_a_device_that_computes_something_else_is_found_out(mindspore, monkeypatch, wrong):
    from mindspore import ops

    start.compute("CPU")
    right = getattr(ops, wrong)
    monkeypatch.setattr(ops, wrong, lambda *args, **kwargs: lambda a, b: right(*args, **kwargs)(a, b) * 1.001)
    with pytest.raises(ArithmeticError, match="of whole numbers is wrong"):
        start.compute("CPU")


@pytest.mark.parametrize(
    ("env", "arguments", "named"),
    [({"DEVICE": "TPU"}, [], "'TPU'"), ({"STEPS": "0"}, [], "'0'"), ({}, ["--fast"], "'--fast'")],
)
def test_the_check_of_a_device_names_wrong_usage_and_writes_nothing(tmp_path, env, arguments, named):
    run = ["bash", str(ROOT / "scripts" / "gpu_check.sh"), *arguments]
    env = {**os.environ, **env, "OUT": str(tmp_path / "out")}
    done = subprocess.run(run, capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 2
    assert named in done.stderr
    assert not (tmp_path / "out").exists()
