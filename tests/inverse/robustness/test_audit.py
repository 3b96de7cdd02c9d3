"""The audit finds the size and the rate of known errors, and bounds errors it cannot know."""

import json
import math

import pytest
import torch
from torch import Tensor

from inverse.robustness.audit import LEAST_IMAGES, audit
from priors import Denoiser, GaussianMixture, Manifold, MaximumEntropy, Perturbed
from priors.manifolds import Circle, VonMisesFisher

DIMENSION, VARIANCE, WRONG = 16, 0.04, 0.1
LEVELS = (0.05, 0.1, 0.3)


def gaussian(variance: float = VARIANCE) -> GaussianMixture:
    return GaussianMixture(torch.zeros(1, DIMENSION).double(), torch.tensor([variance], dtype=torch.float64))


def shrinkage(variance: float, sigma: float) -> float:
    return variance / (variance + sigma**2)


def growing(c: float, beta: float):
    """An error of rms c sigma^beta at points x ~ N(0, (VARIANCE + sigma^2) I), different from point to point."""
    return lambda x, sigma: c * sigma**beta * x / (DIMENSION * (VARIANCE + sigma**2)) ** 0.5


def even(c: float, beta: float):
    """An error of norm c sigma^beta at every point."""
    return lambda x, sigma: torch.full_like(x, c * sigma**beta / x[0].numel() ** 0.5)


def close(value: float, low: float, high: float, truth: float) -> bool:
    """Within five standard errors, of which a 95% interval is 3.92 wide: wrong once in 1.7 million if normal."""
    return abs(value - truth) < 5 * (high - low) / 3.92


def given(row: dict) -> dict[str, float]:
    return {name: value for name, value in row.items() if value is not None}


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_error_of_a_gaussian_prior_of_another_variance(alpha):
    n = 500
    for row in audit(gaussian(WRONG), gaussian(), sigmas=LEVELS, n=n, alpha=alpha).table:
        sigma = row["sigma"]
        # D = k x, at points of variance VARIANCE + (sigma^(1 - alpha/2))^2 in each of d directions.
        difference = shrinkage(WRONG, sigma) - shrinkage(VARIANCE, sigma)
        norm = math.sqrt(DIMENSION * (VARIANCE + sigma ** (2 - alpha)))
        truth = difference * norm / sigma**2
        # |x|^2 is chi-squared with n d degrees of freedom: half its relative standard error is that of the rms.
        assert abs(row["rms"] / truth - 1) < 5 * 0.5 * math.sqrt(2 / (n * DIMENSION))
        assert close(row["rms"], row["low"], row["high"], truth) and row["low"] < row["rms"] < row["high"] < row["sup"]
        # |e| / |s*| is the same at every point, so that no chance is left in the ratio.
        assert row["relative"] == pytest.approx(difference / (1 - shrinkage(VARIANCE, sigma)), rel=1e-9)
        assert (row["loss"], row["at_most"], row["excess"]) == (None, None, None)


@pytest.mark.parametrize("beta", [0.7, -0.4, -1.5])
def test_size_and_rate_of_a_known_error(beta):
    found = audit(Perturbed(gaussian(), growing(3.0, beta)), gaussian(), n=300)
    assert close(found.beta, *found.beta_interval, beta)
    assert close(found.c, *found.c_interval, 3.0)
    # The fit passes among points whose relative standard errors are 0.5 sqrt(2 / (n d)), 1%; far inside of 5%.
    assert 1 <= found.misfit < 1.05


def test_intervals_hold_the_truth_as_often_as_they_say():
    prior = Perturbed(gaussian(), growing(3.0, 0.5))
    audits = [audit(prior, gaussian(), sigmas=(0.05, 0.2), n=64, seed=seed, resamples=200) for seed in range(100)]
    for held in (
        sum(a.beta_interval[0] < 0.5 < a.beta_interval[1] for a in audits),
        sum(a.table[0]["low"] < 3 * 0.05**0.5 < a.table[0]["high"] for a in audits),
    ):
        # Were it 0.92 (bootstrap intervals from 64 images are a little narrow), 79 of 100 would be one in 20,000.
        assert held >= 80


