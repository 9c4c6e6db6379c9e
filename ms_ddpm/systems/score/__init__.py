"""Score matching under a stochastic differential equation: Song et al., https://arxiv.org/abs/2011.13456."""

from __future__ import annotations

from ...config.limits import SCORE_SAMPLERS
from ...errors import UserError, quoted
from .. import STEPS, Option, System
from .config import ScoreConfig, ScoreKeys

__all__ = ["SYSTEM", "ScoreKeys", "ScoreSystem"]


class ScoreSystem(System):
    """A score network over images, with or without classes; what latent diffusion shares is here too."""

    name = "score"
    summary = "score matching with an SDE (ve, vp, subvp), with or without classes"
    Config = ScoreConfig
    smaller = "make channel_widths or embed_dim smaller"
    can_animate = True
    sampling = (
        Option("sampler", str, "euler (Euler-Maruyama), pc (predictor-corrector), ode (probability flow by RK45) or "
               "heun [as configured]", choices=SCORE_SAMPLERS),
        STEPS,
        Option("guidance_scale", float, "classifier-free guidance; 1: none [as configured]", metavar="S"),
        Option("denoise", bool, "end with the expected image [as configured]"),
        Option("eps", float, "time at which sampling ends [as configured]"),
        Option("snr", float, "pc: signal-to-noise ratio of the corrector [as configured]"),
    )  # fmt: skip

    def check(self, config):
        if config.score_sampler == "ode" and config.sampling_timesteps is not None:
            raise UserError(
                f"configuration key sampling_timesteps is {quoted(config.sampling_timesteps)}, but the ode sampler "
                "chooses its own steps; set it to null, or score_sampler: heun"
            )

    def build(self, config):
        from .score_model import build_score

        return build_score(config)

    def describe(self, cell):
        from .described import describe

        return describe(cell)

    def open_images(self, config, dataset=None, image_size=None):
        from ... import data

        return data.open_of_any_system(
            config, dataset, image_size, labels_from=config.labels_from, num_classes=config.num_classes
        )

    def parameter_count(self, config):
        from .size import parameter_count

        return parameter_count(config)

    def sample(self, run):
        super().sample(run)
        if run.labels is not None:
            from . import pictures as score_pictures

            score_pictures.save_class_grids(run.images, run.labels, run.folder)
            score_pictures.save_embedding_similarity(run.cell, run.folder / "embedding.png")
            run.say(f"classes: {run.folder / 'classes.png'}")

    def torch_part(self, cell):
        return cell.net

    def torch_side(self):
        from .weights import ScoreTorch

        return ScoreTorch(self.name)


SYSTEM = ScoreSystem()
