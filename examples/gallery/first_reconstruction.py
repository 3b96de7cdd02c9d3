"""
A first reconstruction
======================

A blurred picture has many explanations. Here sixteen of them are drawn, with a prior that comes with the package.
"""

import torch

import inverse
import operators
from inverse import demo, metrics

# %%
# The measurement
# ---------------
#
# Two pictures of clothes, which the prior has not seen, as a batch of shape (2, 1, 28, 28) with values in [0, 1]. The
# camera blurs them, by a Gaussian of two pixels, and adds noise of standard deviation 0.05.

truth = demo.truth((1, 28, 28))[:2]
physics = operators.create("gaussian-blur", (1, 28, 28), width=2.0, noise=0.05, seed=0)
y = physics(truth)

# %%
# Sixteen reconstructions
# -----------------------
#
# Settings that are left out are chosen from the problem; these three, those of ``inverse demo``, are several times
# quicker and good for a first look.

quick = inverse.MMPS(steps=50, iterations=3, eta=1.0)
samples = inverse.reconstruct(y, physics, prior="fashion-28", sampler=quick, n=16, seed=0)
samples.plot("first_reconstruction.png", truth)
print(samples)

# %%
# Every sample is a sharp picture that the camera could have seen as this measurement; their mean is not sharp, since it
# is not one of them, but it has the smaller error. The standard deviation says where they disagree, and is drawn on the
# colour scale of the error, so that the two should look alike.
#
# Is it right?
# ------------
#
# Three numbers. A single sample has a larger error than the mean, by 2 or 3 dB, as exact samples have. The residual
# compares the norm of A x - y with what the noise alone would give, and is 1 for a good sample. And 85% intervals
# should hold the truth in 85% of the pixels.

print("error of the mean    ", [f"{value:.1f} dB" for value in metrics.psnr(samples.mean, truth)])
print("error of one sample  ", [f"{value:.1f} dB" for value in metrics.psnr(samples.x, truth).mean(0)])
print("residual, 1 is right ", [f"{value:.3f}" for value in metrics.residual_ratio(samples.x, y, physics).mean(0)])
covered = metrics.coverage(samples, truth, level=0.85, grid=1 / 255)
print("85% intervals cover  ", [f"{value:.0%}" for value in covered])

# %%
# Another camera
# --------------
#
# The prior knows nothing of the blur, and so the same line serves a picture with a hole.

holed = operators.create("box-inpainting", (1, 28, 28), size=12, noise=0.05, seed=0)
samples = inverse.reconstruct(holed(truth), holed, prior="fashion-28", sampler=quick, n=16, seed=0)
samples.plot("first_reconstruction_hole.png", truth)

# %%
# What is kept
# ------------
#
# The file has the samples, the measurement, the settings, the seed and the versions: what it takes to draw them again.

samples.save("first_reconstruction.safetensors")
again = inverse.Samples.load("first_reconstruction.safetensors")
print(again.hyper)
assert torch.equal(again.x, samples.x)
