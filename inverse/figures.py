"""Figures of reconstructions: a row per measurement, from the truth to single posterior samples.

Drawn on matplotlib's Figure itself, never through pyplot: no display is needed and no global state is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from inverse.samples import Samples

HIDDEN = (0.36, 0.52, 0.72)  # what was not measured is blue: black and white are values that could have been
DRAWS = 5
CELL, GAP, GROUP_GAP, MARGIN, HEADER, FOOTER = 1.0, 0.05, 0.2, 0.42, 0.36, 0.62  # inches


@dataclass(frozen=True)
class Row:
    """What is shown of one measurement. Images are (C, H, W), C 1 or 3, in [0, 1]; a panel that is None is left out.

    group: what the rows next to each other have in common, written once beside them.
    measurement: as `picture` makes it, (H, W, 3) in [0, 1].
    """

    group: str
    truth: Tensor | None
    measurement: np.ndarray | None
    mean: Tensor
    std: Tensor | None
    draws: Tensor


def rows(samples: Samples, truth: Tensor | None = None, group: str = "", draws: int = DRAWS) -> list[Row]:
    """The rows of a figure of these samples, one per measurement. truth: (B, C, H, W) or None."""
    shape = tuple(samples.x.shape[2:])
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(f"samples must be images of shape (C, H, W), C 1 or 3, to be shown, got {shape}")
    if truth is not None and tuple(truth.shape) != tuple(samples.mean.shape):
        raise ValueError(f"truth must have shape {tuple(samples.mean.shape)} like the mean, got {tuple(truth.shape)}")
    noisy = bool(np.any(np.asarray(samples.info.get("noise_sigma") or 0.0) > 0))
    std = samples.std if len(samples.x) > 1 else None
    return [
        Row(
            group=group,
            truth=None if truth is None else truth[b],
            measurement=None if samples.y is None else picture(samples.y[b], shape, noisy),
            mean=samples.mean[b],
            std=None if std is None else std[b],
            draws=samples.x[:draws, b],
        )
        for b in range(samples.x.shape[1])
    ]


def picture(y: Tensor, image_shape: tuple[int, ...], noisy: bool = True) -> np.ndarray:
    """A measurement as something to look at, (H, W, 3) in [0, 1].

    y of the image's channels is shown on the image's own grey scale; two channels or complex numbers (a spectrum) by
    the logarithm of their modulus; any other list of numbers as a block of grey cells from the smallest to the
    largest. In noisy measurements of the first kind exact zeros are what a mask has hidden, and are blue.
    """
    y = y.detach().cpu()
    if y.is_complex():
        values, channels_first = y.abs().log1p().numpy(), y.ndim == 3
    elif y.ndim == 3 and y.shape[0] == 2:
        values, channels_first = y.norm(dim=0, keepdim=True).log1p().numpy(), True
    else:
        values, channels_first = y.float().numpy(), y.ndim == 3 and y.shape[0] in (1, 3)
    if channels_first and y.shape[0] == image_shape[0] and not y.is_complex():
        shown = np.broadcast_to(values.clip(0, 1).transpose(1, 2, 0), (*values.shape[1:], 3)).copy()
        if noisy:
            shown[(values == 0).all(0)] = HIDDEN
        return shown
    grid = values[0] if channels_first else _block(values.ravel())
    low, high = np.nanmin(grid), np.nanmax(grid)
    scaled = (grid - low) / (high - low if high > low else 1.0)
    return np.where(np.isnan(grid)[..., None], 1.0, scaled[..., None] * np.ones(3))


def write(rows: Sequence[Row], path: str | Path) -> None:
    """Draw the rows and write them to path, whose ending chooses the format (.png, .pdf, .svg, ...).

    Truth, mean and samples share the grey scale [0, 1]; standard deviation and error share one colour scale, so that
    a calibrated standard deviation looks as bright as the error. Raises ValueError for an ending that is no format,
    OSError with a reason where the file cannot be written.
    """
    figure = draw(rows)
    formats = figure.canvas.get_supported_filetypes()
    ending = Path(path).suffix.lstrip(".").lower()
    if ending not in formats:
        raise ValueError(f"path must end in one of .{', .'.join(sorted(formats))}, got {str(path)!r}")
    _save(figure, path)


def write_grid(x: Tensor, path: str | Path, columns: int = 8) -> None:
    """Write images (N, C, H, W), C 1 or 3, in [0, 1], side by side."""
    down, across = -(-len(x) // columns), min(columns, len(x))
    figure = Figure(figsize=(across * (CELL + GAP), down * (CELL + GAP)))
    grid = figure.subplots(
        down,
        across,
        squeeze=False,
        gridspec_kw={"left": 0, "right": 1, "bottom": 0, "top": 1, "wspace": GAP, "hspace": GAP},
    )
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image in zip(grid.flat, x, strict=False):
        axes.imshow(_shown(image), interpolation="nearest")
    _save(figure, path)


def draw(rows: Sequence[Row]) -> Figure:
    """The figure that `write` writes."""
    if not rows:
        raise ValueError("rows must hold at least one row to draw, got none")
    panels = [_panels(row) for row in rows]
    columns = [name for name in panels[0] if all(name in others for others in panels)]
    maps = [name for name in columns if panels[0][name].ndim == 2]
    # the top of the maps' one colour scale: all but 1% of their pixels lie below it
    values = np.concatenate([row[name].ravel() for row in panels for name in maps]) if maps else np.ones(1)
    spread = max(float(np.quantile(values, 0.99)), 1e-6)
    tops = _tops(rows)
    width = MARGIN + len(columns) * (CELL + GAP) + GAP
    height = tops[-1] + CELL + (FOOTER if maps else GAP)
    figure = Figure(figsize=(width, height))

    def cell(column: int, top: float) -> Axes:
        left = MARGIN + column * (CELL + GAP)
        axes = figure.add_axes((left / width, 1 - (top + CELL) / height, CELL / width, CELL / height))
        axes.set_axis_off()
        return axes

    for row, top in zip(panels, tops, strict=True):
        for column, name in enumerate(columns):
            axes = cell(column, top)
            if top == tops[0]:
                axes.set_title(name, fontsize=10)
            axes.imshow(row[name], cmap="magma", vmin=0, vmax=spread, interpolation="nearest")
    for group, first, last in _groups(rows, tops):
        middle = 1 - (first + last + CELL) / 2 / height
        figure.text(0.15 / width, middle, group, rotation=90, ha="center", va="center", fontsize=10)
    if maps:
        left = MARGIN + columns.index(maps[0]) * (CELL + GAP)
        _colour_bar(figure, spread, left / width, ((len(maps) - 1) * (CELL + GAP) + CELL) / width)
    return figure


def _save(figure: Figure, path: str | Path) -> None:
    try:
        figure.savefig(path, dpi=160)
    except OSError as error:
        raise type(error)(f"figure cannot be written to {path}: {error.strerror or error}") from error


def _panels(row: Row) -> dict[str, np.ndarray]:
    """What is shown of a row, by title and from left to right: pictures (H, W, 3), and maps (H, W) in colour."""
    panels = {} if row.truth is None else {"truth": _shown(row.truth)}
    if row.measurement is not None:
        panels["measurement"] = row.measurement
    panels["mean"] = _shown(row.mean)
    if row.std is not None:
        panels["std"] = _grey(row.std)
        if row.truth is not None:
            panels["|error|"] = _grey((row.mean - row.truth).abs())
    return panels | {f"sample {i + 1}": _shown(draw) for i, draw in enumerate(row.draws)}


def _colour_bar(figure: Figure, spread: float, left: float, length: float) -> None:
    """The scale of the maps, below them. left, length: in units of the figure's width."""
    height = figure.get_size_inches()[1]
    axes = figure.add_axes((left, (FOOTER - 0.2) / height, length, 0.1 / height))
    bar = figure.colorbar(ScalarMappable(Normalize(0, spread), "magma"), cax=axes, orientation="horizontal")
    bar.set_ticks([0, spread], labels=["0", f"{spread:.2g}"])
    bar.ax.tick_params(labelsize=8, length=2)
    bar.outline.set_visible(False)


