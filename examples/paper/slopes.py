# %% [markdown]
# # How wrong may the score be? Slopes on circle, ellipse, spheres, torus and the shifts of an image
#
# A prior on a manifold, a measurement, and a score that is wrong by c sigma^beta along the manifold. The amplitude at
# which the posterior has moved by a fixed distance should not depend on sigma for the generic prior, and grow like
# sigma^-alpha for the maximum-entropy prior (tempered score; Li et al. 2025, Theorem 6.1). Both slopes are computed
# twice: by quadrature, from the laws that the theory predicts, and by Langevin dynamics. So is that of the cancelled
# score, which is this project's own; it is -1.
#
#     python examples/paper/slopes.py --quick              # by sampling on two manifolds only, fewer scores
#     python examples/paper/slopes.py                      # all manifolds, alpha = 0.5, 1, 1.5: hours on one core
#     python examples/paper/slopes.py --only circle torus  # some of them, beside the results that are there
#
# Interrupted or killed, the same call goes on where it was. At a tempered score the chains live in a cloud of
# thickness tau = sigma^(1 - alpha/2). The noise levels are those with the same thicknesses for every alpha, and the
# error is given the exponent beta of the expected slope, so that one grid of amplitudes serves them all; beta is added
# to the fitted slope. At alpha = 1.5 sigma is tau^4, 6e-6 at the least. That is safe: a prior on a manifold computes
# its law in float64, where the weights at that sigma are right to 1e-7, and what float32 rounds off the displacement
# D - x, of size tau, moves the tempered drift (D - x) / tau^2 by 1e-7 / tau.

# %%
from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

import operators
from inverse import Langevin, Posterior
from inverse.files import replacing
from inverse.robustness import DensityError, Problem, TangentialError, sweep
from priors import Manifold, MaximumEntropy
from priors.base import Prior
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

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from common import machine

THRESHOLD = 0.1
QUADRATURE_SIGMAS = (1e-4, 1e-3, 1e-2)
AMPLITUDES = (0.1, 0.3, 1.0, 3.0)
ANNEAL_STEPS = 60
GENERIC, CANCELLED = "generic", "cancelled"
METHODS = {GENERIC: 0.0, "tempered 0.5": 0.5, "tempered 1": 1.0, "tempered 1.5": 1.5, CANCELLED: 1.0}
CHAINS = {GENERIC: 1.0, "tempered 0.5": 0.5, "tempered 1": 0.2, "tempered 1.5": 0.2, CANCELLED: 0.5}

# %% [markdown]
# ## The manifolds, each with a density that is far from uniform


# %%
def von_mises(manifold: Submanifold, kappa: float, nodes: int) -> Manifold:
    """Von Mises law in every angle of the chart, with respect to the angles; nodes: enough for exp(kappa cos u)."""
    return Manifold(manifold, InCoordinates(manifold, lambda u: kappa * u.cos().sum(-1)), nodes=nodes)


def on_sphere(n: int) -> VonMisesFisher:
    return VonMisesFisher([-1.0, *[0.0] * n], 4.0)


PRIORS: dict[str, Callable[[], Manifold]] = {
    "circle": lambda: Manifold(Circle(), on_sphere(1)),
    "ellipse (1, 2)": lambda: von_mises(Ellipse(1.0, 2.0), 1.0, nodes=64),
    "sphere S2": lambda: Manifold(Sphere(2), on_sphere(2)),
    "torus in R3": lambda: von_mises(Torus(2.0, 1.0), 2.0, nodes=32),
    "sphere S5 in R12": lambda: Manifold(Embedded(Sphere(5), 12, seed=0), on_sphere(5)),
    "image orbit, cutoff 5": lambda: von_mises(ImageOrbit(), 4.0, nodes=32),
    "image orbit, cutoff 2": lambda: von_mises(ImageOrbit(cutoff=2), 4.0, nodes=32),
}
# Only these are sampled in quick mode, and with the cancelled score, in full mode; quadrature takes seconds on all.
FEW = ("circle", "sphere S2")


