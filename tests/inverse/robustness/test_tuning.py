"""Tuned settings are the best of those tried, by the exact posterior, on seeds of their own."""

import json

import pytest

from inverse import DPS, Langevin
from inverse.robustness import Tuned, sweep


def hypers(table):
    return table["hyper"].map(json.loads)


def test_once_for_the_clean_prior_and_again_for_each_error(grid):
    base, options = DPS(steps=40), {"step_size": [1e-3, 1.0]}
    grid["samplers"] = {"once": Tuned(base, options), "each": Tuned(base, options, each_error=True)}
    grid |= {"priors": {"generic": grid["priors"]["generic"]}, "amplitudes": [0.1, 1.0]}
    table = sweep(**grid).table
    assert (table["status"] == "ok").all(), table["message"].unique()
    # a weight of a thousandth ignores the measurement, which moves the mean by more than two standard deviations
    once = table[table["sampler"] == "once"]
    assert (hypers(once).map(lambda h: h["step_size"]) == 1.0).all()
    means = table.groupby(["sampler", "error", "amplitude"])["exact_distance"].mean().unstack("sampler")
    assert (means["each"] <= means["once"] + 0.15).all()  # trials are on other seeds, so it may be worse by chance
    assert means["each"].iloc[-1] <= means["once"].iloc[-1]


def test_seeds_share_what_is_tuned(grid, monkeypatch):
    chosen, choose = [], Tuned.choose
    monkeypatch.setattr(Tuned, "choose", lambda *arguments: chosen.append(choose(*arguments)) or chosen[-1])
    grid["samplers"] = {"each": Tuned(DPS(steps=20), {"step_size": [0.5, 1.0]}, each_error=True)}
    grid["priors"] = {"generic": grid["priors"]["generic"]}
    table = sweep(**grid).table
    # once for each error, of the run without error and of every amplitude, and not for each of the two seeds
    assert [len(samplers) for samplers in chosen] == [4, 4]
    for name, samplers in zip(grid["errors"], chosen, strict=True):
        cells = table[table["error"] == name]
        found = hypers(cells.sort_values("amplitude")).map(lambda hyper: hyper["step_size"]).tolist()
        assert found == [sampler.step_size for sampler in samplers[1:] for _ in grid["seeds"]]


def test_by_psnr_where_no_posterior_is_known(grid):
    grid["priors"] = {"geometric": grid["priors"]["geometric"]}
    grid["samplers"] = {"tuned": Tuned(Langevin(steps=40, anneal_steps=10), {"step_size": [0.5, 1.0]})}
    assert (sweep(**grid).table["status"] == "ok").all()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Tuned(DPS(), {}), "options must hold values to try"),
        (lambda: Tuned(DPS(), {"stepsize": [1.0]}), "options must be hyper-parameters of dps, got 'stepsize'"),
        (lambda: Tuned(DPS(), {"step_size": [-1.0]}), "step_size must be a finite number above 0"),
        (lambda: Tuned(DPS(), {"step_size": [1.0]}, seeds=()), "seeds must hold at least one seed"),
        (lambda: Tuned(DPS(), {"step_size": [1.0]}, seeds=(-1,)), "seeds must be a whole number of at least 0, got -1"),
    ],
)
def test_trials_that_make_no_sense_are_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_seeds_that_are_reported_may_not_be_tuned_on(grid):
    grid["samplers"] = {"tuned": Tuned(DPS(), {"step_size": [1.0]}, seeds=(1, 5))}
    with pytest.raises(ValueError, match="seeds must not be among those that 'tuned' is tuned on"):
        sweep(**grid)


def test_a_sampler_is_needed():
    with pytest.raises(TypeError, match="sampler must be a Sampler, got str"):
        Tuned("dps", {"step_size": [1.0]})
