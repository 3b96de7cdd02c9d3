import gzip
import struct

import pytest
import torch

from priors import fashion_mnist


def write(folder, images: bytes, labels: bytes, prefix="train"):
    (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))


IMAGES = struct.pack(">4BIII", 0, 0, 8, 3, 2, 28, 28) + bytes(range(256)) * 6 + bytes(2 * 784 - 6 * 256)
LABELS = struct.pack(">4BI", 0, 0, 8, 1, 2) + bytes([9, 3])


def test_reads_images_and_labels(tmp_path):
    write(tmp_path, IMAGES, LABELS, "t10k")
    images, labels = fashion_mnist.read("held-out", tmp_path)
    assert images.shape == (2, 1, 28, 28) and images.dtype == torch.uint8
    assert images[0, 0, 0, :3].tolist() == [0, 1, 2] and images[0, 0, 1, 0] == 28
    assert labels.tolist() == [9, 3] and labels.dtype == torch.int64


def test_says_how_to_get_the_data(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"MIT licence.*install the Debian package dataset-fashion-mnist"):
        fashion_mnist.read("train", tmp_path)


def test_unknown_split(tmp_path):
    with pytest.raises(ValueError, match="split must be 'train' or 'held-out', got 'test'"):
        fashion_mnist.read("test", tmp_path)


@pytest.mark.parametrize("images", [IMAGES[:-1], IMAGES + b"\0", b"", b"\0\0\x0d\x03" + IMAGES[4:], b"other content"])
def test_other_content_is_refused(tmp_path, images):
    write(tmp_path, images, LABELS)
    with pytest.raises(ValueError, match="must (be a gzipped idx file|hold 1568 bytes)"):
        fashion_mnist.read("train", tmp_path)


def test_not_gzipped_or_cut_short(tmp_path):
    for content in (IMAGES, gzip.compress(IMAGES)[:-9]):
        write(tmp_path, IMAGES, LABELS)
        (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(content)
        with pytest.raises(ValueError, match="must be a gzipped idx file"):
            fashion_mnist.read("train", tmp_path)


def test_labels_must_match(tmp_path):
    write(tmp_path, IMAGES, struct.pack(">4BI", 0, 0, 8, 1, 1) + b"\0")
    with pytest.raises(ValueError, match="one label each"):
        fashion_mnist.read("train", tmp_path)
