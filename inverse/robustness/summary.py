"""A sweep in a few lines: what was varied, how many cells there are, and where some failed."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence

import pandas as pd

NAMES = {"problem": "problems", "prior": "priors", "sampler": "samplers", "error": "errors"}
NUMBERS = {"amplitude": "amplitudes", "sigma": "sigmas", "seed": "seeds"}
# More values than this are told by their ends, more curves with failures by their number.
MOST_VALUES, MOST_FAILURES = 8, 3
WIDTH = 100


def text(table: pd.DataFrame) -> str:
    """For `print`. table: that of a `Sweep`."""
    return "\n".join([_title(table), *(f"{name}: {value}" for name, value in _lines(table))])


def page(table: pd.DataFrame) -> str:
    """For a notebook, as HTML. table: that of a `Sweep`."""
    rows = "".join(
        f"<tr><th style='text-align: left'>{html.escape(name)}</th>"
        f"<td style='text-align: left'>{html.escape(value)}</td></tr>"
        for name, value in _lines(table)
    )
    return f"<p>{html.escape(_title(table))}</p><table>{rows}</table>"


def _title(table: pd.DataFrame) -> str:
    failed = 0 if table.empty else int((table["status"] == "failed").sum())
    return f"Sweep of {len(table)} cells, {failed or 'none'} of them failed"


def _lines(table: pd.DataFrame) -> list[tuple[str, str]]:
    """What was varied and its values, then the curves with failures."""
    if table.empty:
        return []
    names = [(several, ", ".join(sorted(table[one].unique()))) for one, several in NAMES.items()]
    numbers = [(several, _values(sorted(table[one].unique()))) for one, several in NUMBERS.items()]
    return [*names, *numbers, *_failures(table)]


def _values(values: Sequence[float]) -> str:
    told = [str(int(value)) if float(value).is_integer() else f"{value:g}" for value in values]
    return ", ".join(told) if len(told) <= MOST_VALUES else f"{told[0]} to {told[-1]} ({len(told)})"


def _failures(table: pd.DataFrame) -> list[tuple[str, str]]:
    """For each curve with failed cells how many of its cells, and the first message."""
    curves = [
        (curve, cells) for curve, cells in table.groupby([*NAMES, "sigma"]) if (cells["status"] == "failed").any()
    ]
    told = []
    for (*names, sigma), cells in curves[:MOST_FAILURES]:
        failed = cells[cells["status"] == "failed"]
        place = f"{', '.join(names)}, sigma = {sigma:g}"
        message = textwrap.shorten(failed["message"].iloc[0], WIDTH, placeholder=" ...")
        told.append(("failed", f"{len(failed)} of {len(cells)} cells of {place}: {message}"))
    more = len(curves) - MOST_FAILURES
    return told if more <= 0 else [*told, ("failed", f"cells of {more} more curves")]
