# %% [markdown]
# # How fast do the chains mix? Effective samples per denoiser call
#
# Langevin dynamics with the tempered score lives in a cloud of thickness tau = sigma^(1 - alpha/2) about the manifold,
# takes steps of a fixed part of tau^2, and so needs of the order of tau^-2 of them to go round: the number of
# effective samples per denoiser call should be proportional to sigma^(2 - alpha). With an error of size sigma^beta,
# beta < 0, the plain score has to cross barriers that grow, which takes exponentially long, while the tempered score,
# alpha > -beta, mixes as without the error (Li et al. 2025, arXiv 2509.24912, Appendix D).
#
#     python examples/paper/mixing.py --quick    # three noise levels, 2 seeds
#     python examples/paper/mixing.py            # eight noise levels, 5 seeds; goes on where it was
#
# On the circle with p_data von Mises, kappa = 4 about 180 degrees, and exact scores. The error is the tangential field
# sigma^(-1/2) grad cos(2 angle), up or down, with which the law has two wells, at both sides of the mode of p_data.
# The effective sample size is ArviZ's (`method="mean"`; Vehtari et al. 2021), of cos(angle) or sin(angle), whichever
# the theory says is slower; the step is h = tau^2 / 2. It needs the extra `diagnostics`. Exits with 1, and says MISSED,
# where the slope of a tempered score is off.

# %%
from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from image_posterior import cell, mean_and_error, show, write
from torch import Tensor

import operators
from inverse import Langevin, Posterior
from inverse.driver import State
from inverse.files import replacing
from priors import Manifold, MaximumEntropy, Perturbed
from priors.base import Prior
from priors.manifolds import Circle, VonMisesFisher

PRIOR = Manifold(Circle(), VonMisesFisher([-1.0, 0.0], 4.0))
# A measurement whose noise is huge says nothing, so that Langevin draws from the prior.
NOTHING = operators.create("matrix", (2,), matrix=torch.tensor([[1.0, 0.0]]), noise=1e6).double()
EXPONENT, STEP = -0.5, 0.5
ALPHAS = (0.0, 0.5, 1.0, 1.5, 1.9)
SIGMAS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
NODES = 720
# Chains that would be shorter than this many autocorrelation times are not run: what they said would be a guess.
ENOUGH = 10.0
# Slopes are fitted where the cloud is thinner than this: where it is thicker the circle's curvature matters.
THIN = 0.3
# A fitted slope may be off by this.
ORDER = 0.15


class Drift(NamedTuple):
    """A score: tempered with an alpha (0 is plain), or cancelled where it is None; and the size of its error."""

    alpha: float | None
    error: float

    @property
    def name(self) -> str:
        if self.alpha is None:
            return "cancelled"
        return f"tempered, alpha = {self.alpha:g}" if self.alpha else "plain"

    def prior(self) -> Prior:
        wrong = Perturbed(PRIOR, field(self.error)) if self.error else PRIOR
        if self.alpha is None:
            return MaximumEntropy(wrong, method="cancelled")
        return MaximumEntropy(wrong, self.alpha) if self.alpha else wrong

    def thickness(self, sigma: float) -> float:
        return sigma ** (1 - (self.alpha or 0.0) / 2)

    def share(self, sigma: float) -> float:
        """What is left of the density and of the potential of the error."""
        return 0.0 if self.alpha is None else sigma**self.alpha


def forgets(drift: Drift) -> bool:
    """Whether the law that the score has does not come to depend on the error as sigma tends to 0."""
    return not drift.error or drift.alpha is None or drift.alpha > -EXPONENT


def field(size: float) -> Callable[[Tensor, float], Tensor]:
    """size sigma^EXPONENT times the gradient of -cos(2 angle) along the circle, which is 2 sin(2 angle)."""

    def error(x: Tensor, sigma: float) -> Tensor:
        a, b = x[:, :1], x[:, 1:]
        return 4 * size * sigma**EXPONENT * (a * b / (a * a + b * b) ** 1.5) * torch.cat([-b, a], dim=1)

    return error


# %% [markdown]
# ## What the theory says
#
# On the circle, in the limit of a thin cloud, the angle is the diffusion with the generator L f = f'' + (log p)' f', p
# the law that the score has there. The integrated autocorrelation time of f is 2 <f, (-L)^-1 f> / <f, f> in the inner
# product of p, for f of mean 0.


