"""Breakdown, rate and report, on curves whose answer is known."""

import json
import math
import re

import numpy as np
import pandas as pd
import pytest

from inverse.robustness import BiasError, DensityError, EarlyStopped, FewData, Quantised, Sweep, WeightNoise
from priors import Manifold, manifolds

AMPLITUDES = np.array([0.1, 1.0, 10.0, 100.0])


def rows(
    power: float, prior: str, sigmas=(0.05, 0.1, 0.2), scatter: float = 0.0, seeds: int = 4, draw: int = 0
) -> list[dict]:
    """distance = amplitude sigma^power / 50: critical amplitude 5 sigma^-power at the threshold 0.1."""
    noise = np.random.default_rng(draw)
    return [
        {
            "problem": "p", "prior": prior, "sampler": "s", "error": "e", "sigma": sigma, "amplitude": amplitude,
            "seed": seed, "distance": amplitude * sigma**power / 50 * math.exp(scatter * noise.normal()),
            "floor": 0.01, "status": "ok", "message": "", "n": 10, "nfe": 5, "hyper": "{}", "scorefold": "0",
            "torch": "2", "deepinv": "0", "seconds": 0.5, "error_settings": '{"error": "BiasError", "exponent": 0.0}',
        }
        for sigma in sigmas for amplitude in AMPLITUDES for seed in range(seeds)
    ]  # fmt: skip


def test_critical_amplitude_of_a_power_law_is_exact():
    found = Sweep(rows(0.5, "a")).breakdown(0.1)
    np.testing.assert_allclose(found["critical"], 5 * found["sigma"] ** -0.5, rtol=1e-9)
    assert (found["low"] == found["high"]).all() and (found["status"] == "inside").all()


def test_outside_the_grid_is_said_and_not_guessed():
    found = Sweep(rows(0.0, "a")).breakdown(1e-3).iloc[0]
    assert (found["critical"], found["status"], found["bound"]) == (0.0, "below grid", 0.1)
    found = Sweep(rows(0.0, "a")).breakdown(50.0).iloc[0]
    assert (found["critical"], found["status"], found["bound"]) == (math.inf, "above grid", 100.0)
    assert "at no error up to 100" in Sweep(rows(0.0, "a")).verdicts(50.0)[0]
    assert math.isnan(Sweep(rows(0.0, "a")).rate(50.0).iloc[0]["slope"])


def test_interval_holds_the_truth_and_is_not_wide():
    scattered = Sweep(rows(0.0, "a", sigmas=(0.1,), scatter=0.2, seeds=12))
    low, high = scattered.breakdown(0.1).iloc[0][["low", "high"]]
    # the mean of exp(0.2 z) is exp(0.02); its standard error over 12 seeds is 0.06
    assert low < 5 / math.exp(0.02) < high and high / low < 1.5


def test_rate_is_the_exponent_and_its_interval_holds_it(monkeypatch):
    monkeypatch.setattr("inverse.robustness.results.REPEATS", 300)
    told = [Sweep(rows(1.0, "a", sigmas=(0.1, 0.2, 0.4), scatter=0.05, draw=draw)).rate(0.1) for draw in range(20)]
    table = pd.concat(told)
    assert table["slope"].mean() == pytest.approx(-1, abs=0.03) and (table["levels"] == 3).all()
    # of 20 intervals that hold the truth with probability 0.95, 16 or more do with probability 0.997
    assert ((table["low"] < -1) & (table["high"] > -1)).sum() >= 16


def curve(distances: list[list[float]], sigma: float = 0.1, amplitudes=(0.1, 1.0, 10.0)) -> list[dict]:
    """Rows of a prior at one noise level: a curve of distances against the amplitude for every seed."""
    (template, *_rest) = rows(0.0, "a", sigmas=(sigma,), seeds=1)
    return [
        template | {"seed": seed, "amplitude": amplitude, "distance": distance}
        for seed, values in enumerate(distances)
        for amplitude, distance in zip(amplitudes, values, strict=True)
    ]


def power_law(criticals: list[float], sigma: float = 0.1) -> list[dict]:
    """distance = amplitude / (10 critical), which exceeds 0.1 at `critical`: one value for each seed."""
    return curve([[a / (10 * c) for a in (0.1, 1.0, 10.0)] for c in criticals], sigma)


