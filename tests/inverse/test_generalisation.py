"""Verdicts on priors whose memory is known: the training images themselves, the law they are drawn from, a filter."""

import pytest
import torch

from inverse import generalisation
from inverse.generalisation import Wiener, errors
from priors import Empirical, GaussianMixture


def law():
    """Images of two values, each dark or bright as a whole, with fine noise: more than their spectrum tells."""
    means = torch.stack([torch.full((1, 6, 6), 0.2), torch.full((1, 6, 6), 0.8)])
    return GaussianMixture(means, torch.full((2,), 0.1**2))


def measured(prior, **options):
    images = law().sample(400, seed=1)
    return generalisation.generalisation(prior, images[:200], images[200:], **options)


def test_the_training_images_themselves_memorise():
    images = law().sample(400, seed=1)[:200]
    found = measured(Empirical(images, 0.0))
    assert found.verdict.startswith("It memorises:")
    assert [level.share for level in found.levels[:4]] == [pytest.approx((1.0, 1.0, 1.0))] * 4
    assert all(row["relative"] == 0 for row in found.audit.table)
    assert found.counts == (200, 200, 200)


def test_the_law_itself_generalises():
    found = measured(law())
    assert found.verdict.startswith("It generalises:")
    for level in found.levels:
        # No denoiser is better in the mean than that of the law; six standard errors of the difference at most.
        assert level.held_out[0] < min(level.kernel[0], level.linear[0]) + 6 * level.held_out[1]
        assert level.share[1] <= 0 <= level.share[2] or abs(level.share[0]) < 0.05
        assert level.score < 1e-5


def test_a_filter_has_no_memory_whatever_the_images():
    images = law().sample(40, seed=1)
    filter = Wiener(images[:20], 0.5 * images[20:])
    found = generalisation.generalisation(filter, images[:20], 0.5 * images[20:])
    assert all(level.share == pytest.approx((0, 0, 0), abs=1e-6) for level in found.levels)
    assert "has learned too little to tell" in found.verdict


def test_filter_is_the_posterior_mean_of_a_stationary_gaussian():
    # White images of variance v: shrinkage by v / (v + sigma^2); 20,000 numbers tell v to 1%, five of its errors.
    images = 0.5 + 0.3 * torch.randn(50, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    found = errors(Wiener(images, images), images, 0.3, seed=0).mean().item()
    assert found == pytest.approx(0.3**2 / 2, rel=0.05)


def test_too_few_images_to_tell():
    images = law().sample(12, seed=1)
    with pytest.raises(ValueError, match="at least 8 and held_out at least 2 images, got 7 and 5"):
        generalisation.generalisation(law(), images[:7], images[7:])