# %%
def angles() -> np.ndarray:
    return np.arange(NODES) * (2 * math.pi / NODES)


def law(drift: Drift, sigma: float) -> np.ndarray:
    """Masses of the angles under the law that Langevin dynamics with the score has."""
    tilt = drift.error * sigma**EXPONENT * -np.cos(2 * angles())
    values = drift.share(sigma) * (-4 * np.cos(angles()) + tilt)
    masses = np.exp(values - values.max())
    return masses / masses.sum()


def autocorrelation_times(masses: np.ndarray) -> list[float]:
    """Integrated autocorrelation times of cos and sin of the angle, in the time of the diffusion.

    The flow J of the current from f > 0 to f < 0 through the edges of the lattice solves -div J = masses f, up to one
    constant that makes it a gradient; <f, (-L)^-1 f> is its energy. All terms are positive, so nothing cancels.
    """
    n = len(masses)
    conductance = np.sqrt(masses * np.roll(masses, -1)) * (n / (2 * math.pi)) ** 2
    times = []
    for values in (np.cos(angles()), np.sin(angles())):
        centred = values - masses @ values
        current = np.cumsum(masses * centred)
        current -= (current / conductance).sum() / (1 / conductance).sum()
        times.append(float(2 * (current**2 / conductance).sum() / (masses @ centred**2)))
    return times


def theory(drift: Drift, sigma: float) -> dict:
    """Step, thickness, autocorrelation time of the slower of cos and sin, and effective samples per denoiser call."""
    h, calls = STEP * drift.thickness(sigma) ** 2, drift.prior().evaluations
    times = autocorrelation_times(law(drift, sigma))
    row = {"sigma": sigma, "h": h, "calls": calls, "thickness": drift.thickness(sigma), "time": max(times)}
    return row | {"slower": int(np.argmax(times)), "predicted": h / max(times) / calls}


# %% [markdown]
# ## Chains
#
# They start from that law, in a cloud of their thickness, so that what is measured is how they forget.


# %%
@torch.no_grad()
def trace(drift: Drift, sigma: float, steps: int, every: int, seeds: list[int], n: int) -> np.ndarray:
    """Angles along n chains of each seed, (seeds, n, steps // every); every seed has its own random numbers."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def white() -> Tensor:
        return torch.cat([torch.randn(n, 2, generator=g, dtype=torch.float64) for g in generators])

    posterior = Posterior(drift.prior(), NOTHING, torch.zeros(1, 1, dtype=torch.float64))
    sampler = Langevin(sigma=sigma, step_size=STEP, anneal_steps=1, steps=steps + 1).resolve(posterior)
    problem = posterior.chains(torch.zeros(len(seeds) * n, dtype=torch.long))
    z = white()
    masses = torch.from_numpy(law(drift, sigma))
    start = torch.cat([torch.multinomial(masses, n, replacement=True, generator=g) for g in generators])
    turn = start * (2 * math.pi / NODES)
    x = torch.stack([turn.cos(), turn.sin()], dim=1) * (1 + drift.thickness(sigma) * z[:, :1])
    state, kept = State(x, z), []
    draws = sampler.draws(problem)
    for i in range(steps):
        state = sampler.step(problem, state, i + 1, [white() for _ in range(draws)])
        if (i + 1) % every == 0:
            kept.append(torch.atan2(state.x[:, 1], state.x[:, 0]).float())
    return torch.stack(kept, dim=1).reshape(len(seeds), n, -1).numpy()


def effective(values: np.ndarray) -> float:
    """ArviZ's effective sample size of values (chains, draws)."""
    try:
        import arviz
    except ImportError as error:
        raise SystemExit("mixing.py needs ArviZ: pip install 'scorefold[diagnostics]'") from error
    return float(arviz.ess(values.astype(float), method="mean"))


def measure(drift: Drift, sigma: float, args: argparse.Namespace) -> dict:
    """Effective samples per denoiser call, one number a seed."""
    expected = theory(drift, sigma)
    length = expected["time"] / expected["h"]
    steps = min(math.ceil(args.lengths * length), args.most)
    if steps < ENOUGH * length:
        return {"measured": None, "steps": 0}
    # Recorded more often, ArviZ's estimate is too small by a tenth or more, as on an autoregression of known size.
    every = max(1, round(length / 5))
    steps -= steps % every
    chains = trace(drift, sigma, steps, every, args.seeds, args.n)
    function = (np.cos, np.sin)[expected["slower"]]
    calls = args.n * steps * expected["calls"]
    return {"measured": [effective(function(chain)) / calls for chain in chains], "steps": steps}


