from __future__ import annotations

import pytest
import torch

import operators


def test_unit_norm() -> None:
    physics = operators.create("tomography", (1, 16, 16), angles=12)
    assert operators.sqnorm(physics, (1, 16, 16)) == pytest.approx(1, rel=1e-3)


def test_projections_along_the_axes_are_sums_over_rows_and_columns() -> None:
    x = torch.zeros(1, 1, 16, 16)
    x[..., 4:12, 6:9] = torch.rand(8, 3, generator=torch.Generator().manual_seed(0))
    physics = operators.create("tomography", (1, 16, 16), angles=[0.0, 90.0])
    sinogram = physics.A(x) * physics.operator_norm
    for angle, axis in ((0, -2), (1, -1)):
        sums = x.sum(dim=axis).flatten()
        projection = sinogram[0, 0, :, angle]
        # The detector is longer than the image; its values are the sums in one order or the other.
        start = (len(projection) - 16) // 2
        candidates = [projection[s : s + 16] for s in (start, start + 1)]
        errors = [(c - s).abs().max() for c in candidates for s in (sums, sums.flip(0))]
        assert min(errors) < 1e-3


def test_angles_are_counted_or_listed() -> None:
    x = torch.rand(1, 3, 12, 12)
    counted = operators.create("tomography", (3, 12, 12), angles=4)
    listed = operators.create("tomography", (3, 12, 12), angles=[0.0, 45.0, 90.0, 135.0])
    assert counted.A(x).shape[1::2] == (3, 4)
    assert torch.allclose(counted.A(x), listed.A(x), atol=1e-6)
