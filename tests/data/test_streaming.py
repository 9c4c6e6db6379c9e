"""Folders of images that do not fit into memory: read as needed, each worker its share, nothing kept."""

import os
import subprocess
import sys

import numpy as np
from PIL import Image

from ms_ddpm import data
from ms_ddpm.data import reading as _files
from tests.conftest import ROOT

SIDE, FILES = 256, 500  # 98 MB of pixels

READ = """
import gc, os, sys
sys.path.insert(0, {root!r})
import numpy as np
from ms_ddpm import _files, data

data.CACHE_BYTES = {cache}

def resident():
    gc.collect()
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

source = data.open_images({folder!r}, image_size=({side}, {side}), channels=3)
batches = data.Batches(source, 5, seed=0, count=100, rank=1, world=2)
before = peak = None
for number, images in enumerate(data.iterate(batches, workers=2)):
    if number == 0:
        before = peak = resident()
    elif number % 10 == 0:
        peak = max(peak, resident())
print(len(source), images.shape, peak - before)
"""


def growth(folder, cache):
    """MiB by which a worker's memory grows while it reads 500 images, three quarters of them different ones."""
    code = READ.format(root=str(ROOT), folder=str(folder), side=SIDE, cache=cache)
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}  # scripts/test.sh: pages of 2 MiB
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500, env=environment)
    assert result.returncode == 0, result.stderr[-2000:]
    return float(result.stdout.split()[-1])


def test_a_folder_larger_than_memory_streams(tmp_path):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(small).resize((SIDE, SIDE)).save(tmp_path / "0.png")
    for number in range(1, FILES):
        os.link(tmp_path / "0.png", tmp_path / f"{number}.png")
    assert growth(tmp_path, cache=1 << 20) < 40
    assert growth(tmp_path, cache=1 << 30) > 60, "what fits is kept: the figure above can fail"


def test_each_worker_reads_its_share_of_the_files_and_no_other(tmp_path, monkeypatch):
    for number in range(24):
        Image.fromarray(np.full((4, 4), number, np.uint8)).save(tmp_path / f"{number:02}.png")
    opened = []
    real = _files.load_image
    monkeypatch.setattr(_files, "load_image", lambda path, **more: opened.append(path.name) or real(path, **more))
    shares = []
    for rank in range(3):
        source = data.open_images(tmp_path, image_size=(4, 4), channels=1)
        for batch in data.Batches(source, 2, seed=0, count=4, rank=rank, world=3):
            assert batch.shape == (2, 1, 4, 4)
        shares.append(set(opened))
        opened.clear()
    assert [len(share) for share in shares] == [8, 8, 8]
    assert len(set.union(*shares)) == 24
