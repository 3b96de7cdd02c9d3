import numpy as np
import torch
from PIL import Image

from inverse import look
from priors import GaussianMixture


def test_rows_are_images_noisy_denoised_and_draws(tmp_path):
    # A law of one image: whatever the noise, denoised it is that image, and so is every draw.
    image = torch.linspace(0, 1, 64).reshape(1, 1, 8, 8)
    prior = GaussianMixture(image, torch.zeros(1))
    prior.sigma_range = (0.002, 10.0)
    look.write(prior, image.expand(3, -1, -1, -1), tmp_path / "look.png")
    assert [path.name for path in tmp_path.iterdir()] == ["look.png"]
    side = 8 * 8 + 2 * look.GAP
    picture = np.asarray(Image.open(tmp_path / "look.png"))
    assert picture.shape == (4 * side, 3 * side)
    cells = picture.reshape(4, side, 3, side).swapaxes(1, 2)
    clean, noisy, denoised, draws = (row[:, 2:-2, 2:-2][:, ::8, ::8].astype(int) for row in cells)
    expected = np.round(255 * image[0, 0].numpy()).astype(int)
    assert (clean == expected).all()
    assert abs(denoised - expected).max() <= 1 and abs(draws - expected).max() <= 1
    assert abs(noisy - expected).max() > 20
    assert (cells[:, :, :2] == 255).all()  # white between them