def test_error_without_chance_is_found_to_rounding():
    circle = Manifold(Circle(), VonMisesFisher([1.0, 0.0], 4.0))
    images = circle.sample(20, seed=1).double()
    found = audit(Perturbed(circle, even(2.0, -0.5)), circle, images, seed=3)
    assert found.beta == pytest.approx(-0.5, abs=1e-6) and found.c == pytest.approx(2.0, rel=1e-6)
    assert all(row["rms"] == pytest.approx(2 * row["sigma"] ** -0.5) for row in found.table)
    assert (found.n, found.prior, found.reference) == (20, "Perturbed", "Manifold")


def test_bounds_from_the_loss_of_a_gaussian_prior_of_another_variance():
    images = gaussian().sample(1000, seed=5)
    found = audit(gaussian(WRONG), images=images, sigmas=LEVELS, n=1000, baseline=gaussian())
    for row in found.table:
        sigma, wrong, right = row["sigma"], shrinkage(WRONG, row["sigma"]), shrinkage(VARIANCE, row["sigma"])
        # The error is linear in x, so that the best correction among the linear ones takes all of it away.
        error = (wrong - right) * math.sqrt(DIMENSION * (VARIANCE + sigma**2)) / sigma**2
        assert close(row["rms"], row["low"], row["high"], error)
        loss, best = (DIMENSION * ((1 - k) ** 2 * VARIANCE + (k * sigma) ** 2) for k in (wrong, right))
        # A loss is a sum of d squares: chi-squared with n d degrees of freedom.
        assert abs(row["loss"] / loss - 1) < 5 * math.sqrt(2 / (1000 * DIMENSION))
        assert row["at_most"] == pytest.approx(math.sqrt(row["loss"]) / sigma**2) and row["at_most"] > error
        # Var(|D - x0|^2 - |D* - x0|^2) is at most twice the sum of the variances 2 d (loss / d)^2 of each.
        assert abs(row["excess"] - (loss - best)) < 5 * math.sqrt(4 * (loss**2 + best**2) / (1000 * DIMENSION))
        assert row["sup"] is None


def test_a_right_prior_is_shown_to_have_no_error():
    found = audit(gaussian(), images=gaussian().sample(400, seed=1), sigmas=LEVELS, n=400, baseline=gaussian(WRONG))
    # Each is above 0 by chance in at most 2.5% of all seeds.
    assert all(row["low"] == 0 and row["excess"] < 0 for row in found.table)
    assert all(row["implied"] == row["implied_low"] == 0 for row in found.table)
    assert "no error is demonstrated at any level" in found.verdict


def test_size_and_rate_of_a_known_error_from_the_excess_over_the_right_prior():
    c, beta = 3.0, -0.4
    prior, images = Perturbed(gaussian(), growing(c, beta)), gaussian().sample(1000, seed=7)
    found = audit(prior, images=images, sigmas=LEVELS, n=1000, baseline=gaussian())
    assert (found.fitted, found.baseline) == ("implied", "GaussianMixture")
    assert close(found.beta, *found.beta_interval, beta) and close(found.c, *found.c_interval, c)
    for row in found.table:
        sigma, error = row["sigma"], c * row["sigma"] ** beta
        assert close(row["excess"], row["excess_low"], row["excess_high"], (error * sigma**2) ** 2)
        assert close(row["implied"], row["implied_low"], row["implied_high"], error)
        assert row["at_most_low"] < row["at_most"] < row["at_most_high"] and error < row["at_most_low"]
        # With the residual x0 - D*, of standard deviation k in each direction, and the error e sigma^2, the excess of
        # an image deviates by 2 k |e| sigma^2 and sqrt(2 / d) |e|^2 sigma^4 at the most, its loss by sqrt(2 d) k^2.
        k = sigma * shrinkage(VARIANCE, sigma) ** 0.5
        most = math.hypot(2 * k * error * sigma**2, (2 / DIMENSION) ** 0.5 * (error * sigma**2) ** 2)
        assert row["excess_high"] - row["excess_low"] < 1.5 * 2 * 1.96 * most / 1000**0.5
    first = found.table[0]
    loss = (first["at_most_high"] ** 2 - first["at_most_low"] ** 2) * LEVELS[0] ** 4
    assert first["excess_high"] - first["excess_low"] < 0.5 * loss  # that of the loss is five times as wide
    assert "If the baseline, GaussianMixture, is the right prior, the rms error" in found.verdict
    assert "not above 0" in found.verdict and "if it is not, the error is larger" in found.verdict


