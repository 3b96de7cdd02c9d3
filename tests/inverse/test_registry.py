"""Samplers by name."""

import pytest

import inverse


def test_every_name_gives_its_sampler():
    assert inverse.samplers() == ["annealed-langevin", "dps", "langevin", "mmps", "mmps-spectral"]
    for name in inverse.samplers():
        assert inverse.sampler(name, steps=7).steps == 7 and inverse.sampler(name).name == name


def test_unknown_names_and_hyper_parameters_are_refused_with_the_nearest_known_one():
    with pytest.raises(ValueError, match="got 'langevn'; did you mean 'langevin'"):
        inverse.sampler("langevn")
    with pytest.raises(ValueError, match="dps takes steps, sigma_max, .*, got 'step_sise'; did you mean 'step_size'"):
        inverse.sampler("dps", step_sise=1)


@pytest.mark.parametrize(("name", "hyper", "message"), [
    ("langevin", {"likelihood_at": "y"}, 'likelihood_at must be "denoised", "denoised-jacobian" or "x"'),
    ("langevin", {"steps": 10, "anneal_steps": 10}, r"anneal_steps must be below steps \(10\)"),
    ("mmps", {"eta": -1}, "eta must be a finite number of at least 0"),
    ("dps", {"sigma_max": 0.1, "sigma_min": 0.2}, "sigma_min must be below sigma_max"),
])  # fmt: skip
def test_hyper_parameters_that_do_not_fit_are_refused(name, hyper, message):
    with pytest.raises(ValueError, match=message):
        inverse.sampler(name, **hyper)