# %% [markdown]
# ## What came out


# %%
def slope(rows: list[dict], key: str) -> float:
    """Least-squares slope of the log of a row's number, or of the mean of its numbers, against log sigma."""
    values = [float(np.mean(row[key])) for row in rows]
    return float(np.polyfit(np.log([row["sigma"] for row in rows]), np.log(values), 1)[0])


def slope_and_error(rows: list[dict]) -> tuple[float, float]:
    """Slope of what was measured; its standard error is over the seeds, each with a slope of its own."""
    seeds = range(len(rows[0]["measured"]))
    return mean_and_error([slope([row | {"measured": row["measured"][s]} for row in rows], "measured") for s in seeds])


def fitted(rows: list[dict], expected: float) -> dict:
    """Slope over the noise levels at which the cloud is thin."""
    used = [row for row in rows if row["measured"] and row["thickness"] <= THIN]
    if len(used) < 3:
        return {"levels": len(used), "expected": expected}
    value, error = slope_and_error(used)
    theory = {"expected": expected, "predicted": slope(used, "predicted")}
    return {"levels": len(used), "slope": value, "error": error} | theory


def tables(found: dict[Drift, list[dict]], fits: dict[Drift, dict]) -> None:
    for error in sorted({drift.error for drift in found}):
        sigmas = sorted({row["sigma"] for drift, rows in found.items() if drift.error == error for row in rows})
        what = f"an error of {error:g} sigma^{EXPONENT:g}" if error else "the exact score"
        print(f"\n## Effective samples per 1,000 denoiser calls, measured (predicted): {what}\n")
        print(f"| score | {' | '.join(f'sigma = {sigma:g}' for sigma in sigmas)} | slope in sigma | 2 - alpha |")
        print("| --- |" + " --- |" * (len(sigmas) + 2))
        for drift, rows in found.items():
            if drift.error != error:
                continue
            of = {row["sigma"]: row for row in rows}
            cells = [told(of[sigma]) if sigma in of else "" for sigma in sigmas]
            fit = fits[drift]
            value = f"{fit['slope']:.2f} +- {fit['error']:.2f} ({fit['predicted']:.2f})" if "slope" in fit else ""
            expected = "" if fit["expected"] is None else f"{fit['expected']:g}"
            print(f"| {drift.name} | {' | '.join(cells)} | {value} | {expected} |")


def told(row: dict) -> str:
    if not row["measured"]:
        return f"not run ({1000 * row['predicted']:.2g})"
    digits = 2 - math.floor(math.log10(1000 * np.mean(row["measured"])))
    value = show([1000 * v for v in row["measured"]], max(0, digits))
    return f"{value} ({1000 * row['predicted']:.3g})"


INK, RED, BLUE, GREEN, GREY = "#222222", "#c1440e", "#1f5f8b", "#5b8c2a", "#888888"
COLOURS = {0.0: RED, 0.5: "#c99700", 1.0: BLUE, 1.5: "#7b4fa3", 1.9: INK, None: GREEN}


def picture(found: dict[Drift, list[dict]], sigmas: list[float]) -> plt.Figure:
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
    for drift, rows in found.items():
        if not drift.error:
            against_sigma(axes[0], drift, rows)
        if drift.alpha in (0.0, 1.0, None):
            if drift.error:
                against_sigma(axes[2], drift, rows)
            else:
                curve = [(row["sigma"], 1000 * row["predicted"]) for row in rows]
                axes[2].plot(*zip(*curve, strict=True), ":", color=COLOURS[drift.alpha], linewidth=1.2)
    against_alpha(axes[1], found, sigmas)
    axes[0].set_title("exact score: slope 2 − α (lines: theory)")
    axes[1].set_title("exact score: larger α mixes faster")
    axes[2].set_title("an error of size σ$^{-1/2}$ (dotted: theory without it)")
    for axis in axes:
        axis.set(yscale="log", ylabel="effective samples per 1,000 denoiser calls")
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=8)
    for axis in (axes[0], axes[2]):
        axis.set(xscale="log", xlabel="σ")
        axis.set_xticks(sigmas, [f"{sigma:g}" for sigma in sigmas])
        axis.minorticks_off()
    axes[2].set_ylim(1e-4, None)
    return figure