def test_intervals_of_the_excess_hold_the_truth_as_often_as_they_say():
    c, beta, levels = 3.0, -1.0, (0.05, 0.2)
    prior = Perturbed(gaussian(), growing(c, beta))
    audits = [
        audit(prior, None, gaussian().sample(64, seed=seed), levels, 64, seed, baseline=gaussian(), resamples=200)
        for seed in range(100)
    ]
    assert all(a.fitted == "implied" for a in audits)
    rows = [a.table[0] for a in audits]
    for held in (
        sum(a.beta_interval[0] < beta < a.beta_interval[1] for a in audits),
        sum(a.c_interval[0] < c < a.c_interval[1] for a in audits),
        sum(row["excess_low"] < (c * 0.05**beta * 0.05**2) ** 2 < row["excess_high"] for row in rows),
        sum(row["implied_low"] < c * 0.05**beta < row["implied_high"] for row in rows),
    ):
        assert held >= 80  # were it 0.92, 79 of 100 would be one in 20,000, as above


def test_without_a_baseline_the_law_is_an_upper_bound():
    c, beta = 3.0, -0.4
    found = audit(Perturbed(gaussian(), growing(c, beta)), images=gaussian().sample(400), sigmas=LEVELS, n=400)
    assert (found.fitted, found.baseline) == ("at_most", "")
    for row in found.table:
        assert row["at_most_low"] > c * row["sigma"] ** beta
        assert row["excess"] is row["excess_low"] is row["implied"] is None
    assert "is at most" in found.verdict and "baseline" not in found.verdict


def test_an_excess_that_is_not_told_from_zero_is_not_fitted():
    images = gaussian().sample(50, seed=1)
    for baseline, sentence in (
        (gaussian(), "; the loss cannot be told from that of the baseline, GaussianMixture, at sigma = 0.05, 0.1, 0.3"),
        (
            gaussian(1.0),
            "; the loss is below that of the baseline, GaussianMixture, which so is not the right prior, at",
        ),
    ):
        found = audit(gaussian(), images=images, sigmas=LEVELS, baseline=baseline)
        assert found.fitted == "at_most" and sentence in found.verdict


def test_levels_whose_excess_is_told_from_zero_are_fitted_without_the_others():
    right = GaussianMixture(torch.zeros(1, 8), torch.tensor([0.3]), torch.ones(1))
    images, wrong = right.sample(2000, seed=3), Perturbed(right, even(3.0, 0.0))
    found = audit(wrong, images=images, baseline=right, n=2000)
    assert found.table[0]["excess_low"] < 0 and (found.fitted, found.levels) == ("implied", (0.05, 0.1, 0.2, 0.5))
    assert close(found.beta, *found.beta_interval, 0.0) and close(found.c, *found.c_interval, 3.0)
    shown = ", ".join(f"{row['implied']:.3g} at sigma = {row['sigma']:g}" for row in found.table[1:])
    assert f"the rms error of the score, {shown}, follows" in found.verdict
    assert "; the loss cannot be told from that of the baseline, GaussianMixture, at sigma = 0.02 (" in found.verdict
    # One level alone has no law, but its error is told.
    one = audit(wrong, images=images, baseline=right, n=2000, sigmas=(0.005, 0.01, 0.1))
    assert (one.fitted, one.levels) == ("at_most", (0.005, 0.01, 0.1))
    implied = one.table[2]["implied"]
    assert f"is the right prior, the error is {implied:.3g} at sigma = 0.1; the loss cannot be told" in one.verdict


def test_a_better_baseline_demonstrates_more_of_the_error():
    # Two clusters: their denoiser is not linear, so that linear corrections cannot take the error apart from it. (Of a
    # Gaussian prior they could: D - x and x span the error.) What is not linear in D - x is larger than the error: at
    # sigma = 0.1, where variance / (variance + sigma^2) is 1/2, about 0.27 against 0.08, so that they find about 30%.
    means = torch.stack([torch.full((DIMENSION,), value, dtype=torch.float64) for value in (-0.5, 0.5)])
    right = GaussianMixture(means, torch.full((2,), 0.01, dtype=torch.float64))
    wrong, images, levels = (
        Perturbed(right, lambda x, sigma: 3 * (30 * x).cos()),
        right.sample(1000, seed=1),
        (0.05, 0.1),
    )
    alone = audit(wrong, images=images, sigmas=levels, n=1000)
    beside = audit(wrong, images=images, sigmas=levels, n=1000, baseline=[gaussian(), right])
    # The same images and noise, so that the error at these points is known.
    known = audit(wrong, right, images, sigmas=levels, n=1000)
    for less, more, truth in zip(alone.table, beside.table, known.table, strict=True):
        assert less["rms"] < 0.5 * truth["rms"]
        assert close(more["rms"], more["low"], more["high"], truth["rms"])
        assert more["loss"] == less["loss"] and more["at_most"] > truth["rms"]


