"""
Reading the posterior
=====================

Samples answer questions that one reconstruction cannot: how sure is each pixel, how sure is any number computed from
the picture, and how far are those answers to be trusted?
"""

import matplotlib.pyplot as plt
import torch
from torch import Tensor

import inverse
import operators
from inverse import demo, metrics

INK, RED, BLUE, GREY = "#222222", "#c1440e", "#1f5f8b", "#9a9a9a"

# %%
# A pair of trousers behind a card
# --------------------------------
#
# The card hides 12 x 12 pixels, knees and the gap between them. Forty-eight pictures of what may be behind it.

truth = demo.truth((1, 28, 28))[2:]
physics = operators.create("box-inpainting", (1, 28, 28), size=12, noise=0.05, seed=0)
y = physics(truth)
samples = inverse.reconstruct(y, physics, sampler=inverse.MMPS(steps=50, iterations=3, eta=1.0), n=48, seed=0)

# %%
# A line through the picture
# --------------------------
#
# Row 15 crosses both legs. ``samples.quantile`` gives the band of the samples, pixel by pixel.

ROW = 15
low, middle, high = samples.quantile([0.05, 0.5, 0.95])[:, 0, 0, ROW]

# %%
# A question
# ----------
#
# How wide is the gap between the legs? Any function of a picture has a posterior: apply it to every sample. Here it is
# the number of dark pixels between the outer edges of the legs, in the mean over the six middle rows.


def gap(images: Tensor) -> Tensor:
    """Mean width in pixels of what is dark between the legs, in rows 12 to 17. images: (..., 1, 28, 28)."""
    rows = images[..., 0, 12:18, :] > 0.25
    inside = rows.cummax(-1).values & rows.flip(-1).cummax(-1).values.flip(-1)
    return (inside & ~rows).sum(-1).double().mean(-1)


widths, true_width = gap(samples.x[:, 0]), gap(truth[0]).item()
print(f"gap: {widths.mean():.2f} +- {widths.std():.2f} pixels; the true one is {true_width:.2f}")
print(f"probability that the gap is wider than 2 pixels: {(widths > 2).double().mean():.0%}")

# %%
# Are the intervals honest?
# -------------------------
#
# If the truth is one more draw of the same law, its rank among n draws is uniform, and an interval of level L covers it
# in a share L of all pixels. ``metrics.coverage`` corrects for the number of draws; a curve below the diagonal is a
# posterior that is too sure of itself. One picture has few independent pixels, so only gross faults can be seen here.

levels = torch.linspace(0.1, 0.9, 17).tolist()
hidden = operators.measured(physics).expand_as(truth)[0, 0] == 0
cut = samples.x[:, :, 0][:, :, hidden], truth[:, 0][:, hidden]
covered = [metrics.coverage(*cut, level=level, grid=1 / 255).item() for level in levels]

# %%
# The figure
# ----------

figure, axes = plt.subplots(1, 4, figsize=(13, 3.2), width_ratios=(0.8, 1.25, 1, 0.9), layout="constrained")
axes[0].imshow(truth[0, 0], cmap="gray", vmin=0, vmax=1)
axes[0].add_patch(plt.Rectangle((7.5, 7.5), 12, 12, facecolor=BLUE, alpha=0.55, linewidth=0))
axes[0].axhline(ROW, color=RED, linewidth=1.2)
axes[0].set_title("the truth, the card, row 15", fontsize=10)
axes[0].set_axis_off()

columns = torch.arange(28)
axes[1].fill_between(columns, low, high, color=BLUE, alpha=0.25, linewidth=0, label="90% of the samples")
axes[1].plot(columns, middle, color=BLUE, label="median")
axes[1].plot(columns, truth[0, 0, ROW], color=RED, linewidth=1.2, label="truth")
axes[1].set(xlabel="column", ylabel="grey value", xlim=(0, 27), ylim=(-0.05, 1.45), yticks=[0, 0.5, 1])
axes[1].legend(frameon=False, fontsize=8, loc="upper left")
axes[1].set_title("row 15", fontsize=10)

axes[2].hist(widths, bins=14, color=BLUE, alpha=0.75)
axes[2].axvline(true_width, color=RED, label="truth")
axes[2].set(xlabel="gap between the legs, pixels", ylabel="samples")
axes[2].legend(frameon=False, fontsize=8)
axes[2].set_title("a number computed from the picture", fontsize=10)

axes[3].plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
axes[3].plot(levels, covered, color=INK, marker="o", markersize=3)
axes[3].set(xlabel="level of the interval", ylabel="share of hidden pixels covered", xlim=(0, 1), ylim=(0, 1))
axes[3].set_aspect("equal")
axes[3].set_title("calibration", fontsize=10)
for axis in axes[1:]:
    axis.spines[["top", "right"]].set_visible(False)
figure.savefig("reading_the_posterior.png", dpi=160)

# %%
# With ArviZ
# ----------
#
# ``samples.to_arviz()`` hands all of it to ArviZ, for its intervals, tables and plots. The draws are independent of
# each other, so that there is one chain, and no mixing to diagnose.

try:
    data = samples.to_arviz()
except ImportError as error:
    print(error)
else:
    print(data["posterior"]["x"].sizes)
    pixel = data["posterior"]["x"].sel(measurement=0, channel=0, row=ROW, column=13)
    print(f"a pixel in the gap: median {float(pixel.median()):.2f}, 95% below {float(pixel.quantile(0.95)):.2f}")
