# %% [markdown]
# # Figures 2 and 4 of Li et al. 2025, with numbers
#
# The paper shows two pictures of samples on curves (arXiv 2509.24912, Figures 2 and 4). Here they are histograms with
# the laws that they should and should not be, and tables: total variation over 36 bins of the angle to p_data and to
# the uniform law (arc length), and root mean square distance to the curve, as means with 95% Student intervals over
# seeds. The distance says whether the samples are on the manifold, the total variation which law they have on it.
#
#     python examples/paper/figures.py --quick    # under four minutes on one core: fewer chains and steps, one network
#     python examples/paper/figures.py            # the paper's sizes: 10,000 chains, 10,000 steps; goes on where it was
#
# A step of Langevin dynamics in displacement form, D the denoiser and h the step size, is
#
#     x + h (D(x, sigma) - x) + sqrt(2 h sigma^(2 - alpha)) z,
#
# with alpha = 0 the plain dynamics. Its cloud has thickness tau = sigma^(1 - alpha/2), h is in units of tau^2, and N
# steps diffuse along the manifold for a time N h tau^2.

# %%
from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy.interpolate import CubicSpline, RectBivariateSpline
from scipy.stats import t as student
from torch import Tensor, nn

from inverse.files import replacing
from priors import Manifold, Perturbed, Prior
from priors.base import Sigma, sigma_per_item
from priors.manifolds import Circle, Ellipse, InCoordinates, Submanifold, VonMisesFisher

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from common import cell

BINS = 36
SIGMA = 0.01
AMPLITUDES = (0.0, 1.0, 4.0)
ALPHAS = (0.0, 0.25, 0.5, 1.0, 1.5, 1.9)
STEP_SIZES = (0.25, 0.5, 1.0, 1.5, 1.9)
RED, BLUE, GREEN, GREY = "#c1440e", "#1f5f8b", "#5b8c2a", "#888888"

# %% [markdown]
# ## What is measured


