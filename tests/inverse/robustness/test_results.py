"""Breakdown, rate and report, on curves whose answer is known."""

import math

import numpy as np
import pandas as pd
import pytest

from inverse.robustness import Sweep

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
            "torch": "2", "deepinv": "0",
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


def test_verdict_tells_both_priors_in_one_sentence():
    (first, *_rest) = Sweep([*rows(0.0, "generic"), *rows(1.0, "geometric")]).verdicts(0.1)
    assert first == (
        "p, s, e, sigma = 0.05: the posterior moves by more than 10% of its spread with generic once the score is off "
        "by 5 (95%: 5 to 5); with geometric at no error up to 100."
    )


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


def test_report_is_one_page_and_two_pictures(tmp_path):
    page = Sweep([*rows(0.0, "generic"), *rows(1.0, "geometric")]).report(tmp_path / "page.html")
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 2 and "http" not in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page-curves.png", "page-map.png", "page.html"]


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
