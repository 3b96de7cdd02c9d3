"""
Choosing a sampler
==================

Four samplers, two problems whose posterior is known exactly, three numbers: how far off, how many calls, how long.
"""

import math

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from skimage.data import camera

import inverse
import operators
from inverse import Posterior, metrics
from priors import Empirical, GaussianMixture

INK, GREY = "#222222", "#9a9a9a"
COLOURS = {"mmps": "#1f5f8b", "dps": "#7b4fa3", "annealed-langevin": "#5b8c2a", "langevin": "#c1440e"}

# %%
# Two posteriors that are known
# -----------------------------
#
# The first has two numbers, of which one combination was measured, three times: points along two arcs, the upper one
# twice as probable. The second has pictures of 12 x 12 pixels, 300 pieces of a photograph, seen through 14 random
# projections. Both priors are mixtures of Gaussians, whose scores and posteriors are formulas: ``Posterior.exact()``
# draws from them.

angle = torch.linspace(0, math.pi, 30)
upper = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], 1)
weights = torch.cat([torch.full((30,), 2.0), torch.ones(30)])
moons = GaussianMixture(torch.cat([upper, -upper]), torch.full((60,), 0.07**2), weights)
line = torch.tensor([[0.8, 0.6]])
plane = Posterior(
    moons,
    operators.create("matrix", (2,), matrix=line, noise=0.1, seed=0),
    torch.tensor([[0.2], [0.5], [-0.3]]),
)

photograph = torch.from_numpy(camera()).float() / 255
pieces = photograph.unfold(0, 12, 23).unfold(1, 12, 23).reshape(-1, 1, 12, 12)
chosen = torch.randperm(len(pieces), generator=torch.Generator().manual_seed(0))[:300]
patches = Empirical(pieces[chosen], bandwidth=0.08)
physics = operators.create("compressed-sensing", (1, 12, 12), ratio=0.1, noise=0.1, seed=0)
pictures = Posterior(patches, physics, physics(patches.sample(3, seed=1)))

# %%
# The same problems, four samplers
# --------------------------------
#
# All with what they choose for themselves. The distance is the sliced Wasserstein distance to exact draws; two sets of
# exact draws have a distance too, the floor, and nothing can be told below it. So 1 is as good as exact.

PROBLEMS = {"two arcs": (plane, 700), "pieces of a photograph": (pictures, 60)}
drawn, results = {}, {}
for problem, (posterior, n) in PROBLEMS.items():
    exact = posterior.exact()
    reference = exact.sample(n, seed=1)
    floors = [metrics.sliced_wasserstein(exact.sample(n, seed=s), reference, per_measurement=True) for s in (2, 3, 4)]
    floor = torch.stack(floors).mean()
    drawn[problem, "exact"] = reference
    print(f"\n{problem}\n{'':18} {'distance':>9} {'over floor':>11} {'calls':>6} {'seconds':>8}")
    print(f"{'exact draws':18} {floor:9.4f} {1:11.1f}")
    for name in COLOURS:
        samples = inverse.sampler(name).sample(posterior, n, seed=0)
        distance = metrics.sliced_wasserstein(samples.x, reference, per_measurement=True).mean()
        drawn[problem, name] = samples.x
        results[problem, name] = samples.nfe, float(distance / floor)
        print(f"{name:18} {distance:9.4f} {distance / floor:11.1f} {samples.nfe:6} {samples.seconds:8.1f}")

# %%
# What they drew
# --------------
#
# The first of the three measurements says that the point is near the line: the draws should lie where it crosses the
# arcs.


def scatter() -> Figure:
    axis_x, axis_y = torch.linspace(-1.9, 1.9, 150), torch.linspace(-1.15, 1.15, 150)
    grid = torch.stack(torch.meshgrid(axis_x, axis_y, indexing="xy"), -1)
    density = moons.log_prob(grid.reshape(-1, 2), 1e-3).exp().reshape(150, 150)
    figure, axes = plt.subplots(1, 5, figsize=(13, 2.1), sharex=True, sharey=True, layout="constrained")
    for axis, name in zip(axes, ["exact", *COLOURS], strict=True):
        x = drawn["two arcs", name][:, 0]
        axis.contourf(
            axis_x, axis_y, density, levels=torch.linspace(0.03, 1, 9) * density.max(), cmap="Greys", alpha=0.45
        )
        axis.axline((0.25, 0), slope=-0.8 / 0.6, color=GREY, linewidth=0.8, linestyle=":")
        axis.scatter(*x.T, s=4, color=COLOURS.get(name, INK), alpha=0.5, linewidths=0)
        told = "exact draws" if name == "exact" else name
        axis.set_title(told, fontsize=10, color=COLOURS.get(name, INK))
        axis.set(xlim=(-1.9, 1.9), ylim=(-1.15, 1.15), xticks=[], yticks=[])
        axis.set_aspect("equal")
        axis.spines[:].set_visible(False)
    return figure


scatter().savefig("choosing_a_sampler.png", dpi=160)

# %%
# What it costs
# -------------


def costs() -> Figure:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    for axis, problem in zip(axes, PROBLEMS, strict=True):
        axis.axhline(1, color=GREY, linewidth=1, linestyle=":")
        axis.text(4000, 0.97, "as good as exact draws", fontsize=8, color=GREY, ha="right", va="top")
        for name, colour in COLOURS.items():
            calls, floors = results[problem, name]
            axis.scatter(calls, floors, s=50, color=colour)
            beside = {"xytext": (-7, -3), "ha": "right"} if name == "mmps" else {"xytext": (7, 4)}
            axis.annotate(name, (calls, floors), textcoords="offset points", fontsize=9, color=colour, **beside)
        axis.set_title(problem, fontsize=10)
        axis.set(xscale="log", yscale="log", xlim=(70, 4000), ylim=(0.75, 6), xlabel="denoiser calls per sample")
        axis.set_xticks([150, 300, 1000, 3000], ["150", "300", "1000", "3000"])
        axis.set_yticks([1, 2, 4], ["1", "2", "4"])
        axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("distance over the floor")
    return figure


costs().savefig("choosing_a_sampler_costs.png", dpi=160)

# %%
# So
# --
#
# No sampler is the best at both. On the arcs, whose thickness is that of the noise, ``annealed-langevin`` is nearest to
# exact, and the others, which guide or approximate, are not; with few projections of pictures it ends in the wrong
# picture, and the others find the right ones. ``mmps`` takes the fewest calls, though each also takes derivatives of
# the denoiser. Where a problem matters, draw with two samplers: where they agree, they are probably right.
