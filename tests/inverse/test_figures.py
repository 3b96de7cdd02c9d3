import numpy as np
import pytest
import torch

from inverse import figures, images
from inverse.samples import Samples


def make(n=3, batch=2, shape=(1, 12, 12), y=None, sigma=0.1):
    x = torch.rand(n, batch, *shape, generator=torch.Generator().manual_seed(0))
    return Samples(x, 1, 1.0, "mmps", {}, 0, y, {"noise_sigma": [sigma]})


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def test_the_columns_are_what_is_known():
    truth, y = torch.rand(2, 1, 12, 12), torch.rand(2, 1, 12, 12)
    samples = ["sample 1", "sample 2", "sample 3"]
    assert titles(figures.draw(figures.rows(make(y=y), truth))) == [
        "truth",
        "measurement",
        "mean",
        "std",
        "|error|",
        *samples,
    ]
    assert titles(figures.draw(figures.rows(make()))) == ["mean", "std", *samples]
    assert titles(figures.draw(figures.rows(make(n=1), truth))) == ["truth", "mean", "sample 1"]


def test_each_row_shows_its_own_measurement():
    truth = torch.rand(2, 1, 12, 12)
    figure = figures.draw(figures.rows(make(y=truth), truth))
    shown = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    np.testing.assert_allclose(shown[1][..., 0], truth[0, 0])  # measurement of the first row of 8 columns
    np.testing.assert_allclose(shown[9][..., 0], truth[1, 0])
    np.testing.assert_allclose(shown[8 + 4], (make().mean[1, 0] - truth[1, 0]).abs(), atol=1e-6)


def test_std_and_error_share_one_scale():
    figure = figures.draw(figures.rows(make(), torch.zeros(2, 1, 12, 12)))
    scales = {axes.images[0].get_clim() for axes in figure.axes if axes.images and axes.images[0].cmap.name == "magma"}
    assert len(scales) == 1
    assert next(iter(scales))[0] == 0


def test_the_group_is_written_once_beside_its_rows():
    figure = figures.draw(figures.rows(make(), group="blur") + figures.rows(make(), group="mask"))
    assert [text.get_text() for text in figure.texts] == ["blur", "mask"]


def test_what_a_mask_hid_is_blue_only_where_there_is_noise():
    y = torch.full((1, 4, 4), 0.5)
    y[0, 1, 2] = 0
    shown = figures.picture(y, (1, 4, 4))
    assert shown[1, 2].tolist() == pytest.approx(figures.HIDDEN)
    assert shown[0, 0].tolist() == [0.5] * 3
    assert figures.picture(y, (1, 4, 4), noisy=False)[1, 2].tolist() == [0] * 3


def test_numbers_that_are_no_image_become_a_block_from_black_to_white():
    shown = figures.picture(torch.arange(7.0), (1, 4, 4))
    assert shown.shape == (3, 3, 3)
    assert shown[..., 0].ravel().tolist() == pytest.approx([i / 6 for i in range(7)] + [1, 1])


def test_spectra_are_shown_by_their_modulus():
    y = torch.tensor([3.0, 0.0]).reshape(1, 2).expand(2, 2).reshape(2, 1, 2)
    y = torch.stack([torch.tensor([[3.0, 0.0]]), torch.tensor([[4.0, 0.0]])])
    shown = figures.picture(y, (1, 1, 2))
    assert shown[..., 0].tolist() == [[1, 0]]  # |3 + 4i| = 5 is the largest
    assert torch.equal(
        torch.as_tensor(figures.picture(torch.complex(y[0], y[1])[None], (1, 1, 2))), torch.as_tensor(shown)
    )


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_the_ending_chooses_the_format(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    figures.write(figures.rows(make(shape=(3, 12, 12))), path)
    assert path.read_bytes().lstrip()[:5].startswith({"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[ending])


def test_a_figure_that_cannot_be_is_refused(tmp_path):
    with pytest.raises(ValueError, match="path must end in"):
        figures.write(figures.rows(make()), tmp_path / "a.xyz")
    with pytest.raises(ValueError, match="at least one row"):
        figures.draw([])
    with pytest.raises(ValueError, match="samples must be images"):
        figures.rows(make(shape=(5,)))
    with pytest.raises(ValueError, match="truth must have shape"):
        figures.rows(make(), torch.rand(1, 1, 12, 12))
    with pytest.raises(FileNotFoundError, match="figure cannot be written to .*a.png: No such file or directory"):
        figures.write(figures.rows(make()), tmp_path / "missing" / "a.png")
    with pytest.raises(FileNotFoundError, match="figure cannot be written to .*b.png: No such file or directory"):
        figures.write_grid(torch.ones(1, 1, 8, 8), tmp_path / "missing" / "b.png")


def test_a_grid_shows_every_image(tmp_path):
    black_and_white = torch.stack([torch.zeros(1, 8, 8), torch.ones(1, 8, 8), torch.ones(1, 8, 8)])
    figures.write_grid(black_and_white, tmp_path / "grid.png", columns=2)
    written = images.read_picture(tmp_path / "grid.png")[0]
    half, across = written.shape[0] // 2, written.shape[1] // 2
    assert written[half // 2, across // 2] == 0
    assert written[half // 2, across + across // 2] == 1
    assert written[half + half // 2, across // 2] == 1
