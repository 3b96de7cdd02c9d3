"""A table of how good posterior samples are, for the terminal, for a spreadsheet and for a paper."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from deepinv.physics import Physics
from torch import Tensor

import operators
from inverse import metrics
from inverse.samples import Samples

LEVEL = 0.9
GREY_LEVEL = 1 / 255  # spacing of the values of a picture of 8 bits, which truths are


def scores(label: str, samples: Samples, physics: Physics, truth: Tensor) -> dict[str, str | float]:
    """One line of the table: means over the B measurements.

    PSNR and SSIM are those of the posterior mean, in dB and at most 1 (NaN for images too small for its window, of 11
    pixels); residual: that of the samples over sigma sqrt(m), which is 1 where they explain the data as the truth does
    (NaN without Gaussian noise); coverage: of the central 90% intervals, beside what that many exact draws show (NaN
    for antithetic ones, of which it depends on the law).
    """
    image_shape = tuple(truth.shape[1:])
    comparable = len(image_shape) == 3 and min(image_shape[1:]) >= 11
    n = len(samples.x)
    nan = float("nan")
    line: dict[str, str | float] = {
        "measurement": label,
        "PSNR": metrics.psnr(samples.mean, truth).mean().item(),
        "SSIM": metrics.ssim(samples.mean, truth).mean().item() if comparable else nan,
        "residual": nan,
        "coverage 90%": metrics.coverage(samples, truth, LEVEL, GREY_LEVEL).mean().item() if n > 1 else nan,
        "expected": metrics.attainable_level(n, LEVEL) if n > 1 and not samples.info.get("antithetic") else nan,
        "NFE": samples.nfe,
        "seconds": samples.seconds,
    }
    if samples.y is not None and operators.noise_sigma(physics) is not None:
        line["residual"] = metrics.residual_ratio(samples.x, samples.y, physics).mean().item()
    return line


def markdown(lines: Sequence[dict[str, str | float]]) -> str:
    """The table in Markdown, its columns aligned so that it also reads well in a terminal; "-" stands for NaN."""
    formats = {
        "PSNR": ".2f",
        "+-": ".2f",
        "SSIM": ".3f",
        "residual": ".3f",
        "coverage 90%": ".1%",
        "expected": ".1%",
        "seconds": ".1f",
    }
    cells = [[str(name) for name in lines[0]]]
    cells += [
        ["-" if value != value else format(value, formats.get(name, "")) for name, value in line.items()]
        for line in lines
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    aligned = [
        [cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        for row in cells
    ]
    rule = ["-" * w if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [aligned[0], rule, *aligned[1:]]) + "\n"


def comma_separated(lines: Sequence[dict[str, str | float]]) -> str:
    """The table as CSV, numbers in full."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
