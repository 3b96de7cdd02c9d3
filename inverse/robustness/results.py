"""What a sweep says: the table, the amplitude at which a reconstruction breaks, and how that depends on sigma."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from . import summary
from .base import in_words
from .store import read_row

CURVE = ["problem", "prior", "sampler", "error", "sigma"]
# Tables lead with what tells curves apart and end with what was found: pandas hides the middle of a wide one.
ORDER = ["prior", "sigma", "problem", "sampler", "error"]
REPEATS = 2000
LEVELS = (2.5, 97.5)
# Chains whose samples are further than so many floors from the exact posterior, the error apart, may not have mixed.
MIXED = 2
# That of exp(log(amplitude)), which is still on the grid.
ROUNDING = 1e-9


class Sweep:
    """The rows of a sweep, one for each cell.

    table: a pandas DataFrame; the columns are described in docs/robustness.md. Rows of failed cells have status
    "failed" and their error in `message`. settings: of problems, priors and samplers, in words, as in the folder's
    sweep.json; empty where they are not known.
    """

    def __init__(self, rows: Sequence[dict[str, Any]], settings: Mapping[str, Any] | None = None) -> None:
        order = [*CURVE, "amplitude", "seed"]
        self.settings = dict(settings or {})
        self.table = pd.DataFrame(rows).sort_values(order, ignore_index=True) if rows else pd.DataFrame()

    @classmethod
    def load(cls, folder: str | Path) -> Sweep:
        """The results in a folder, of a sweep at its end or not.

        Raises FileNotFoundError where there are none, ValueError for a row that cannot be read.
        """
        rows = sorted((Path(folder) / "rows").glob("*.parquet"))
        if not rows:
            raise FileNotFoundError(f"folder must hold the results of a sweep, and there are none in {folder}")
        return cls([_read(row) for row in rows], _settings(Path(folder) / "sweep.json"))

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return summary.text(self.table)

    def _repr_html_(self) -> str:
        return summary.page(self.table)

    def breakdown(self, threshold: float = 0.1, column: str = "distance") -> pd.DataFrame:
        """The critical amplitude of every curve: where the mean over seeds of `column` first exceeds the threshold.

        Between two amplitudes of the grid the curve is straight in the logarithms of both. low and high: 95% interval
        by bootstrap over the seeds, widened for their small number (NaN for one seed); an end below the smallest
        amplitude is 0, one beyond the largest inf. A curve that is above the threshold from the first amplitude, or
        below it up to the last, has its critical amplitude outside the grid: then it is 0 or inf, `status` says "below
        grid" or "above grid", and `bound` is the amplitude that it is below or above. A failed cell counts as moved;
        `failed` of the `cells` of a curve did. Where all have, `status` is "failed" and the amplitudes are NaN.
        `unmixed`: how many floors (`exact_floor`) the samples are from the exact posterior at the smallest amplitude,
        where `exact_distance` - `distance`, which the error cannot explain, is more than 2 floors: the chains may not
        have mixed. Else NaN, also where the exact posterior is not known.
        Raises ValueError for an unknown column, or a threshold that is not above 0.
        """
        self._check(threshold, column)
        rows = []
        for names, curve in self.table.groupby(CURVE, sort=True):
            count = {"cells": len(curve), "failed": int((curve["status"] == "failed").sum())}
            if count["failed"] == len(curve):
                seeds = curve["seed"].nunique()
                found = {"bound": math.nan, "status": "failed", "low": math.nan, "critical": math.nan, "high": math.nan}
                rows.append({**_in_order(names), "seeds": seeds, **count, "unmixed": math.nan, **found})
                continue
            amplitudes, values = _curves(curve, column)
            estimate = _critical(amplitudes, values.mean(0), threshold)
            low, high = _interval(estimate, _resampled(amplitudes, values, threshold), amplitudes, len(values))
            status = "below grid" if estimate == 0 else "above grid" if math.isinf(estimate) else "inside"
            bound = {"below grid": amplitudes[0], "above grid": amplitudes[-1], "inside": math.nan}[status]
            found = {"bound": bound, "status": status, "low": low, "critical": estimate, "high": high}
            rows.append({**_in_order(names), "seeds": len(values), **count, "unmixed": _unmixed(curve), **found})
        return pd.DataFrame(rows)

    def rate(self, threshold: float = 0.1, column: str = "distance") -> pd.DataFrame:
        """Slope of log critical amplitude against log sigma, by least squares, with a 95% interval over seeds.

        Theory (Li et al. 2025): 0 for a generic prior, -alpha for a tempered one, of the whole error c sigma^beta; of
        the amplitude c, which this is the slope of, less the error's exponent beta. Noise levels whose critical
        amplitude lies outside the grid do not count; `levels` is how many do. Below two the slope is NaN, and `status`,
        else "fitted", says what is missing. low and high are NaN for one seed, and where more than 2.5% of the
        bootstrap draws have no slope, among which the interval's ends may be; `status` then says how many they are.
        """
        self._check(threshold, column)
        rows = []
        for names, part in self.table.groupby(CURVE[:-1], sort=True):
            curves = {sigma: _curves(curve, column) for sigma, curve in part.groupby("sigma")}
            sigmas = np.log(list(curves))
            logs = _log([_critical(a, v.mean(0), threshold) for a, v in curves.values()])
            draws = _log(np.stack([_resampled(a, v, threshold) for a, v in curves.values()]).T)
            slopes = np.array([_slope(sigmas, draw) for draw in draws])
            known, slope = slopes[np.isfinite(slopes)], _slope(sigmas, logs)
            lost = 1 - len(known) / len(slopes)
            seeds = min(len(values) for _, values in curves.values())
            ends = np.percentile(known, LEVELS) if lost <= LEVELS[0] / 100 else np.full(2, math.nan)
            low, high = slope + _widening(seeds) * (ends - slope)
            levels = int(np.isfinite(logs).sum())
            status = _fit(levels, len(sigmas), lost)
            found = {"levels": levels, "low": low, "high": high, "slope": slope, "status": status}
            rows.append({**_in_order(names), **found})
        return pd.DataFrame(rows)

    def verdicts(self, threshold: float = 0.1, column: str = "distance") -> list[str]:
        """One sentence for every problem, sampler, error and sigma, all priors beside each other.

        A second one where chains may not have mixed; see `unmixed` of `breakdown`.
        """
        found = self.breakdown(threshold, column)
        in_spreads = column.endswith(("distance", "shift"))
        moved = f"the posterior moves by more than {100 * threshold:.4g}% of its spread"
        broken = moved if in_spreads else f"{column} exceeds {threshold:g}"
        words = {
            error: in_words(json.loads(settings))
            for error, settings in self.table.groupby("error")["error_settings"].first().items()
        }
        sentences = []
        for names, part in found.groupby([name for name in CURVE if name != "prior"], sort=True):
            problem, sampler, error, sigma = names
            parts = [f"with {row.prior} {_told(row, *words[error])}" for row in part.itertuples()]
            sentence = f"{problem}, {sampler}, {error}, sigma = {sigma:g}: {broken} {'; '.join(parts)}."
            sentences.append(sentence + _warning(part))
        return sentences

    def report(self, path: str | Path, threshold: float = 0.1, column: str = "distance") -> Path:
        """One self-contained HTML page, and its figures as PNG files beside it; see `inverse.robustness.report`."""
        from .report import write

        return write(self, Path(path), threshold, column)

    def _check(self, threshold: float, column: str) -> None:
        if self.table.empty:
            raise ValueError("the sweep must have results, got an empty table")
        if column not in self.table.columns or not pd.api.types.is_numeric_dtype(self.table[column]):
            raise ValueError(f"column must be a measured one, such as distance or shift, got {column!r}")
        if not (math.isfinite(threshold) and threshold > 0):
            raise ValueError(f"threshold must be finite and above 0, got {threshold}")


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_row(path)
    except ValueError:
        raise ValueError(
            f"folder must hold rows that can be read, got {path}; the same sweep, run again, replaces it"
        ) from None


def _settings(manifest: Path) -> dict[str, Any]:
    """What the folder says of itself; nothing where that cannot be read, which the rows do without."""
    try:
        return dict(json.loads(manifest.read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _in_order(names: Sequence[Any]) -> dict[str, Any]:
    """Names of a curve, or of all but the last of them, in the order of `ORDER`."""
    given = dict(zip(CURVE, names, strict=False))
    return {key: given[key] for key in ORDER if key in given}


def _fit(levels: int, sigmas: int, lost: float) -> str:
    """Whether there are noise levels enough for a slope, and for an interval. lost: share of draws without a slope."""
    if levels >= 2 and lost <= LEVELS[0] / 100:
        return "fitted"
    if levels >= 2:
        return f"no interval: {lost:.0%} of draws have fewer than 2 sigmas inside the grid"
    return "needs 2 sigmas, got 1" if sigmas < 2 else f"needs 2 sigmas inside the grid, got {levels} of {sigmas}"


def _curves(cells: pd.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Amplitudes (A,) and values (seeds, A) of the seeds that have all of them; failed cells are infinitely far."""
    values = cells[column].where(cells["status"] == "ok", math.inf)
    wide = cells.assign(value=values).pivot(index="seed", columns="amplitude", values="value").dropna()
    if wide.empty:
        raise ValueError(f"column must have a value in every cell of at least one seed, got none in {column!r}")
    return wide.columns.to_numpy(float), wide.to_numpy(float)


