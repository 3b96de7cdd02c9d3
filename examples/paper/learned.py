# %% [markdown]
# # A learned prior: does the theory's promise hold for a network?
#
# The shipped network fashion-28 is made wrong: noise on its weights, weights rounded to int8, the gradient of a random
# potential added to its score; and, with the exact score of 5,000 training images in its place, all but 500 of them
# forgotten. DPS, MMPS, annealed Langevin and Langevin dynamics reconstruct held-out images from a masked, a blurred and
# a compressively sensed measurement; how large an error moves the posterior by 10% of its spread?
#
#     python examples/paper/learned.py --quick       # one measurement, two errors, two samplers
#     python examples/paper/learned.py --workers 2   # all of it; goes on where it was
#
# The generic prior is beside its tempered and its cancelled version for Langevin dynamics at one noise level and for
# its annealed version, which use the score. DPS and MMPS use the denoiser, which a maximum-entropy prior has in common
# with the generic one: for them there is one column.
#
# Tempered, the chains live at a distance tau = sigma^(1 - alpha/2) sqrt(d) from the images, in units of the data and
# with sigma_ref = 1; the network was trained at distance sigma sqrt(d). `audit(..., alpha=1)` measures the error there,
# and `pulls` how much of the geometry the network knows there.

# %%
from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import pandas as pd
import torch

import operators
import priors
from inverse import DPS, MMPS, AnnealedLangevin, Langevin, Posterior, demo
from inverse.files import replacing
from inverse.robustness import FewData, GradientError, Problem, Quantised, WeightNoise, audit, sweep
from priors import Empirical, MaximumEntropy
from priors.base import Prior

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from common import machine

SHAPE = (1, 28, 28)
MEASUREMENTS = {
    "box-inpainting": {"size": 10},
    "gaussian-blur": {"width": 1.5},
    "compressed-sensing": {"ratio": 0.25},
}
ERRORS = {
    "weight noise": (WeightNoise(), (0.003, 0.01, 0.03, 0.1)),
    # the exponent that weight noise is measured to have; of a constant size it would be huge at the first noise levels
    "gradient": (GradientError(exponent=-1.5, length_scale=5.0), (0.1, 1.0, 10.0)),
    "int8": (Quantised(), (1.0,)),
    "few data": (None, (1.0,)),
}
SAMPLERS = {
    "langevin": Langevin(steps=200, anneal_steps=50, step_size=1.0),
    "annealed-langevin": AnnealedLangevin(steps=150),
    "dps": DPS(steps=50),
    "mmps": MMPS(steps=25, iterations=3, eta=1.0),
}
OF_THE_SCORE = ("langevin", "annealed-langevin")


# %%
def problems(names: list[str], images: int) -> dict[str, Problem]:
    truth = demo.truth(SHAPE)[:images]
    made = {}
    for name in names:
        physics = operators.create(name, SHAPE, noise=0.1, seed=0, **MEASUREMENTS[name])
        with torch.no_grad():
            made[name] = Problem(physics, physics(truth), truth)
    return made


def versions(prior: Prior, sampler: str) -> dict[str, Prior]:
    if sampler not in OF_THE_SCORE:
        return {"generic": prior}
    return {
        "generic": prior,
        "tempered": MaximumEntropy(prior, alpha=1.0),
        "cancelled": MaximumEntropy(prior, method="cancelled"),
    }


def training_images(count: int) -> torch.Tensor:
    return images("train", count)


def held_out_images(count: int) -> torch.Tensor:
    return images("held-out", count)


def images(split: str, count: int) -> torch.Tensor:
    from priors.fashion_mnist import read

    return read(split)[0][:count].float() / 255


def run(args: argparse.Namespace) -> dict[str, list[dict]]:
    """Critical amplitudes of every error, with the quality of the reconstruction without error."""
    given = problems(["box-inpainting"] if args.quick else list(MEASUREMENTS), 1)
    samplers = ("langevin", "dps") if args.quick else tuple(SAMPLERS)
    found = {}
    for name in ("weight noise", "gradient") if args.quick else ERRORS:
        tables = [critical(name, sampler, given, args) for sampler in samplers]
        found[name] = pd.concat(tables).to_dict("records")
        print(f"\n## {name}\n\n{pd.concat(tables).to_string(index=False, float_format='%.3g')}", flush=True)
    return found


def critical(name: str, sampler: str, given: dict[str, Problem], args: argparse.Namespace) -> pd.DataFrame:
    error, amplitudes = ERRORS[name]
    prior: Prior = priors.load("fashion-28")
    if name == "few data":
        data = training_images(5000)
        prior, error = Empirical(data, 0.13), FewData(images=500, data=data, bandwidth=0.13)
    place = f"{name}-{sampler}".replace(" ", "-")
    result = sweep(
        given,
        versions(prior, sampler),
        {sampler: SAMPLERS[sampler]},
        {name: error},
        amplitudes,
        [0.1],
        seeds=range(args.first_seed, args.first_seed + 2),
        n=8,
        out=args.out / "cells" / place,
        workers=args.workers,
        progress=True,
    )
    result.report(args.out / f"{place}.html")
    names = ["problem", "sampler", "prior"]
    quality = result.table.groupby(names)[["psnr", "coverage", "floor"]].mean()
    quality["moved"] = result.table[result.table.amplitude == 1.0].groupby(names)["distance"].mean()
    columns = [*names, "critical", "low", "high", "status", "bound"]
    return result.breakdown(0.1)[columns].merge(quality.reset_index())


