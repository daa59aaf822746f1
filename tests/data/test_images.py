from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from edgewise.data import images, load_data
from edgewise.errors import DataError

RNG = np.random.default_rng(0)


def pixels(height=6, width=8, channels=3):
    return RNG.integers(0, 256, (height, width, channels), np.uint8).squeeze()


@pytest.fixture
def folder(tmp_path):
    """Three classes of ten images, each image all of one colour value per class."""
    for c, name in enumerate(["cat", "ant", "bee"]):
        (tmp_path / name).mkdir()
        for i in range(10):
            array = np.full((6, 8, 3), 100 * c, np.uint8)
            Image.fromarray(array).save(tmp_path / name / f"{i}.png")
    (tmp_path / "cat" / ".hidden.png").write_bytes(b"no image")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_folders_are_classes_in_sorted_order(folder, takes):
    data = load_data(folder, takes(3, 6, 8, outputs=3, dtype="uint8"))
    assert data.labels == ("ant", "bee", "cat")
    assert (len(data.training), len(data.evaluation)) == (24, 6)
    for split in data.splits.values():
        (x,), y = split.take(len(split))
        assert x.dtype == np.uint8
        assert x.shape[1:] == (3, 6, 8)
        np.testing.assert_array_equal(x[:, 0, 0, 0], np.array([100, 200, 0])[y])


def test_png_pixels_come_out_exactly(tmp_path, takes):
    arrays = [pixels() for _ in range(3)]
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(tmp_path / f"{i}.PNG")
    data = load_data(tmp_path)
    assert data.evaluation is None
    np.testing.assert_array_equal(data.calibration.take(3)[0][0], arrays)
    fitted = data.fit(takes(3, 6, 8, dtype="uint8"))
    np.testing.assert_array_equal(fitted.calibration.take(3)[0][0], np.moveaxis(arrays, -1, 1))


@pytest.mark.parametrize(
    ("stored", "channels"), [("L", 1), ("L", 3), ("RGB", 1), ("P", 3), ("RGBA", 4), ("1", 1)]
)
def test_channels_are_the_models(tmp_path, takes, stored, channels):
    image = Image.fromarray(pixels()).convert(stored)
    image.save(tmp_path / "a.png")
    (x,), _ = load_data(tmp_path, takes(channels, 6, 8, dtype="uint8")).calibration.take(1)
    want = np.asarray(image.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])).reshape(
        6, 8, channels
    )
    np.testing.assert_array_equal(x[0], np.moveaxis(want, -1, 0))


def test_train_and_test_folders(tmp_path):
    for part, n in (("train", 6), ("val", 2), ("test", 3)):
        for name in "ab":
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(n):
                Image.fromarray(pixels()).save(tmp_path / part / name / f"{i}.jpg")
    data = load_data(tmp_path)
    assert (len(data.training), len(data.evaluation)) == (12, 6)
    assert all("test" in file.parts for file in data.evaluation.source.files)
    (tmp_path / "test" / "c").mkdir()
    Image.fromarray(pixels()).save(tmp_path / "test" / "c" / "0.jpg")
    with pytest.raises(DataError, match="class 'c' for evaluation and not for training"):
        load_data(tmp_path)


@pytest.mark.parametrize(("part", "splits"), [("train", 3), ("test", 1)])
def test_one_part_alone(folder, tmp_path_factory, part, splits):
    parent = tmp_path_factory.mktemp("parent")
    folder.rename(parent / part)
    data = load_data(parent)
    assert len(data.splits) == splits
    assert data.labels == ("ant", "bee", "cat")
    if part == "train":
        assert (len(data.training), len(data.evaluation)) == (24, 6)


def test_an_image_of_another_size_is_not_resized_by_itself(folder, takes):
    with pytest.raises(DataError, match=r"\d.png is 6x8 and the model takes 4x4: give resize=4 or"):
        load_data(folder, takes(3, 4, 4, outputs=3, dtype="uint8"))


