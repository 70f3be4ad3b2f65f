"""The benchmark's verdicts: ratios the right way up, wishes met or missed."""

from __future__ import annotations

from typing import cast

import pytest

from tests.bench.contenders import Contender
from tests.bench.measures import POD_PSS, PULL, UP, UP_RATE, Bench, Measure
from tests.bench.report import fraction, rows, table
from tests.registry import Registry


class Named:
    def __init__(self, name: str) -> None:
        self.name = name


def bench(measure: Measure, ours: list[float], theirs: list[float]) -> Bench:
    contenders = [cast(Contender, Named(name)) for name in ("minikubelet", "containerd")]
    made = Bench(contenders, cast(Registry, None), "image", lambda: pytest.fail("no image is needed"))
    for contender, values in zip(contenders, (ours, theirs), strict=True):
        for value in values:
            made.add(measure, contender, value)
    return made


@pytest.mark.parametrize(
    ("ratio", "text"), [(0.125, "1/8"), (1 / 9.34, "1/9.3"), (1, "1"), (1.2, "1.20x"), (7.5, "7.50x")]
)
def test_ratios_read_as_people_say_them(ratio: float, text: str) -> None:
    assert fraction(ratio) == text


@pytest.mark.parametrize(
    ("measure", "ours", "theirs", "met"),
    [
        (UP, 20.0, 160.0, True),
        (UP, 21.0, 160.0, False),
        (UP_RATE, 48.0, 8.0, True),
        (UP_RATE, 47.0, 8.0, False),
        (POD_PSS, 2.0, 1.0, True),
        (POD_PSS, 2.1, 100.0, False),
        (PULL, 4.0, 4.0, True),
        (PULL, 4.1, 4.0, False),
    ],
)
def test_wishes(measure: Measure, ours: float, theirs: float, met: bool) -> None:
    (row,) = rows(bench(measure, [ours], [theirs]))
    assert row["met"] is met
    assert ("MISSED" in table(bench(measure, [ours], [theirs]))) is not met


def test_medians_not_means() -> None:
    (row,) = rows(bench(UP, [1.0, 2.0, 90.0], [10.0, 20.0, 21.0]))
    assert row["medians"] == {"minikubelet": 2.0, "containerd": 20.0}
    assert row["ratio"] == pytest.approx(0.1)
    assert row["samples"]["minikubelet"] == [1.0, 2.0, 90.0]


def test_one_runtime_alone_has_no_ratio_and_no_verdict() -> None:
    (row,) = rows(bench(UP, [], [10.0]))
    assert (row["ratio"], row["met"]) == (None, None)
    assert "MISSED" not in table(bench(UP, [], [10.0]))


def test_titles_name_the_load() -> None:
    assert "pods up, 10 clients" in table(bench(UP_RATE, [1.0], [1.0]))
