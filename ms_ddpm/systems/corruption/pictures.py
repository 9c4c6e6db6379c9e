"""What sample.py shows of a corruption model beside its samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import UserError
from ...pictures import looking
from . import plates as corruption_pictures

if TYPE_CHECKING:
    from ..sample import Sampling


def look(run: Sampling) -> list[str]:
    """restorations.png and history.png of a corruption model; what to say of them.

    Sampling needs no data set: where that of training is gone, a line says so.
    """
    try:
        shown = looking.images_for(run.cell, run.config, looking.in_a_row(*run.cell.image_size), run.args["dataset"])
    except UserError as error:
        if run.args["dataset"] is not None:
            raise
        return [f"no restorations.png and history.png: {error}"]
    options = {"steps": run.args["sampling_steps"], "amounts": run.args["amounts"], "seed": run.args["seed"]}
    paths = corruption_pictures.look_at_corruption(run.cell, shown, run.folder, **options)
    return [f"with and without noise: {paths[0]}", f"steps of sampling: {paths[1]}"]