def test_squash_scales_both_sides(tmp_path, takes):
    array = pixels(20, 30)
    Image.fromarray(array).save(tmp_path / "a.png")
    data = load_data(tmp_path, takes(3, 10, 10, dtype="uint8"), resize="squash")
    want = Image.fromarray(array).resize((10, 10), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(
        data.calibration.take(1)[0][0][0], np.moveaxis(np.array(want), -1, 0)
    )


def test_an_integer_scales_the_shorter_side_and_cuts_the_centre(tmp_path, takes):
    array = pixels(20, 30)
    Image.fromarray(array).save(tmp_path / "a.png")
    signature = takes(8, 8, 3, layout="NHWC", dtype="uint8")
    (x,), _ = load_data(tmp_path, signature, resize=10).calibration.take(1)
    small = np.array(Image.fromarray(array).resize((15, 10), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(x[0], small[1:9, 4:12])
    (x,), _ = load_data(tmp_path, signature, resize=20).calibration.take(1)
    np.testing.assert_array_equal(x[0], array[6:14, 11:19])
    with pytest.raises(DataError, match="resize=7 is less than the model's 8x8"):
        load_data(tmp_path, signature, resize=7)


def test_images_of_different_sizes_need_a_signature(tmp_path):
    Image.fromarray(pixels(6, 8)).save(tmp_path / "a.png")
    Image.fromarray(pixels(6, 9)).save(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"b\.png is 6x9 and .*a\.png is 6x8: give the model's"):
        load_data(tmp_path).calibration.take(2)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n", None])
def test_a_damaged_image_is_named(tmp_path, content):
    path = tmp_path / "a.png"
    Image.fromarray(pixels(60, 60)).save(path)
    path.write_bytes(path.read_bytes()[:3000] if content is None else content)
    with pytest.raises(DataError, match=r"a\.png cannot be decoded as an image"):
        load_data(tmp_path).calibration.take(1)


def bomb(width, height):
    """A small PNG whose header promises many pixels."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(999)))


@pytest.mark.parametrize("side", [8001, 10_000, 60_000])
def test_a_decompression_bomb_is_refused_undecoded(tmp_path, side, recwarn):
    (tmp_path / "a.png").write_bytes(bomb(side, 8001))
    with pytest.raises(DataError, match=r"a\.png (has .* pixels, more than 64 million|cannot be)"):
        load_data(tmp_path).calibration.take(1)
    assert not recwarn.list


def test_deep_images_are_not_clipped(tmp_path):
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="more than 8 bits"):
        load_data(tmp_path).calibration.take(1)


def test_other_formats_are_not_opened(tmp_path):
    Image.fromarray(pixels()).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(DataError, match="cannot be decoded"):
        load_data(tmp_path).calibration.take(1)


def test_a_folder_without_images(tmp_path):
    with pytest.raises(DataError, match="holds no image: put them in one folder a class"):
        load_data(tmp_path)


def test_a_model_that_takes_no_image(folder, takes):
    with pytest.raises(DataError, match="does not take one image"):
        load_data(folder, takes(4, outputs=3))
    with pytest.raises(DataError, match="takes 2 channels: images have 1, 3 or 4"):
        load_data(folder, takes(2, 6, 8, outputs=3, dtype="uint8"))


def test_images_are_decoded_when_asked_for(folder, monkeypatch, takes):
    read = []
    decode = images.Images._decode
    monkeypatch.setattr(
        images.Images, "_decode", lambda self, file: read.append(file) or decode(self, file)
    )
    data = load_data(folder)
    assert read == []
    stream = data.training.batches(4)
    next(stream)
    assert len(read) == 4


def test_real_photographs(shared_data, takes):
    data = load_data(
        shared_data / "imagenet_val_227" / "images",
        takes(3, 224, 224),
        resize=227,
        normalize=((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    )
    (x,), targets = data.training.take(8)
    assert targets is None
    assert x.shape == (8, 3, 224, 224)
    assert abs(x.mean()) < 1
