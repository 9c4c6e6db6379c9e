"""Packaging of ms_ddpm. Tools are configured in pyproject.toml; versions that were tested stand in constraints.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = re.search(r'__version__ = "(.+?)"', (here / "ms_ddpm" / "__init__.py").read_text(encoding="utf-8"))[1]
PACKAGES = ("ms_ddpm", "torch_ref", "parity_tests")
digits = ["scikit-learn>=1.3", "scipy>=1.10"]
torch = ["torch>=2.1"]
tensorboard = ["tensorboardX>=2.6"]
parity = [*torch, "tomli; python_version < '3.11'"]
peers = [*parity, "diffusers>=0.30"]

setup(
    name="ms_ddpm",
    version=version,
    description="Diffusion models in MindSpore that compute what PyTorch computes",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.10,<3.13",
    packages=find_packages(include=[f"{name}{dot}" for name in PACKAGES for dot in ("", ".*")]),
    package_data={"parity_tests": ["tolerances.toml", "bundles/*/*"]},
    install_requires=[
        "mindspore>=2.9,<2.12",
        "numpy>=1.26,<2",  # with numpy 2, MindSpore 2.10 raises in places
        "tqdm",
        "Pillow>=9.5",
        "PyYAML",
        "safetensors>=0.4",
    ],
    extras_require={
        "digits": digits,
        "evaluation": [*digits, "torch-fidelity>=0.3"],
        "torch": torch,
        "parity": parity,
        "peers": peers,
        "tensorboard": tensorboard,
        "test": [*digits, *peers, *tensorboard, "pytest>=8", "ruff"],
    },
)
