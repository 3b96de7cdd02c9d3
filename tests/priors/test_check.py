"""check_score finds what is wrong, by each of its references."""

import pytest
import torch

from priors import Manifold, Perturbed, check_score
from priors.base import Prior
from priors.manifolds import Circle, VonMisesFisher

DOUBLE = torch.float64
CIRCLE = Manifold(Circle(), VonMisesFisher([1.0, 0.0], 4.0))


class Only(Prior):
    """The circle's prior with some of its abilities, and a score that is too large by 1%."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            setattr(self, name, getattr(CIRCLE, name))

    def score(self, x, sigma):
        return 1.01 * CIRCLE.score(x, sigma)


def points(sigma: float) -> torch.Tensor:
    x = CIRCLE.sample(50, 1, dtype=DOUBLE)
    return x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)


@pytest.mark.parametrize("reference", ["autograd", "tweedie", "monte-carlo"])
def test_a_right_score_passes_and_a_wrong_one_shows_its_error(reference):
    x = points(0.5)
    # 65,536 draws leave about 1 / (sigma sqrt(20,000)) = 1.4% of noise.
    accuracy = 0.02 if reference == "monte-carlo" else 1e-10
    assert check_score(CIRCLE, x, 0.5, reference) < accuracy
    wrong = Only("log_prob", "denoise", "sample")
    assert check_score(wrong, x, 0.5, reference) == pytest.approx(0.01, abs=accuracy)


def test_the_first_reference_available_is_taken():
    x = points(0.5)
    for names in (("log_prob",), ("denoise",)):
        assert check_score(Only(*names), x, 0.5) == pytest.approx(0.01, rel=1e-6)
    assert 0.001 < check_score(Only("sample"), x, 0.5) < 0.03
    with pytest.raises(NotImplementedError, match="Only has none of log_prob, denoise and sample"):
        check_score(Only(), x, 0.5)


def test_error_is_relative_to_the_reference():
    x, sigma = points(0.1), 0.1
    error = Perturbed(CIRCLE, lambda v, s: 0.05 * CIRCLE.score(v, s))
    error.log_prob = CIRCLE.log_prob
    assert check_score(error, x, sigma) == pytest.approx(0.05, rel=1e-6)
    per_item = torch.full((50,), sigma, dtype=DOUBLE)
    assert check_score(error, x, per_item) == pytest.approx(0.05, rel=1e-6)


def test_it_leaves_gradients_and_inputs_alone():
    x = points(0.1).requires_grad_()
    with torch.no_grad():
        assert check_score(CIRCLE, x, 0.1) < 1e-10
    assert x.grad is None
    assert x.requires_grad


def test_unknown_reference_is_refused():
    with pytest.raises(ValueError, match="reference must be one of autograd, tweedie, monte-carlo or None, got 'mc'"):
        check_score(CIRCLE, points(0.1), 0.1, "mc")