def off_distribution(n: int) -> dict[str, list[dict[str, float]]]:
    """Error of the network with 3% noise on its weights, where it was trained and where a tempered sampler asks."""
    network = priors.load("fashion-28")
    wrong = WeightNoise(0.03).perturb(network)
    truth = training_images(n)
    sigmas = (0.02, 0.05, 0.1, 0.2)
    return {
        f"alpha = {alpha:g}": list(audit(wrong, network, truth, sigmas, n=n, alpha=alpha).table) for alpha in (0.0, 1.0)
    }


def pulls(n: int) -> list[dict[str, float]]:
    """How far back the shipped network itself moves an image from the distance at which a tempered sampler asks.

    Of x = image + tau z, tau = sigma^(1 - alpha/2), the part of the way back that D(x, sigma) - x goes,
    <D - x, image - x> / |image - x|^2: on a manifold of dimension n in R^d it is 1 - n/d whatever tau, with Gaussian
    data the same for all tau. far: the same at the noise level tau, for which the network was trained there.
    """
    network, truth = priors.load("fashion-28"), held_out_images(n)
    away = torch.randn(truth.shape, generator=torch.Generator().manual_seed(1000))
    rows = []
    for sigma in (0.02, 0.05, 0.1, 0.2):
        for alpha in (0.0, 0.5, 1.0, 1.5):
            tau = sigma ** (1 - alpha / 2)
            row = {"sigma": sigma, "alpha": alpha, "tau": tau}
            for name, level in (("pull", sigma), ("far", tau)):
                with torch.no_grad():
                    moved = network.denoise(truth + tau * away, level) - truth - tau * away
                share = -(moved * away).flatten(1).sum(1) / (tau * away.square().flatten(1).sum(1))
                row |= {name: float(share.mean()), f"{name}_error": float(share.std() / len(share) ** 0.5)}
            rows.append(row)
    return rows


class Chains(Langevin):
    """Langevin whose chains are returned as they are, not denoised."""

    def finish(self, posterior, state):
        return state.x


def distances(given: dict[str, Problem], seed: int) -> list[dict[str, float | str]]:
    """Where chains without error live: root mean square over pixels of x - truth, at sigma = 0.1.

    expected: what a thin manifold would give, the thickness of the cloud, were the chains at the truth but for that.
    """
    rows = []
    for name, problem in given.items():
        for kind, prior in versions(priors.load("fashion-28"), "langevin").items():
            sampler = dataclasses.replace(Chains(**dataclasses.asdict(SAMPLERS["langevin"])), sigma=0.1)
            x = sampler.sample(Posterior(prior, problem.physics, problem.y), 8, seed=seed).x
            expected = 0.1**0.5 if kind == "tempered" else 0.1
            away = float((x - problem.truth).square().mean().sqrt())
            rows.append({"problem": name, "prior": kind, "away": away, "expected": expected})
    return rows


# %%
def main() -> int:
    parser = argparse.ArgumentParser(description="Stability of a learned prior under errors of its score.")
    parser.add_argument("--quick", action="store_true", help="one measurement, two errors, two samplers")
    parser.add_argument("--out", type=Path, default=Path("results/learned"))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=1000)
    args = parser.parse_args()
    n = 32 if args.quick else 256
    found = {"critical": run(args), "off_distribution": off_distribution(n), "pull": pulls(n)}
    found["distances"] = distances(
        problems(["box-inpainting"] if args.quick else list(MEASUREMENTS), 1), args.first_seed
    )
    for alpha, rows in found["off_distribution"].items():
        told = ", ".join(f"{row['relative']:.1%} at sigma {row['sigma']:g}" for row in rows)
        print(f"score error of 3% weight noise over the score, {alpha}: {told}", file=sys.stderr)
    for row in found["pull"]:
        print(
            "at distance {tau:.3g} the network goes {pull:.1%} +- {pull_error:.1%} of the way back at sigma = "
            "{sigma:g}, {far:.1%} at sigma = {tau:.3g}".format(**row),
            file=sys.stderr,
        )
    for row in found["distances"]:
        print("{problem}, {prior}: chains at {away:.3f} from the truth, thickness {expected:.3f}".format(**row))
    with replacing(args.out / "learned.json") as path:
        seeds = [args.first_seed, args.first_seed + 1]
        path.write_text(json.dumps({"machine": machine(), "seeds": seeds, "n": 8, **found}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
