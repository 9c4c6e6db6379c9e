"""What a network makes of a damaged image, in pictures: a small corruption model is trained and asked.

    python examples/explain.py                # a minute on two CPU cores; docs/systems/corruption.md explains

noises.png: the kinds of noise, and how much of a digit each leaves.
predictions.png: a digit with more and more noise, and below it the network's guess at the original.
history.png: from pure noise to digits in five steps, each of them going part of the way to the guess.
"""

import argparse
from pathlib import Path

from ms_ddpm import BasicNet, Corruption, Trainer, data, runtime
from ms_ddpm.pictures import figures
from ms_ddpm.systems.corruption import pictures

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=300, help="of training [300]")
parser.add_argument("--output_dir", default="runs/explained", metavar="DIR", help="where to write [runs/explained]")
parser.add_argument("--mode", type=int, default=0, choices=(0, 1), help="1: nothing is compiled [0]")
args = parser.parse_args()

runtime.setup("CPU", mode=args.mode)
digits = data.open_images("digits28", image_size=(28, 28), channels=1)
shown = data.as_float(digits.batch(range(8)))  # (8, 1, 28, 28) in [0, 1]

model = Corruption(BasicNet(1, 1), image_size=28, noise_kind="uniform")
folder = Path(args.output_dir)
with Trainer(
    model, "digits28", train_batch_size=32, train_lr=1e-3, train_num_steps=args.steps, num_samples=4,
    save_and_sample_every=args.steps, results_folder=folder, augment_horizontal_flip=False,
) as trainer:  # fmt: skip
    trainer.train()  # called again with the same folder, it has nothing left to do

for name, picture in {
    "noises": pictures.noise_strip(shown[0]),
    "predictions": pictures.predictions(model, shown),
    "history": pictures.history(model, batch_size=8, steps=5),
}.items():
    print(figures.save(picture, folder / f"{name}.png"))
