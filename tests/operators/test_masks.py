from __future__ import annotations

import pytest
import torch
from deepinv.physics import Demosaicing, Inpainting

import operators


@pytest.mark.parametrize("keep", [0.01, 0.3, 1.0])
def test_keep_is_the_fraction_of_pixels_kept_in_all_channels(keep: float) -> None:
    mask = operators.create("inpainting", (3, 10, 12), keep=keep).mask
    assert mask[0, 0].sum() == max(1, round(keep * 120))
    assert torch.equal(mask, mask[:, :1].expand_as(mask))


@pytest.mark.parametrize("shape", [(4, 5), (1, 4, 5), (3, 4, 5), (1, 3, 4, 5), (2, 3, 4, 5), (2, 1, 4, 5)])
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
def test_masks_of_every_shape_are_applied_as_given(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    mask = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.6).to(dtype)
    before = mask.clone()
    x = torch.rand(2, 3, 4, 5)
    physics = operators.create("inpainting", (3, 4, 5), mask=mask)
    assert isinstance(physics, Inpainting)
    assert torch.equal(physics.A(x), x * mask)
    physics.mask.zero_()
    assert torch.equal(mask, before)  # the caller's mask is not shared


def test_what_is_not_kept_carries_no_noise() -> None:
    physics = operators.create("inpainting", (1, 6, 6), keep=0.5, noise=0.3)
    y = physics(torch.rand(2, 1, 6, 6))
    assert bool((y[:, physics.mask[0] == 0] == 0).all()) and bool((y[:, physics.mask[0] == 1] != 0).all())


def test_box_is_centred_and_of_its_size() -> None:
    mask = operators.create("box-inpainting", (2, 9, 12), size=(3, 4)).mask[0]
    expected = torch.ones(2, 9, 12)
    expected[:, 3:6, 4:8] = 0
    assert torch.equal(mask, expected)
    assert (operators.create("box-inpainting", (1, 8, 8)).mask == 0).sum() == 16  # half of each side by default
    assert (operators.create("box-inpainting", (1, 8, 8), size=3).mask == 0).sum() == 9


def test_demosaicing_keeps_one_colour_per_pixel_twice_as_many_greens() -> None:
    physics = operators.create("demosaicing", (3, 6, 8))
    assert isinstance(physics, Demosaicing)
    assert torch.equal(physics.mask.sum(dim=1), torch.ones(1, 6, 8))
    assert physics.mask.sum(dim=(0, 2, 3)).tolist() == [12, 24, 12]