def test_an_end_of_an_interval_outside_the_grid_is_no_number():
    # The critical amplitude is the harmonic mean of the seeds': 2 / (1 / 8 + 1 / 0.2) = 0.39, inside the grid of 0.1 to
    # 10; the bootstrap's percentiles are 0.2 and 8, and the interval of two seeds is 9 times as wide in the logarithms.
    found = Sweep(power_law([0.2, 8.0])).breakdown(0.1).iloc[0]
    assert found["status"] == "inside" and found["critical"] == pytest.approx(0.3902, abs=1e-4)
    assert (found["low"], found["high"]) == (0.0, math.inf)
    low, high = Sweep(power_law([0.5, 0.6, 0.7, 0.8, 2.0])).breakdown(0.1).iloc[0][["low", "high"]]
    assert 0.1 < low < high < 10


def test_an_end_of_an_interval_at_the_end_of_the_grid_is_told():
    failed = [row | {"status": "failed" if row["amplitude"] == 10 else "ok"} for row in power_law([1e3] * 3)]
    found = Sweep(failed).breakdown(0.1).iloc[0]
    assert found[["low", "critical", "high"]].tolist() == pytest.approx([10.0] * 3)


def test_the_sentence_tells_an_end_outside_the_grid_in_words():
    (told,) = Sweep(power_law([0.2, 8.0])).verdicts(0.1)
    assert told.endswith("with a once the score is off by 0.39 (95%: below the grid to beyond the grid).")
    # The mean curve is at 0.09 at the end of the grid, and above 0.1 in the draws of the first seed alone (1 in 4), at
    # 10^(log 10 / log 12); widened for two seeds, by Student's 12.706 over the normal's 1.960 and sqrt 2.
    widening = 12.7062 / 1.959964 * math.sqrt(2)
    low = 10 * 10 ** ((math.log(10) / math.log(12) - 1) * widening)
    (told,) = Sweep(curve([[0.001, 0.01, 0.12], [0.001, 0.01, 0.06]])).verdicts(0.1)
    assert told.endswith(f"with a at no error up to 10 (95%: {low:.3g} to beyond the grid).")
    # The same below: at 0.12 at the first amplitude, below 0.1 in the draws of the second seed.
    high = 0.1 * 10 ** (math.log(10 / 9) / math.log(10 / 3) * widening)
    (told,) = Sweep(curve([[0.15, 0.3, 0.6], [0.09, 0.3, 0.6]])).verdicts(0.1)
    assert told.endswith(f"with a already below an error of 0.1 (95%: below the grid to {high:.3g}).")
    (told,) = Sweep(curve([[0.001, 0.01, 0.06]])).verdicts(0.1)
    assert told.endswith("with a at no error up to 10 (one seed, no interval).")


def test_a_rate_whose_draws_leave_the_grid_has_no_interval():
    # At sigma = 0.2 the mean is at 0.11 at the end of the grid, and below 0.1 in the draws of the second seed alone,
    # 1 in 4, whose slope cannot be had.
    edge = Sweep([*power_law([1.0, 1.0]), *curve([[0.001, 0.01, 0.14], [0.001, 0.01, 0.08]], 0.2)]).rate(0.1).iloc[0]
    assert edge["levels"] == 2 and math.isfinite(edge["slope"])
    assert math.isnan(edge["low"]) and math.isnan(edge["high"])
    share = float(
        re.fullmatch(r"no interval: (\d+)% of draws have fewer than 2 sigmas inside the grid", edge["status"])[1]
    )
    # 2,000 draws with probability 1 in 4: within 5 standard errors, 5%, but with probability 6e-7
    assert share == pytest.approx(25, abs=5)


def test_a_rate_whose_draws_rarely_leave_the_grid_keeps_its_interval():
    # All of 6 seeds have to be the last one: 1 draw in 46,656
    edge = curve([[0.001, 0.01, 0.14]] * 5 + [[0.001, 0.01, 0.08]], 0.2)
    told = Sweep([*power_law([1.0] * 6), *edge]).rate(0.1).iloc[0]
    assert told["status"] == "fitted" and told["low"] < told["slope"] < told["high"]


def test_verdict_tells_both_priors_in_one_sentence():
    (first, *_rest) = Sweep([*rows(0.0, "generic"), *rows(1.0, "geometric")]).verdicts(0.1)
    assert first == (
        "p, s, e, sigma = 0.05: the posterior moves by more than 10% of its spread with generic once the score is off "
        "by 5 (95%: 5 to 5); with geometric at no error up to 100."
    )


def failing(table: list[dict], amplitudes) -> list[dict]:
    """The same rows, of which those at these amplitudes have failed."""
    lost = {"status": "failed", "message": "InvalidStateError: no", "distance": math.nan}
    return [row | lost if row["amplitude"] in amplitudes else row for row in table]