def against_sigma(axis: plt.Axes, drift: Drift, rows: list[dict]) -> None:
    """Measured as dots, hollow where the cloud is thick, over what is predicted."""
    colour = COLOURS[drift.alpha]
    axis.plot([r["sigma"] for r in rows], [1000 * r["predicted"] for r in rows], color=colour, linewidth=1)
    for row in (row for row in rows if row["measured"]):
        value, error = mean_and_error([1000 * v for v in row["measured"]])
        full = row["thickness"] <= THIN
        axis.errorbar(row["sigma"], value, error, fmt="o", color=colour, mfc=colour if full else "white", capsize=3)
    axis.plot([], [], "o-", color=colour, label=drift.name.replace("alpha", "α"))


def against_alpha(axis: plt.Axes, found: dict[Drift, list[dict]], sigmas: list[float]) -> None:
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.85, len(sigmas)))
    for sigma, colour in zip(sigmas, shades, strict=True):
        rows = {d.alpha: r for d, all_ in found.items() if not d.error for r in all_ if r["sigma"] == sigma}
        alphas = sorted(alpha for alpha in rows if alpha is not None and rows[alpha]["measured"])
        if not alphas:
            continue
        values, errors = np.array([mean_and_error([1000 * v for v in rows[a]["measured"]]) for a in alphas]).T
        axis.errorbar(alphas, values, errors, fmt="o-", color=colour, capsize=3, markersize=4, label=f"σ = {sigma:g}")
    axis.set_xlabel("α")


# %%
def main() -> int:
    parser = argparse.ArgumentParser(description="Effective samples per denoiser call against alpha and sigma.")
    parser.add_argument("--quick", action="store_true", help="three noise levels, three scores, 2 seeds")
    parser.add_argument("--out", type=Path, default=Path("results/mixing"))
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.seeds = list(range(args.first_seed, args.first_seed + (2 if args.quick else 5)))
    # Chains of a seed, their length in autocorrelation times, and the most steps.
    args.n, args.lengths, args.most = (100, 12.0, 12_000) if args.quick else (100, 20.0, 80_000)
    sigmas = [0.05, 0.1, 0.2] if args.quick else list(SIGMAS)
    found: dict[Drift, list[dict]] = {}
    for drift in (Drift(alpha, error) for error in (0.0, 1.0) for alpha in (*ALPHAS, None)):
        if args.quick and drift.alpha not in (0.0, 1.0, None):
            continue
        setting = {key: getattr(args, key) for key in ("n", "seeds", "lengths", "most")}
        found[drift] = [
            theory(drift, sigma)
            | cell(
                args.out / "cells",
                f"{drift.name} {drift.error:g} {sigma:g}",
                lambda d=drift, s=sigma: measure(d, s, args),
                **setting,
            )
            for sigma in sigmas
        ]
    fits = {
        drift: fitted(rows, 2.0 - (drift.alpha or 0.0) if forgets(drift) else None) for drift, rows in found.items()
    }
    tables(found, fits)
    barred = {d: fit for d, fit in fits.items() if "slope" in fit and not d.error and d.alpha is not None}
    met = {f"{d.name}: slope {fit['expected']:g} within {ORDER}": abs(fit["slope"] - fit["expected"]) <= ORDER
           for d, fit in barred.items()}  # fmt: skip
    print(f"\nMean +- standard error, seeds {args.seeds[0]} to {args.seeds[-1]}, {args.n} chains each.\n")
    for bar, good in met.items():
        print(f"{'met   ' if good else 'MISSED'}  {bar}")
    settings = {key: value for key, value in vars(args).items() if key != "out"}
    settings |= {"torch": torch.__version__, "cores": os.cpu_count()}
    results = [{"score": d.name, "error": d.error, "fit": fits[d], "rows": rows} for d, rows in found.items()]
    write(
        args.out / "mixing.json", json.dumps({"settings": settings, "bars": met, "results": results}, indent=1) + "\n"
    )
    with replacing(args.out / "mixing.png") as temporary:
        picture(found, sigmas).savefig(temporary, format="png", dpi=130)
    return 0 if all(met.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
