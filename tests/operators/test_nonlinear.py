from __future__ import annotations

import torch
from deepinv.physics import PhaseRetrieval

import operators


def test_phase_retrieval_measures_squared_moduli_and_keeps_energy() -> None:
    physics = operators.create("phase-retrieval", (2, 6, 5), ratio=3)
    x = torch.rand(2, 2, 6, 5)
    y = physics.A(x)
    assert isinstance(physics, PhaseRetrieval) and y.shape == (2, 180) and bool((y >= 0).all())
    # Three unitary transforms of x behind unit phases hold three times its energy (Parseval).
    assert torch.allclose(y.sum(dim=1), 3 * x.square().flatten(1).sum(dim=1), rtol=1e-5)
    assert torch.allclose(physics.A(-x), y)


def test_phase_retrieval_ratio_counts_measurements() -> None:
    assert operators.create("phase-retrieval", (1, 6, 5), ratio=1.5).A(torch.rand(1, 1, 6, 5)).shape == (1, 45)


def test_vector_jacobian_product_is_real_and_right() -> None:
    physics = operators.create("phase-retrieval", (1, 6, 5), ratio=1.5)
    x = torch.rand(2, 1, 6, 5).requires_grad_()
    y = physics.A(x)
    v = torch.rand_like(y)
    assert torch.allclose(physics.A_vjp(x.detach(), v), torch.autograd.grad(y, x, v)[0], atol=1e-5)


def test_complex_measurements_have_an_adjoint_too() -> None:
    linear_part = operators.create("phase-retrieval", (1, 6, 5), ratio=1.5).B
    assert linear_part.A(torch.rand(1, 1, 6, 5)).is_complex()
    assert operators.check_adjoint(linear_part, (1, 6, 5)) <= 1e-5


def test_saturation_reads_at_most_its_level() -> None:
    physics = operators.create("saturation", (3,), level=0.5)
    assert torch.equal(physics.A(torch.tensor([[-1.0, 0.4, 0.9]])), torch.tensor([[-1.0, 0.4, 0.5]]))
