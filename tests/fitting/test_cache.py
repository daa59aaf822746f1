"""What was computed once is not computed again, and nothing else is taken for it."""

from __future__ import annotations

import numpy as np
import pytest

import edgewise as ew
from edgewise.fitting.cache import Cache, digest_of_data, digest_of_model, key_of


def test_a_model_is_made_once(tmp_path, net):
    cache, made = Cache.at(tmp_path), []

    def make(scratch):
        made.append(scratch)
        return net

    first, second = cache.model("k", make), cache.model("k", make)
    x = np.ones((1, 1, 8, 8), np.float32)
    assert len(made) == 1
    assert np.array_equal(first(x), second(x))


def test_a_damaged_result_is_made_again(tmp_path, net):
    cache = Cache.at(tmp_path)
    cache.model("k", lambda scratch: net)
    (tmp_path / "k" / "model.pt2").write_bytes(b"torn")
    made = []
    cache.model("k", lambda scratch: made.append(1) or net)
    assert made == [1]


def test_digests_differ_where_contents_do(net, stripes):
    data = ew.load_data(stripes, net.signature)
    x, y = stripes["training"]
    other = ew.load_data({**stripes, "training": (x + 1e-3, y)}, net.signature)
    assert digest_of_data(data) == digest_of_data(ew.load_data(stripes, net.signature))
    assert digest_of_data(data) != digest_of_data(other)
    assert digest_of_model(net) != digest_of_model(ew.Prune(0.5)(net))
    assert key_of("a", 1) != key_of("a", 2)


def test_what_was_not_used_for_longest_goes_first(tmp_path, net):
    cache = Cache.at(tmp_path)
    for key in "abc":
        cache.model(key, lambda scratch: net)
        cache.path.joinpath(key).touch()
    size = (tmp_path / "c" / "model.pt2").stat().st_size
    cache.trim(2 * size)
    assert not (tmp_path / "a").exists()
    assert (tmp_path / "c" / "model.pt2").exists()


def test_a_cache_where_no_folder_can_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ew.EdgewiseError, match="cannot hold what is computed"):
        Cache.at(tmp_path / "file" / "cache")
