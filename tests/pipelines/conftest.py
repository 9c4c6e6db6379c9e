"""The pair of pipelines that the files here look at."""

import pytest

from .directories import stable_diffusion


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """(diffusers' pipeline, the folder that it was saved in)."""
    folder = tmp_path_factory.mktemp("sd")
    return stable_diffusion(folder), folder / "sd"


@pytest.fixture(scope="module")
def pair(mindspore, directory):
    """(diffusers' pipeline, ours of its directory, the directory)."""
    from ms_ddpm import StableDiffusionPipeline

    theirs, folder = directory
    ours = StableDiffusionPipeline.from_pretrained(folder)
    ours.set_progress_bar_config(disable=True)
    return theirs, ours, folder
