# %% [markdown]
# # How wrong may the score be? Slopes on six manifolds
#
# A prior on a manifold, a measurement, and a score that is wrong by c sigma^beta along the manifold. The amplitude at
# which the posterior has moved by a fixed distance should not depend on sigma for the generic prior, and grow like
# sigma^-alpha for the maximum-entropy prior (tempered score; Li et al. 2025, Theorem 6.1). Both slopes are computed
# twice: by quadrature, from the laws that the theory predicts, and by Langevin dynamics.
#
#     python examples/paper/slopes.py --quick        # by sampling on two manifolds only, alpha = 1
#     python examples/paper/slopes.py --workers 2    # six manifolds, alpha = 0.5, 1, 1.5; goes on where it was
#
# At a tempered score the chains live in a cloud of thickness tau = sigma^(1 - alpha/2). The noise levels are those with
# the same thicknesses for every alpha, and the error is given the exponent beta = -alpha, so that one grid of
# amplitudes serves them all; beta is added to the fitted slope.

# %%
from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

import operators
from inverse import Langevin, Posterior
from inverse.robustness import Problem, TangentialError, sweep
from priors import Manifold, MaximumEntropy
from priors.manifolds import (
    Circle,
    Ellipse,
    Embedded,
    ImageOrbit,
    InCoordinates,
    Sphere,
    Submanifold,
    Torus,
    VonMisesFisher,
)

THRESHOLD = 0.1
# Noise levels of the generic prior, which are the thicknesses of the cloud of the tempered ones: well below the
# radius of curvature, and for images, whose manifold is larger and whose denoiser costs more, not smaller than needed.
THICKNESSES = (0.05, 0.1, 0.2)
IMAGE_THICKNESSES = (0.1, 0.17, 0.3)
QUADRATURE_SIGMAS = (1e-4, 1e-3, 1e-2)
AMPLITUDES = (0.1, 0.3, 1.0, 3.0, 10.0)

# %% [markdown]
# ## The manifolds, each with a density that is far from uniform


# %%
def von_mises(manifold: Submanifold, kappa: float) -> Manifold:
    """Von Mises law in every angle of the chart, with respect to the angles."""
    return Manifold(manifold, InCoordinates(manifold, lambda u: kappa * u.cos().sum(-1)))


def on_sphere(n: int) -> VonMisesFisher:
    return VonMisesFisher([-1.0, *[0.0] * n], 4.0)


PRIORS: dict[str, Callable[[], Manifold]] = {
    "circle": lambda: Manifold(Circle(), on_sphere(1)),
    "ellipse (1, 2)": lambda: von_mises(Ellipse(1.0, 2.0), 1.0),
    "sphere S2": lambda: Manifold(Sphere(2), on_sphere(2)),
    "torus in R3": lambda: von_mises(Torus(2.0, 1.0), 2.0),
    "sphere S5 in R12": lambda: Manifold(Embedded(Sphere(5), 12, seed=0), on_sphere(5)),
    "image orbit": lambda: von_mises(ImageOrbit(), 4.0),
}
# In quick mode only these are sampled; quadrature takes seconds on all.
QUICK = ("circle", "sphere S2")


def problem(prior: Manifold) -> Problem:
    """One coordinate of a vector, or 40% of an image's pixels, of a point of the manifold, with noise."""
    shape = prior.image_shape
    if len(shape) == 1:
        physics = operators.create("matrix", shape, matrix=torch.eye(1, shape[0]), noise=0.5)
    else:
        physics = operators.create("inpainting", shape, keep=0.4, noise=0.3, seed=0)
    truth = prior.sample(1, seed=0)
    return Problem(physics, physics(truth), truth)


# %% [markdown]
# ## By quadrature
#
# The law on the manifold is p_data exp(-v + c phi) for the generic prior and exp(-v + sigma^alpha (log p_data + c phi))
# for the tempered one, v the negative log-likelihood and phi the error's potential. The critical amplitude is where its
# total variation to the law without error is 0.05.


# %%
def nodes(prior: Manifold) -> tuple[Tensor, Tensor]:
    """Points and log-weights for integrals over the volume; 100,000 uniform draws where there is no chart."""
    if prior.manifold.axes:
        points, weights = prior.manifold.quadrature({1: 2048, 2: 96}[prior.manifold.dim])
        return points, weights.log()
    points = prior.manifold.sample(100_000, seed=1)
    return points, torch.zeros(len(points), dtype=torch.float64)


def quadrature_slope(prior: Manifold, alpha: float) -> float:
    points, log_weights = nodes(prior)
    given = problem(prior)
    posterior = Posterior(prior, given.physics, given.y)
    log_likelihood = torch.cat(
        [
            posterior.chains(torch.zeros(len(part), dtype=torch.long)).log_likelihood(part.float()).double()
            for part in points.split(4096)
        ]
    )
    log_density = prior.log_density_on(points)
    phi = TangentialError(manifold=prior).tilt(points, 1.0)

    def law(factor: float, amplitude: float) -> Tensor:
        return (log_weights + log_likelihood + factor * (log_density + amplitude * phi)).softmax(0)

    def critical(sigma: float) -> float:
        factor = sigma**alpha
        moved = lambda c: float((law(factor, math.exp(c)) - law(factor, 0.0)).abs().sum() / 2) - 0.05  # noqa: E731
        return brentq(moved, math.log(1e-3), math.log(1e3 / factor))

    logs = [critical(sigma) for sigma in QUADRATURE_SIGMAS]
    return float(np.polyfit(np.log(QUADRATURE_SIGMAS), logs, 1)[0])


