"""The report of a sweep: one HTML page that needs nothing else, and its figures as PNG files beside it."""

from __future__ import annotations

import base64
import html
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from inverse.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .results import Sweep

COLOURS = ("#c1440e", "#1f5f8b", "#5b8c2a", "#7b4fa3", "#b58900")
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1, h2 { font-weight: 600; line-height: 1.2 } h2 { margin-top: 2.5rem }
img { max-width: 100%; height: auto } table { border-collapse: collapse; font-size: .85rem }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
th:first-child, td:first-child { text-align: left } .wide { overflow-x: auto } p.note { color: #666 }
"""


def write(sweep: Sweep, path: Path, threshold: float, column: str) -> Path:
    """The page at `path`, an .html file; figures as <name>-curves.png and <name>-map.png beside it."""
    if path.suffix != ".html":
        raise ValueError(f"path must end in .html, got {path}")
    found, rates = sweep.breakdown(threshold, column), sweep.rate(threshold, column)
    figures = {"curves": _curves(sweep.table, column, threshold), "map": _map(found)}
    pictures = {name: _png(figure) for name, figure in figures.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, content in pictures.items():
        _replace(path.with_name(f"{path.stem}-{name}.png"), content)
    _replace(path, _page(sweep, found, rates, pictures, threshold, column).encode())
    return path


def _page(
    sweep: Sweep, found: pd.DataFrame, rates: pd.DataFrame, pictures: dict[str, bytes], threshold: float, column: str
) -> str:
    sentences = "".join(f"<li>{html.escape(line)}</li>" for line in sweep.verdicts(threshold, column))
    failed = sweep.table[sweep.table["status"] == "failed"]
    note = f"<p class=note>{len(failed)} of {len(sweep)} cells failed.</p>" + _failures(failed)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>How wrong may the score be?</title><style>{STYLE}</style>
<h1>How wrong may the score be?</h1>
<p>A score with an error of known size is given to a sampler; the posterior has <em>broken</em> where
<code>{html.escape(column)}</code> exceeds {threshold:g}. Bands and intervals are over the seeds.</p>
<h2>Verdict</h2><ul>{sentences}</ul>{note}
<h2>Curves</h2>{_image(pictures["curves"], f"{column} against error amplitude")}
<h2>Critical amplitude</h2>{_image(pictures["map"], "critical amplitude against noise level")}
<h2>Rate: slope of log critical amplitude against log sigma</h2>{_table(rates)}
<p class=note>Theory: 0 for a generic prior, -alpha for a tempered one.</p>
<h2>Table</h2>{_table(found)}
<h2>Cells, means over seeds</h2>{_table(_means(sweep.table))}
<h2>Settings</h2>{_table(_settings(sweep.table))}
</html>
"""


def _curves(table: pd.DataFrame, column: str, threshold: float) -> Figure:
    """A panel for each problem, sampler and error (rows) and noise level (columns); priors beside each other."""
    import matplotlib.pyplot as plt

    cases, sigmas = _cases(table), sorted(table["sigma"].unique())
    priors = sorted(table["prior"].unique())
    size = (3.1 * len(sigmas) + 0.6, 2.7 * len(cases) + 0.7)
    figure, axes = plt.subplots(len(cases), len(sigmas), squeeze=False, sharex=True, sharey=True, figsize=size)
    for row, case in enumerate(cases):
        for axis, sigma in zip(axes[row], sigmas, strict=True):
            _panel(axis, _pick(table, case)[lambda t, s=sigma: t["sigma"] == s], column, priors)
            axis.axhline(threshold, color="#888", linewidth=0.8, linestyle=":")
            axis.set_title(f"sigma = {sigma:g}" if row == 0 else "", fontsize=10)
        axes[row][0].set_ylabel("\n".join([*case, column]), fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("error amplitude", fontsize=9)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=len(labels), frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.4 / size[1]))
    return figure


