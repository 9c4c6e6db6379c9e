"""CUDA 11 from pip's packages, without a GPU: directories that play packages, a C library that plays the driver."""

import os
import re
import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ms_ddpm import runtime
from ms_ddpm.devices import cuda_wheels, nvidia
from ms_ddpm.errors import UserError
from tests.conftest import ROOT

DRIVER = """
#include <stdlib.h>
#include <string.h>
static int set(const char *name, int otherwise) { const char *v = getenv(name); return v ? atoi(v) : otherwise; }
int cuInit(unsigned flags) { return set("FAKE_INIT", 0); }
int cuDriverGetVersion(int *v) { *v = set("FAKE_VERSION", 12040); return 0; }
int cuDeviceGetCount(int *n) { *n = set("FAKE_COUNT", 1); return 0; }
int cuDeviceGet(int *d, int i) { *d = i; return 0; }
int cuDeviceGetName(char *s, int n, int d) { strncpy(s, "Fake GPU", n); return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? set("FAKE_MAJOR", 9) : 0; return 0; }
int cuDeviceTotalMem_v2(size_t *v, int d) { *v = (size_t)80 << 30; return 0; }
"""
needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
needs_no_gpu = pytest.mark.skipif(runtime.accelerator_present(), reason="an accelerator is here")


def compile_library(source, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{path.name}", "-x", "c", "-", "-o", str(path)]
    subprocess.run(command, input=source, text=True, check=True, timeout=60)
    return path


@pytest.fixture(scope="module")
def fake_driver(tmp_path_factory):
    return compile_library(DRIVER, tmp_path_factory.mktemp("driver") / "libcuda.so.1")


def fake_packages(site, without=()):
    """Empty files where the packages put their libraries."""
    for library in cuda_wheels.LIBRARIES:
        if library.folder not in without:
            file = site / "nvidia" / library.folder / "lib" / library.soname
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    for part in ("cudnn/lib/libcudnn_cnn_infer.so.8", "cuda_nvrtc/lib/libnvrtc-builtins.so.11.8"):
        if part.split("/")[0] not in without:
            (site / "nvidia" / part).touch()
    return site


def toolkit(folder, release):
    """A CUDA_HOME whose nvcc says what a real one says."""
    nvcc = folder / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text(f'#!/bin/sh\necho "Cuda compilation tools, release {release}, V{release}.99"\n')
    nvcc.chmod(0o755)
    return folder


def setup_gpu(paths=(), **env):
    """(exit code, output) of runtime.setup("GPU") in a process of its own, with a cache of its own."""
    code = """
import sys
from ms_ddpm import runtime, errors
try:
    runtime.setup("GPU")
except errors.UserError as error:
    sys.exit(str(error))
"""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CUDA", "LD_LIBRARY"))}
    env = {**clean, "PYTHONPATH": ":".join([str(ROOT), *map(str, paths)]), **env}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=300)
    return run.returncode, run.stderr


# --- packages -----------------------------------------------------------------------------------------------------


def test_packages_are_found_along_the_path_and_the_first_wins(tmp_path):
    first, second = fake_packages(tmp_path / "a", without=("cudnn",)), fake_packages(tmp_path / "b")
    found = cuda_wheels.find([str(tmp_path / "nowhere"), str(first), str(second)])
    assert set(found) == {library.soname for library in cuda_wheels.LIBRARIES}
    assert found["libcublas.so.11"].is_relative_to(first)
    assert found["libcudnn.so.8"].is_relative_to(second)


def test_the_extra_is_the_table():
    text = (ROOT / "setup.py").read_text()
    listed = re.search(r"^gpu = \[(.*?)^\]", text, re.S | re.M)[1]
    assert re.findall(r'"(nvidia[^"]+)"', listed) == list(
        dict.fromkeys(library.requirement for library in cuda_wheels.LIBRARIES)
    )