def test_runs_that_failed_are_no_measured_breakdown():
    lost = failing(rows(0.0, "lost", sigmas=(0.1,)), AMPLITUDES)
    sweep = Sweep([*lost, *rows(0.0, "a", sigmas=(0.1,))])
    found = sweep.breakdown().set_index("prior").loc["lost"]
    assert found[["status", "failed", "cells", "seeds"]].tolist() == ["failed", 16, 16, 4]
    assert found[["low", "critical", "high", "bound"]].isna().all()
    (told,) = sweep.verdicts()
    assert told.endswith("with lost at an amplitude that is not known: its runs failed (16 of 16 cells).")
    assert sweep.rate().set_index("prior").loc["lost", "levels"] == 0


def test_failed_cells_of_a_curve_are_counted():
    sweep = Sweep(failing(rows(0.0, "a", sigmas=(0.1,)), [100.0]))
    found = sweep.breakdown(50.0).iloc[0]
    assert found[["status", "failed", "critical"]].tolist() == ["inside", 4, pytest.approx(100)]
    (told,) = sweep.verdicts(50.0)
    assert told.endswith(
        "once the score is off by 100 (95%: 100 to 100), where 4 of 16 cells failed and count as moved."
    )


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BiasError(exponent=-0.5), "once the score is off by 5 (95%: 5 to 5) sigma^-0.5."),
        (
            DensityError(manifold=manifolds.Circle(), exponent=1.0),
            "once the error is 5 (95%: 5 to 5) sigma^1 times that which gives the target density.",
        ),
        (WeightNoise(), "once the weights are off by 5 (95%: 5 to 5) of the weights' rms."),
        (Quantised(format="bf16"), "once the error is 5 (95%: 5 to 5) times that of weights rounded to bf16."),
        (FewData(images=30), "once the error is 5 (95%: 5 to 5) times that of a prior of 30 images."),
        (EarlyStopped(early=Manifold(manifolds.Circle())), "once the error is 5 (95%: 5 to 5) times that of the early"),
    ],
)
def test_an_amplitude_is_told_in_the_units_of_its_error(error, words):
    settings = json.dumps(error.describe(), default=str)
    table = [row | {"error_settings": settings} for row in rows(0.0, "a", sigmas=(0.1,))]
    (told,) = Sweep(table).verdicts()
    assert f"with a {words}" in told
    (unit,) = re.findall(r"\)(.*)\.", words) or [" times that of the early prior"]
    assert Sweep(table).verdicts(50.0)[0].endswith(f"with a at no error up to 100{unit}.")


def test_an_error_of_a_class_that_is_not_known_has_an_amplitude():
    table = [row | {"error_settings": '{"error": "Mine"}'} for row in rows(0.0, "a", sigmas=(0.1,))]
    assert "with a once the amplitude of the error is 5 (95%: 5 to 5)." in Sweep(table).verdicts()[0]


def test_chains_that_start_far_from_the_exact_posterior_are_told():
    def sweep(away: float) -> Sweep:
        """The exact posterior is `away` from the run without error, and further with the error."""
        known = [row | {"exact_distance": away + row["distance"], "exact_floor": 0.1} for row in rows(0.0, "a")]
        return Sweep([*known, *[row | {"exact_distance": 0.1, "exact_floor": 0.1} for row in rows(0.0, "b")]])

    # At the smallest amplitude the error moves the run by 0.002, so that 0.35 is 3.52 floors.
    found = sweep(0.35).breakdown().set_index("prior")["unmixed"]
    np.testing.assert_allclose(found.loc["a"], 3.52)
    assert found.loc["b"].isna().all()
    warning = (
        "Already with the smallest error the samples with a are 3.5 floors from the exact posterior: the chains may "
        "not have mixed; give them more time. What stays then is a bias, as of sigma."
    )
    assert all(told.endswith(f". {warning}") for told in sweep(0.35).verdicts())
    # The rule is 2 floors besides what the error moves.
    assert sweep(0.201).breakdown()["unmixed"].notna().any() and sweep(0.199).breakdown()["unmixed"].isna().all()
    assert Sweep(rows(0.0, "a")).breakdown()["unmixed"].isna().all()


@pytest.mark.parametrize(("threshold", "words"), [(1e-6, "0.0001%"), (0.1, "10%"), (0.125, "12.5%"), (2.0, "200%")])
def test_a_threshold_is_told_as_it_was_given(threshold, words):
    assert f"by more than {words} of its spread" in Sweep(rows(0.0, "a")).verdicts(threshold)[0]


