import numpy as np
import pytest
import torch
from PIL import Image

from inverse import images


def save(path, values, **options):
    Image.fromarray(np.asarray(values)).save(path, **options)
    return path


def test_grey_and_colour_in_eight_bits(tmp_path):
    grey = np.array([[0, 51], [102, 255]], np.uint8)
    expected = torch.tensor([[0, 0.2], [0.4, 1]])
    torch.testing.assert_close(images.read_picture(save(tmp_path / "g.png", grey)), expected[None])
    colour = np.stack([grey, 255 - grey, grey], -1)
    torch.testing.assert_close(
        images.read_picture(save(tmp_path / "c.png", colour)), torch.stack([expected, 1 - expected, expected])
    )


def test_grey_in_sixteen_bits_keeps_its_depth(tmp_path):
    values = np.array([[0, 1], [257, 65535]], np.uint16)
    read = images.read_picture(save(tmp_path / "a.png", values))
    torch.testing.assert_close(read, torch.tensor([[[0, 1 / 65535], [257 / 65535, 1]]]))


def test_a_palette_is_looked_up(tmp_path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putdata([1, 0])
    picture.save(tmp_path / "p.png")
    assert images.read_picture(tmp_path / "p.png").tolist() == [[[0, 1]], [[0, 0]], [[1, 0]]]


def test_transparency_lies_over_white(tmp_path):
    half = np.array([[[0, 0, 0, 255], [0, 0, 0, 0], [255, 0, 0, 51]]], np.uint8)
    read = images.read_picture(save(tmp_path / "a.png", half))
    torch.testing.assert_close(read[:, 0].T, torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0.8, 0.8]]))
    grey = Image.fromarray(np.array([[0, 0]], np.uint8))
    grey.putalpha(Image.fromarray(np.array([[255, 0]], np.uint8)))
    grey.save(tmp_path / "la.png")
    assert images.read_picture(tmp_path / "la.png").tolist() == [[[0, 1]]]


def test_a_photograph_is_turned_as_its_camera_says(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # shown after a quarter turn clockwise
    save(tmp_path / "a.png", np.array([[0, 255]], np.uint8), exif=exif)
    assert images.read_picture(tmp_path / "a.png").tolist() == [[[0], [1]]]


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    save(tmp_path / "whole.png", np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:2000])
    for name in ("text.png", "empty.png", "cut.png", "."):
        with pytest.raises(ValueError, match="is not an image that can be read"):
            images.read_picture(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no such file"):
        images.read_picture(tmp_path / "none.png")


def test_arrays_of_bytes_and_of_floats(tmp_path):
    values = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    np.save(tmp_path / "a.npy", values)
    torch.testing.assert_close(images.read_array(tmp_path / "a.npy"), torch.tensor(values / 255).float()[:, None])
    np.save(tmp_path / "b.npy", np.full((2, 3, 4, 5), 0.25))
    assert torch.equal(images.read_array(tmp_path / "b.npy"), torch.full((2, 3, 4, 5), 0.25))
    np.save(tmp_path / "c.npy", np.ones((4, 5), bool))
    assert torch.equal(images.read_array(tmp_path / "c.npy"), torch.ones(1, 1, 4, 5))
    np.save(tmp_path / "d.npy", np.ones((7, 5), np.float32))
    assert images.read_array(tmp_path / "d.npy", (5,)).shape == (7, 5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0.0, 1.5]]), "values in \\[0, 1\\], got values from 0 to 1.5"),
        (np.array([[0.0, np.nan]]), "values in \\[0, 1\\]"),
        (np.array([[0, 7]]), "uint8, uint16, bool or floats"),
        (np.zeros((2, 5, 4, 4)), "must be \\(H, W\\)"),
        (np.zeros((0, 4)), "got nothing"),
        (np.zeros((20, 30, 3)), r"must be \(N, C, H, W\) for images in colour, got \(20, 30, 3\); use array\[None"),
        (np.zeros((2, 30, 4)), r"must be \(N, C, H, W\) for images in colour, got \(2, 30, 4\)"),
    ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path, values, message):
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(ValueError, match=message):
        images.read_array(tmp_path / "a.npy")


