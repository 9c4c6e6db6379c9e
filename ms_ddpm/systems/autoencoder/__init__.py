"""A convolutional autoencoder, on whose latents the system latent trains."""

from __future__ import annotations

from .. import System
from .config import AutoencoderConfig


class AutoencoderSystem(System):
    """Images in, images out. It draws nothing new: its pictures are reconstructions."""

    name = "autoencoder"
    summary = "an autoencoder for the system latent"
    Config = AutoencoderConfig
    smaller = "make autoencoder_channels smaller"
    weights = "model"  # running statistics of batch normalisation do not belong to averaged weights
    in_one_process = True  # batch normalisation takes its statistics from the batch of one
    no_options = "an autoencoder only gives images back; for new ones train the latent system on it, and sample that"

    def build(self, config):
        from .image_autoencoder import build_autoencoder

        return build_autoencoder(config)

    def describe(self, cell):
        from .described import describe

        return describe(cell)

    def parameter_count(self, config):
        from .size import parameter_count

        return parameter_count(config.channels, config.autoencoder_channels)

    def sample_fn(self, cell, dataset, config):
        from ... import data

        def preview(cell, num):
            held_out = data.prepare(dataset, cell, config.validation_images, config.seed)[1]  # as the Trainer does
            shown = dataset if held_out is None else held_out
            return cell.preview(data.as_float(shown.batch(range(min(num // 2 or 1, len(shown))))))

        return preview

    def load(self, path, weights):
        from .image_autoencoder import load_autoencoder

        return load_autoencoder(path, weights)

    def sample(self, run):
        from ...data import labels
        from ...pictures import looking
        from .pictures import look_at_autoencoder

        if run.args["labels"]:
            labels.require_conditional(run.cell)
        shown = looking.images_for(run.cell, run.config, run.args["num"], run.args["dataset"])
        decoded, picture = look_at_autoencoder(run.cell, shown, run.folder, run.args["grid"])
        run.say(f"{len(decoded)} reconstructions: {run.save(decoded)}, {picture}")

    def torch_part(self, cell):
        return cell.net


SYSTEM = AutoencoderSystem()