def _critical(amplitudes: np.ndarray, values: np.ndarray, threshold: float) -> float:
    """Where the curve first exceeds the threshold: 0 before the first amplitude, inf beyond the last."""
    above = values > threshold
    if not above.any():
        return math.inf
    first = int(above.argmax())
    if first == 0:
        return 0.0
    (a, b), (low, high) = np.log(amplitudes[first - 1 : first + 1]), values[first - 1 : first + 1]
    if not math.isfinite(high):
        return float(math.exp(b))
    share = math.log(threshold / max(low, 1e-12)) / math.log(high / max(low, 1e-12))
    return float(math.exp(a + share * (b - a)))


def _resampled(amplitudes: np.ndarray, values: np.ndarray, threshold: float) -> np.ndarray:
    """Critical amplitudes of bootstrap samples of the seeds, (REPEATS,)."""
    picks = np.random.default_rng(0).integers(len(values), size=(REPEATS, len(values)))
    return np.array([_critical(amplitudes, values[pick].mean(0), threshold) for pick in picks])


def _interval(estimate: float, draws: np.ndarray, amplitudes: np.ndarray, seeds: int) -> tuple[float, float]:
    """Percentiles that are draws themselves, since some may be 0 or infinite, widened in their logarithms.

    They are widened about the estimate, or about the end of the grid beyond which it lies.
    """
    if seeds < 2:
        return math.nan, math.nan
    centre = float(np.clip(estimate, amplitudes[0], amplitudes[-1]))
    power = _widening(seeds)
    low, high = (centre * (float(end) / centre) ** power for end in np.percentile(draws, LEVELS, method="nearest"))
    return _inside(low, amplitudes), _inside(high, amplitudes)


