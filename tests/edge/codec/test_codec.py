"""Files decode to what they were, whatever their tensors hold, and to nothing else."""

import hashlib
import lzma

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.edge import codec
from edgewise.edge.codec import Segment, encoder
from edgewise.errors import InputError, ModelError

RNG = np.random.default_rng(0)


def lay_out(arrays, gap=b"between"):
    """A file with these arrays in it, and where they are."""
    data, segments = b"", []
    for array in arrays:
        data += gap
        segments.append(Segment(len(data), str(array.dtype), array.shape))
        data += array.tobytes()
    return data + gap, segments


def decode(coded, size, old=None):
    out = []
    before = None if old is None else np.frombuffer(old, np.uint8)
    codec.decode(
        lambda at, n: coded[at : at + n], len(coded), size, lambda b: out.append(bytes(b)), before
    )
    return b"".join(out)


def conv(shape, scale, dtype=np.int8):
    """Integers whose spread differs from channel to channel, as weights have it."""
    rest = (1,) * (len(shape) - 2)
    spread = RNG.uniform(0.3, 2, (shape[0], 1, *rest)) * RNG.uniform(0.5, 1.5, (1, shape[1], *rest))
    values = np.rint(RNG.standard_normal(shape) * spread * scale)
    return np.clip(values, -128, 127).astype(dtype)


FLOATS = RNG.standard_normal((20, 8, 3, 3)).astype(np.float32)
SPARSE = np.where(np.abs(FLOATS) > 1, FLOATS, np.float32(0))
# Weights of 7 values, coded in November 2026.
CODED = (
    "021000260000002a00000008000000010025929904000190900090c2c099cd02d0010194140403039400010203"
    "01919508007dcc8371c2c00001000368656164004eb6c50df8d4970a99877f38b90056033879a800e4dca41a01"
    "412e00d740b1ab4943494da2c3dd100720dc4485120500faf6111ac6050100063e460c7502690053780b3876c0"
    "1989ddcabf3ce941a1cd2101dbfd8b12d6be00930d485b4b39d14f93ec77d37a67eba7c10172c034e2e04b9322"
    "920006f2382b0e154625b04b4860770e0f4204290c6d6c32430b03788042c88881d342d9baf691bf311d7ece08"
    "7ef65dd2b556ba0804816e4abc8b0a487bc4e93fa586bb522633adb5977fef0219f6773f3bd62d44fe6bf5c41a"
    "6a2dfeb0065bd8501d1c902a42018f4ac8b87dd49a03e4c8500ae933d0123a0f4423bd5eb97268742f4d821b84"
    "3082c5b9f13ad1c72496f54c542bc64754a0a4419434eb339d3bd3123238320240bd69f8692a13f8290a18f362"
    "70e765fdc65381de4c8c1e7384fe48d7bbb993c98ec6c5c57d"
)
TENSORS = {
    "int8": conv((32, 16, 3, 3), 4),
    "int8, channels last": conv((32, 16, 3, 3), 4).transpose(0, 2, 3, 1).copy(),
    "int8, linear": conv((30, 77), 20),
    "int8, all values": RNG.integers(-128, 128, (50, 50), dtype=np.int8),
    "uint8 around 128": (conv((40, 60), 9).astype(np.int16) + 128).astype(np.uint8),
    "zeros": np.zeros((40, 40), np.int8),
    "one value": np.full((9, 7, 3, 3), -128, np.int8),
    "bool": RNG.random((30, 20)) > 0.9,
    "vector": conv((1, 700), 5).reshape(-1),
    "int16": conv((40, 40), 20, np.int16) * np.int16(7),
    "int32": RNG.integers(-9000, 9000, 900, dtype=np.int32),
    "int64": RNG.integers(-(2**62), 2**62, 600),
    "float32": FLOATS,
    "float32, sparse": SPARSE,
    "float32, minus zero": np.where(SPARSE == 0, np.float32(-0.0), SPARSE),
    "float32, tiny": (SPARSE * np.float32(1e-42)).astype(np.float32),
    "float32, not numbers": np.where(SPARSE == 0, np.float32(np.nan), FLOATS * np.float32(1e37)),
    "float32, few values": np.round(FLOATS).astype(np.float32),
    "float16": FLOATS.astype(np.float16),
    "float64": FLOATS[:4].astype(np.float64),
    "depthwise": conv((1, 3, 3, 80), 30),
    "tiny": np.arange(3, dtype=np.int8),
    "empty": np.zeros((0, 3), np.float32),
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_file_decodes_to_what_it_was(name):
    data, segments = lay_out([TENSORS[name], TENSORS["int8"]])
    coded = codec.encode(data, segments)
    assert coded == codec.encode(data, segments)
    assert decode(coded, len(data)) == data


@pytest.mark.parametrize("count", [1, 600, 601])
def test_numbers_of_four_bits(count):
    packed = RNG.integers(0, 256, (count + 1) // 2, dtype=np.uint8)
    data = b"head" + packed.tobytes()
    coded = codec.encode(data, [Segment(4, "int4", (count,))])
    assert decode(coded, len(data)) == data


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(1, 12), min_size=2, max_size=5),
    dtype=st.sampled_from(["int8", "uint8", "int16", "int32", "float32", "float16"]),
    seed=st.integers(0, 99),
)
def test_any_shape_and_any_bits(shape, dtype, seed):
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    bits = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    data, segments = lay_out([bits.view(dtype).reshape(shape)])
    assert decode(codec.encode(data, segments), len(data)) == data


