"""The pair of pipelines that both files look at."""

import pytest

from .directories import stable_diffusion


@pytest.fixture(scope="module")
def pair(mindspore, tmp_path_factory):
    """(diffusers' pipeline, ours of its directory, the folder)."""
    from ms_ddpm import StableDiffusionPipeline

    folder = tmp_path_factory.mktemp("sd")
    theirs = stable_diffusion(folder)
    ours = StableDiffusionPipeline.from_pretrained(folder / "sd")
    ours.set_progress_bar_config(disable=True)
    return theirs, ours, folder
