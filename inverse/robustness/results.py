"""What a sweep says: the table, the amplitude at which a reconstruction breaks, and how that depends on sigma."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
from scipy import stats

from . import summary

CURVE = ["problem", "prior", "sampler", "error", "sigma"]
# Tables lead with what tells curves apart and end with what was found: pandas hides the middle of a wide one.
ORDER = ["prior", "sigma", "problem", "sampler", "error"]
REPEATS = 2000
LEVELS = (2.5, 97.5)


class Sweep:
    """The rows of a sweep, one for each cell.

    table: a pandas DataFrame; the columns are described in docs/robustness.md. Rows of failed cells have status
    "failed" and their error in `message`.
    """

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        order = [*CURVE, "amplitude", "seed"]
        self.table = pd.DataFrame(rows).sort_values(order, ignore_index=True) if rows else pd.DataFrame()

    @classmethod
    def load(cls, folder: str | Path) -> Sweep:
        """The results in a folder, of a sweep at its end or not.

        Raises FileNotFoundError where there are none, ValueError for a row that cannot be read.
        """
        rows = sorted((Path(folder) / "rows").glob("*.parquet"))
        if not rows:
            raise FileNotFoundError(f"folder must hold the results of a sweep, and there are none in {folder}")
        return cls([_read(row) for row in rows])

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return summary.text(self.table)

    def _repr_html_(self) -> str:
        return summary.page(self.table)

    def breakdown(self, threshold: float = 0.1, column: str = "distance") -> pd.DataFrame:
        """The critical amplitude of every curve: where the mean over seeds of `column` first exceeds the threshold.

        Between two amplitudes of the grid the curve is straight in the logarithms of both. low and high: 95% interval
        by bootstrap over the seeds, widened for their small number (NaN for one seed). A curve that is above the
        threshold from the first amplitude, or below it up to the last, has its critical amplitude outside the grid:
        then it is 0 or inf, `status` says "below grid" or "above grid", and `bound` is the amplitude that it is below
        or above. A failed cell counts as moved.
        Raises ValueError for an unknown column, or a threshold that is not above 0.
        """
        self._check(threshold, column)
        rows = []
        for names, curve in self.table.groupby(CURVE, sort=True):
            amplitudes, values = _curves(curve, column)
            estimate = _critical(amplitudes, values.mean(0), threshold)
            low, high = _interval(estimate, _resampled(amplitudes, values, threshold), len(values))
            status = "below grid" if estimate == 0 else "above grid" if math.isinf(estimate) else "inside"
            bound = {"below grid": amplitudes[0], "above grid": amplitudes[-1], "inside": math.nan}[status]
            found = {"bound": bound, "status": status, "low": low, "critical": estimate, "high": high}
            rows.append({**_in_order(names), "seeds": len(values), **found})
        return pd.DataFrame(rows)

    def rate(self, threshold: float = 0.1, column: str = "distance") -> pd.DataFrame:
        """Slope of log critical amplitude against log sigma, by least squares, with a 95% interval over seeds.

        Theory (Li et al. 2025): 0 for a generic prior, -alpha for a tempered one. Noise levels whose critical
        amplitude lies outside the grid do not count; `levels` is how many do. Below two the slope is NaN, and `status`,
        else "fitted", says what is missing. low and high are NaN for one seed.
        """
        self._check(threshold, column)
        rows = []
        for names, part in self.table.groupby(CURVE[:-1], sort=True):
            curves = {sigma: _curves(curve, column) for sigma, curve in part.groupby("sigma")}
            sigmas = np.log(list(curves))
            logs = _log([_critical(a, v.mean(0), threshold) for a, v in curves.values()])
            draws = _log(np.stack([_resampled(a, v, threshold) for a, v in curves.values()]).T)
            slopes = np.array([_slope(sigmas, draw) for draw in draws])
            slopes, slope = slopes[np.isfinite(slopes)], _slope(sigmas, logs)
            seeds = min(len(values) for _, values in curves.values())
            ends = np.percentile(slopes, LEVELS) if len(slopes) else np.full(2, math.nan)
            low, high = slope + _widening(seeds) * (ends - slope)
            levels = int(np.isfinite(logs).sum())
            found = {"levels": levels, "low": low, "high": high, "slope": slope, "status": _fit(levels, len(sigmas))}
            rows.append({**_in_order(names), **found})
        return pd.DataFrame(rows)

    def verdicts(self, threshold: float = 0.1, column: str = "distance") -> list[str]:
        """One sentence for every problem, sampler, error and sigma, all priors beside each other."""
        found = self.breakdown(threshold, column)
        sentences = []
        for names, part in found.groupby([name for name in CURVE if name != "prior"], sort=True):
            problem, sampler, error, sigma = names
            parts = [f"with {row.prior} {_told(row)}" for row in part.itertuples()]
            sentences.append(
                f"{problem}, {sampler}, {error}, sigma = {sigma:g}: the posterior moves by more than "
                f"{threshold:.0%} of its spread {'; '.join(parts)}."
            )
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
        return parquet.ParquetFile(path).read().to_pylist()[0]
    except (OSError, pa.ArrowException, IndexError):
        raise ValueError(
            f"folder must hold rows that can be read, got {path}; the same sweep, run again, replaces it"
        ) from None


def _in_order(names: Sequence[Any]) -> dict[str, Any]:
    """Names of a curve, or of all but the last of them, in the order of `ORDER`."""
    given = dict(zip(CURVE, names, strict=False))
    return {key: given[key] for key in ORDER if key in given}


def _fit(levels: int, sigmas: int) -> str:
    """Whether there are noise levels enough for a slope."""
    if levels >= 2:
        return "fitted"
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


def _interval(estimate: float, draws: np.ndarray, seeds: int) -> tuple[float, float]:
    """Percentiles that are draws themselves, since some may be 0 or infinite, widened in their logarithms."""
    low, high = np.percentile(draws, LEVELS, method="nearest")
    if seeds < 2:
        return math.nan, math.nan
    if estimate == 0 or math.isinf(estimate):
        return float(low), float(high)
    power = _widening(seeds)
    return float(estimate * (low / estimate) ** power), float(estimate * (high / estimate) ** power)


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


def _told(row: Any) -> str:
    if row.status == "above grid":
        return f"at no error up to {row.bound:.3g}"
    if row.status == "below grid":
        return f"already below an error of {row.bound:.3g}"
    if math.isnan(row.low):
        return f"once the score is off by {row.critical:.3g} (one seed, no interval)"
    high = f"{row.high:.3g}" if math.isfinite(row.high) else "beyond the grid"
    return f"once the score is off by {row.critical:.3g} (95%: {row.low:.3g} to {high})"