def test_bytes_of_which_nothing_is_known():
    for data in (b"", b"x", b"abc" * 1000, RNG.bytes(10_000)):
        coded = codec.encode(data)
        assert decode(coded, len(data)) == data
        assert len(coded) < len(data) + 60


@pytest.mark.parametrize("scale", [0.4, 2, 12])
def test_weights_take_less_than_their_entropy_and_than_lzma(scale):
    layers = [conv((64, 32, 3, 3), scale) for _ in range(3)]
    data, segments = lay_out(layers, gap=b"")
    entropy = 0.0
    for layer in layers:
        counts = np.unique(layer, return_counts=True)[1]
        entropy -= float((counts * np.log2(counts / layer.size)).sum()) / 8
    size = len(codec.encode(data, segments))
    assert size == codec.size_of(layers)
    assert size < 0.99 * entropy
    assert size < len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


@pytest.mark.parametrize("name", TENSORS)
def test_an_update_is_the_difference(name):
    old, segments = lay_out([TENSORS[name], TENSORS["int8"]])
    new = bytearray(old)
    for at in range(7, len(new), 97):
        new[at] ^= 1
    new = bytes(new)
    coded = codec.encode(new, segments, (old, segments))
    assert decode(coded, len(new), old) == new
    if len(new) > 20_000:
        assert len(coded) < len(codec.encode(new, segments)) / 3


def test_an_update_may_be_of_another_length():
    old, old_segments = lay_out([TENSORS["int8"], FLOATS])
    new, segments = lay_out([TENSORS["int8"], FLOATS], gap=b"a longer one")
    coded = codec.encode(new, segments, (old, old_segments))
    assert decode(coded, len(new), old) == new
    other, others = lay_out([FLOATS])
    assert decode(codec.encode(other, others, (old, old_segments)), len(other), old) == other


def test_overlapping_tensors_are_refused():
    for at in (0, 5):
        with pytest.raises(InputError, match="overlaps"):
            codec.encode(b"0123456789", [Segment(4, "int8", (3,)), Segment(at, "int8", (6,))])


def test_large_tensors_are_cut(monkeypatch):
    monkeypatch.setattr(encoder, "LARGEST_PIECE", 5000)
    for name in ("int8", "depthwise", "float32", "int64", "zeros"):
        data, segments = lay_out([TENSORS[name], np.tile(TENSORS["int8"], (2, 1, 1, 1))])
        assert decode(codec.encode(data, segments), len(data)) == data
    data = b"head" + RNG.bytes(8001)
    coded = codec.encode(data, [Segment(4, "int4", (16001,))])
    assert decode(coded, len(data)) == data


@pytest.mark.parametrize("size", [0, 1, 10**4, 2**32, 2**60])
def test_another_size_is_refused(size):
    data, segments = lay_out([TENSORS["int8"]])
    with pytest.raises(ModelError):
        decode(codec.encode(data, segments), size)


def test_changed_data_are_refused_or_decode_to_that_many_bytes():
    data, segments = lay_out([TENSORS[n] for n in ("int8", "float32, few values", "int32")])
    coded = codec.encode(data, segments)
    refused = 0
    for i in range(90):
        bad = bytearray(coded)
        at = int(RNG.integers(len(bad))) if i % 3 else int(RNG.integers(60))
        bad[at] ^= int(RNG.integers(1, 256))
        try:
            assert len(decode(bytes(bad), len(data))) == len(data)
        except ModelError:
            refused += 1
    assert refused > 60


def test_cut_data_are_refused():
    data, segments = lay_out([TENSORS["int8"]])
    coded = codec.encode(data, segments)
    for size in range(0, len(coded), 53):
        with pytest.raises(ModelError):
            decode(coded[:size], len(data))


def test_the_format_stays():
    """What was coded by an older version decodes; change `FORMAT` when this must fail."""
    digests = b"".join(hashlib.sha256(bytes([i])).digest() for i in range(23))
    data = b"head" + bytes((byte % 7 - 3) % 256 for byte in digests[:720])
    coded = bytes.fromhex(CODED)
    assert decode(coded, len(data)) == data
