"""The report of a sweep: one HTML page that needs nothing else, and its figures as PNG files beside it."""

from __future__ import annotations

import base64
import html
import io
import itertools
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from inverse.files import replacing

from .cells import EXACT_SEED, FLOOR_SEED
from .results import REPEATS, interval, told
from .settings import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .results import Sweep

DPI = 150
COLOURS = ("#c1440e", "#1f5f8b", "#5b8c2a", "#7b4fa3", "#b58900")
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1, h2, h3 { font-weight: 600; line-height: 1.2 } h2 { margin-top: 2.5rem } h3 { margin: 1.6rem 0 .5rem }
img { max-width: 100%; height: auto } .wide { overflow-x: auto } p.note { color: #666; font-size: .9rem }
table { border-collapse: collapse; font-size: .85rem } tbody tr:nth-child(even) { background: #f7f7f5 }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top }
th { font-weight: 600 } thead th { border-bottom: 2px solid #999; vertical-align: bottom }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
.name { white-space: nowrap } .words { max-width: 34rem; overflow-wrap: break-word } summary { cursor: pointer }
"""
CASE = ["problem", "sampler", "error"]
RATES = [*CASE, "prior", "levels", "slope", "low", "high", "status"]
# Two draws of the same law are this far from each other, and draws of a law this far from it.
FLOORS = {
    "distance": ("floor", "two runs without error"),
    "exact_distance": ("exact_floor", "two sets of exact draws"),
    "total_variation": ("total_variation_floor", "exact draws"),
    "non_uniformity": ("non_uniformity_floor", "uniform draws"),
}
# More seeds than this, if they follow each other, are told by their ends.
MOST_SEEDS = 8
MOST_ROWS = 20
# Words longer than this are broken into lines.
LONG = 40


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
    means, amplitudes = _means(sweep.table), sweep.table["amplitude"]
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>How wrong may the score be?</title><style>{STYLE}</style>
<h1>How wrong may the score be?</h1>
<p>A score with an error of known size is given to a sampler; the posterior has <em>broken</em> where
<code>{html.escape(column)}</code> exceeds {threshold:g}. Bands are the range of the seeds, intervals are 95%.</p>
<h2>Verdict</h2><ul>{sentences}</ul>{note}
<h2>Curves</h2>{_image(pictures["curves"], f"{column} against error amplitude")}
{_alike(sweep.table)}<h2>Critical amplitudes</h2>{_image(pictures["map"], "critical amplitude against noise level")}
{_table(_found(found), ("critical",))}
<p class=note>What lies outside the grid, amplitudes {min(amplitudes):g} to {max(amplitudes):g}, has not been measured
and is given no number.</p>
<h2>Rate</h2><p>Slope of log critical amplitude against log sigma, with its 95% interval.</p>
{_table(rates[RATES].sort_values([*CASE, "prior"]))}
<p class=note>Theory, for the size c sigma^beta of the whole error: 0 for a generic prior, -alpha for a tempered one, -1
for a cancelled one. The slope above is that of the amplitude c: add the exponent beta of the error
({_exponents(sweep.table)}) to compare.</p>
{_unmixed(found)}<h2>Cells</h2><p>Means over the seeds.</p>{_folded(means)}
<h2>Settings</h2>{_settings(sweep, threshold, column)}
</html>
"""


def _exponents(table: pd.DataFrame) -> str:
    """beta of each error that has one by its settings."""
    settings = table.groupby("error")["error_settings"].first().map(json.loads)
    known = [f"{name}: {value['exponent']:g}" for name, value in settings.items() if "exponent" in value]
    return html.escape(", ".join(known)) or "which `audit` measures for these"


def _unmixed(found: pd.DataFrame) -> str:
    """Which slopes come from chains that may not have mixed."""
    suspects = found[found["unmixed"].notna()]
    if suspects.empty:
        return ""
    names = [
        f"{', '.join(row[name] for name in [*CASE, 'prior'])}, sigma = {row['sigma']:g} ({row['unmixed']:.1f} floors)"
        for _, row in suspects.iterrows()
    ]
    return (
        "<p class=note>Already with the smallest error these samples are far from the exact posterior, so that the "
        "chains may not have mixed, and their critical amplitudes and slopes may be those of the start; give them more "
        f"time (what stays then is a bias, as of sigma): {html.escape('; '.join(names))}.</p>"
    )


def _alike(table: pd.DataFrame) -> str:
    """Priors that a sampler makes no difference between."""
    keys, lines = ["error", "sigma", "amplitude", "seed"], []
    for (problem, sampler), part in table.groupby(["problem", "sampler"]):
        wide = part.pivot(index=keys, columns="prior", values="distance").dropna(axis=1, how="all")
        same = [f"{a} and {b}" for a, b in itertools.combinations(wide, 2) if wide[a].equals(wide[b])]
        lines += [f"{problem}, {sampler}: {pair}" for pair in same]
    if not lines:
        return ""
    return (
        "<p class=note>Of these priors all distances are equal, as where a sampler goes by the denoiser alone, which "
        f"is the same of a prior and of its maximum-entropy version: {html.escape('; '.join(lines))}.</p>"
    )


def _curves(table: pd.DataFrame, column: str, threshold: float) -> Figure:
    """A panel for each problem, sampler and error (rows) and noise level (columns); priors beside each other."""
    import matplotlib.pyplot as plt

    cases, sigmas = _cases(table), sorted(table["sigma"].unique())
    priors = sorted(table["prior"].unique())
    size = (max(2.5 * len(sigmas), 4.5) + 0.7, 2.5 * len(cases) + 0.5)
    figure, axes = plt.subplots(len(cases), len(sigmas), squeeze=False, sharex=True, sharey=True, figsize=size)
    for row, case in enumerate(cases):
        for axis, sigma in zip(axes[row], sigmas, strict=True):
            _panel(axis, _pick(table, case)[lambda t, s=sigma: t["sigma"] == s], column, priors)
            axis.set_title(f"sigma = {sigma:g}" if row == 0 else "", fontsize=10)
        axes[row][0].set_ylabel("\n".join([*case, column]), fontsize=8)
    for axis in axes.flat:
        axis.axhline(threshold, color="#444", linewidth=0.9, linestyle=":", label=f"broken: above {threshold:g}")
    for axis in axes[-1]:
        axis.set_xlabel("error amplitude", fontsize=9)
    legend = {
        label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    order = sorted(legend, key=lambda label: (label not in priors, label))
    columns = min(len(order), max(2, int(size[0] / 2)))
    lines = -(-len(order) // columns)
    handles = [legend[label] for label in order]
    figure.legend(handles, order, loc="upper center", ncols=columns, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0, 1, 1 - (0.1 + 0.22 * lines) / size[1]))
    return figure


def _panel(axis: Axes, part: pd.DataFrame, column: str, priors: list[str]) -> None:
    for prior, colour in zip(priors, _colours(len(priors)), strict=True):
        known = (part["prior"] == prior) & (part["status"] == "ok") & part[column].notna()
        values = part[known].groupby("amplitude")[column]
        if not len(values):
            continue
        mean, low, high = values.mean(), values.min(), values.max()
        axis.fill_between(mean.index, low, high, color=colour, alpha=0.2, linewidth=0)
        axis.plot(mean.index, mean, color=colour, marker="o", markersize=3, label=prior)
    if column in FLOORS:
        name, draws = FLOORS[column]
        if part[name].notna().any():
            axis.axhline(part[name].mean(), color="#bbb", linewidth=0.9, label=f"floor: {draws}")
    failed = part.loc[part["status"] == "failed", "amplitude"].unique()
    if len(failed):
        top = np.full(len(failed), 0.97)
        axis.plot(
            failed, top, "x", color="#222", markersize=5, transform=axis.get_xaxis_transform(), label="failed cells"
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.spines[["top", "right"]].set_visible(False)


def _map(found: pd.DataFrame) -> Figure:
    """Critical amplitude of each case and prior (rows) at each noise level (columns), as a heat map with numbers."""
    import matplotlib.pyplot as plt

    names = found[[*CASE, "prior"]].agg(", ".join, axis=1)
    wide = found.assign(case=names).pivot(index="case", columns="sigma", values="critical")
    inside = np.log10(wide.where(np.isfinite(wide) & (wide > 0)).to_numpy(float))
    figure, axis = plt.subplots(figsize=(1.1 * wide.shape[1] + 5.2, 0.42 * len(wide) + 1.2))
    axis.imshow(inside, cmap="YlGnBu", aspect="auto")
    axis.set_facecolor("#eeeeec")  # outside the grid
    middle = np.nanmean(inside) if np.isfinite(inside).any() else 0.0
    bounds, status = (
        found.assign(case=names).pivot(index="case", columns="sigma", values=name) for name in ("bound", "status")
    )
    for (i, j), value in np.ndenumerate(wide.to_numpy(float)):
        label = _label(value, bounds.iloc[i, j], status.iloc[i, j])
        dark = math.isfinite(inside[i, j]) and inside[i, j] > middle
        axis.text(j, i, label, ha="center", va="center", fontsize=9, color="white" if dark else "#222")
    axis.set_xticks(range(wide.shape[1]), [f"{sigma:g}" for sigma in wide.columns])
    axis.set_yticks(range(len(wide)), wide.index, fontsize=8)
    axis.tick_params(length=0)
    axis.set_xlabel("sigma")
    axis.set_title("critical amplitude; grey: outside the grid", fontsize=9, loc="left")
    axis.spines[:].set_visible(False)
    figure.tight_layout()
    return figure


def _label(value: float, bound: float, status: str) -> str:
    """A critical amplitude, or the end of the grid beyond which it lies."""
    sign = {"above grid": "> ", "below grid": "< "}.get(status)
    if sign:
        return f"{sign}{bound:.3g}"
    return f"{value:.3g}" if status == "inside" else "failed" if status == "failed" else ""


def _cases(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    return sorted(set(table[CASE].itertuples(index=False, name=None)))


def _pick(table: pd.DataFrame, case: tuple[str, str, str]) -> pd.DataFrame:
    return table[(table[CASE] == list(case)).all(axis=1)]


def _colours(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _found(found: pd.DataFrame) -> pd.DataFrame:
    """Critical amplitudes and their intervals, in words where they lie outside the grid."""
    intervals = [interval(low, high) for low, high in zip(found["low"], found["high"], strict=True)]
    shown = found.assign(critical=found["critical"].map(told), **{"95% interval": intervals})
    shown.loc[found["status"] == "failed", ["critical", "95% interval"]] = "not known"
    order = [*CASE, "prior", "sigma"]
    return shown.sort_values(order)[[*order, "critical", "95% interval", "seeds", "failed"]]


def _means(table: pd.DataFrame) -> pd.DataFrame:
    measured = [name for name in table.columns if table[name].dtype == float and table[name].notna().any()]
    keys = ["problem", "prior", "sampler", "error", "sigma", "amplitude"]
    return table.groupby(keys)[[name for name in measured if name not in keys]].mean().reset_index()


def _settings(sweep: Sweep, threshold: float, column: str) -> str:
    """All of them: what the rows have, and what the sweep knows of its problems, priors and samplers besides."""
    table = sweep.table
    members = {name: sorted(table[name].unique()) for name in ("problem", "prior", "sampler")}
    parts = {
        "Grid": _pairs(_grid(table, threshold, column)),
        "Problems": _members(members["problem"], sweep.settings.get("problems_settings"), "problem"),
        "Priors": _members(members["prior"], sweep.settings.get("priors_settings"), "prior"),
        "Samplers": _members(members["sampler"], sweep.settings.get("samplers_settings"), "sampler"),
        **{f"Hyper-parameters of {name}": _folded(hyper_parameters(table, name)) for name in members["sampler"]},
        "Errors": _table(errors(table)),
    }
    return "".join(f"<h3>{html.escape(name)}</h3>{part}" for name, part in parts.items())


def _grid(table: pd.DataFrame, threshold: float, column: str) -> dict[str, str]:
    own = int(table["seed"].min())
    floor, exact = f"seeds {FLOOR_SEED:,} above the run's", f"seeds {EXACT_SEED:,} and {EXACT_SEED + 1:,}"
    return {
        "cells": f"{len(table):,}, in {table['seconds'].sum():,.0f} s of computing",
        "amplitudes": _numbers(table["amplitude"]),
        "sigmas": _numbers(table["sigma"]),
        "seeds": listed(table["seed"]),
        "chains": f"{_numbers(table['n'])} for each measurement",
        "broken": f"mean of {column} over the seeds above {threshold:g}",
        "intervals": f"95%, {REPEATS:,} bootstrap draws of the seeds, widened for their small number",
        "floors": f"runs without error, {floor} ({own + FLOOR_SEED} beside {own}); exact draws, {exact}",
        **{name: ", ".join(sorted(table[name].unique())) for name in ("scorefold", "torch", "deepinv")},
    }


def _numbers(values: pd.Series) -> str:
    return ", ".join(f"{value:g}" for value in sorted(values.unique()))


def listed(values: Iterable[int]) -> str:
    """All of them, or the ends of many that follow each other."""
    numbers = sorted({int(value) for value in values})
    if len(numbers) > MOST_SEEDS and numbers[-1] - numbers[0] + 1 == len(numbers):
        return f"{numbers[0]} to {numbers[-1]} ({len(numbers)})"
    return ", ".join(map(str, numbers))


def _members(names: list[str], known: dict[str, Any] | None, what: str) -> str:
    """What the sweep knows of each problem, prior or sampler: words, or words under headings."""
    rows = []
    for name in names:
        settings = (known or {}).get(name, "not recorded")
        rows.append({"name": name, **(settings if isinstance(settings, dict) else {what: settings})})
    return _table(pd.DataFrame(rows))


def hyper_parameters(table: pd.DataFrame, sampler: str) -> pd.DataFrame:
    """Those that were run, and denoiser calls (NFE), by prior and by what else they differ with."""
    cells = table[(table["sampler"] == sampler) & (table["status"] == "ok")]
    keys = ["problem", "error", "prior", "sigma", "amplitude", "seed"]
    shown = [key for key in keys if key == "prior" or _differ(cells, [other for other in keys if other != key])]
    rows = cells[[*shown, "hyper", "nfe"]].drop_duplicates().sort_values(shown)
    told = [
        {**{key: row[key] for key in shown}, **json.loads(row["hyper"]), "NFE": row["nfe"]}
        for row in rows.to_dict("records")
    ]
    return pd.DataFrame(told).drop_duplicates()


def _differ(cells: pd.DataFrame, others: list[str]) -> bool:
    """Whether cells that are alike in the others have several settings."""
    return bool((cells.groupby(others)[["hyper", "nfe"]].nunique() > 1).any(axis=None))


def errors(table: pd.DataFrame) -> pd.DataFrame:
    """Settings of each error but its amplitude."""
    rows = []
    for (name, settings), _ in table.groupby(["error", "error_settings"], sort=True):
        options = {key: value for key, value in json.loads(settings).items() if value is not None}
        options.pop("amplitude", None)
        rows.append({"name": name, "error": options.pop("error", ""), "settings": words(options)})
    return pd.DataFrame(rows).drop_duplicates()


def _failures(failed: pd.DataFrame) -> str:
    if failed.empty:
        return ""
    counted = failed.groupby(["problem", "prior", "sampler", "error", "message"]).size()
    return _table(counted.rename("cells").reset_index())


def _table(frame: pd.DataFrame, numbers: Sequence[str] = ()) -> str:
    """numbers: columns that stand at the right though they hold words too."""
    kinds = {name: "number" if name in numbers else _kind(frame[name]) for name in frame}
    head = "".join(f"<th class={kind}>{html.escape(str(name))}</th>" for name, kind in kinds.items())
    rows = [
        "".join(f"<td class={kind}>{_cell(value)}</td>" for value, kind in zip(row, kinds.values(), strict=True))
        for row in frame.itertuples(index=False, name=None)
    ]
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _folded(frame: pd.DataFrame) -> str:
    """A table, behind a click where it is long."""
    if len(frame) <= MOST_ROWS:
        return _table(frame)
    return f"<details><summary>{len(frame)} rows</summary>{_table(frame)}</details>"


def _kind(column: pd.Series) -> str:
    if pd.api.types.is_numeric_dtype(column):
        return "number"
    return "words" if column.astype(str).str.len().max() > LONG else "name"


def _pairs(values: dict[str, str]) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in values.items()
    )
    return f"<table>{rows}</table>"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return "" if value is None else html.escape(str(value))


def _image(content: bytes, alternative: str) -> str:
    width = int.from_bytes(content[16:20], "big") * 96 // DPI  # of a PNG, in pixels of a page
    source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return f'<img alt="{html.escape(alternative)}" width={width} src="{source}">'


def _png(figure: Figure) -> bytes:
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    plt.close(figure)
    return buffer.getvalue()


def _replace(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)
