"""
Your own network
================

A prior is a denoiser. Any of deepinv's will do, and any diffusion network, whatever it predicts: here a network that
knows clothes, beside two denoisers that know nothing of them.
"""

import deepinv
import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import inverse
import operators
import priors
from inverse import demo, figures, metrics
from priors.parametrised import EDM

RED, BLUE, GREEN, GREY = "#c1440e", "#1f5f8b", "#5b8c2a", "#9a9a9a"
truth = demo.truth((1, 28, 28))

# %%
# A diffusion network
# -------------------
#
# Networks differ in the range of their images, in how noise is told to them, and in what they predict.
# ``priors.Parametrised`` is told these three and makes a denoiser of it. The network here is the one inside
# ``fashion-28``, and stands for yours: it wants images of mean 0, scaled as Karras et al. (2022) do, and log(sigma) /
# 4. Where the convention is right the two priors agree to rounding.

shipped = priors.load("fashion-28")
network = shipped.network
learned = priors.Parametrised(
    network,
    "edm",
    EDM(sigma_data=shipped.std, sigma_min=0.002, sigma_max=80.0),
    data_range=(-shipped.mean, 1 - shipped.mean),
    image_shape=(1, 28, 28),
)
x = truth + 0.3 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
print(f"largest difference: {(learned(x, 0.3) - shipped(x, 0.3)).abs().max():.1e}")

# %%
# A pipeline of diffusers is ``priors.Diffusers(folder)``; for checkpoints of EDM, score_sde and guided-diffusion see
# "Your own network as a prior".
#
# Denoisers of deepinv
# --------------------
#
# Any of them is a prior as it is, if it is a function of the image and sigma alone. deepinv's total variation is not:
# it starts from the result of its last call, and so gets a new one each time. It takes sigma for the strength of its
# penalty; the median does not look at sigma at all. Whether a denoiser is right for a level of noise, nobody but its
# user knows: ``sigma_range`` says which levels samplers may ask for.


class TotalVariation(nn.Module):
    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return deepinv.models.TVDenoiser(n_it_max=60)(x, sigma)


candidates = {
    "network": learned,
    "total variation": priors.Denoiser(TotalVariation(), sigma_range=(0.01, 2.0)),
    "median": priors.Denoiser(deepinv.models.MedianFilter(kernel_size=3), sigma_range=(0.01, 2.0)),
}

# %%
# How well do they denoise?
# -------------------------
#
# A denoiser's score is (D(x) - x) / sigma^2, and as wrong as the denoiser. So measure that first, at all levels that a
# sampler passes through: a good one is far below sigma when sigma is small, and below the contrast of the images when
# it is large. The median is neither.

levels = [0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
noise = torch.randn(8, *truth.shape, generator=torch.Generator().manual_seed(1))
errors = {
    name: [
        float((prior((truth + s * noise).flatten(0, 1), s) - truth.repeat(8, 1, 1, 1)).square().mean().sqrt())
        for s in levels
    ]
    for name, prior in candidates.items()
}


def curves() -> Figure:
    figure, axis = plt.subplots(figsize=(6, 3.8), layout="constrained")
    axis.plot(levels, levels, color="#cccccc", linewidth=1, label="the noise as it is")
    axis.axhline(float(truth.std(0).mean()), color=GREY, linewidth=1, linestyle=":", label="contrast of the images")
    for (name, values), colour in zip(errors.items(), (RED, BLUE, GREEN), strict=True):
        axis.plot(levels, values, color=colour, marker="o", markersize=3, label=name)
    axis.set(xscale="log", yscale="log", xlabel="noise level sigma", ylabel="root mean square error")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8)
    return figure


curves().savefig("own_network.png", dpi=160)

# %%
# One measurement, three priors
# -----------------------------
#
# The residuals say whether samples explain the measurement: those of the network do, the others not quite. Only the
# network says what a pullover is, and only its standard deviation looks like the error: an interval is as good as the
# prior that it comes from.

physics = operators.create("gaussian-blur", (1, 28, 28), width=1.5, noise=0.05, seed=0)
y = physics(truth[1:2])
rows = []
for name, prior in candidates.items():
    samples = inverse.reconstruct(y, physics, prior, inverse.MMPS(steps=50, iterations=3, eta=1.0), n=8, seed=0)
    rows += figures.rows(samples, truth[1:2], name)
    residual = metrics.residual_ratio(samples.x, y, physics).mean()
    print(f"{name:16} {metrics.psnr(samples.mean, truth[1:2]).item():.1f} dB, residual {residual:.3f}")
figures.write(rows, "own_network_reconstructions.png")
