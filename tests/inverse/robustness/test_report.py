"""The page that a sweep writes: what it says, with which settings it was found, and what it shows outside the grid."""

import base64
import html
import json
import math
import re

import numpy as np
import pandas as pd

from inverse.robustness import Sweep, sweep
from inverse.robustness import report as reports

LANGEVIN = {"steps": 40, "sigma": 0.1, "step_size": 0.5}


def rows(distance, seeds=(0, 1, 2), sigmas=(0.1,), prior="a", **columns):
    """distance: of amplitude, sigma and seed."""
    settings = {"error": "BiasError", "exponent": -1.5, "seed": 7}
    return [
        {
            "problem": "p", "prior": prior, "sampler": "s", "error": "e", "sigma": sigma, "amplitude": amplitude,
            "seed": seed, "distance": distance(amplitude, sigma, seed), "floor": 0.01,
            "shift": distance(amplitude, sigma, seed), "status": "ok", "message": "",
            "n": 10, "nfe": 5, "seconds": 0.5, "hyper": json.dumps(LANGEVIN),
            "error_settings": json.dumps({"error": "BiasError", "amplitude": amplitude, **settings}), "scorefold": "0",
            "torch": "2", "deepinv": "0", **columns,
        }
        for sigma in sigmas for amplitude in (0.1, 1.0, 10.0) for seed in seeds
    ]  # fmt: skip


def page(sweep_, tmp_path):
    return sweep_.report(tmp_path / "page.html").read_text()


def text(part):
    """What a reader sees: without tags."""
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", part).split()))


def section(written, heading):
    return text(written.split(f">{heading}</h2>")[1].split("<h2")[0])


def test_all_settings_of_a_sweep_are_in_its_page_and_what_is_not_known_is_said(grid, tmp_path):
    grid["amplitudes"] = [0.1, 1.0]
    told = section(page(sweep(**grid, out=tmp_path / "out"), tmp_path), "Settings")
    for setting in (
        "amplitudes 0.1, 1 ", "sigmas 0.1", "seeds 0, 1", "chains 16",
        "matrix(matrix=[[1, 0, 0], [0, 1, 0]], seed=0)", "GaussianNoise(sigma=0.3)", "1 of shape 2",
        "MaximumEntropy(alpha=1, method=tempered, sigma_ref=1, prior=GaussianMixture(",
        "gradient GradientError", "length_scale=0.5", "features=64", "bias BiasError",
        "Langevin(steps=40", "anneal_steps=10", "step_size", "41",
        "scorefold 0", "torch 2", "deepinv 0",
    ):  # fmt: skip
        assert setting in told, setting

    def loaded():
        return text(reports._settings(Sweep.load(tmp_path / "out"), 0.1, "distance"))

    assert loaded() == told
    manifest = tmp_path / "out" / "sweep.json"
    about = json.loads(manifest.read_text())
    del about["problems_settings"], about["priors_settings"]
    manifest.write_text(json.dumps(about))
    assert "vector not recorded" in loaded() and "generic not recorded" in loaded() and "Langevin(steps=40" in loaded()
    manifest.write_text("half a mani")
    assert "vector not recorded" in loaded() and "langevin not recorded" in loaded()


def test_seeds_are_all_told():
    assert reports.listed([0, 1, 2]) == "0, 1, 2"
    assert reports.listed(range(1000, 1032)) == "1000 to 1031 (32)"
    assert reports.listed([*range(8), 11, 20]) == "0, 1, 2, 3, 4, 5, 6, 7, 11, 20"


def test_hyper_parameters_are_told_for_each_cell_that_has_others():
    one = rows(lambda a, sigma, seed: a, sigmas=(0.1, 0.2))
    assert reports.hyper_parameters(pd.DataFrame(one), "s").to_dict("list") == {
        "prior": ["a"], "steps": [40], "sigma": [0.1], "step_size": [0.5], "NFE": [5],
    }  # fmt: skip
    for row in one:
        row["hyper"] = json.dumps(LANGEVIN | {"sigma": row["sigma"], "step_size": 0.5 + (row["amplitude"] > 1)})
    table = reports.hyper_parameters(pd.DataFrame(one), "s")
    assert table[["sigma", "amplitude", "step_size"]].to_numpy().tolist() == [
        [s, a, 0.5 + (a > 1)] for s in (0.1, 0.2) for a in (0.1, 1.0, 10.0)
    ]


