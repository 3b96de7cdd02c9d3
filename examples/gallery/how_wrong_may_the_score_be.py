"""
How wrong may the score be?
===========================

A score is never exact. Here errors of known size are put into one, until the posterior moves.
"""

import math

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

import operators
from inverse import Langevin, Posterior
from inverse.robustness import Problem, TangentialError, sweep
from priors import Manifold, MaximumEntropy, manifolds

INK, RED, BLUE, GREY = "#222222", "#c1440e", "#1f5f8b", "#9a9a9a"

# %%
# Points on a circle
# ------------------
#
# The data lie on a circle, more of them on the left. The first coordinate is measured, with noise 0.5, so that the
# posterior is a bimodal law on the circle. The score is known exactly, and can be made wrong by a known amount: here by
# a field along the circle, of root mean square 1 times its amplitude.

circle = manifolds.Circle()
generic = Manifold(circle, manifolds.VonMisesFisher(torch.tensor([-1.0, 0.0]), kappa=4))
physics = operators.create("matrix", (2,), matrix=torch.tensor([[1.0, 0.0]]), noise=0.5)
y = torch.tensor([[0.3]])
error = TangentialError(manifold=generic, seed=0)

# %%
# The maximum-entropy prior has the same score, tempered: it keeps the circle and gives up the density on it, which is
# then uniform. The theory (Li et al. 2025) says that it bears errors that grow like 1 / sigma as sigma falls, where the
# generic one bears only a fixed error.

priors = {"generic": generic, "maximum-entropy": MaximumEntropy(generic, alpha=1.0)}
sampler = Langevin(time=4.0, step_size=1.0)

# %%
# A sweep
# -------
#
# Each run with an error shares its random numbers with the run without, so that what is measured is the error's doing.
# With ``out="folder"`` it can be interrupted and goes on; with ``workers=2`` it takes both cores.

result = sweep(
    {"circle": Problem(physics, y)},
    priors,
    {"langevin": sampler},
    {"tangential": error},
    amplitudes=[0.1, 0.3, 1, 3, 10, 30],
    sigmas=[0.08, 0.2],
    seeds=range(3),
    n=400,
)
print(result.breakdown(0.1)[["prior", "sigma", "critical", "low", "high", "status"]].to_string(index=False))

# %%
# The verdict
# -----------

for sentence in result.verdicts(0.1):
    print(sentence)

# %%
# The same error, two priors
# --------------------------
#
# Left, what an error of 3 does to the posterior at sigma 0.2: each dot is a sample, outside the circle without the
# error, inside it with. Right, the curves of the sweep; the band is over the seeds. ``result.report("report.html")``
# writes all of it as one page.


def angles(prior: Manifold | MaximumEntropy) -> torch.Tensor:
    x = Langevin(time=4.0, step_size=1.0, sigma=0.2).sample(Posterior(prior, physics, y), n=400, seed=0).x[:, 0]
    return torch.atan2(x[:, 1], x[:, 0])


def figure() -> Figure:
    wrong = error.scaled(3.0)
    pairs = {
        "generic": (generic, wrong.perturb(generic), RED),
        "maximum-entropy": (priors["maximum-entropy"], MaximumEntropy(wrong.perturb(generic), alpha=1.0), BLUE),
    }
    page = plt.figure(figsize=(13, 3.5), layout="constrained")
    axes = page.subplots(1, 4, width_ratios=(1, 1, 1.15, 1.15))
    whole = torch.linspace(0, 2 * math.pi, 200)
    for axis, (name, (right, moved, colour)) in zip(axes, pairs.items(), strict=False):
        axis.plot(whole.cos(), whole.sin(), color="#dddddd", linewidth=1)
        for prior, start, sign, ink in ((right, 1.06, 1, INK), (moved, 0.94, -1, colour)):
            theta = angles(prior)
            # dots that share one degree of the circle are stacked
            order = theta.argsort()
            bins = (theta[order] / (2 * math.pi) * 180).round()
            height = torch.cat([torch.arange(int(count)) for count in bins.unique_consecutive(return_counts=True)[1]])
            radius, at = start + sign * 0.028 * height, bins / 180 * 2 * math.pi
            axis.scatter(radius * at.cos(), radius * at.sin(), s=3, color=ink, linewidths=0)
        axis.text(0, 0.12, "outside: no error", ha="center", va="center", fontsize=8, color=INK)
        axis.text(0, -0.12, "inside: an error of 3", ha="center", va="center", fontsize=8, color=colour)
        axis.set_title(name, fontsize=10)
        axis.set(xlim=(-1.6, 1.6), ylim=(-1.6, 1.6))
        axis.set_aspect("equal")
        axis.set_axis_off()
    for axis, (sigma, rows) in zip(axes[2:], result.table.groupby("sigma"), strict=True):
        for name, (_, _, colour) in pairs.items():
            curve = rows[rows["prior"] == name].groupby("amplitude")["distance"]
            axis.fill_between(curve.mean().index, curve.min(), curve.max(), color=colour, alpha=0.2, linewidth=0)
            axis.plot(curve.mean(), color=colour, marker="o", markersize=3, label=name)
        axis.axhline(0.1, color=GREY, linewidth=1, linestyle=":")
        axis.axhline(rows["floor"].mean(), color="#cccccc", linewidth=1, label="floor: two runs without error")
        axis.set(xscale="log", yscale="log", xlabel="error of the score", ylim=(3e-3, 3))
        axis.set_title(f"sigma = {sigma:g}", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    axes[2].set_ylabel("how far the posterior moves")
    axes[3].legend(frameon=False, fontsize=8, loc="lower right")
    return page


figure().savefig("how_wrong_may_the_score_be.png", dpi=160)
