"""A diffusion model in two methods and one loop, on scikit-learn's digits: docs/first_ddpm.md says what it all means.

python examples/first_ddpm.py                 # a minute on two CPU cores; digits can be made out
python examples/first_ddpm.py --steps 4000    # better ones
"""

import argparse

import mindspore as ms
import numpy as np

from ms_ddpm import Adam, FirstDDPM, Unet, data, runtime
from ms_ddpm.pictures.images import save_grid

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=600, help="of training [600]")
parser.add_argument("--noise_levels", type=int, default=200, metavar="T", help="steps from noise to an image [200]")
parser.add_argument("--output", default="first_ddpm.png", metavar="FILE", help="the picture [first_ddpm.png]")
parser.add_argument("--mode", type=int, default=0, choices=(0, 1), help="1: nothing is compiled [0]")
args = parser.parse_args()

runtime.setup("CPU", mode=args.mode)  # before the first tensor
digits = data.open_images("digits", image_size=(8, 8), channels=1)
images = data.as_float(digits.batch(range(len(digits)))) * 2 - 1  # (1797, 1, 8, 8), from -1 (black) to 1 (white)

# Betas up to 0.1: after 200 steps nothing is left of an image, so that one can begin with noise.
unet = Unet(16, dim_mults=(1, 2), channels=1, rng=0)
ddpm = FirstDDPM(unet, args.noise_levels, min_beta=5e-4, max_beta=0.1, image_chw=(1, 8, 8))
optimizer = Adam(ddpm.trainable_params(), 2e-3)
rng = np.random.default_rng(0)  # every random number comes from here


def loss_of(x_t, t, eta):
    """How far off the network is when it says which noise is in ``x_t``."""
    return ((unet(x_t, t) - eta) ** 2).mean()  # ddpm.backward(x_t, t), without its look at shapes


loss_and_gradients = ms.value_and_grad(loss_of, None, optimizer.trained)


def train(x_t, t, eta):
    """One step; the loss before it."""
    loss, gradients = loss_and_gradients(x_t, t, eta)
    optimizer(gradients)
    return loss


train = runtime.compiled(train)  # one graph
for step in range(args.steps):
    x0 = images[rng.integers(0, len(images), 32)]
    eta = rng.standard_normal(x0.shape, dtype=np.float32)
    t = rng.integers(0, ddpm.n_steps, len(x0), dtype=np.int32)  # another noise level for every image
    loss = train(ddpm.forward(x0, t, eta), ms.Tensor(t), ms.Tensor(eta))
    if step % 100 == 0 or step == args.steps - 1:
        print(f"step {step}: loss {float(loss):.3f}")  # 1 is the loss of one who always answers 0

save_grid(ddpm.sample(36, seed=0, progress=False).asnumpy(), args.output)
print(args.output)