def _inside(value: float, amplitudes: np.ndarray) -> float:
    """The value where it has been measured: 0 below the grid, inf beyond it."""
    if value < amplitudes[0] * (1 - ROUNDING):
        return 0.0
    return math.inf if value > amplitudes[-1] * (1 + ROUNDING) else value


def _widening(seeds: int) -> float:
    """Bootstrap percentiles of the mean of a few values are too narrow by this factor, that of Student's interval."""
    level = LEVELS[1] / 100
    student = stats.t.ppf(level, seeds - 1) if seeds > 1 else math.nan
    return float(student / stats.norm.ppf(level) * math.sqrt(seeds / max(1, seeds - 1)))


def _log(values: Any) -> np.ndarray:
    """Logarithms, NaN outside the grid."""
    values = np.asarray(values, dtype=float)
    inside = (values > 0) & np.isfinite(values)
    return np.where(inside, np.log(np.where(inside, values, 1.0)), np.nan)


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    known = np.isfinite(y)
    return float(np.polyfit(x[known], y[known], 1)[0]) if known.sum() >= 2 else math.nan


def _unmixed(curve: pd.DataFrame) -> float:
    """Distance to the exact posterior at the smallest amplitude, in floors, where the error does not explain it."""
    if "exact_distance" not in curve:
        return math.nan
    first = curve[(curve["amplitude"] == curve["amplitude"].min()) & (curve["status"] == "ok")]
    exact, moved, floor = (first[name].mean() for name in ("exact_distance", "distance", "exact_floor"))
    return exact / floor if exact - moved > MIXED * floor else math.nan


def _warning(part: pd.DataFrame) -> str:
    """Of chains that may not have mixed."""
    suspects = part[part["unmixed"].notna()]
    if suspects.empty:
        return ""
    floors = " and ".join(f"{value:.1f}" for value in suspects["unmixed"])
    return (
        f" Already with the smallest error the samples with {' and '.join(suspects['prior'])} are {floors} floors from "
        "the exact posterior: the chains may not have mixed; give them more time. What stays then is a bias, as of "
        "sigma."
    )


def _told(row: Any, off: str, unit: str) -> str:
    """A critical amplitude in words. off, unit: what stands before and after it."""
    failed = f"{row.failed} of {row.cells} cells"
    if row.status == "failed":
        return f"at an amplitude that is not known: its runs failed ({failed})"
    return _measured(row, off, unit) + (f", where {failed} failed and count as moved" if row.failed else "")


def _measured(row: Any, off: str, unit: str) -> str:
    # An interval that lies beyond the same end of the grid as the estimate says no more than that.
    outside = row.status != "inside" and row.low == row.high
    brackets = "" if outside else f" ({'' if math.isnan(row.low) else '95%: '}{interval(row.low, row.high)})"
    if row.status == "above grid":
        return f"at no error up to {row.bound:.3g}{brackets}{unit}"
    if row.status == "below grid":
        return f"already below an error of {row.bound:.3g}{brackets}{unit}"
    return f"once {off} {row.critical:.3g}{brackets}{unit}"


def interval(low: float, high: float) -> str:
    """The ends of a critical amplitude's interval, in words where they lie outside the grid."""
    if math.isnan(low):
        return "one seed, no interval"
    return told(low) if low == high and told(low).endswith("grid") else f"{told(low)} to {told(high)}"


def told(amplitude: float) -> str:
    """A critical amplitude, in words where it lies outside the grid."""
    if math.isinf(amplitude):
        return "beyond the grid"
    return f"{amplitude:.3g}" if amplitude else "below the grid"