def test_what_was_tested_is_within_the_bounds():
    from ms_ddpm.doctor.machine import within

    pinned = dict(re.findall(r"^(nvidia\S+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))
    assert set(pinned) == {library.package for library in cuda_wheels.LIBRARIES}
    for library in cuda_wheels.LIBRARIES:
        assert within(pinned[library.package], library.requirement), library


def test_a_command_names_each_package_once():
    command = cuda_wheels.pip_command(cuda_wheels.LIBRARIES)
    assert command.count("nvidia-cublas-cu11") == 1
    assert command.count("nvidia-") == 8


# --- CUDA_HOME ----------------------------------------------------------------------------------------------------


def test_the_home_answers_as_mindspore_asks(tmp_path):
    libraries = cuda_wheels.find([str(fake_packages(tmp_path / "site"))])
    home = cuda_wheels.make_home(tmp_path, libraries)
    assert cuda_wheels.nvcc_release(home) == (11, 6)
    assert stat.S_IMODE(home.lstat().st_mode) == 0o700
    linked = {file.name for file in (home / "lib64").iterdir()}
    assert {library.soname for library in cuda_wheels.LIBRARIES} < linked
    assert {"libcudnn_cnn_infer.so.8", "libnvrtc-builtins.so.11.8", "libcudart.so.11.6.0"} < linked
    assert all(file.exists() for file in (home / "lib64").iterdir())


def test_the_home_is_kept_and_another_environment_gets_another(tmp_path):
    libraries = cuda_wheels.find([str(fake_packages(tmp_path / "a"))])
    home = cuda_wheels.make_home(tmp_path, libraries)
    inode = home.stat().st_ino
    assert cuda_wheels.make_home(tmp_path, libraries) == home
    assert home.stat().st_ino == inode
    assert cuda_wheels.make_home(tmp_path, cuda_wheels.find([str(fake_packages(tmp_path / "b"))])) != home


@pytest.mark.parametrize("harm", ["nvcc gone", "nvcc other", "nvcc not executable", "link gone"])
def test_a_damaged_home_is_made_again(tmp_path, harm):
    libraries = cuda_wheels.find([str(fake_packages(tmp_path / "site"))])
    home = cuda_wheels.make_home(tmp_path, libraries)
    nvcc = home / "bin" / "nvcc"
    if harm == "nvcc gone":
        nvcc.unlink()
    elif harm == "nvcc other":
        nvcc.write_text("#!/bin/sh\necho release 12.4,\n")
    elif harm == "nvcc not executable":
        nvcc.chmod(0o600)
    else:
        (home / "lib64" / "libcudnn.so.8").unlink()
    assert cuda_wheels.make_home(tmp_path, libraries) == home
    assert cuda_wheels.nvcc_release(home) == (11, 6)
    assert (home / "lib64" / "libcudnn.so.8").is_symlink()
    assert sorted(file.name for file in home.iterdir()) == ["bin", "lib64"]


def test_many_at_once_get_one_whole_home(tmp_path):
    libraries = cuda_wheels.find([str(fake_packages(tmp_path / "site"))])
    cache = tmp_path / "cache"
    cache.mkdir()
    with ThreadPoolExecutor(16) as pool:
        homes = set(pool.map(lambda _: cuda_wheels.make_home(cache, libraries), range(64)))
    assert len(homes) == 1
    assert cuda_wheels.nvcc_release(homes.pop()) == (11, 6)
    assert [file.name for file in cache.iterdir() if file.name.startswith(".")] == []


def test_the_slower_of_two_takes_the_others_home(tmp_path, monkeypatch):
    libraries = cuda_wheels.find([str(fake_packages(tmp_path / "site"))])
    cache, faster, rename = tmp_path / "cache", [], os.rename
    cache.mkdir()

    def slow_rename(source, target):
        if not faster:
            faster.append(None)
            faster.append(cuda_wheels.make_home(cache, libraries))
        rename(source, target)

    monkeypatch.setattr(cuda_wheels.os, "rename", slow_rename)
    assert cuda_wheels.make_home(cache, libraries) == faster[1]
    assert list(cache.iterdir()) == [faster[1]]


@pytest.mark.parametrize("trouble", ["not a directory", "others can write", "nothing runs there"])
def test_an_unusable_cache_is_passed_over(tmp_path, monkeypatch, trouble):
    monkeypatch.setattr(cuda_wheels.tempfile, "tempdir", str(tmp_path))
    cache = tmp_path / "cache"
    cache.mkdir()
    if trouble == "not a directory":  # what a read-only home is to everyone, root too
        (cache / "ms_ddpm").touch()
    elif trouble == "others can write":
        (cache / "ms_ddpm").mkdir()
        (cache / "ms_ddpm").chmod(0o777)
    else:
        run = cuda_wheels.nvcc_release
        monkeypatch.setattr(
            cuda_wheels, "nvcc_release", lambda home: None if Path(home).is_relative_to(cache) else run(home)
        )
    home = cuda_wheels.home_for({}, {"XDG_CACHE_HOME": str(cache)})
    assert home.parent == tmp_path / f"ms_ddpm-{os.getuid()}"
    assert cuda_wheels.nvcc_release(home) == (11, 6)


def test_where_no_script_runs_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(cuda_wheels.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cuda_wheels, "nvcc_release", lambda home: None)
    with pytest.raises(UserError, match=r"XDG_CACHE_HOME.*noexec"):
        cuda_wheels.home_for({}, {"XDG_CACHE_HOME": str(tmp_path)})


@pytest.mark.parametrize(
    ("release", "kept"), [("11.1", False), ("11.6", True), ("11.8", True), ("10.2", False), ("12.4", False)]
)
def test_a_toolkit_of_the_users_is_kept_where_mindspore_can_use_it(tmp_path, release, kept):
    home = toolkit(tmp_path / "cuda", release)
    assert cuda_wheels.own_toolkit({"CUDA_HOME": str(home)}) == (home if kept else None)


@pytest.mark.parametrize("text", ["", "not a program", "#!/bin/sh\nexit 1\n"])
def test_an_nvcc_that_does_not_answer_is_none(tmp_path, text):
    nvcc = toolkit(tmp_path / "cuda", "11.8") / "bin" / "nvcc"
    nvcc.write_text(text)
    assert cuda_wheels.nvcc_release(tmp_path / "cuda") is None
    assert cuda_wheels.nvcc_release(tmp_path / "nowhere") is None


# --- the process --------------------------------------------------------------------------------------------------


def test_the_environment_is_added_to_once():
    env = {"LD_LIBRARY_PATH": "/a:/home/lib64:/b"}
    for _ in range(2):
        cuda_wheels.environment(Path("/home"), [Path("/home/lib64")], env)
    assert env == {"CUDA_HOME": "/home", "LD_LIBRARY_PATH": "/home/lib64:/a:/b"}


def test_the_users_settings_of_the_kernel_cache_stay(tmp_path):
    env = {"CUDA_CACHE_PATH": "/mine", "CUDA_CACHE_MAXSIZE": "7"}
    cuda_wheels.set_cache(env)
    assert env == {"CUDA_CACHE_PATH": "/mine", "CUDA_CACHE_MAXSIZE": "7"}
    env = {"XDG_CACHE_HOME": str(tmp_path)}
    cuda_wheels.set_cache(env)
    assert Path(env["CUDA_CACHE_PATH"]) == tmp_path / "ms_ddpm" / "cuda-jit"
    assert Path(env["CUDA_CACHE_PATH"]).is_dir()
    assert int(env["CUDA_CACHE_MAXSIZE"]) == 2**32 - 1


@needs_compiler
def test_libraries_are_loaded_in_an_order_in_which_each_finds_what_it_needs(tmp_path):
    """A library that needs libcublas.so.11 by name, and no way to find it but that it is loaded already."""
    cublas = compile_library("int cublas(void) { return 11; }", tmp_path / "cublas" / "libcublas.so.11")
    solver = tmp_path / "cusolver" / "libcusolver.so.11"
    solver.parent.mkdir()
    source = "int cublas(void); int cusolver(void) { return cublas(); }"
    link = ["-L", str(cublas.parent), "-l:libcublas.so.11", f"-Wl,-soname,{solver.name}", "-Wl,-z,now"]
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-x", "none", *link, "-o", str(solver)]
    subprocess.run(command, input=source, text=True, check=True, timeout=60)
    others = [library.soname for library in cuda_wheels.LIBRARIES if "libcus" not in library.soname]
    found = {soname: cublas for soname in others} | {"libcusparse.so.11": cublas, "libcusolver.so.11": solver}
    code = f"""
from pathlib import Path
from ms_ddpm import cuda_wheels
found = {{k: Path(v) for k, v in { ({k: str(v) for k, v in found.items()})!r}.items()}}
print(cuda_wheels.load({{'libcusolver.so.11': found['libcusolver.so.11']}})[-2][1].split(':')[0])
print(cuda_wheels.load(found))
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LD_LIBRARY_PATH": ""}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True, timeout=60)
    assert out.stdout.split("\n")[:2] == ["libcublas.so.11", "[]"]


@needs_no_gpu
def test_without_anything_the_error_lists_driver_and_packages_in_one_line(tmp_path):
    code, said = setup_gpu(XDG_CACHE_HOME=str(tmp_path))
    assert code == 1
    assert said.count("\n") == 1, said
    assert "no NVIDIA driver" in said
    assert cuda_wheels.pip_command(cuda_wheels.LIBRARIES) in said
    assert "python -m ms_ddpm.doctor --device_target GPU" in said
    assert list(tmp_path.iterdir()) == []  # nothing is made where nothing can start


@needs_no_gpu
@needs_compiler
def test_with_a_driver_only_the_packages_are_missing(tmp_path, fake_driver):
    code, said = setup_gpu(LD_LIBRARY_PATH=str(fake_driver.parent), XDG_CACHE_HOME=str(tmp_path))
    assert code == 1
    assert "driver" not in said
    assert "CUDA 11's libraries are not installed; run: pip install" in said


@needs_no_gpu
@needs_compiler
def test_the_plugin_is_tried_with_these_libraries_and_its_words_are_passed_on(tmp_path, fake_driver):
    """Libraries of the right names with nothing in them: MindSpore asks our nvcc, opens the plugin, misses a symbol."""
    for library in cuda_wheels.LIBRARIES:
        compile_library("", tmp_path / "site" / "nvidia" / library.folder / "lib" / library.soname)
    code, said = setup_gpu(
        [tmp_path / "site"], LD_LIBRARY_PATH=str(fake_driver.parent), XDG_CACHE_HOME=str(tmp_path / "cache")
    )
    assert code == 1
    assert re.search(r"libmindspore_gpu\.so\.11\.6 failed\. .*undefined symbol", said), said


@needs_no_gpu
def test_too_late_is_an_error_of_its_own(mindspore):
    with pytest.raises(UserError, match="before the first import mindspore"):
        runtime.setup("GPU")


def test_the_cpu_is_started_without_any_of_it(tmp_path):
    code = """
import os
from ms_ddpm import runtime
before = dict(os.environ)
runtime.setup("CPU")
print([name for name in os.environ if name.startswith("CUDA") and name not in before])
print("libcudart" in open("/proc/self/maps").read())
"""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CUDA")}
    env = {**clean, "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True, timeout=300)
    assert out.stdout.split("\n")[:2] == ["[]", "False"]
    assert list(tmp_path.iterdir()) == []


# --- the driver ---------------------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ({}, ""),
        ({"FAKE_VERSION": "11000"}, ""),
        ({"FAKE_VERSION": "10020"}, "too old: it knows CUDA 10.2"),
        ({"FAKE_COUNT": "0"}, "shows no GPU"),
        ({"FAKE_INIT": "100"}, "shows no GPU"),
        ({"FAKE_INIT": "803"}, "restart the machine"),
        ({"FAKE_INIT": "802"}, "nvidia-fabricmanager"),
        ({"FAKE_INIT": "77"}, "CUDA error 77"),
        ({"FAKE_MAJOR": "5"}, "compute capability 5.0"),
    ],
)
def test_what_is_wrong_with_a_driver_is_said(fake_driver, monkeypatch, answers, problem):
    for name, value in answers.items():
        monkeypatch.setenv(name, value)
    found = nvidia.driver(str(fake_driver))
    assert problem in found.problem
    assert bool(found.problem) == bool(problem)
    if not problem:
        assert found.gpus == (nvidia.Gpu("Fake GPU", (9, 0), 80 * 2**30),)
        assert found.gpus[0].translates


@pytest.mark.parametrize(
    ("there", "words"),
    [("", "no NVIDIA driver"), ("proc/driver/nvidia/version", "--gpus all"), ("dev/dxg", "/usr/lib/wsl/lib")],
)
def test_why_there_is_no_driver_is_told_apart(tmp_path, there, words):
    if there:
        (tmp_path / there).parent.mkdir(parents=True)
        (tmp_path / there).touch()
    assert words in nvidia.driver("libcuda-that-is-nowhere.so", tmp_path).problem


def test_ampere_and_ada_have_machine_code_and_hopper_has_not():
    translates = {cc: nvidia.Gpu("", cc, 0).translates for cc in ((6, 0), (8, 0), (8, 9), (9, 0), (12, 0))}
    assert translates == {(6, 0): False, (8, 0): False, (8, 9): False, (9, 0): True, (12, 0): True}