@pytest.mark.parametrize("exact", [True, False])
def test_nothing_but_the_seed_decides(exact):
    prior, images = Perturbed(gaussian(), growing(1.0, 0.0)), gaussian().sample(60, seed=1)
    before, state = images.clone(), torch.get_rng_state()

    def run(**options) -> object:
        return audit(prior, gaussian() if exact else None, images, sigmas=LEVELS, n=40, **options)

    first = run(seed=4)
    assert run(seed=4) == first and run(seed=5).table != first.table
    for chunk_size in (1, 7, 64):
        for row, same in zip(run(seed=4, chunk_size=chunk_size).table, first.table, strict=True):
            assert given(row) == pytest.approx(given(same), rel=1e-9)
    assert torch.equal(images, before) and torch.equal(torch.get_rng_state(), state)


def test_each_prior_is_called_once_for_a_chunk_of_a_level():
    calls = []

    class Counted(GaussianMixture):
        def displacement(self, x: Tensor, sigma: float) -> Tensor:
            calls.append(len(x))
            return super().displacement(x, sigma)

    audit(Counted(torch.zeros(1, 3), torch.ones(1)), gaussian_of(3), sigmas=LEVELS, n=20, chunk_size=15)
    assert calls == [15, 5] * len(LEVELS)


def gaussian_of(d: int) -> GaussianMixture:
    return GaussianMixture(torch.zeros(1, d), torch.ones(1))


def test_a_network_in_single_precision_is_audited_against_a_reference_in_double():
    layer = torch.nn.Linear(DIMENSION, DIMENSION, bias=False)
    with torch.no_grad():
        layer.weight.copy_(0.5 * torch.eye(DIMENSION))

    class Halving(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            return self.layer(x)

    found = audit(Denoiser(Halving(), (DIMENSION,)), gaussian(), sigmas=LEVELS)
    for row in found.table:
        shrink = shrinkage(VARIANCE, row["sigma"])
        assert row["relative"] == pytest.approx(abs(0.5 - shrink) / (1 - shrink), rel=1e-4)


class Identity(torch.nn.Module):
    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (even(1.0, 0.5), "above 0, which a generic prior tolerates, and a maximum-entropy prior too"),
        (
            even(1.0, -0.5),
            "not above 0, which a generic prior needs, but above -2, which a maximum-entropy prior tolerates with",
        ),
        (even(1.0, -2.2), "not above -2, which neither a generic nor a maximum-entropy prior tolerates"),
        (even(0.0, 1.0), "At some level the score has no error at all"),
    ],
)
def test_verdict(error, sentence):
    circle = Manifold(Circle(), VonMisesFisher([1.0, 0.0], 4.0))
    verdict = audit(Perturbed(circle, error), circle, n=30).verdict
    assert sentence in verdict and verdict.endswith(".")


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_score_of_zero_is_not_called_tolerable(alpha):
    # Its error is the score, of order sigma^(-1 - alpha/2) at these points, which is above -2.
    circle = Manifold(Circle())
    found = audit(Denoiser(Identity(), (2,)), circle, alpha=alpha, sigmas=(0.005, 0.01, 0.02))
    assert found.beta == pytest.approx(-1 - alpha / 2, abs=0.2)
    assert "does not vanish beside the score itself, of which it is 1 at sigma = 0.005" in found.verdict


def test_a_denoiser_that_does_nothing_can_be_bounded_too():
    # Its loss is |sigma z|^2; the right prior beside it takes all of its error, which is the right score, away.
    images = gaussian().sample(1000, seed=1)
    found = audit(Denoiser(Identity()), images=images, sigmas=LEVELS, n=1000, baseline=gaussian())
    for row in found.table:
        assert abs(row["loss"] / (DIMENSION * row["sigma"] ** 2) - 1) < 5 * math.sqrt(2 / (1000 * DIMENSION))
        assert close(row["rms"], row["low"], row["high"], math.sqrt(DIMENSION / (VARIANCE + row["sigma"] ** 2)))
        assert row["relative"] is None


