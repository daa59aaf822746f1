import asyncio
import itertools
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.edge.artifact import Artifact
from edgewise.edge.serving import lane
from edgewise.edge.serving.limits import Limits, Refused

from ..tiny import write_onnx

W = np.add.outer(np.arange(4), np.arange(3)).astype(np.float32)


@given(
    files=st.lists(st.tuples(st.integers(1, 6), st.floats(0.001, 1)), min_size=1, max_size=3),
    n=st.integers(1, 6),
)
@settings(max_examples=40)
def test_the_plan_is_the_cheapest(files, n):
    batches, seconds = zip(*files, strict=True)
    plan = lane.Plan.of(batches, seconds, 8)
    # Every multiset of files that covers n samples.
    cheapest = min(
        sum(seconds[i] for i in chosen)
        for count in range(1, n + 1)
        for chosen in itertools.combinations_with_replacement(range(len(files)), count)
        if sum(batches[i] for i in chosen) >= n
    )
    assert plan.cost[n] == pytest.approx(cheapest)
    left, spent = n, 0.0
    while left > 0:
        spent += seconds[plan.first[left]]
        left -= batches[plan.first[left]]
    assert spent == pytest.approx(cheapest)


def test_a_batch_pays_only_where_it_was_measured_to():
    assert not lane.Plan.of([1], [1.0], 8).pays(1, 1)
    assert lane.Plan.of([1, 4], [1.0, 1.5], 8).pays(1, 1)
    assert not lane.Plan.of([1, 4], [1.0, 2.5], 8).pays(1, 1)
    assert lane.Plan.of([1, 4], [1.0, 2.5], 8).pays(2, 1)
    assert not lane.Plan.of([1, 4], [1.0, 1.5], 8).pays(7, 2)  # over the limit


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    pytest.importorskip("onnxruntime", reason="runs ONNX files")
    folder = tmp_path_factory.mktemp("batches")
    paths = [write_onnx(folder / f"net{batch}.onnx", batch=batch) for batch in (1, 4)]
    return [Artifact.open(path) for path in paths]


@pytest.mark.parametrize(("inline", "instances"), [(True, 1), (False, 1), (False, 3)])
def test_every_request_gets_its_own_answer(artifacts, monkeypatch, inline, instances):
    monkeypatch.setattr(lane, "INLINE_SECONDS", 1.0 if inline else 0.0)
    runs = []

    class Watched(lane.Instance):
        def time(self):
            super().time()
            return [1e-3, 1.1e-3]  # a batch of four pays from two on

        def run(self, plan, arrays):
            runs.append((len(arrays[0]), threading.get_ident()))
            return super().run(plan, arrays)

    monkeypatch.setattr(lane, "Instance", Watched)
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(n, 4)).astype(np.float32) for n in (1, 2, 1, 3, 1, 1, 6, 1, 1)]

    async def main():
        opened = lane.open_lane(
            "m", "1", artifacts, Limits(samples=8), threads=1, instances=instances
        )
        opened.start(asyncio.get_running_loop())
        found = await asyncio.gather(*(opened.infer((x,)) for x in inputs))
        opened.close()
        return opened, found

    opened, found = asyncio.run(main())
    for x, (y,) in zip(inputs, found, strict=True):
        np.testing.assert_allclose(y, x @ W, rtol=1e-5, atol=1e-5)
    assert opened.inline == inline
    assert opened.samples == sum(n for n, _ in runs) == 17
    assert opened.runs == len(runs) < len(inputs)  # some were joined
    here = threading.get_ident() in {thread for _, thread in runs}
    assert here == inline


def test_the_queue_is_bounded_on_the_loop_too(artifacts, monkeypatch):
    monkeypatch.setattr(lane, "INLINE_SECONDS", 1.0)

    async def main():
        opened = lane.open_lane("m", "1", artifacts[:1], Limits(waiting=2), threads=1)
        opened.start(asyncio.get_running_loop())
        x = np.zeros((1, 4), np.float32)
        return await asyncio.gather(*(opened.infer((x,)) for _ in range(6)), return_exceptions=True)

    found = asyncio.run(main())
    refused = [x for x in found if isinstance(x, Refused)]
    assert len(refused) == 3 and {x.status for x in refused} == {429}


def test_a_request_that_its_client_gave_up_is_not_run(artifacts, monkeypatch):
    monkeypatch.setattr(lane, "INLINE_SECONDS", 1.0)

    async def main():
        opened = lane.open_lane("m", "1", artifacts[:1], Limits(), threads=1)
        opened.start(asyncio.get_running_loop())
        x = np.zeros((1, 4), np.float32)
        tasks = [asyncio.ensure_future(opened.infer((x,))) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return opened.runs

    assert asyncio.run(main()) == 2
