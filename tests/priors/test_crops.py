import math

import pytest
import torch

from priors.crops import Crops, grey, smaller


def ramp(height=40, width=50, channels=3):
    """An image each of whose pixels tells its place: red its row, green its column."""
    rows = torch.arange(height).reshape(-1, 1).expand(height, width)
    columns = torch.arange(width).expand(height, width)
    return torch.stack([rows, columns, rows * 0 + 200])[:channels].to(torch.uint8)


def noise(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_crops_are_pieces_of_the_image_turned_and_mirrored():
    crops = Crops([ramp()], size=8, scales=(1.0,), grey_share=0.0).batch(400, 0, 0) * 255
    rows, columns = crops[:, 0].round(), crops[:, 1].round()
    assert crops.shape == (400, 3, 8, 8)
    # Every crop holds 8 rows and 8 columns of the image that follow each other.
    for values, most in ((rows, 40), (columns, 50)):
        low, high = values.amin((1, 2)), values.amax((1, 2))
        assert torch.equal(high - low, torch.full((400,), 7.0)) and low.min() >= 0 and high.max() < most
    # In half of them, those turned by 90 degrees, rows run along the last axis: 5 standard deviations.
    turned = (rows[:, 0, 0] != rows[:, 0, 1]).double().mean()
    assert float(turned) == pytest.approx(0.5, abs=5 * math.sqrt(0.25 / 400))
    # Of each kind of turn and mirroring there are some: all eight orders of the corners.
    corners = torch.stack([rows[:, 0, 0] - rows[:, -1, -1], columns[:, 0, 0] - columns[:, -1, -1], turned_sign(rows)])
    assert len(corners.T.unique(dim=0)) == 8


def turned_sign(rows):
    return (rows[:, 0, 0] != rows[:, 0, 1]).float()


def test_batches_are_a_function_of_seed_and_step():
    data = Crops([noise(3, 30, 30)], size=8)
    again = Crops([noise(3, 30, 30)], size=8)
    assert all(torch.equal(data.batch(4, 1, step), again.batch(4, 1, step)) for step in (5, 2))
    assert not torch.equal(data.of(3, 4, 1), data.of(3, 4, 2))
    first = {tuple(data.batch(2, seed, step).flatten()[:5].tolist()) for seed in range(3) for step in range(3)}
    assert len(first) == 9


def test_batches_are_all_grey_or_all_colour():
    data = Crops([noise(3, 20, 20)], size=8, grey_share=0.3)
    assert data.channels == (1, 3)
    kinds = [data.batch(1, 0, step).shape[1] for step in range(500)]
    # 500 coins: five standard deviations.
    assert kinds.count(1) / 500 == pytest.approx(0.3, abs=5 * math.sqrt(0.3 * 0.7 / 500))
    only = Crops([noise(1, 20, 20)], size=8)
    assert only.channels == (1,) and only.batch(2, 0, 0).shape == (2, 1, 8, 8)
    assert Crops([noise(3, 20, 20)], size=8, grey_share=0.0).channels == (3,)


def test_grey_crops_are_the_luminance_of_the_colour_ones():
    image = noise(3, 12, 12)
    colour, made_grey = Crops([image], 8).of(3, 5, 0), Crops([image], 8).of(1, 5, 0)
    expected = 0.2125 * colour[:, 0] + 0.7154 * colour[:, 1] + 0.0721 * colour[:, 2]
    torch.testing.assert_close(made_grey[:, 0], expected)
    assert torch.allclose(grey(torch.ones(1, 3, 2, 2)), torch.ones(1, 1, 2, 2))


def test_scales_are_means_over_pixels_and_small_images_are_left_out():
    image = torch.tensor([[0, 4, 8, 8], [8, 4, 8, 8]], dtype=torch.uint8)[None]
    assert smaller(image, 0.5).tolist() == [[[4, 8]]]
    data = Crops([noise(1, 16, 16), noise(1, 40, 40)], size=10, scales=(1.0, 0.5, 0.25))
    assert sorted(tuple(image.shape[1:]) for image in data.images) == [(10, 10), (16, 16), (20, 20), (40, 40)]


def test_an_image_is_as_likely_as_its_side_is_long():
    # 33 x 33 and 9 x 9 places for a crop of 8: 33 to 9.
    data = Crops([torch.zeros(1, 40, 40, dtype=torch.uint8), torch.ones(1, 16, 16, dtype=torch.uint8)], 8, (1.0,))
    share = float((data.of(1, 2000, 0)[:, 0, 0, 0] > 0).double().mean())
    assert share == pytest.approx(9 / 42, abs=5 * math.sqrt(9 / 42 * 33 / 42 / 2000))


def test_moments_are_those_of_all_pixels_at_all_scales():
    data = Crops([noise(1, 16, 16), noise(1, 40, 24, seed=1)], size=8, scales=(1.0, 0.5))
    pixels = torch.cat([image.double().flatten() for image in data.images]) / 255
    mean, std = data.moments()
    assert mean == pytest.approx(pixels.mean().item(), abs=1e-9)
    assert std == pytest.approx(pixels.std(correction=0).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 50}, "images must have at least 50 pixels a side"),
        ({"size": 0}, "size must be at least 1"),
        ({"grey_share": 1.5}, "grey_share in"),
        ({"scales": (2.0,)}, "scales must be numbers above 0 and at most 1"),
        ({"images": [noise(3, 20, 20), noise(1, 20, 20)]}, "all have 1 channel or all have 3"),
    ],
)
def test_what_cannot_be_cropped(options, message):
    with pytest.raises(ValueError, match=message):
        Crops(**{"images": [noise(3, 20, 20)], "size": 8, **options})
