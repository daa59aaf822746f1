"""Nobody computes while somebody measures."""

from __future__ import annotations

import threading

from edgewise.fitting.quiet import Quiet


def test_a_computation_lets_the_measurement_in_and_goes_on_after_it(tmp_path):
    events: list[str] = []
    computing, wanted = threading.Event(), threading.Event()

    def train() -> None:
        quiet = Quiet(tmp_path)
        with quiet.computing():
            computing.set()
            for _ in range(1000):
                if wanted.wait(0.01):
                    break
            while "measured" not in events:
                quiet.pause()
            events.append("trained on")
        quiet.close()

    thread = threading.Thread(target=train)
    thread.start()
    assert computing.wait(10)
    quiet = Quiet(tmp_path)
    wanted.set()
    with quiet.measuring():
        assert events == []
        events.append("measured")
    thread.join(10)
    quiet.close()
    assert events == ["measured", "trained on"]


def test_computations_do_not_wait_for_each_other(tmp_path):
    one, other = Quiet(tmp_path), Quiet(tmp_path)
    with one.computing(), other.computing():
        one.pause()
        other.pause()
    with one.measuring():
        pass