# %%
def masses(manifold: Submanifold, log_tilt: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Masses (36,) of the bins under the density exp(log_tilt(points)) with respect to arc length; None is uniform."""
    u = (torch.arange(BINS * 200, dtype=torch.float64)[:, None] + 0.5) * (2 * math.pi / (BINS * 200))
    values = manifold.log_element(u)
    if log_tilt is not None:
        values = values + log_tilt(manifold.point(u))
    return values.softmax(0).reshape(BINS, -1).sum(1)


def measured(manifold: Submanifold, x: Tensor) -> dict:
    """Histograms of the nearest points' angles and distances to the manifold, for x (seeds, n, 2)."""
    x = x.double()
    if not bool(x.isfinite().all()):
        raise RuntimeError("the chains left all bounds: some are not finite")
    bins = (manifold.coordinates(manifold.project(x))[..., 0] * (BINS / (2 * math.pi))).long().clamp(0, BINS - 1)
    return {
        "counts": [torch.bincount(row, minlength=BINS).tolist() for row in bins],
        "rms": manifold.distance(x).square().mean(1).sqrt().tolist(),
    }


def interval(values: list[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95% Student interval."""
    n = len(values)
    return float(np.mean(values)), float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n))


def total_variation(cell: dict, law: Tensor) -> tuple[float, float]:
    counts = np.array(cell["counts"], dtype=float)
    shares = counts / counts.sum(1, keepdims=True)
    return interval((np.abs(shares - law.numpy()).sum(1) / 2).tolist())


def shown(value: tuple[float, float], digits: int = 3) -> str:
    return f"{value[0]:.{digits}f} ± {value[1]:.{digits}f}"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(text)


# %% [markdown]
# ## Samplers
#
# Every seed has its own generator, so that its chains do not depend on the other seeds; Langevin chains start at exact
# draws of p_data, which flatters the plain dynamics and not the tempered one, or where they are told to.


# %%
class Noise:
    """Standard normal fields (seeds, n, 2), one generator for each seed."""

    def __init__(self, seeds: list[int], n: int, dtype: torch.dtype) -> None:
        self.generators, self.n, self.dtype = [torch.Generator().manual_seed(seed) for seed in seeds], n, dtype

    def __call__(self) -> Tensor:
        return torch.stack([torch.randn(self.n, 2, generator=g, dtype=self.dtype) for g in self.generators])


def exact_draws(prior: Manifold, seeds: list[int], n: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.stack([prior.sample(n, seed=seed, dtype=dtype) for seed in seeds])


@torch.no_grad()
def langevin(prior: Prior, x: Tensor, seeds: list[int], sigma: float, alpha: float, step: float, steps: int) -> Tensor:
    """Euler-Maruyama in displacement form at one noise level from x (seeds, n, 2)."""
    noise = Noise([seed + 10**6 for seed in seeds], x.shape[1], x.dtype)
    scale = math.sqrt(2 * step * sigma ** (2 - alpha))
    for _ in range(steps):
        x = x + step * prior.displacement(x.flatten(0, 1), sigma).view_as(x) + scale * noise()
    return x


@torch.no_grad()
def reverse_diffusion(prior: Prior, seeds: list[int], n: int, steps: int) -> Tensor:
    """The variance-exploding reverse diffusion from sigma = 50 to SIGMA, by ancestral steps (Song et al. 2021)."""
    noise = Noise(seeds, n, torch.float64)
    levels = np.geomspace(50.0, SIGMA, steps + 1).tolist()
    x = levels[0] * noise()
    for high, low in pairwise(levels):
        removed = high**2 - low**2
        x = x + removed / high**2 * prior.displacement(x.flatten(0, 1), high).view_as(x)
        x = x + math.sqrt(low**2 * removed / high**2) * noise()
    return x


# %% [markdown]
# ## Figure 4: the exact score with a gradient error of order 1
#
# The error is the gradient of eps/2 sin(2 theta + 1) |x|^2 / (|x|^2 + 0.01): on the circle it is eps cos(2 theta + 1)
# along the tangent (to 1%), everywhere it is bounded, and it is the same at every noise level. Plain Langevin dynamics
# has the law p_data exp(eps/2 sin(2 theta + 1)).


# %%
def gradient_error(eps: float) -> Callable[[Tensor, Sigma], Tensor]:
    c, s = math.cos(1.0), math.sin(1.0)
    form = torch.tensor([[s, c], [c, -s]], dtype=torch.float64)  # |x|^2 sin(2 theta + 1) = x^T form x

    def error(x: Tensor, _sigma: Sigma) -> Tensor:
        turned = x @ form.to(x)
        q = (x * x).sum(1, keepdim=True) + 0.01
        return eps * (turned / q - (turned * x).sum(1, keepdim=True) * x / q**2)

    return error


def tilted(prior: Manifold, eps: float) -> Tensor:
    """The law that plain Langevin dynamics has with the error, in the limit of small sigma."""
    return masses(
        prior.manifold,
        lambda p: prior.log_density_on(p) + eps / 2 * (2 * torch.atan2(p[..., 1], p[..., 0]) + 1).sin(),
    )


def figure_4(args: argparse.Namespace) -> dict:
    prior = Manifold(Circle(), VonMisesFisher([-1.0, 0.0], 4.0))
    n, seeds, circle = args.n, args.seeds, prior.manifold
    steps = math.ceil(6.0 / (args.step * SIGMA))
    rows = [
        ("exact draws of p_data", None, lambda: exact_draws(prior, seeds, n)),
        ("exact uniform draws", None, lambda: torch.stack([circle.sample(n, seed=seed) for seed in seeds])),
    ]
    for eps in AMPLITUDES:
        wrong = Perturbed(prior, gradient_error(eps))
        rows += [
            ("reverse diffusion", eps, lambda p=wrong: reverse_diffusion(p, seeds, n, args.reverse)),
            (
                "plain Langevin, sigma = 0.1",
                eps,
                lambda p=wrong: langevin(p, exact_draws(prior, seeds, n), seeds, 0.1, 0.0, args.step, steps),
            ),
            (
                "tempered, alpha = 1, sigma = 0.01",
                eps,
                lambda p=wrong: langevin(p, exact_draws(prior, seeds, n), seeds, SIGMA, 1.0, args.step, steps),
            ),
        ]
    data, uniform = masses(circle, prior.log_density_on), masses(circle)
    laws = {eps: tilted(prior, eps) for eps in AMPLITUDES}
    found = []
    print(f"\n## Figure 4: circle, von Mises kappa = 4 about pi; {len(seeds)} seeds of {n} draws\n")
    print("| drawn by | eps | TV to p_data | TV to uniform | TV to p_data exp(eps phi) | RMS distance |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, eps, draw in rows:
        result = cell(
            args.out / "cells",
            f"figure 4 {name} {eps}",
            lambda d=draw: measured(circle, d()),
            n=n,
            step=args.step,
            levels=args.reverse,
            seeds=seeds,
        )
        found.append(result | {"sampler": name, "eps": eps})
        third = "" if eps is None else shown(total_variation(result, laws[eps]))
        print(
            f"| {name} | {'' if eps is None else f'{eps:g}'} | {shown(total_variation(result, data))} | "
            f"{shown(total_variation(result, uniform))} | {third} | {shown(interval(result['rms']), 4)} |"
        )
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.5), sharey=True)
    for axis, eps in zip(axes, AMPLITUDES, strict=True):
        of = {row["sampler"]: row for row in found if row["eps"] == eps}
        bars(axis, of["reverse diffusion"], RED, "reverse diffusion")
        bars(axis, of["tempered, alpha = 1, sigma = 0.01"], BLUE, "tempered Langevin, α = 1")
        line(axis, data, RED, "p_data")
        line(axis, uniform, BLUE, "uniform")
        axis.set_title(f"score error ε = {eps:g}")
    finish_histograms(figure, axes, "angle θ", args.out / "figure4.png")
    return {"rows": found}


# %% [markdown]
# ## Figure 2: a learned score
#
# A small network learns the displacement D - x over sigma in [0.01, 50] with the loss |D - x0|^2 / sigma^2. Beside it
# stands the exact displacement, which for the ellipse is tabulated once and interpolated by bicubic splines.


# %%
class ScoreNetwork(Prior):
    """D(x, sigma) - x = F(x / sqrt(1 + sigma^2), log(sigma) / 4) - x sigma^2 / (1 + sigma^2), F a small MLP."""

    image_shape = (2,)
    sigma_range = (SIGMA, 50.0)

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        layers = [
            nn.Linear(3, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
        ]
        self.network = nn.Sequential(*layers, nn.Linear(width, 2))

    def displacement(self, x: Tensor, sigma: Sigma) -> Tensor:
        level = sigma_per_item(sigma, x)
        known = torch.cat([x / (1 + level**2).sqrt(), (level.log() / 4).expand(len(x), 1)], dim=1)
        return self.network(known) - x * (level**2 / (1 + level**2))

    def denoise(self, x: Tensor, sigma: Sigma) -> Tensor:
        return x + self.displacement(x, sigma)


def trained(args: argparse.Namespace, name: str, prior: Manifold, seed: int) -> ScoreNetwork:
    """The network of a seed: read from --out where it is there, else trained on fresh batches of 200,000 draws."""
    path = args.out / f"network-{name}-{args.training}-{seed}.safetensors"
    torch.manual_seed(seed)
    network = ScoreNetwork()
    if path.exists():
        network.load_state_dict(load_file(path))
        return network
    data, start = prior.sample(200_000, seed=seed, dtype=torch.float32), time.perf_counter()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=args.training, pct_start=0.05)
    low, high = map(math.log, network.sigma_range)
    for _ in range(args.training):
        sigma = (low + (high - low) * torch.rand(1024, 1)).exp()
        noise = sigma * torch.randn(1024, 2)
        clean = data[torch.randint(len(data), (1024,))]
        loss = ((network.displacement(clean + noise, sigma) + noise) / sigma).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        save_file(network.state_dict(), temporary)
    print(f"network {name}, seed {seed}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return network


class Tabulated(Prior):
    """The displacement of a prior of the plane at one noise level, by bicubic splines on a grid of spacing 0.02."""

    image_shape = (2,)

    def __init__(self, prior: Manifold, sigma: float, sides: tuple[float, float]) -> None:
        super().__init__()
        self.sigma = sigma
        grid = [np.linspace(-side, side, 2 * round(side / 0.02) + 1) for side in sides]
        points = torch.cartesian_prod(*map(torch.from_numpy, grid))
        values = torch.cat([prior.displacement(part, sigma) for part in points.split(1024)])
        shape = (len(grid[0]), len(grid[1]))
        self.splines = [RectBivariateSpline(*grid, values[:, i].reshape(shape).numpy()) for i in (0, 1)]

    def displacement(self, x: Tensor, sigma: Sigma) -> Tensor:
        if sigma != self.sigma:
            raise ValueError(f"sigma must be {self.sigma}, the level of the table, got {sigma}")
        a, b = x.double().numpy().T
        return torch.from_numpy(np.stack([spline.ev(a, b) for spline in self.splines], axis=1)).to(x)

    def denoise(self, x: Tensor, sigma: Sigma) -> Tensor:
        return x + self.displacement(x, sigma)


@torch.no_grad()
def tangential_error(learned: Prior, prior: Manifold, thickness: float) -> float:
    """Root mean square of the learned score's error along the manifold, at 1,000 draws of p_data with that noise."""
    x = prior.sample(1000, seed=0, dtype=torch.float64)
    x = x + thickness * torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    error = (learned.displacement(x.float(), SIGMA).double() - prior.displacement(x, SIGMA)) / SIGMA**2
    return float(prior.manifold.tangential(prior.manifold.project(x), error).square().sum(1).mean().sqrt())


def figure_2(args: argparse.Namespace) -> dict:
    n, seeds, steps, step = args.n_2, args.seeds, args.steps_2, args.step_2
    found, panels = [], []
    size = f"{len(seeds)} seeds of {n} chains, {steps} steps of {step:g}, sigma = {SIGMA:g}"
    print(f"\n## Figure 2: ellipses, von Mises kappa = 1 in the angle parameter; {size}\n")
    print("| (a, b) | score | sampler | TV to p_data | TV to uniform | RMS distance |")
    print("| --- | --- | --- | --- | --- | --- |")
    errors = {}
    for b in (1.0, 2.0):
        curve = Ellipse(1.0, b)
        prior = Manifold(curve, InCoordinates(curve, lambda u: u[..., 0].cos()))
        # On the circle the density is the same with respect to arc length, and in closed form.
        closed = Manifold(Circle(), VonMisesFisher([1.0, 0.0], 1.0)) if b == 1 else None
        data, uniform = masses(curve, prior.log_density_on), masses(curve)
        networks = [trained(args, f"1-{b:g}", prior, seed) for seed in (seeds[:1] if args.quick else seeds)]
        for thickness in (SIGMA, math.sqrt(SIGMA)):
            key = f"(1, {b:g}) {thickness:g} away"
            errors[key] = [tangential_error(network, prior, thickness) for network in networks]

        def learned(alpha: float, prior=prior, networks=networks) -> Tensor:
            # One network for each group of chains; in quick mode one for all of them.
            size = -(-len(seeds) // len(networks))
            groups = [seeds[i : i + size] for i in range(0, len(seeds), size)]
            return torch.cat(
                [
                    langevin(network, exact_draws(prior, group, n, torch.float32), group, SIGMA, alpha, step, steps)
                    for network, group in zip(networks, groups, strict=True)
                ]
            )

        def exactly(alpha: float, prior=prior, closed=closed, b=b) -> Tensor:
            score = closed or Tabulated(prior, SIGMA, (1.8, b + 0.8))
            return langevin(score, exact_draws(prior, seeds, n), seeds, SIGMA, alpha, step, steps)

        rows = [("exact draws", "p_data", lambda p=prior: exact_draws(p, seeds, n))]
        rows.append(("exact draws", "uniform", lambda c=curve: torch.stack([c.sample(n, seed=s) for s in seeds])))
        for score, draw in (("exact", exactly), ("network", learned)):
            rows.append((score, "plain", lambda d=draw: d(0.0)))
            rows.append((score, "tempered, alpha = 1", lambda d=draw: d(1.0)))
        for score, sampler, draw in rows:
            result = cell(
                args.out / "cells",
                f"figure 2 {b:g} {score} {sampler}",
                lambda c=curve, d=draw: measured(c, d()),
                n=n,
                steps=steps,
                step=step,
                training=args.training if score == "network" else 0,
                networks=len(networks) if score == "network" else 0,
                seeds=seeds,
            )
            found.append(result | {"b": b, "score": score, "sampler": sampler})
            print(
                f"| (1, {b:g}) | {score} | {sampler} | {shown(total_variation(result, data))} | "
                f"{shown(total_variation(result, uniform))} | {shown(interval(result['rms']), 4)} |"
            )
        panels.append((b, "network", data, uniform))
    panels.append((2.0, "exact", data, uniform))
    print(f"\nRoot mean square error of the learned scores at sigma = {SIGMA:g}, along the curve:")
    print("; ".join(f"{name}: {', '.join(f'{e:.1f}' for e in each)}" for name, each in errors.items()))
    print(f"The tempered chains live {math.sqrt(SIGMA):g} away, where no network has seen a point at this sigma;")
    print(f"they take errors well below 1/sigma^alpha = {1 / SIGMA:g}.")
    diffused = steps * step * SIGMA**2
    times = f"for a time {diffused:g}, the tempered for {diffused / SIGMA:g}"
    print(f"The plain chains, which start at p_data, have diffused along the curve {times}.")
    print("So plain chains have not mixed: where they stand is how far the score's error has carried them by then.")
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.5), sharey=True)
    for axis, (b, score, data, uniform) in zip(axes, panels, strict=True):
        of = {row["sampler"]: row for row in found if row["b"] == b and row["score"] == score}
        bars(axis, of["plain"], RED, "plain Langevin")
        bars(axis, of["tempered, alpha = 1"], BLUE, "tempered Langevin, α = 1")
        line(axis, data, RED, "p_data")
        line(axis, uniform, BLUE, "uniform (arc length)")
        axis.set_title(
            f"{'circle' if b == 1 else 'ellipse (1, 2)'}, {'learned' if score == 'network' else score} score"
        )
    finish_histograms(figure, axes, "angle parameter", args.out / "figure2.png")
    return {"rows": found, "tangential_error": errors, "networks": 1 if args.quick else len(seeds)}


# %% [markdown]
# ## Beyond the paper: sensitivity to alpha, and the error of the step size
#
# Both on the circle of Figure 4. Every run diffuses along it for the same time, 4.


# %%
def sensitivity(args: argparse.Namespace) -> dict:
    prior = Manifold(Circle(), VonMisesFisher([-1.0, 0.0], 4.0))
    circle, n, seeds, sigma, step = prior.manifold, args.n_sensitivity, args.seeds, 0.05, 0.5
    data, uniform = masses(circle, prior.log_density_on), masses(circle)
    draws = measured(circle, torch.stack([circle.sample(n, seed=seed) for seed in seeds]))
    floor = total_variation(draws, uniform)

    def run(name: str, eps: float, sigma: float, alpha: float, step: float) -> dict:
        steps = math.ceil(4.0 / (step * sigma ** (2 - alpha)))
        wrong = Perturbed(prior, gradient_error(eps))
        return cell(
            args.out / "cells",
            f"{name} {eps:g} {sigma:g} {alpha:g} {step:g}",
            lambda: measured(circle, langevin(wrong, exact_draws(prior, seeds, n), seeds, sigma, alpha, step, steps)),
            n=n,
            steps=steps,
            seeds=seeds,
        )

    print(f"\n## Sensitivity to alpha: circle, sigma = {sigma:g}, step {step:g}; {len(seeds)} seeds of {n} chains\n")
    print(f"Total variation of exact uniform draws to the uniform law: {shown(floor)}\n")
    print("| alpha | thickness | TV to uniform, eps = 0 | eps = 4 | RMS distance, eps = 0 | eps = 4 |")
    print("| --- | --- | --- | --- | --- | --- |")
    by_alpha, by_step = [], []
    for alpha in ALPHAS:
        pair = [run("alpha", eps, sigma, alpha, step) for eps in (0.0, 4.0)]
        tv, rms = [total_variation(r, uniform) for r in pair], [interval(r["rms"]) for r in pair]
        by_alpha.append({"alpha": alpha, "tv": tv, "rms": rms})
        print(f"| {alpha:g} | {sigma ** (1 - alpha / 2):.3f} | {' | '.join(map(shown, tv + rms))} |")

    print("\n## Step size, in units of the cloud's squared thickness: thickness 0.1, eps = 0\n")
    print("The Euler step widens a Gaussian cloud to 0.1 / sqrt(1 - h/2) and is unstable from h = 2 on.\n")
    print("| h | predicted distance | plain, sigma = 0.1: TV to p_data | RMS distance | "
          "tempered, sigma = 0.01: TV to uniform | RMS distance |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- |")
    for h in STEP_SIZES:
        plain, tempered = run("step", 0.0, 0.1, 0.0, h), run("step", 0.0, SIGMA, 1.0, h)
        tv = [total_variation(plain, data), total_variation(tempered, uniform)]
        rms = [interval(plain["rms"]), interval(tempered["rms"])]
        by_step.append({"h": h, "tv": tv, "rms": rms})
        columns = " | ".join(map(shown, (tv[0], rms[0], tv[1], rms[1])))
        print(f"| {h:g} | {0.1 / math.sqrt(1 - h / 2):.3f} | {columns} |")

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.5))
    for i, (eps, colour) in enumerate(((0, BLUE), (4, RED))):
        for axis, key in ((axes[0], "tv"), (axes[1], "rms")):
            y, e = np.array([row[key][i] for row in by_alpha]).T
            axis.errorbar(ALPHAS, y, e, fmt="o-", color=colour, capsize=3, label=f"score error ε = {eps}")
    axes[0].axhline(floor[0], color=GREY, linestyle=":", label="exact uniform draws")
    axes[0].set(xlabel="α", ylabel="total variation to uniform", ylim=(0, None))
    fine = np.linspace(0, 1.9, 100)
    axes[1].plot(fine, sigma ** (1 - fine / 2), ":", color=GREY, label="σ^(1 − α/2)")
    axes[1].set(xlabel="α", ylabel="RMS distance to the circle", yscale="log")
    for i, (name, colour) in enumerate((("plain, to p_data", RED), ("tempered, to uniform", BLUE))):
        y, e = np.array([row["tv"][i] for row in by_step]).T
        axes[2].errorbar(STEP_SIZES, y, e, fmt="o-", color=colour, capsize=3, label=name)
    axes[2].axhline(floor[0], color=GREY, linestyle=":", label="exact uniform draws")
    axes[2].set(xlabel="step size / thickness²", ylabel="total variation", ylim=(0, None))
    for axis in axes:
        axis.legend(frameon=False, fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    save(figure, args.out / "sensitivity.png")
    return {"alpha": by_alpha, "step": by_step, "floor": floor}


# %% [markdown]
# ## Pictures


# %%
def bars(axis: plt.Axes, result: dict, colour: str, label: str) -> None:
    """Histogram of all seeds together, as a density of the angle, with 95% intervals over the seeds."""
    shares = np.array(result["counts"], dtype=float)
    shares *= BINS / (2 * math.pi) / shares.sum(1, keepdims=True)
    middles = (np.arange(BINS) + 0.5) * 2 * math.pi / BINS
    spread = student.ppf(0.975, len(shares) - 1) * shares.std(0, ddof=1) / math.sqrt(len(shares))
    axis.bar(middles, shares.mean(0), 2 * math.pi / BINS, color=colour, alpha=0.35, linewidth=0, label=label)
    axis.errorbar(middles, shares.mean(0), spread, fmt="none", ecolor=colour, elinewidth=0.7, alpha=0.7)


def line(axis: plt.Axes, law: Tensor, colour: str, label: str) -> None:
    middles = (np.arange(BINS + 1) + 0.5) * 2 * math.pi / BINS
    density = np.append(law.numpy(), law[0]) * BINS / (2 * math.pi)
    fine = np.linspace(0, 2 * math.pi, 400)
    smooth = CubicSpline(middles, density, bc_type="periodic")
    axis.plot(fine, smooth(fine), color=colour, linewidth=2, label=label)


def finish_histograms(figure: plt.Figure, axes: np.ndarray, label: str, path: Path) -> None:
    top = max(float(curve.get_ydata().max()) for axis in axes for curve in axis.lines)
    for axis in axes:
        axis.set(xlabel=label, xlim=(0, 2 * math.pi))
        axis.set_ylim(0, max(1.35 * top, min(axis.get_ylim()[1], 5 * top)))
        axis.set_xticks([0, math.pi / 2, math.pi, 3 * math.pi / 2, 2 * math.pi], ["0", "π/2", "π", "3π/2", "2π"])
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("density")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, -0.07))
    save(figure, path)


