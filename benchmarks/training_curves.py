"""The curves of a training run: its loss, and the held-out denoising errors by noise level, against images seen.

python benchmarks/training_curves.py runs/fashion-28/log.jsonl curves.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # after the choice of a backend that needs no screen


def plot(log: Path, figure: Path) -> None:
    """Two panels from a log of `inverse train`."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    images = [line["images"] / 1e6 for line in lines]
    canvas, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    left.plot(images, [line["loss"] for line in lines], "o-", markersize=3, color="black")
    left.set(xlabel="images seen (millions)", ylabel="training loss, mean of 200 steps", title="Loss")
    sigmas = list(lines[-1]["held_out"])
    for position, sigma in enumerate(sigmas):
        errors = [line["held_out"][sigma] for line in lines]
        colour = plt.get_cmap("viridis")(0.9 * position / max(len(sigmas) - 1, 1))
        right.plot(images, [error / errors[-1] for error in errors], "o-", markersize=3, color=colour, label=sigma)
    right.set(xlabel="images seen (millions)", ylabel="held-out error / its last value", title="Denoising by sigma")
    right.legend(title="sigma", fontsize="small", ncols=2)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.locator_params(axis="x", nbins=6)
    canvas.savefig(figure, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("log", type=Path, help="log.jsonl of the run")
    parser.add_argument("figure", type=Path, help="picture to write")
    options = parser.parse_args()
    plot(options.log, options.figure)


if __name__ == "__main__":
    main()
