from __future__ import annotations

import pytest
import torch
from deepinv.physics import Downsampling

import operators

FILTERS = [(2, "bicubic"), (3, "bilinear"), (2, "gaussian"), (2, "sinc"), (1, "bicubic")]


@pytest.mark.parametrize("factor, filter", FILTERS)
def test_same_values_as_deepinv(factor: int, filter: str) -> None:
    shape = (3, 24, 30)
    mine = operators.create("super-resolution", shape, factor=factor, filter=filter)
    theirs = Downsampling(shape, filter=filter, factor=factor, padding="circular")
    x = torch.rand(2, *shape)
    y = theirs.A(x)
    assert torch.allclose(mine.A(x), y, atol=1e-5)
    assert torch.allclose(mine.A_adjoint(y), theirs.A_adjoint(y), atol=1e-5)


def test_prox_solves_its_normal_equations() -> None:
    physics, gamma = operators.create("super-resolution", (1, 16, 24), factor=2), 5.0
    x, y = torch.rand(2, 1, 16, 24), torch.rand(2, 1, 8, 12)
    z = physics.prox_l2(x, y, gamma)
    assert (gamma * physics.A_adjoint(physics.A(z) - y) + z - x).abs().max() < 1e-5


def test_a_constant_image_keeps_its_value() -> None:
    physics = operators.create("super-resolution", (1, 16, 16), factor=4, filter="bilinear")
    y = physics.A(torch.full((1, 1, 16, 16), 0.7))
    assert torch.allclose(y, torch.full((1, 1, 4, 4), 0.7), atol=1e-6)