@pytest.mark.parametrize("width", [60, 80, 100])
def test_what_was_found_is_seen_in_a_narrow_terminal(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    names = {"problem": "box-inpainting", "prior": "maximum-entropy", "sampler": "annealed-langevin"}
    found = Sweep([row | names for row in rows(0.5, "a", scatter=0.1)])
    for table, columns in ((found.breakdown(), ("prior", "critical", "high")), (found.rate(), ("prior", "status"))):
        with pd.option_context("display.max_columns", 0):
            shown = str(table)
        assert "..." in shown.splitlines()[0] and all(column in shown.splitlines()[0] for column in columns)


def test_a_rate_that_is_not_there_says_why():
    one = Sweep(rows(0.5, "a", sigmas=(0.1,))).rate()
    assert math.isnan(one["slope"].item()) and one["status"].item() == "needs 2 sigmas, got 1"
    # 5 / sigma is above the grid's 100 at 0.02 and 0.04, and inside at 0.1
    some = Sweep(rows(1.0, "a", sigmas=(0.02, 0.04, 0.1))).rate()
    assert math.isnan(some["slope"].item()) and some["status"].item() == "needs 2 sigmas inside the grid, got 1 of 3"
    assert Sweep(rows(0.5, "a")).rate()["status"].item() == "fitted"


def test_a_sweep_tells_its_grid_and_its_failures():
    assert str(Sweep([*rows(0.0, "a"), *rows(0.0, "b", seeds=2)])) == (
        "Sweep of 72 cells, none of them failed\nproblems: p\npriors: a, b\nsamplers: s\nerrors: e\n"
        "amplitudes: 0.1, 1, 10, 100\nsigmas: 0.05, 0.1, 0.2\nseeds: 0, 1, 2, 3"
    )
    late = [row | {"seed": 1_000_003} for row in rows(0.0, "a", seeds=1)]
    assert str(Sweep(late)).endswith("seeds: 1000003")
    broken = rows(0.0, "a", sigmas=(0.1,), seeds=12)
    for row in broken[:5]:
        row.update(status="failed", message="ValueError: x < 0 & so on")
    sweep = Sweep(broken)
    assert str(sweep).startswith("Sweep of 48 cells, 5 of them failed") and "seeds: 0 to 11 (12)" in str(sweep)
    assert str(sweep).endswith("failed: 5 of 48 cells of p, a, s, e, sigma = 0.1: ValueError: x < 0 & so on")
    page = sweep._repr_html_()
    assert "ValueError: x &lt; 0 &amp; so on" in page and "Sweep of 48 cells, 5 of them failed" in page
    assert str(Sweep([])) == "Sweep of 0 cells, none of them failed"


def test_failures_of_many_curves_are_counted():
    broken = rows(0.0, "a", sigmas=(0.1, 0.2, 0.3, 0.4, 0.5), seeds=1)
    shown = str(Sweep([row | {"status": "failed", "message": "word " * 100} for row in broken])).splitlines()
    assert [line[:6] for line in shown].count("failed") == 4 and shown[-1] == "failed: cells of 2 more curves"
    assert max(map(len, shown)) < 160


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda s: s.breakdown(0.0), "threshold must be finite and above 0, got 0.0"),
        (
            lambda s: s.breakdown(0.1, "colour"),
            "column must be a measured one, such as distance or shift, got 'colour'",
        ),
        (lambda s: s.report("page.pdf"), "path must end in .html, got page.pdf"),
        (lambda s: Sweep([]).breakdown(), "the sweep must have results, got an empty table"),
    ],
)
def test_questions_that_make_no_sense_are_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(Sweep(rows(0.0, "a")))


def test_nothing_there_to_load(tmp_path):
    with pytest.raises(FileNotFoundError, match="there are none"):
        Sweep.load(tmp_path)
    assert isinstance(Sweep([]).table, pd.DataFrame)


def test_one_seed_has_no_interval():
    single = Sweep(rows(0.0, "a", seeds=1))
    found = single.breakdown(0.1).iloc[0]
    assert found["critical"] == pytest.approx(5) and math.isnan(found["low"]) and math.isnan(found["high"])
    assert "(one seed, no interval)" in single.verdicts(0.1)[0]
    assert math.isnan(single.rate(0.1).iloc[0]["low"])


def test_a_row_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "abc.parquet").write_bytes(b"half a row")
    with pytest.raises(ValueError, match=r"folder must hold rows that can be read, got .*abc\.parquet"):
        Sweep.load(tmp_path)


@pytest.mark.parametrize(
    ("column", "words"),
    [("distance", "moves by more than 10% of its spread with a"), ("coverage", "coverage exceeds 0.1")],
)
def test_a_verdict_is_in_units_of_the_column(column, words):
    table = [row | {"coverage": row["distance"]} for row in rows(0.0, "a", sigmas=(0.1,))]
    (told,) = Sweep(table).verdicts(0.1, column)
    assert words in told and ("spread" in told) == (column == "distance")
