"""Bugs around the arithmetic, each of which a check of `parity_tests.orchestration` must find.

They survived a suite whose runs were short and constant, whose images were square and whose averages were the weights.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from ._edit import Apply, edit, together


@dataclass(frozen=True)
class Orchestration:
    """A bug, and the check that must fail while it is there.

    Args:
        name: unique; what the bug is.
        check: key of `parity_tests.orchestration.CHECKS`.
        apply: makes the context in which the bug is there.
    """

    name: str
    check: str
    apply: Apply

    def __call__(self) -> AbstractContextManager:
        return self.apply()


P = "ms_ddpm."
R, F, E = P + "trainer:Trainer.", P + "train_step:", P + "ema:EMA."
O, D, L = P + "optim:Adam.", P + "diffusion:GaussianDiffusion.", P + "latent:LatentDiffusion."  # noqa: E741
RUN, OPERATORS, ACCUMULATED = "training/run", "training/by_operators", "training/accumulated"
EPOCHS, RESUME, IN_EPOCH = "training/epochs", "training/resume", "training/resume_in_epoch"
SIDES = ("*diffusion.image_size", "*diffusion.image_size[::-1]")

# fmt: off
RESUMING = (  # name, check, bug
    ("the average is loaded from the weights", RESUME,
     edit(R + "load", ('loaded.arrays["ema"], training', 'loaded.arrays["model"], training'))),
    ("the weights are loaded from the average", RESUME,
     edit(R + "load", ('set_parameters(self.cell, loaded.arrays["model"]',
                       'set_parameters(self.cell, loaded.arrays["ema"]'))),
    ("the average is not loaded", RESUME,
     edit(E + "load_state", ("set_value(self.average,", "tuple((self.average,"), ("self.names]))", "self.names])))"))),
    ("calls of the average counted from the step", RESUME,
     edit(R + "load", ('training["ema_calls"])', "loaded.step)"))),
    ("calls of the average counted anew", RESUME, edit(E + "load_state", ("self.calls = calls", "self.calls = 0"))),
    ("the moments change places", RESUME,
     edit(O + "load_state", ('("exp_avg", self.exp_avg), ("exp_avg_sq", self.exp_avg_sq)',
                             '("exp_avg", self.exp_avg_sq), ("exp_avg_sq", self.exp_avg)'))),
    ("the optimizer's steps start again", RESUME,
     edit(O + "load_state", ('set_value(self.steps, state["steps"])', "pass"))),
    ("the best loss is forgotten", RESUME,
     edit(R + "load", ('self.best_loss = math.inf if training["best_loss"] is None else training["best_loss"]',
                       "self.best_loss = math.inf"))),
    ("the best step is not named after a kill", RESUME,
     edit(R + "load", ("checkpoint.mark_best(self.checkpoints, self.best_step)", "pass"))),
    ("skipped steps are counted anew", RESUME,
     edit(R + "load", ('self.skipped = training["skipped_steps"]', "self.skipped = 0"))),
    ("the loss scale starts again", RESUME, edit(R + "load", ('self.scaler.load_state(training["scaler"])', "pass"))),
    ("batches counted as steps", "training/resume_accumulated",
     edit(R + "load", ("if seen is None else seen", "if seen is None else loaded.step"))),
    ("the epoch's sum is lost", IN_EPOCH,
     edit(R + "load", ('self.epochs.load_state(training["epoch_losses"])', "pass"))),
    ("draws start again", RESUME, edit(F + "step_inputs", ("number = batches.number(item)", "number = item"))),
)
TRAINING = (
    ("validation on the raw weights", RUN,
     edit(R + "checkpoint_and_sample", ("with self.ema.swapped():", "if True:"))),
    ("pictures of the raw weights", RUN, edit(R + "sample_grid", ("with self.ema.swapped():", "if True:"))),
    ("pictures of another seed each time", RUN, edit(R + "sample_grid", ("seed=self.seed", "seed=self.step"))),
    ("the average moves in skipped steps", RUN,
     edit(R + "_record_outcome", ("self.skipped += 1", "self.skipped += 1; self.ema.update()"))),
    ("validation on training images", RUN,
     edit(R + "validation_loss", ("self.cell, self.validation_set", "self.cell, self.train_set"))),
    ("the last checkpoint is called best", RUN,
     edit(R + "checkpoint_and_sample", ("judged < self.best_loss", "judged < math.inf"))),
    ("the best is chosen by the training loss", RUN,
     edit(R + "checkpoint_and_sample",
          ('record.get("epoch_loss", math.nan) if validation is None else validation', 'record["loss"]'))),
    ("the best loss does not fall", RUN,
     edit(R + "checkpoint_and_sample", ("self.best_loss, self.best_step = judged, self.step",
                                        "self.best_loss, self.best_step = min(self.best_loss, 1e9), self.step"))),
    ("the rate of the next step", RUN, edit(R + "_loop", ("lr = self.rate(self.step)", "lr = self.rate(self.step + 1)"))),
    ("the logged loss is the last step's", RUN,
     edit(R + "_loop", ("sum(losses) / len(losses) if losses else loss", "loss"))),
    ("the logged loss is since the start", RUN,
     edit(R + "_loop", ("losses, since, images = [], time.perf_counter(), 0\n        self.bar.advance()",
                        "since, images = time.perf_counter(), 0\n        self.bar.advance()"))),
    ("AdamW decays by the base rate, kernel", RUN,
     edit(O + "apply_fused", ("shrink = 1 - lr * self.weight_decay",
                              "shrink = 1 - ops.ones_like(lr) * self.lr * self.weight_decay"))),
    ("AdamW decays by the base rate, operators", OPERATORS,
     edit(O + "apply", ("(1 - lr * self.weight_decay)", "(1 - self.lr * self.weight_decay)"))),
    ("AdamW decays by the base rate, accumulated", ACCUMULATED,
     edit(O + "apply", ("(1 - lr * self.weight_decay)", "(1 - self.lr * self.weight_decay)"))),
    ("the weights' decay knows no rate", OPERATORS,
     edit(O + "apply", ("(1 - lr * self.weight_decay)", "(1 - self.weight_decay * 0.1)"))),
    ("a skipped step counts as an update", OPERATORS,
     edit(O + "apply", ("ops.select(acts, steps, self.steps)", "steps"))),
    ("the gradient of the last batch alone", ACCUMULATED,
     edit(F + "TrainStep.__init__", ("ops.assign(total, total + view.flatten(grads))",
                                     "ops.assign(total, accumulate * view.flatten(grads))"))),
    ("the loss of all batches added up", ACCUMULATED,
     edit(F + "TrainStep.__init__", ("loss, flat = loss_sum / factor", "loss, flat = loss_sum / scaler.scale"))),
    ("gradients of steps before stay in the sum", ACCUMULATED,
     edit(F + "TrainStep.__init__", ("ops.assign(total, ops.zeros_like(total))", "pass"))),
    ("epochs rounded down", EPOCHS, edit(P + "epochs:Epochs.__init__", ("math.ceil(", "math.floor("))),
    ("the epoch's mean is since the start", EPOCHS,
     edit(P + "epochs:Epochs.finish", ("self.sum, self.count = 0.0, 0", "pass"))),
    ("skipped steps count to the epoch's loss", EPOCHS,
     edit(R + "_loop", ("losses.append(loss)\n                if self.by_epochs:",
                        "losses.append(loss)\n            if True:"))),
)
DRAWS = (
    ("the last time is never drawn", "draws/diffusion",
     edit(D + "draw", ("integers(0, self.num_timesteps,", "integers(0, self.num_timesteps - 1,"))),
    ("the first time is never drawn", "draws/diffusion",
     edit(D + "draw", ("integers(0, self.num_timesteps,", "integers(1, self.num_timesteps,"))),
    ("one time for the whole batch", "draws/diffusion",
     edit(D + "draw", ("img.shape[0], dtype=np.int32)", "1, dtype=np.int32).repeat(img.shape[0])"))),
    ("dropout in validation", "draws/diffusion", edit(D + "draw", ("self.training and ", ""))),
    ("dropout in validation, model left training", "draws/validation",
     edit(F + "mean_loss", ("cell.set_train(False)", "cell.set_train(True)"))),
    ("dropout in validation of a run", RUN,
     edit(F + "mean_loss", ("cell.set_train(False)", "cell.set_train(True)"))),
    ("no dropout after the first validation", "draws/validation",
     edit(F + "mean_loss", ("cell.set_train(True)", "pass"))),
    ("no dropout after the first validation of a run", RUN,
     edit(F + "mean_loss", ("cell.set_train(True)", "pass"))),
    ("one key of dropout for all steps", "draws/diffusion",
     edit(D + "draw", ("rng.integers(-(2**31), 2**31)", "7"))),
    ("one key of dropout for all steps, by its stream", "draws/inputs_of_a_step",
     edit(F + "step_inputs", ("stream(seed, Stream.DRAW, number)", "stream(seed, Stream.DRAW)"))),
    ("the key of dropout is the step's, not the batch's", "draws/inputs_of_a_step",
     edit(F + "step_inputs", ("Stream.DRAW, number)", "Stream.DRAW, number // accumulate)"))),
    ("always self-conditioned", "draws/diffusion", edit(D + "draw", ("rng.random() < 0.5", "rng.random() < 1.5"))),
    ("one offset for all channels and images", "draws/diffusion",
     edit(D + "draw", ("normal(rng, img.shape[:2])", "normal(rng, (1, 1)) + np.zeros(img.shape[:2], np.float32)"))),
    ("immiscible by images in [0, 1]", "draws/immiscible",
     edit(D + "draw", ("img * 2 - 1 if self.auto_normalize else img", "img"))),
    ("immiscible by images scaled twice", "draws/immiscible",
     edit(D + "draw", ("img * 2 - 1 if self.auto_normalize else img", "img * 2 - 1"))),
    ("immiscible by the inverse permutation", "draws/immiscible",
     edit(P + "random:immiscible_assignment", (")[1]", ")[1].argsort()"))),
    ("immiscible permuted twice", "draws/immiscible",
     edit(P + "random:immiscible_assignment", ("return linear", "order = linear"), (")[1]", ")[1]\n    return order[order]"))),
    ("immiscible by the largest distance", "draws/immiscible",
     edit(P + "random:immiscible_assignment", ("return linear_sum_assignment(cdist", "return linear_sum_assignment(-cdist"))),
    ("score times never reach 1", "draws/score",
     edit(P + "score:ScoreModel.draw", ("(1 - SMALLEST_EPS) * rng", "0.9 * rng"))),
    ("one amount of corruption for all images", "draws/corruption",
     edit(P + "corruption:Corruption.draw", ("rng.random(img.shape[0], dtype=np.float32)",
                                             "np.repeat(rng.random(1, dtype=np.float32), img.shape[0])"))),
    ("every label is the first class", "draws/inputs_of_a_step",
     edit(F + "with_labels", ("source.labels[np.asarray(indices)]", "source.labels[np.asarray(indices)] * 0"))),
    ("labels in the order of the file", "draws/inputs_of_a_step",
     edit(F + "with_labels", ("[np.asarray(indices)]", "[: len(indices)]"))),
    ("labels of validation in their order everywhere", "draws/validation",
     edit(F + "mean_loss", ("indices = range(i * size, (i + 1) * size)", "indices = range(size)"))),
    ("validation of the first batch alone", "draws/validation",
     edit(F + "mean_loss", ("range(len(source) // size)", "range(1)"))),
    ("validation by the draws of training", "draws/validation",
     edit(F + "mean_loss", ("Stream.VALIDATION", "Stream.DRAW"))),
    ("validation by one draw for all batches", "draws/validation",
     edit(F + "mean_loss", ("Stream.VALIDATION, i)", "Stream.VALIDATION, 0)"))),
)
SAMPLING = (
    ("height and width change places, diffusion", "sampling/diffusion", edit(P + "samplers:_tape", SIDES)),
    ("height and width change places, first DDPM", "sampling/first_ddpm", edit(P + "samplers:_tape", SIDES)),
    ("height and width change places in the noise", "sampling/diffusion",
     edit(P + "random:noise_tape", ("normal(rng, shape[1:])", "normal(rng, (shape[1], *shape[:1:-1])).swapaxes(1, 2)"))),
    ("height and width change places, score", "sampling/score",
     edit(P + "score_request:begin", ("*model.image_size", "*model.image_size[::-1]"))),
    ("height and width change places, corruption", "sampling/corruption",
     edit(P + "corruption:Corruption._run", ("*self.image_size", "*self.image_size[::-1]"))),
    ("height and width change places, corruption's start", "sampling/corruption",
     edit(P + "corruption:start_tape", ("(1, *shape[1:])", "(1, shape[1], *shape[:1:-1])"),
          ("np.concatenate(draws)", "np.concatenate(draws).swapaxes(2, 3)"))),
    ("height and width change places, latents", "sampling/latent",
     edit(L + "sample", ("*z.shape[-3:]))", "z.shape[-3], *z.shape[:-3:-1]))"))),
    ("latents turned back by the deviation alone", "sampling/latent",
     edit(L + "sample", (" + self.latent_mean.asnumpy()", ""))),
    ("images of a batch share their noise", "sampling/diffusion",
     edit(P + "random:noise_tape", ("stream(seed, first_image + i)", "stream(seed, first_image)"))),
    ("images of all batches share their noise", "sampling/batches",
     edit(P + "random:noise_tape", ("first_image + i", "i"))),
)
# fmt: on
ORCHESTRATION = tuple(Orchestration(*row) for row in (*RESUMING, *TRAINING, *DRAWS, *SAMPLING))
