"""The shipped prior fashion-28 on the 10,000 held-out images: does it know more than its training set, and all classes?

1. Mean squared denoising error per pixel at four noise levels, beside the exact denoiser of the 60,000 training images:
   the kernel mixture `Empirical`, its bandwidth chosen at each noise level as the best one on (the first 250 of) the
   very images it is judged on, which favours it. Noise is the same for both.
2. Classes of unconditional draws (Heun, 20 levels from sigma 80), told by a classifier trained here; none may be rare.

    python benchmarks/fashion28_prior.py               # all images, 2,000 draws: about 12 minutes on two cores
    python benchmarks/fashion28_prior.py --quick       # 1,000 images, 500 draws
    python benchmarks/fashion28_prior.py --prior runs/fashion-28/fashion-28.safetensors
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import classifier
import torch
from common import arguments, mean_and_error, report, table, write
from scipy.optimize import minimize_scalar
from torch import Tensor
from tqdm import tqdm

import priors
from inverse import unconditional
from priors import Empirical, Prior, fashion_mnist

BARS = (0.05, 0.1, 0.2, 0.5)
FURTHER = (0.02, 1.0, 2.0, 5.0)
LEAST_SHARE, LEAST_ACCURACY = 0.04, 0.9
# Of what looks like no class a classifier is less often so sure.
SURE = 0.9


class Data(NamedTuple):
    """Images (N, 1, 28, 28) in [0, 1], labels (N,), names of the classes; held-out images are in random order."""

    training: Tensor
    training_labels: Tensor
    held_out: Tensor
    labels: Tensor
    classes: Sequence[str]


@torch.no_grad()
def errors(prior: Prior, clean: Tensor, noisy: Tensor, sigma: float, chunk: int = 250) -> Tensor:
    """Mean squared denoising error per pixel of each image, (N,) in float64."""
    parts = zip(clean.split(chunk), noisy.split(chunk), strict=True)
    return torch.cat([(prior.denoise(x, sigma) - truth).square().mean(dim=(1, 2, 3)) for truth, x in parts]).double()


def best_bandwidth(training: Tensor, clean: Tensor, noisy: Tensor, sigma: float) -> float:
    """The bandwidth whose kernel mixture has the smallest error on these images, within about 1%."""

    def error(bandwidth: float) -> float:
        return float(errors(Empirical(training, bandwidth), clean, noisy, sigma).mean())

    return float(minimize_scalar(error, bounds=(0.0, 0.4), method="bounded", options={"xatol": 0.004}).x)


def denoising(prior: Prior, training: Tensor, held_out: Tensor, seed: int) -> list[dict[str, float]]:
    """Errors of the prior, and at the noise levels of the bars those of the kernel mixture, with standard errors."""
    rows = []
    random = torch.Generator().manual_seed(seed)
    for sigma in tqdm(BARS + FURTHER, desc="denoising", unit="level"):
        noisy = held_out + sigma * torch.randn(held_out.shape, generator=random)
        ours = errors(prior, held_out, noisy, sigma)
        row = dict(zip(("ours", "ours_error"), mean_and_error(ours), strict=True)) | {"sigma": sigma}
        if sigma in BARS:
            bandwidth = best_bandwidth(training, held_out[:250], noisy[:250], sigma)
            theirs = errors(Empirical(training, bandwidth), held_out, noisy, sigma)
            row |= dict(zip(("mixture", "mixture_error"), mean_and_error(theirs), strict=True))
            row |= dict(zip(("difference", "difference_error"), mean_and_error(ours - theirs), strict=True))
            row["bandwidth"] = bandwidth
        rows.append(row)
    return rows


def denoising_table(rows: list[dict[str, float]], name: str) -> str:
    """Errors in units of 1e-3, so that the digits fit."""
    cells = []
    for row in rows:
        line = [f"{row['sigma']:g}", f"{1e3 * row['ours']:.3f} +- {1e3 * row['ours_error']:.3f}"]
        if "mixture" in row:
            line += [f"{1e3 * row['mixture']:.3f} +- {1e3 * row['mixture_error']:.3f}", f"{row['bandwidth']:.3f}"]
            line += [f"{row['ours'] / row['mixture']:.3f}"]
        cells.append(line + [""] * (5 - len(line)))
    return table(["sigma", f"{name}, 1e-3", "kernel mixture, 1e-3", "its bandwidth", "ratio"], cells)


def main() -> int:
    parser = arguments(__doc__, "fashion28_prior")
    parser.add_argument("--prior", default="fashion-28", help="name or weights file of the prior")
    parser.add_argument("--data", default=fashion_mnist.FOLDER, help="folder with Fashion-MNIST")
    options = parser.parse_args()
    (training, training_labels), (held_out, labels) = (
        fashion_mnist.read(split, options.data) for split in ("train", "held-out")
    )
    data = Data(training.float() / 255, training_labels, held_out.float() / 255, labels, fashion_mnist.CLASSES)
    judged, draws, epochs = (1000, 500, 3) if options.quick else (10_000, 2000, 5)
    return measure(options, data, judged, draws, epochs, LEAST_ACCURACY)


def measure(
    options: argparse.Namespace, data: Data, judged: int, draws: int, epochs: int, least_accuracy: float
) -> int:
    """Print and write all there is to say of the prior of the options on these data; the exit status."""
    torch.set_num_threads(options.threads)
    seed, begun = options.first_seed, time.monotonic()
    prior = priors.load(options.prior)
    rows = denoising(prior, data.training, data.held_out[:judged], seed)
    print("\n" + denoising_table(rows, prior.about["name"]))

    judge = classifier.train(data.training, data.training_labels, epochs, seed)
    accuracy = float((classifier.classify(judge, data.held_out) == data.labels).double().mean())
    samples = unconditional.sample(prior, draws, seed=seed, steps=20, chunk_size=100, progress=True).clamp(0, 1)
    shares = torch.bincount(classifier.classify(judge, samples), minlength=10).double() / draws
    spread = (shares * (1 - shares) / draws).sqrt()
    sure, sure_held_out = (
        float((classifier.confidence(judge, images) > SURE).double().mean()) for images in (samples, data.held_out)
    )
    lines = [[name, f"{s:.3f} +- {e:.3f}"] for name, s, e in zip(data.classes, shares, spread, strict=True)]
    print(
        f"\nclassifier: {accuracy:.4f} of the held-out images right; more than {SURE:.0%} sure of {sure_held_out:.3f}"
    )
    print(f"of them, and of {sure:.3f} of {draws} draws, which are")
    print(table(["class", "share of the draws"], lines))

    bars = {
        f"denoising error at sigma {row['sigma']:g} below the kernel mixture's": row["difference"] < 0
        for row in rows
        if "mixture" in row
    }
    bars[f"classifier right on {least_accuracy:.0%} or more"] = accuracy >= least_accuracy
    bars[f"every class at {LEAST_SHARE:.0%} or more of the draws"] = float(shares.min()) >= LEAST_SHARE
    write(
        options.out,
        {
            "prior": prior.about,
            "seed": seed,
            "images": judged,
            "denoising": rows,
            "classifier_accuracy": accuracy,
            "draws": draws,
            "sure": {"held_out": sure_held_out, "draws": sure},
            "shares": dict(zip(data.classes, shares.tolist(), strict=True)),
            "bars": bars,
            "seconds": round(time.monotonic() - begun, 1),
        },
    )
    return report(bars)


if __name__ == "__main__":
    sys.exit(main())