def _panel(axis: object, part: pd.DataFrame, column: str, priors: list[str]) -> None:
    for prior, colour in zip(priors, _colours(len(priors)), strict=True):
        values = part[(part["prior"] == prior) & (part["status"] == "ok")].groupby("amplitude")[column]
        if not len(values):
            continue
        mean, low, high = values.mean(), values.min(), values.max()
        axis.fill_between(mean.index, low, high, color=colour, alpha=0.2, linewidth=0)
        axis.plot(mean.index, mean, color=colour, marker="o", markersize=3, label=prior)
    if part["floor"].notna().any():
        axis.axhline(part["floor"].mean(), color="#bbb", linewidth=0.8, label="floor: two runs without error")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.spines[["top", "right"]].set_visible(False)


def _map(found: pd.DataFrame) -> Figure:
    """Critical amplitude of each case and prior (rows) at each noise level (columns), as a heat map with numbers."""
    import matplotlib.pyplot as plt

    names = found[["problem", "sampler", "error", "prior"]].agg(", ".join, axis=1)
    wide = found.assign(case=names).pivot(index="case", columns="sigma", values="critical")
    inside = np.log10(wide.where(np.isfinite(wide) & (wide > 0)).to_numpy(float))
    figure, axis = plt.subplots(figsize=(1.1 * wide.shape[1] + 5.2, 0.42 * len(wide) + 1.2))
    axis.imshow(inside, cmap="YlGnBu", aspect="auto")
    middle = np.nanmean(inside) if np.isfinite(inside).any() else 0.0
    bounds = found.assign(case=names).pivot(index="case", columns="sigma", values="bound")
    for (i, j), value in np.ndenumerate(wide.to_numpy(float)):
        told = f"{value:.3g}" if math.isfinite(value) and value else f"{'>' if value else '<'} {bounds.iloc[i, j]:.3g}"
        dark = math.isfinite(inside[i, j]) and inside[i, j] > middle
        axis.text(j, i, told, ha="center", va="center", fontsize=9, color="white" if dark else "#222")
    axis.set_xticks(range(wide.shape[1]), [f"{sigma:g}" for sigma in wide.columns])
    axis.set_yticks(range(len(wide)), wide.index, fontsize=8)
    axis.set_xlabel("sigma")
    axis.spines[:].set_visible(False)
    figure.tight_layout()
    return figure


def _cases(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    return sorted(set(table[["problem", "sampler", "error"]].itertuples(index=False, name=None)))


def _pick(table: pd.DataFrame, case: tuple[str, str, str]) -> pd.DataFrame:
    return table[(table[["problem", "sampler", "error"]] == list(case)).all(axis=1)]


def _colours(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _means(table: pd.DataFrame) -> pd.DataFrame:
    measured = [name for name in table.columns if table[name].dtype == float and table[name].notna().any()]
    keys = ["problem", "prior", "sampler", "error", "sigma", "amplitude"]
    return table.groupby(keys)[[name for name in measured if name not in keys]].mean().reset_index()


def _settings(table: pd.DataFrame) -> pd.DataFrame:
    columns = ["sampler", "sigma", "prior", "n", "nfe", "hyper", "scorefold", "torch", "deepinv"]
    return table[table["status"] == "ok"][columns].drop_duplicates().sort_values(columns[:3])


def _failures(failed: pd.DataFrame) -> str:
    if failed.empty:
        return ""
    counted = failed.groupby(["problem", "prior", "sampler", "error", "message"]).size()
    return _table(counted.rename("cells").reset_index())


def _table(frame: pd.DataFrame) -> str:
    shown = frame.to_html(index=False, border=0, float_format=lambda value: f"{value:.4g}", na_rep="", justify="right")
    return f"<div class=wide>{shown}</div>"


def _image(content: bytes, words: str) -> str:
    return f'<img alt="{html.escape(words)}" src="data:image/png;base64,{base64.b64encode(content).decode()}">'


def _png(figure: Figure) -> bytes:
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    plt.close(figure)
    return buffer.getvalue()


def _replace(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)