# %% [markdown]
# ## By Langevin dynamics


# %%
def sampled_slope(name: str, alpha: float, args: argparse.Namespace) -> dict[str, float]:
    """Slope of log critical amplitude (of the whole error) against log sigma, with its 95% interval."""
    prior = PRIORS[name]()
    image = len(prior.image_shape) > 1
    folder = args.out / "cells" / f"{name.replace(' ', '-')}-{alpha:g}"
    result = sweep(
        {name: problem(prior)},
        {"generic": prior} if alpha == 0 else {f"tempered {alpha:g}": MaximumEntropy(prior, alpha)},
        Langevin(time=args.time, step_size=1.0),
        TangentialError(manifold=prior, exponent=-alpha),
        AMPLITUDES,
        [thickness ** (1 / (1 - alpha / 2)) for thickness in (IMAGE_THICKNESSES if image else THICKNESSES)],
        seeds=range(args.first_seed, args.first_seed + args.seeds),
        n=args.images if image else args.n,
        out=folder,
        workers=args.workers,
        progress=True,
    )
    result.report(args.out / f"{folder.name}.html", THRESHOLD)
    rate = result.rate(THRESHOLD).iloc[0]
    return {key: float(rate[key]) - alpha for key in ("slope", "low", "high")} | {"levels": int(rate["levels"])}


# %%
def main() -> int:
    parser = argparse.ArgumentParser(description="Slopes of the critical amplitude on six manifolds.")
    parser.add_argument("--quick", action="store_true", help="three manifolds, alpha = 1, fewer chains")
    parser.add_argument("--out", type=Path, default=Path("results/slopes"))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=1000)
    args = parser.parse_args()
    args.seeds, args.n, args.images, args.time = (5, 600, 48, 4.0) if args.quick else (5, 2000, 192, 6.0)
    alphas = (0.0, 1.0) if args.quick else (0.0, 0.5, 1.0, 1.5)
    results = []
    for name in PRIORS:
        for alpha in alphas:
            row = {"manifold": name, "alpha": alpha, "quadrature": quadrature_slope(PRIORS[name](), alpha)}
            if name in QUICK or not args.quick:
                row |= sampled_slope(name, alpha, args)
            results.append(row)
            print(row, file=sys.stderr)
    return finish(results, args.out)


def finish(results: list[dict], out: Path) -> int:
    """Table, figure, and whether each slope is what the theory says."""
    print("| manifold | alpha | expected | by quadrature | by Langevin dynamics (95%) |")
    print("| --- | --- | --- | --- | --- |")
    missed = 0
    for row in results:
        expected = 0.0 - row["alpha"]
        sampled, met = "", abs(row["quadrature"] - expected) <= 0.05
        if "slope" in row:
            sampled = f"{row['slope']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
            met = met and expected - 0.15 <= row["low"] <= row["high"] <= expected + 0.15
        missed += not met
        line = f"| {row['manifold']} | {row['alpha']:g} | {expected:g} | {row['quadrature']:.3f} | {sampled} |"
        print(line + ("" if met else " MISSED"))
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / f".slopes.json.{os.getpid()}"
    temporary.write_text(json.dumps({"torch": torch.__version__, "results": results}, indent=1) + "\n")
    temporary.replace(out / "slopes.json")
    picture(results).savefig(out / "slopes.png", dpi=150)
    return min(missed, 1)


def picture(results: list[dict]) -> plt.Figure:
    figure, axis = plt.subplots(figsize=(7.5, 3.8))
    names = list(dict.fromkeys(row["manifold"] for row in results))
    for alpha, colour in zip((0.0, 0.5, 1.0, 1.5), ("#c1440e", "#5b8c2a", "#1f5f8b", "#7b4fa3"), strict=True):
        rows = [row for row in results if row["alpha"] == alpha]
        if not rows:
            continue
        label = "generic" if alpha == 0 else f"tempered, alpha = {alpha:g}"
        places = [names.index(row["manifold"]) for row in rows]
        axis.plot(places, [row["quadrature"] for row in rows], "_", color=colour, markersize=22)
        sampled = [row for row in rows if "slope" in row]
        x, y = [names.index(row["manifold"]) for row in sampled], np.array([row["slope"] for row in sampled])
        errors = np.abs(np.array([[row["low"], row["high"]] for row in sampled]).T - y)
        axis.errorbar(x, y, errors, fmt="o", color=colour, capsize=3, label=label)
        axis.axhline(-alpha, color=colour, linewidth=0.8, linestyle=":")
    axis.set_xticks(range(len(names)), names, fontsize=8)
    axis.set_ylabel("slope of log critical amplitude\nagainst log sigma")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    return figure


if __name__ == "__main__":
    raise SystemExit(main())