def test_an_error_at_few_points_has_a_wide_but_finite_interval():
    images = gaussian().sample(10, seed=1)
    found = audit(Perturbed(gaussian(), lambda x, sigma: x * (x[:, :1] == x[:, 0].max())), gaussian(), images, n=10)
    assert math.isfinite(found.beta) and all(map(math.isfinite, found.beta_interval))


def test_levels_too_close_to_tell_a_rate():
    found = audit(Perturbed(gaussian(), growing(1.0, 0.0)), gaussian(), sigmas=(0.1, 0.101), n=50)
    assert found.beta_interval[0] < 0 < found.beta_interval[1]
    assert "not shown to be above 0" in found.verdict or "do not tell" in found.verdict


def test_report_and_file(tmp_path):
    found = audit(Perturbed(gaussian(), growing(1.0, 0.5)), gaussian(), sigmas=LEVELS, n=50)
    text = str(found)
    assert "| sigma |" in text and found.verdict in text and "at_most" not in text and "Perturbed" in text
    assert "lower bound" in str(audit(gaussian(), images=gaussian().sample(50), sigmas=LEVELS))

    found.save(tmp_path / "audit.json")
    saved = json.loads((tmp_path / "audit.json").read_text())
    assert saved["table"] == list(found.table) and saved["beta_interval"] == list(found.beta_interval)
    assert [path.name for path in tmp_path.iterdir()] == ["audit.json"]
    with pytest.raises(OSError, match="the audit cannot be written to .*: No such file or directory"):
        found.save(tmp_path / "no" / "audit.json")


def test_a_maximum_entropy_prior_is_audited_by_its_denoiser():
    prior = Perturbed(gaussian(), even(1.0, 0.0))
    inside = audit(MaximumEntropy(prior), gaussian(), sigmas=LEVELS, n=20)
    assert inside.table == audit(prior, gaussian(), sigmas=LEVELS, n=20).table


@pytest.mark.parametrize(
    ("options", "kind", "sentence"),
    [
        ({"prior": 3}, TypeError, "prior must be a Prior, got int"),
        ({"prior": Perturbed(gaussian(), even(math.nan, 1.0))}, ValueError, "Perturbed must denoise to finite images"),
        ({"reference": 3}, TypeError, "reference must be a Prior, got int"),
        ({"baseline": [3]}, TypeError, "baseline must be a Prior, got int"),
        ({"baseline": 3}, TypeError, "baseline must be a Prior, got int"),
        (
            {
                "reference": None,
                "images": torch.zeros(9, DIMENSION),
                "baseline": GaussianMixture(torch.zeros(1, 3), torch.ones(1)),
            },
            ValueError,
            r"baseline must be a Prior of images of shape \(16,\), as prior is, got GaussianMixture .* \(3,\)",
        ),
        ({"baseline": gaussian()}, ValueError, "baseline must be left out with a reference"),
        ({"reference": None}, ValueError, "images must be given where there is no reference to draw them from"),
        ({"images": torch.zeros(9, 3).byte()}, TypeError, r"images must be a floating-point .* got torch.uint8 .*9, 3"),
        ({"images": torch.zeros(7, DIMENSION)}, ValueError, f"images must hold at least {LEAST_IMAGES} .* got 7"),
        ({"images": torch.zeros(9, 3)}, ValueError, r"shape \(B, 16\) for this prior, got \(9, 3\)"),
        ({"sigmas": (0.1, 0.1)}, ValueError, "sigmas must be at least two different noise levels"),
        ({"sigmas": (0.1, -0.1)}, ValueError, "sigmas must be .* finite and above 0"),
        ({"n": 7}, ValueError, "n must be a whole number of at least 8, got 7"),
        ({"seed": -1}, ValueError, "seed must be a whole number of at least 0, got -1"),
        ({"resamples": 1.5}, ValueError, "resamples must be a whole number of at least 100, got 1.5"),
        ({"chunk_size": 0}, ValueError, "chunk_size must be a whole number of at least 1, got 0"),
        ({"alpha": 2.0}, ValueError, r"alpha must lie in \[0, 2\)"),
        (
            {"alpha": 1.0, "reference": None, "images": torch.zeros(9, DIMENSION)},
            ValueError,
            "alpha must .* be 0 without a reference, got 1.0",
        ),
    ],
)
def test_refusals_name_the_argument_and_what_is_needed(options, kind, sentence):
    with pytest.raises(kind, match=sentence):
        audit(**{"prior": gaussian(WRONG), "reference": gaussian(), **options})
