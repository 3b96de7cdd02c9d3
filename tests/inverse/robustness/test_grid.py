"""A grid that cannot be run is refused at the start, in one sentence, before anything is written."""

import numpy as np
import pytest
import torch

from inverse.robustness import Problem, sweep


@pytest.mark.parametrize(
    ("changes", "kind", "sentence"),
    [
        (
            {"problems": {"a": 3}},
            TypeError,
            r"problems must be of class Problem, or functions of the seed, got int for 'a'",
        ),
        ({"amplitudes": 1.0}, ValueError, "amplitudes must be a list of numbers, got 1.0"),
        ({"amplitudes": "12"}, ValueError, "amplitudes must be a list of numbers, got '12'"),
        ({"amplitudes": [True]}, ValueError, r"amplitudes must be a list of numbers, got \[True\]"),
        ({"amplitudes": torch.ones(2, 2)}, ValueError, "amplitudes must be a list of numbers, got"),
        ({"sigmas": [0.1, None]}, ValueError, r"sigmas must be a list of numbers, got \[0.1, None\]"),
        ({"seeds": 3}, ValueError, "seeds must be a list of whole numbers, got 3"),
        ({"seeds": [0.5, 1]}, ValueError, r"seeds must be a list of whole numbers, got \[0.5, 1\]"),
        ({"seeds": [0, -1]}, ValueError, "seeds must be a whole number of at least 0, got -1"),
        ({"seeds": [2**63]}, ValueError, r"seeds must be below 2\^63, got 9223372036854775808"),
        ({"seeds": ["1"]}, ValueError, r"seeds must be a list of whole numbers, got \['1'\]"),
        ({"seeds": [True, False]}, ValueError, "seeds must be a list of whole numbers"),
        ({"n": "abc"}, ValueError, "n must be a whole number, got 'abc'"),
        ({"n": 2.5}, ValueError, "n must be a whole number, got 2.5"),
    ],
)
def test_what_makes_no_grid_is_refused_and_nothing_is_written(grid, tmp_path, changes, kind, sentence):
    with pytest.raises(kind, match=f"^{sentence}"):
        sweep(**(grid | changes), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"amplitudes": np.array([0.1, 1.0, 10.0]), "seeds": np.arange(2)},
        {"amplitudes": (10.0**k for k in (-1, 0, 1)), "seeds": range(2)},
        {
            "amplitudes": [0.1, 1, torch.tensor(10)],
            "seeds": torch.arange(2),
            "sigmas": torch.tensor([0.1], dtype=torch.float64),
        },
    ],
)
def test_numbers_of_any_sequence_are_the_same_grid(grid, tmp_path, monkeypatch, changes):
    grid |= {"priors": {"generic": grid["priors"]["generic"]}, "errors": {"bias": grid["errors"]["bias"]}}
    sweep(**grid, out=tmp_path)
    monkeypatch.setattr("inverse.robustness.engine.compute", None)  # a second run computes nothing
    assert len(sweep(**(grid | changes), out=tmp_path)) == 3 * 2


def test_problems_are_functions_of_the_seed_too(grid):
    problem = grid["problems"]["vector"]
    grid |= {"problems": {"drawn": lambda seed: Problem(problem.physics, problem.y + seed)}, "amplitudes": [1.0]}
    assert (sweep(**grid).table["status"] == "ok").all()
