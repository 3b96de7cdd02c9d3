"""Transforms and filters of space frequency are what they are called."""

import pytest
import torch

from inverse.frequencies import Frequencies

SHAPE = (3, 10, 10)


def frequencies(shape: tuple[int, ...] = SHAPE) -> Frequencies:
    return Frequencies(shape, torch.device("cpu"), torch.float32)


def white(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_transform_is_orthogonal_and_filter_symmetric():
    x, y, spectrum = white(2, *SHAPE), white(2, *SHAPE).flip(2), frequencies().spectrum(white(3, frequencies().knots))
    torch.testing.assert_close(frequencies().inverse(frequencies().forward(x)), x)
    one, other = ((a * frequencies().filtered(b, spectrum)).sum() for a, b in ((x, y), (y, x)))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_grey_is_the_first_channel_of_the_transform():
    grey = white(1, 1, 10, 10).expand(1, *SHAPE)
    assert frequencies().forward(grey)[:, 1:].abs().max() < 1e-5


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 15, 7), (1, 4, 33), (1, 2, 2)])
def test_gain_of_a_multiple_of_the_identity_is_that_multiple_at_all_knots(shape):
    own = frequencies(shape)
    probe = own.probe(white(1, *shape))
    torch.testing.assert_close(own.forward(probe).abs(), torch.ones(own.forward(probe).shape))
    torch.testing.assert_close(own.gain(probe, 0.3 * probe), torch.full((shape[0], own.knots), 0.3))


def test_gain_of_a_filter_is_its_own_smoothed_between_knots():
    values = torch.linspace(1, 0.1, frequencies().knots).repeat(3, 1)
    probe = frequencies().probe(white(1, *SHAPE))
    found = frequencies().gain(probe, frequencies().filtered(probe, frequencies().spectrum(values)))
    # The mean about a knot of what is linear between knots 0.18 apart: less than that spacing away.
    assert (found - values).abs().max() < 0.1
