"""Numbers as text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.reporting.figures import (
    bytes_text,
    energy_text,
    lost_text,
    metric_text,
    ms_text,
    percent_text,
    points_text,
    ratio_text,
    seconds_text,
    times_text,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (bytes_text(999), "999 B"),
        (bytes_text(1000), "1.00 kB"),
        (bytes_text(64_000), "64.0 kB"),
        (bytes_text(999_600), "1.00 MB"),
        (ms_text(0.0193), "19.3 µs"),
        (energy_text(0.0193), "19.3 µJ"),
        (energy_text(12.84), "12.8 mJ"),
        (ms_text(0.9999), "1.00 ms"),
        (ms_text(128.4), "128 ms"),
        (percent_text(0.9173), "91.73 %"),
        (metric_text("accuracy", 0.9173, (0.9117, 0.9226)), "91.73 % (91.2 to 92.3)"),
        (metric_text("mse", 0.012345, (0.01, 0.02)), "0.01235 (0.01 to 0.02)"),
        (points_text("accuracy", 0.0028, (-0.0041, 0.0096)), "0.28 (−0.4 to 1.0)"),
        (points_text("accuracy", -0.00001), "0.00"),
        (points_text("mae", -0.5), "−0.5000"),
        (ratio_text(0.523, (0.5, 0.551)), "0.52× (0.50 to 0.55)"),
        (ratio_text(0.1719, (0.1693, 0.1741)), "0.172× (0.169 to 0.174)"),
        (times_text(5.2), "5.20×"),
        (times_text(12.01), "12.0×"),
        (lost_text(0.284, (-0.12, 0.68)), "0.28 (−0.12 to 0.68)"),
        (seconds_text(4.2), "4.2 s"),
        (seconds_text(1796.4), "29 min 56 s"),
        (seconds_text(59.99), "1 min 00 s"),
        (seconds_text(3599.7), "1 h 00 min"),
    ],
)
def test_as_people_read_them(text, expected):
    assert text == expected


UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "µs": 1e-3, "ms": 1}


@given(st.floats(1e-2, 9e11))
def test_three_digits_are_right(number):
    for text in (bytes_text(number) if number >= 1 else None, ms_text(number)):
        if text is not None:
            digits, unit = re.fullmatch(r"([0-9.]+) (\S+)", text).groups()
            least = 0.5 if unit == "B" else 0.0
            assert float(digits) * UNITS[unit] == pytest.approx(number, rel=6e-3, abs=least)