class Size(NamedTuple):
    """Of a run: chains, seeds, Langevin time, and thicknesses of the cloud, well below the radius of curvature.

    n: chains for the generic prior. The same thicknesses span noise levels whose logarithms lie 1 / (1 - alpha/2) times
    as far apart, so that the slopes of tempered priors need fewer, though never less than `least`. seeds: of each score
    where they differ, more where the intervals were too wide to tell.
    """

    n: int = 1000
    seeds: int | dict[str, int] = 5
    least: int = 200
    time: float = 3.0
    thicknesses: tuple[float, ...] = (0.05, 0.1, 0.2)

    def chains(self, method: str) -> int:
        return max(self.least, round(self.n * CHAINS[method]))

    def seeds_from(self, first: int, method: str) -> range:
        return range(first, first + (self.seeds if isinstance(self.seeds, int) else self.seeds[method]))


# A cloud of thickness tau about a curved manifold feels the error and the noise as means over the cloud, and the
# critical amplitude changes by a share of order tau^2 times the curvature squared: it falls on S^5, and rises on the
# tori of images (`thickened_slope`), with the shifts of the default image by 13% to 19% at tau = 0.15. A lower cutoff
# makes a smoother torus of the same size, with 3% to 4%. S^5 mixes faster, at rate n. Where the denoiser costs more
# there are fewer chains.
SIZES = {
    "ellipse (1, 2)": Size(seeds=12, time=4.0),
    "sphere S5 in R12": Size(time=1.0, thicknesses=(0.025, 0.05, 0.1)),
    "torus in R3": Size(n=300, least=100, time=4.0, thicknesses=(0.07, 0.14, 0.28)),
    "image orbit, cutoff 5": Size(
        n=64,
        seeds={GENERIC: 25, "tempered 0.5": 32, "tempered 1": 10, "tempered 1.5": 5},
        least=48,
        time=2.0,
        thicknesses=(0.04, 0.08, 0.15),
    ),
    "image orbit, cutoff 2": Size(
        n=64,
        seeds={GENERIC: 16, "tempered 0.5": 22, "tempered 1": 8, "tempered 1.5": 5},
        least=48,
        time=2.0,
        thicknesses=(0.04, 0.08, 0.15),
    ),
}
SHORT = Size(n=400, seeds=3, thicknesses=(0.08, 0.13, 0.2))
# Of the cancelled score, whose cloud is as thick as sigma: its slope nears -1 at small sigma alone.
CANCELLED_SIGMAS = (0.025, 0.05, 0.1)


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
# for the tempered one, v the negative log-likelihood and phi the error's potential.
#
# For the cancelled score, let B = grad psi, psi = log p_data + c phi, be the density term of the wrong denoiser,
# D(x) = P x + sigma^2 B(P x). What is taken off is the mean of B over p + sigma z about p = D(x), which leaves
# B(P x) - E B(D(x) + sigma z) = -sigma^2 (B . grad B + Laplacian B / 2) + ..., the gradient of
# -sigma^2 / 2 (|B|^2 + div B), but for terms of M's curvature, of order c sigma^2. The law is exp(-v) times the
# exponential of that: the error counts as c^2 sigma^2, through the displacement sigma^2 c that it causes itself before
# its mean is taken, and the slope is -1. At larger sigma the terms c sigma^2 count as well, whose slope is -2.
#
# The critical amplitude is where the total variation of the law to the one without error is 0.05.


# %%
def nodes(prior: Manifold) -> tuple[Tensor, Tensor]:
    """Points and log-weights for integrals over the volume; 100,000 uniform draws beyond two dimensions."""
    counts = {1: 2048, 2: 64}
    if prior.manifold.dim in counts:
        points, weights = prior.manifold.quadrature(counts[prior.manifold.dim])
        return points, weights.log()
    points = prior.manifold.sample(100_000, seed=1)
    return points, torch.zeros(len(points), dtype=torch.float64)


