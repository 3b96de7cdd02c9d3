import numpy as np
import pytest
import torch
from PIL import Image
from skimage import io as skimage_io

from inverse import folder


def pixels(*shape, seed=0, top=256, kind=np.uint8):
    return np.random.default_rng(seed).integers(0, top, shape).astype(kind)


def save(path, values, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)


def test_pictures_of_every_kind_are_read(tmp_path):
    colour = pixels(9, 12, 3)
    save(tmp_path / "b" / "colour.png", colour)
    save(tmp_path / "a.bmp", pixels(10, 11, seed=1))
    clear = np.dstack([pixels(8, 8, 3, seed=2), np.zeros((8, 8), np.uint8)])
    clear[0, 0, 3] = 255
    save(tmp_path / "clear.png", clear)
    deep = pixels(8, 9, top=65536, kind=np.uint16, seed=3)
    save(tmp_path / "deep.png", deep)
    Image.fromarray(colour).quantize(16).save(tmp_path / "palette.gif")
    skimage_io.imsave(tmp_path / "rgb16.tif", pixels(8, 8, 3, top=65536, kind=np.uint16), check_contrast=False)
    np.save(tmp_path / "stack.npy", np.stack([pixels(8, 8, seed=4), pixels(8, 8, seed=5)]))
    found = folder.read(tmp_path)
    images = dict(zip(found.names, found.images, strict=True))
    assert found.skipped == []
    assert set(images) == {
        *("a.bmp", "b/colour.png", "clear.png", "deep.png", "palette.gif", "rgb16.tif", "stack.npy[0]", "stack.npy[1]"),
    }
    assert all(image.dtype == torch.uint8 and len(image) == 3 for image in images.values())
    assert torch.equal(images["b/colour.png"], torch.from_numpy(colour).movedim(-1, 0))
    assert images["clear.png"][:, 0, 0].tolist() == clear[0, 0, :3].tolist()
    assert bool((images["clear.png"][:, 1:] == 255).all())
    assert torch.equal(images["deep.png"][0], torch.from_numpy(np.round(deep / 257.0).astype(np.uint8)))
    assert found.notes == ["4 grey images were given three equal channels"]


def test_grey_folders_stay_grey_and_colour_is_made_grey_when_asked(tmp_path):
    save(tmp_path / "grey.png", pixels(9, 9))
    assert [tuple(image.shape) for image in folder.read(tmp_path).images] == [(1, 9, 9)]
    save(tmp_path / "red.png", np.full((8, 8, 3), (255, 0, 0), np.uint8))
    found = folder.read(tmp_path, grey=True)
    assert [len(image) for image in found.images] == [1, 1]
    assert int(found.images[1][0, 0, 0]) == round(0.2125 * 255)
    assert found.notes == ["1 images were made grey"]


def test_what_cannot_be_used_is_skipped_and_told(tmp_path):
    save(tmp_path / "a.png", pixels(9, 9))
    save(tmp_path / "copy.png", pixels(9, 9))
    save(tmp_path / "tiny.png", pixels(7, 30))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "half.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    (tmp_path / ".hidden.png").write_bytes(b"")
    Image.fromarray(np.full((9, 9), np.nan, np.float32)).save(tmp_path / "nan.tif")
    np.save(tmp_path / "large.npy", np.full((9, 9), 3.0))
    skimage_io.imsave(tmp_path / "volume.tif", pixels(5, 9, 9, 3), check_contrast=False)
    found = folder.read(tmp_path)
    skipped = dict(found.skipped)
    assert "a.png" in found.names and set(skipped) >= {"copy.png", "tiny.png", "notes.txt", "half.png", "nan.tif"}
    assert skipped["copy.png"] == "the same as a.png"
    assert skipped["tiny.png"] == "30 x 7 pixels: too small"
    assert "is not an image that can be read" in skipped["notes.txt"]
    assert "nan" in skipped["nan.tif"] and "[0, 1]" in skipped["nan.tif"]
    assert "values in [0, 1], got values from 3 to 3" in skipped["large.npy"]
    assert all("\n" not in why and str(tmp_path) not in why for why in skipped.values())


def test_folders_without_pictures_are_refused(tmp_path):
    with pytest.raises(ValueError, match="FOLDER must hold images, got .* with 0 files"):
        folder.read(tmp_path)
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(ValueError, match="with 1 files, none of which can be used"):
        folder.read(tmp_path)
    with pytest.raises(NotADirectoryError, match="FOLDER must be a folder with images"):
        folder.read(tmp_path / "notes.txt")


def test_large_pictures_are_made_smaller(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "MOST_PIXELS", 200)
    save(tmp_path / "large.png", np.full((40, 20), 100, np.uint8))
    save(tmp_path / "small.png", pixels(10, 12))
    found = folder.read(tmp_path)
    assert [tuple(image.shape) for image in found.images] == [(1, 20, 10), (1, 10, 12)]
    assert int(found.images[0].float().mean()) == 100
    assert found.notes == ["1 images were made smaller, to 0.0002 megapixels"]


def test_digest_tells_the_images(tmp_path):
    save(tmp_path / "a.png", pixels(9, 9))
    first = folder.read(tmp_path).digest()
    save(tmp_path / "renamed.png", pixels(9, 9))
    assert folder.read(tmp_path).digest() == first  # a copy changes nothing
    save(tmp_path / "b.png", pixels(9, 9, seed=1))
    assert folder.read(tmp_path).digest() != first