def test_outside_the_grid_is_told_in_words(tmp_path):
    # Of a, with critical amplitudes 0.2 and 8, the interval leaves the grid of 0.1 to 10 on both sides; b is below the
    # threshold throughout, c above it.
    wide = rows(lambda a, sigma, seed: a / (10 * (0.2, 8.0)[seed]), seeds=(0, 1))
    above = rows(lambda a, sigma, seed: 0.001 * a, prior="b")
    below = rows(lambda a, sigma, seed: a * 5, prior="c")
    written = page(Sweep([*wide, *above, *below]), tmp_path)
    told = section(written, "Critical amplitudes")
    assert "a 0.1 0.39 below the grid to beyond the grid 2 0" in told
    assert "b 0.1 beyond the grid beyond the grid 3" in told and "c 0.1 below the grid below the grid 3" in told
    assert "outside the grid, amplitudes 0.1 to 10" in told
    assert not re.search(r"\binf\b|\bnan\b|e\+", told, re.IGNORECASE)
    assert "needs 2 sigmas, got 1" in section(written, "Rate")


def test_the_rate_names_the_exponent_and_the_chains_that_may_not_have_mixed(tmp_path):
    columns = {"exact_distance": 0.9, "exact_floor": 0.1}
    told = section(page(Sweep(rows(lambda a, sigma, seed: a / 50, **columns)), tmp_path), "Rate")
    assert "add the exponent beta of the error (e: -1.5) to compare" in told
    assert "the chains may not have mixed" in told and "p, s, e, a, sigma = 0.1 (9.0 floors)" in told
    assert "mixed" not in section(page(Sweep(rows(lambda a, sigma, seed: a / 50)), tmp_path), "Rate")


def test_priors_that_a_sampler_makes_no_difference_between_are_named(tmp_path):
    same = [*rows(lambda a, sigma, seed: a + seed), *rows(lambda a, sigma, seed: a + seed, prior="b")]
    other = rows(lambda a, sigma, seed: a + 2 * seed, prior="c")
    told = section(page(Sweep([*same, *other]), tmp_path), "Curves")
    assert "all distances are equal" in told and told.endswith("p, s: a and b.")
    assert "equal" not in section(page(Sweep(other), tmp_path), "Curves")


def test_the_map_tells_the_bound_and_not_a_number_that_was_not_measured():
    found = Sweep(rows(lambda a, sigma, seed: 0.001 * a, sigmas=(0.1, 0.2))).breakdown(0.1)
    figure = reports._map(found)
    assert [text.get_text() for text in figure.axes[0].texts] == ["> 10", "> 10"]


def test_the_legend_names_every_prior_and_the_floor_that_the_column_has():
    bad = rows(lambda a, sigma, seed: math.nan, prior="bad", status="failed", hyper="")
    late = rows(lambda a, sigma, seed: a, prior="late", sigmas=(0.2,), exact_floor=0.3)
    for row in late:
        row["exact_distance"] = row["distance"]
    table = Sweep([*bad, *rows(lambda a, sigma, seed: a), *late]).table

    def legend(column):
        (found,) = reports._curves(table, column, 0.1).legends
        return [text.get_text() for text in found.get_texts()]

    floor = "floor: two runs without error"
    assert legend("distance") == ["a", "late", "broken: above 0.1", "failed cells", floor]
    assert legend("exact_distance") == ["late", "broken: above 0.1", "failed cells", "floor: two sets of exact draws"]
    assert legend("shift") == ["a", "late", "broken: above 0.1", "failed cells"]


def test_long_tables_are_folded_and_escaped():
    frame = pd.DataFrame({"name": ["<b>"] * 20, "value": 0.123456})
    assert "<details>" not in reports._folded(frame) and "&lt;b&gt;" in reports._folded(frame)
    assert "21 rows" in reports._folded(pd.concat([frame, frame[:1]])) and "0.1235" in reports._folded(frame)


def test_failures_are_counted_and_escaped(tmp_path):
    broken = rows(lambda a, sigma, seed: a)
    for row in broken[:2]:
        row.update(status="failed", message="ValueError: x < 0", hyper="", nfe=math.nan, distance=math.nan)
    written = page(Sweep(broken), tmp_path)
    assert "2 of 9 cells failed" in written and "ValueError: x &lt; 0" in written


def test_a_sweep_without_one_good_cell_has_a_page(tmp_path):
    broken = rows(lambda a, sigma, seed: math.nan, status="failed", message="RuntimeError: no", hyper="", nfe=np.nan)
    written = page(Sweep(broken), tmp_path)
    assert "9 of 9 cells failed" in written and "its runs failed (9 of 9 cells)" in written
    assert "a 0.1 not known not known 3 9" in section(written, "Critical amplitudes")
    figure = reports._map(Sweep(broken).breakdown(0.1))
    assert [label.get_text() for label in figure.axes[0].texts] == ["failed"]


def test_report_is_one_page_that_needs_nothing_else_and_its_two_pictures(tmp_path):
    written = page(Sweep(rows(lambda a, sigma, seed: a)), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page-curves.png", "page-map.png", "page.html"]
    embedded = [base64.b64decode(part) for part in re.findall(r"base64,([^\"]+)", written)]
    assert embedded == [(tmp_path / f"page-{name}.png").read_bytes() for name in ("curves", "map")]
    assert "http" not in written
