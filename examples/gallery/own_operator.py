"""
Your own operator
=================

A camera of your own, as a matrix, as a function, or as any physics of deepinv: here one of each, on the same picture.
"""

import deepinv
import torch
from torch import Tensor

import inverse
import operators
from inverse import demo, figures, metrics

SHAPE, NOISE = (1, 28, 28), 0.05
truth = demo.truth(SHAPE)[2:]
rows = []


def look(name: str, physics: deepinv.physics.Physics) -> None:
    """Measure the picture, draw eight samples, and keep a row of the figure."""
    y = physics(truth)
    samples = inverse.reconstruct(y, physics, sampler=inverse.MMPS(steps=50, iterations=3, eta=1.0), n=8, seed=0)
    residual = metrics.residual_ratio(samples.x, y, physics).mean()
    rows.extend(figures.rows(samples, truth, name))
    print(f"{name}: {y[0].numel()} numbers, {metrics.psnr(samples.mean, truth).item():.1f} dB, residual {residual:.3f}")


# %%
# A matrix
# --------
#
# A camera with one pixel behind a shutter of squares that open at random: each number is the sum of what the open ones
# let through, a row of a matrix of 784 columns. With 80 rows it sees a tenth of what the picture has.

squares = torch.rand(80, 14, 14, generator=torch.Generator().manual_seed(0)).round()
shutters = squares.repeat_interleave(2, 1).repeat_interleave(2, 2).flatten(1)
physics = operators.create("matrix", SHAPE, matrix=shutters / 28, noise=NOISE)
look("matrix", physics)

# %%
# A function
# ----------
#
# A pane of glass doubles the picture: half of it comes again, seven pixels down and five to the right. The transpose is
# found by differentiating the function; that the function is linear is tried out, and so is a transpose of your own.


def doubled(x: Tensor) -> Tensor:
    return (x + 0.5 * x.roll((7, 5), (-2, -1))) / 1.5


def undoubled(y: Tensor) -> Tensor:
    return (y + 0.5 * y.roll((-7, -5), (-2, -1))) / 1.5


physics = operators.from_functions(doubled, undoubled, SHAPE, noise=NOISE)
look("function", physics)

try:
    operators.from_functions(doubled, doubled, SHAPE, noise=NOISE)
except ValueError as error:
    print(error)

# %%
# A physics of deepinv
# --------------------
#
# Any of them, with a noise model: here the picture at a quarter of its pixels. ``operators.noise_sigma`` is what the
# samplers will take for the noise, in units of the measurement; ``check_adjoint`` is 0 for a transpose without error.

model = deepinv.physics.GaussianNoise(NOISE, rng=torch.Generator().manual_seed(0))
physics = deepinv.physics.Downsampling(img_size=SHAPE, filter="gaussian", factor=2, noise_model=model)
print(f"noise {float(operators.noise_sigma(physics)):g}, adjoint off by {operators.check_adjoint(physics, SHAPE):.1e}")
look("deepinv", physics)

# %%
# What they saw, and what can be told of the picture
# --------------------------------------------------

figures.write(rows, "own_operator.png")
