"""A few of what `python -m benchmarks.fuzz requests` sends by the hundred thousand."""

from benchmarks.fuzz_requests import attack


def test_hostile_requests_get_an_answer_or_none(server):
    inputs = [{"name": "x", "shape": [2, 4], "datatype": "FP32", "data": [1.0] * 8}]
    found = attack(server.server.port, "tiny", inputs, 300, seed=7)
    assert found["200"] and found["400"] > 100
    answer = server.ask("POST", "/v2/models/tiny/infer", {"inputs": inputs})
    assert answer[0] == 200