def _tops(rows: Sequence[Row]) -> list[float]:
    """Distance of each row from the top of the figure, in inches."""
    tops = [HEADER]
    for previous, row in pairwise(rows):
        tops.append(tops[-1] + CELL + (GAP if row.group == previous.group else GROUP_GAP))
    return tops


def _groups(rows: Sequence[Row], tops: Sequence[float]) -> list[tuple[str, float, float]]:
    """Name, top of the first row and top of the last row of each run of rows with one group."""
    runs: list[tuple[str, float, float]] = []
    for row, top in zip(rows, tops, strict=True):
        if runs and runs[-1][0] == row.group:
            runs[-1] = (row.group, runs[-1][1], top)
        else:
            runs.append((row.group, top, top))
    return runs


def _shown(image: Tensor) -> np.ndarray:
    """(C, H, W), C 1 or 3, as (H, W, 3) in [0, 1]."""
    return image.detach().cpu().float().clamp(0, 1).expand(3, -1, -1).permute(1, 2, 0).numpy()


def _grey(image: Tensor) -> np.ndarray:
    return image.detach().cpu().float().mean(0).numpy()


def _block(values: np.ndarray) -> np.ndarray:
    """A list of numbers as a nearly square block, filled up with NaN."""
    side = int(np.ceil(np.sqrt(values.size)))
    block = np.full(side * int(np.ceil(values.size / side)), np.nan)
    block[: values.size] = values
    return block.reshape(-1, side)
