import pytest
import torch

from priors.axpy import axpy, axpy_


@pytest.mark.parametrize("a", [0.5, torch.tensor([2.0, -3.0]).reshape(2, 1, 1)])
def test_sum_and_its_version_in_place(a):
    x, y = torch.rand(2, 3, 4), torch.rand(2, 3, 4)
    kept = y.clone()
    torch.testing.assert_close(axpy(a, x, y), a * x + y)
    assert torch.equal(y, kept)
    assert axpy_(a, x, y) is y
    torch.testing.assert_close(y, a * x + kept)