def divergence(field: Callable[[Tensor], Tensor], manifold: Submanifold, points: Tensor, step: float = 1e-4) -> Tensor:
    """Divergence on M of a field along M, (B,), by central differences along an orthonormal frame, right to 1e-7."""
    frame: list[Tensor] = []
    generator = torch.Generator().manual_seed(987_654)  # not that of the points, which would be their directions
    total = points.new_zeros(len(points))
    for _ in range(manifold.dim):
        v = manifold.tangential(points, torch.randn(points.shape, generator=generator, dtype=points.dtype)).flatten(1)
        for other in frame:
            v = v - (v * other).sum(1, keepdim=True) * other
        v = v / torch.linalg.vector_norm(v, dim=1, keepdim=True)
        frame.append(v)
        ahead, behind = (manifold.project(points + h * v.reshape(points.shape)) for h in (step, -step))
        total = total + ((field(ahead) - field(behind)).flatten(1) * v).sum(1) / (2 * step)
    return total


def cancelled_potentials(prior: Manifold, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Coefficients (K,) of 1, c, c^2 in (|B|^2 + div B) / 2, B = grad (log p_data + c phi)."""
    error, density = TangentialError(manifold=prior), DensityError(manifold=prior.manifold, target=prior)
    own, wrong = density.unit(points).flatten(1), error.unit(points).flatten(1)
    own_spread, wrong_spread = (divergence(field.unit, prior.manifold, points) for field in (density, error))
    return ((own**2).sum(1) + own_spread) / 2, (own * wrong).sum(1) + wrong_spread / 2, (wrong**2).sum(1) / 2


def quadrature_slope(prior: Manifold, method: str, sigmas: Sequence[float] = QUADRATURE_SIGMAS) -> float:
    points, log_weights = nodes(prior)
    given = problem(prior)
    posterior = Posterior(prior, given.physics, given.y)
    log_likelihood = torch.cat(
        [
            posterior.chains(torch.zeros(len(part), dtype=torch.long)).log_likelihood(part.float()).double()
            for part in points.split(4096)
        ]
    )
    if method == CANCELLED:
        potentials, alpha = cancelled_potentials(prior, points), 2.0
        tilt = lambda c: -sum(p * c**k for k, p in enumerate(potentials))  # noqa: E731
    else:
        log_density, phi, alpha = (
            prior.log_density_on(points),
            TangentialError(manifold=prior).tilt(points, 1.0),
            METHODS[method],
        )
        tilt = lambda c: log_density + c * phi  # noqa: E731

    def law(sigma: float, c: float) -> Tensor:
        return (log_weights + log_likelihood + sigma**alpha * tilt(c)).softmax(0)

    def critical(sigma: float) -> float:
        moved = lambda c: float((law(sigma, math.exp(c)) - law(sigma, 0.0)).abs().sum() / 2) - 0.05  # noqa: E731
        return brentq(moved, math.log(1e-3), math.log(1e3 / sigma**alpha))

    return float(np.polyfit(np.log(sigmas), [critical(sigma) for sigma in sigmas], 1)[0])


# %% [markdown]
# ## By Langevin dynamics


# %%
def thickened_slope(prior: Manifold, method: str, thicknesses: Sequence[float]) -> float:
    """Estimate, to second order in tau, of the slope in clouds of thickness tau on the shifts of an image.

    Chains at P + xi, xi normal to M, have the law exp(-|xi|^2 / (2 tau^2)) det(I - S)^w with S = <xi, II>; w is 1 for
    the volume less sigma^alpha / 2 for the curvature in p_sigma (Li et al. 2025, Theorem 3.1). They move along M by
    (I - S)^-1 times error and noise, and in the mean over xi the noise's covariance outgrows the error by
    I + tau^2 (2 sum II^2 - w sum H II), so that the error counts for less. On a flat torus sum H II = sum II^2, whose
    mean over directions is |H|^2 / 2, H = sum of z_k <k, g^-1 k> exp(i <k, u>) up to sign, g the metric. That the
    likelihood counts for less as well is left out.
    """
    torus = prior.manifold.manifold
    k = torus.frequencies.double()
    bend = ((k @ torch.linalg.inv(torus.metric)) * k).sum(1)
    squared = float((torus.amplitudes.abs() * bend).square().sum())
    tau, alpha = np.array(thicknesses), METHODS[method]
    log_sigma = np.log(tau) / (1 - alpha / 2)
    share = 1 + np.exp(alpha * log_sigma) / 2  # 2 - w
    return float(np.polyfit(log_sigma, np.log1p(share * squared / 2 * tau**2), 1)[0]) - alpha


def sampled_slope(name: str, method: str, args: argparse.Namespace) -> dict[str, object]:
    """Slope of log critical amplitude (of the whole error) against log sigma, with its 95% interval."""
    prior, beta = PRIORS[name](), -METHODS[method]
    size = SHORT if args.quick else SIZES.get(name, Size())
    sigmas = [thickness ** (1 / (1 + beta / 2)) for thickness in size.thicknesses]
    if method == CANCELLED:
        sigmas = list(CANCELLED_SIGMAS)
    seeds = size.seeds_from(args.first_seed, method)
    folder = args.out / "cells" / f"{name} {method}".replace(" ", "-")
    result = sweep(
        {name: problem(prior)},
        {method: geometric(prior, method)},
        Langevin(time=size.time, step_size=1.0, anneal_steps=ANNEAL_STEPS),
        TangentialError(manifold=prior, exponent=beta),
        AMPLITUDES,
        sigmas,
        seeds=seeds,
        n=size.chains(method),
        out=folder,
        workers=args.workers,
        progress=True,
    )
    if not args.quick:
        result.report(args.out / f"{folder.name}.html", THRESHOLD)
    rate, found = result.rate(THRESHOLD).iloc[0], result.breakdown(THRESHOLD)
    floors = result.table.groupby("sigma")["floor"].mean()
    return {
        **{key: float(rate[key]) + beta for key in ("slope", "low", "high")},
        "levels": int(rate["levels"]),
        "sigmas": found["sigma"].tolist(),
        # Of the whole error c sigma^beta.
        "critical": [
            list(row)
            for row in zip(*(found[k] * found["sigma"] ** beta for k in ("critical", "low", "high")), strict=True)
        ],
        "floor": floors.tolist(),
        "seeds": [seeds[0], seeds[-1]],
        "n": size.chains(method),
        "time": size.time,
    }


def geometric(prior: Manifold, method: str) -> Prior:
    if method == GENERIC:
        return prior
    return MaximumEntropy(prior, method=CANCELLED) if method == CANCELLED else MaximumEntropy(prior, METHODS[method])


# %%
def main() -> int:
    parser = argparse.ArgumentParser(description="Slopes of the critical amplitude.")
    parser.add_argument("--quick", action="store_true", help="two manifolds by sampling, fewer seeds")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="WORD", help="manifolds whose name has one of these words"
    )
    parser.add_argument("--out", type=Path, default=Path("results/slopes"))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=1000)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    names = [name for name in PRIORS if not args.only or any(word in name for word in args.only)]
    if not names:
        parser.error(f"--only must name some of {', '.join(PRIORS)}, got {' '.join(args.only)}")
    methods = (GENERIC, "tempered 1", CANCELLED) if args.quick else METHODS
    results = read(args.out) if args.only else {}
    for name in names:
        for method in methods:
            row = {"manifold": name, "method": method, "expected": 0.0 - METHODS[method]}
            row["quadrature"] = quadrature_slope(PRIORS[name](), method)
            if is_sampled(name, method, args.quick):
                row |= sampled_slope(name, method, args)
                if "orbit" in name:
                    row["thickened"] = thickened_slope(PRIORS[name](), method, SIZES[name].thicknesses)
            if "sigmas" in row:
                row["quadrature_there"] = quadrature_slope(PRIORS[name](), method, row["sigmas"])
            results[name, method] = row
            write(list(results.values()), args.out)
            print({key: row.get(key) for key in ("manifold", "method", "quadrature", "slope")}, file=sys.stderr)
    # In the order of the table, and then what an earlier version of this script has left there under other names.
    order = [*(key for key in product(PRIORS, METHODS) if key in results), *results]
    return finish([results[key] for key in dict.fromkeys(order)], args.out, args.quick)


def is_sampled(name: str, method: str, quick: bool) -> bool:
    if quick:
        return name in FEW and method != CANCELLED
    return name in FEW or method != CANCELLED


def read(out: Path) -> dict[tuple[str, str], dict]:
    """The results that are there already, by manifold and method."""
    file = out / "slopes.json"
    rows = json.loads(file.read_text())["results"] if file.exists() else []
    return {(row["manifold"], row["method"]): row for row in rows}


def write(results: list[dict], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    settings = {"threshold": THRESHOLD, "amplitudes": AMPLITUDES, "anneal_steps": ANNEAL_STEPS}
    with replacing(out / "slopes.json") as temporary:
        temporary.write_text(json.dumps({"machine": machine(), **settings, "results": results}, indent=1) + "\n")


def finish(results: list[dict], out: Path, quick: bool) -> int:
    """Table, figure, and whether each slope is what the theory says, with its interval but in quick mode."""
    print("| manifold | score | expected | by quadrature | at the sigmas of the runs | by Langevin (95%) | floor |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    missed = 0
    for row in results:
        expected = row["expected"]
        sampled, floor, there, met = "", "", "", abs(row["quadrature"] - expected) <= 0.05
        if "slope" in row:
            sampled, floor = (
                f"{row['slope']:.2f} ({row['low']:.2f} to {row['high']:.2f})",
                f"{np.mean(row['floor']):.3f}",
            )
            there = f"{round(row['quadrature_there'], 3) + 0.0:.3f}"  # no -0.000
            ends = [row["slope"]] if quick else [row["low"], row["high"]]
            # That of the cancelled score is stated: it has its limit at smaller sigma than can be sampled.
            met = met and (row["method"] == CANCELLED or all(abs(end - expected) <= 0.15 for end in ends))
        missed += not met
        known = f"{row['manifold']} | {row['method']} | {expected:g} | {round(row['quadrature'], 3) + 0.0:.3f}"
        line = f"| {known} | {there} | {sampled} | {floor} |"
        print(line + ("" if met else " MISSED"))
    for row in results:
        if "thickened" in row:
            print(f"{row['manifold']}, {row['method']}: expected in clouds of these thicknesses {row['thickened']:.3f}")
    write(results, out)
    picture(results).savefig(out / "slopes.png", dpi=150)
    return min(missed, 1)


COLOURS = dict(zip(METHODS, ("#c1440e", "#5b8c2a", "#1f5f8b", "#7b4fa3", "#444444"), strict=True))


def picture(results: list[dict]) -> plt.Figure:
    """Slopes of every manifold, side by side for the methods; bars are quadrature, dots are chains."""
    figure, axis = plt.subplots(figsize=(8.5, 4.2))
    names = list(dict.fromkeys(row["manifold"] for row in results))
    methods = [method for method in METHODS if any(row["method"] == method for row in results)]
    for k, method in enumerate(methods):
        rows = [row for row in results if row["method"] == method]
        places = np.array([names.index(row["manifold"]) for row in rows]) + 0.13 * (k - (len(methods) - 1) / 2)
        axis.hlines(
            [row["quadrature"] for row in rows],
            places - 0.09,
            places + 0.09,
            color=COLOURS[method],
            linewidth=3,
            alpha=0.35,
        )
        sampled = [i for i, row in enumerate(rows) if "slope" in row]
        y = np.array([rows[i]["slope"] for i in sampled])
        errors = np.abs(np.array([[rows[i]["low"], rows[i]["high"]] for i in sampled]).reshape(-1, 2).T - y)
        label = method.replace("tempered ", "tempered, alpha = ")
        axis.errorbar(places[sampled], y, errors, fmt="o", markersize=4, color=COLOURS[method], capsize=3, label=label)
    for expected in {row["expected"] for row in results}:
        axis.axhline(expected, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    axis.set_xticks(range(len(names)), [re.sub(r" (in |\(|orbit|cutoff)", r"\n\1", name) for name in names], fontsize=9)
    axis.set_ylabel("slope of log critical amplitude\nagainst log sigma")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1), title="score")
    figure.tight_layout()
    return figure


if __name__ == "__main__":
    raise SystemExit(main())
