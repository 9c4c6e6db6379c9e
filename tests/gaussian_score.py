"""A network that knows the score of Gaussian data exactly: what the score models' tests measure against."""

import numpy as np

SHAPE = (1, 2, 8)  # not square: height and width must not change places
SHIFTS = (0.0, 0.3, -0.2)  # of the classes' means; row 3 stands for no class


def gaussian_net(sde, mean=0.5, std=0.3, covariance=None, shifts=None):
    """The score of N(mean + shifts[y], std^2 I), or of N(mean, covariance) over the flattened image, as a Cell."""
    import mindspore as ms
    from mindspore import Tensor, nn, ops

    class GaussianNet(nn.Cell):
        null_class = shifts is not None

        def __init__(self):
            super().__init__()
            size = int(np.prod(SHAPE))
            variances, axes = np.linalg.eigh(np.eye(size) * std**2 if covariance is None else covariance)
            self.variances = Tensor(variances.astype(np.float32).reshape(1, -1))
            self.axes = Tensor(axes.astype(np.float32))
            self.shifts = Tensor(np.array([*(shifts or ()), 0.0], np.float32))

        def construct(self, x, t, y=None):
            coeff = sde.marginal_prob_coeff(t).reshape(-1, 1)
            noise = sde.marginal_prob_std(t).reshape(-1, 1)
            centre = ops.ones_like(coeff) * mean
            if y is not None:
                centre = centre + ops.gather(self.shifts, y, 0).reshape(-1, 1)
            along = ops.matmul(x.reshape(x.shape[0], -1) - coeff * centre, self.axes)
            along = along / (coeff * coeff * self.variances + noise * noise)
            return ops.cast(-ops.matmul(along, self.axes.T), ms.float32).reshape(x.shape)

    return GaussianNet()


def gaussian_model(sde, mean=0.5, std=0.3, covariance=None, shifts=None, **options):
    """A ScoreModel around `gaussian_net`."""
    from ms_ddpm.systems.score.score_model import ScoreModel

    net = gaussian_net(sde, mean, std, covariance, shifts)
    classes = {"num_classes": len(shifts), "class_dropout": 0.25} if shifts else {}
    return ScoreModel(net, sde, image_size=SHAPE[1:], channels=SHAPE[0], **{**classes, **options})


def gaussian_score(sde, x, t, mean=0.5, std=0.3):
    """The same score in float64 numpy, at one time for all."""
    coeff, noise = sde.marginal_prob_coeff(t), sde.marginal_prob_std(t)
    return -(x - coeff * mean) / (coeff**2 * std**2 + noise**2)