def test_files_that_are_no_arrays_are_refused_and_nothing_is_unpickled(tmp_path):
    np.save(tmp_path / "object.npy", np.array([{"a": 1}]), allow_pickle=True)
    (tmp_path / "text.npy").write_text("1 2 3")
    np.save(tmp_path / "whole.npy", np.zeros((8, 8)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:-8])
    for name in ("object.npy", "text.npy", "cut.npy"):
        with pytest.raises(ValueError, match="is not a .npy array that can be read"):
            images.load_npy(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no such file"):
        images.load_npy(tmp_path / "none.npy")


def test_fitting_crops_the_centre_resamples_and_says_so():
    picture = torch.zeros(1, 3, 40, 80)
    picture[:, :, :, 20:60] = 0.5  # the centred square, all that is kept
    fitted, note = images.fit(picture, (1, 20, 20), "a.png")
    torch.testing.assert_close(fitted, torch.full((1, 1, 20, 20), 0.5))  # the luminance weights sum to 1
    assert note == "a.png: made grey, cropped from 80 x 40 to its centre 40 x 40, resampled from 40 x 40 to 20 x 20"
    red = torch.zeros(1, 3, 4, 4)
    red[:, 0] = 1
    assert images.fit(red, (1, 4, 4))[0].unique().item() == pytest.approx(0.2125)
    assert images.fit(torch.rand(1, 1, 4, 4), (3, 4, 4))[0].shape == (1, 3, 4, 4)


def test_resampling_keeps_the_mean():
    picture = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    fitted, _ = images.fit(picture, (1, 16, 16))
    assert fitted.mean().item() == pytest.approx(picture.mean().item(), abs=0.01)
    assert fitted.std() < 0.5 * picture.std()  # without the anti-aliasing filter it would stay the same


def test_several_files_become_one_batch(tmp_path):
    (tmp_path / "x").mkdir()
    save(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    save(tmp_path / "x" / "a.png", np.zeros((8, 8), np.uint8))
    np.save(tmp_path / "b.npy", np.zeros((2, 4, 4)))
    paths = [tmp_path / "a.png", tmp_path / "x" / "a.png", tmp_path / "b.npy"]
    batch = images.load(paths, (1, 4, 4))
    assert batch.x.shape == (4, 1, 4, 4)
    assert batch.names == ["0-a", "1-a", "2-b-0", "3-b-1"]
    assert batch.notes == [f"{tmp_path / 'x' / 'a.png'}: resampled from 8 x 8 to 4 x 4"]
    with pytest.raises(ValueError, match="one shape"):
        images.load(paths)
    with pytest.raises(ValueError, match="at least one"):
        images.load([])
    with pytest.raises(ValueError, match="must have shape \\(5,\\)"):
        images.load(paths[:1], (5,))


def test_a_picture_written_is_the_picture_read(tmp_path):
    picture = torch.arange(256.0).reshape(1, 16, 16) / 255
    images.write_png(tmp_path / "a.png", picture)
    torch.testing.assert_close(images.read_picture(tmp_path / "a.png"), picture)
    images.write_png(tmp_path / "c.png", torch.stack([picture[0], 2 * picture[0], -picture[0]]))
    read = images.read_picture(tmp_path / "c.png")
    torch.testing.assert_close(
        read, torch.stack([picture[0], (2 * picture[0]).clamp(max=1), 0 * picture[0]]), atol=3e-3, rtol=0
    )


def test_an_array_turned_as_its_refusal_says_is_the_picture(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
    save(tmp_path / "a.png", values[..., :3])
    np.save(tmp_path / "a.npy", values[None, ..., :3].transpose(0, 3, 1, 2))
    torch.testing.assert_close(images.read_array(tmp_path / "a.npy")[0], images.read_picture(tmp_path / "a.png"))


def test_narrow_grey_images_are_no_colours(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((5, 4, 3)))
    assert images.read_array(tmp_path / "a.npy").shape == (5, 1, 4, 3)


def test_the_note_tells_how_many_images_an_array_held(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 8, 8)))
    (note,) = images.load([tmp_path / "a.npy"], (1, 4, 4)).notes
    assert note == f"{tmp_path / 'a.npy'}: 3 images, resampled from 8 x 8 to 4 x 4"