def save(figure: plt.Figure, path: Path) -> None:
    figure.tight_layout()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=200, bbox_inches="tight")
    plt.close(figure)


# %%
def main() -> int:
    parser = argparse.ArgumentParser(description="Figures 2 and 4 of Li et al. 2025, with numbers.")
    parser.add_argument("--quick", action="store_true", help="fewer chains and steps, one network for each curve")
    parser.add_argument("--out", type=Path, default=Path("results/figures"))
    parser.add_argument("--first-seed", type=int, default=1000)
    args = parser.parse_args()
    args.seeds = list(range(args.first_seed, args.first_seed + (3 if args.quick else 5)))
    # Figure 4 and sensitivity: chains of a seed, step size, levels of the reverse diffusion.
    args.n, args.n_sensitivity, args.step, args.reverse = (
        (2000, 1000, 0.3, 300) if args.quick else (10_000, 10_000, 0.1, 1000)
    )
    # Figure 2: chains of a seed, steps and their size, training steps of 1,024.
    args.n_2, args.steps_2, args.step_2, args.training = (
        (1000, 2000, 0.3, 4000) if args.quick else (10_000, 10_000, 0.1, 60_000)
    )
    args.out.mkdir(parents=True, exist_ok=True)
    if args.quick:
        print("Quick mode: fewer chains and longer steps than the paper's, and one network, trained for seconds.")
        print("Intervals of Figure 2 are over chains and not over networks.")
    results = {"figure 4": figure_4(args), "figure 2": figure_2(args), "sensitivity": sensitivity(args)}
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    write(
        args.out / "figures.json",
        json.dumps({"torch": torch.__version__, "settings": settings} | results, indent=1) + "\n",
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
