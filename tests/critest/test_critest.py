"""The whole conformance suite against minikubelet: every spec passes but those on the list of known lacks.

As root; takes about a minute. The JUnit report and the logs stay in reports/.
"""

from __future__ import annotations

import os

import pytest

from tests.bench.contenders import ROOT
from tests.critest.expectations import lacks_of_host, verdicts
from tests.critest.main import Options, run_and_clean

REPORTS = ROOT / "reports" / "critest"
SPECS = 117
"""Of the suite, benchmarks apart: fewer mean that it wasn't run whole."""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_suite_passes() -> None:
    REPORTS.mkdir(parents=True, exist_ok=True)
    options = Options(parallel=4, junit=REPORTS / "junit.xml", logs=REPORTS)
    report, left = run_and_clean(options)
    print(report.summary())
    assert len(report.specs) == SPECS
    assert not verdicts(report, lacks_of_host())
    assert not left


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_streaming_passes_over_websocket_too() -> None:
    REPORTS.mkdir(parents=True, exist_ok=True)
    junit = REPORTS / "websocket.junit.xml"
    options = Options(
        focus=["Streaming"], websocket=True, parallel=2, junit=junit, logs=REPORTS / "websocket"
    )
    report, left = run_and_clean(options)
    print(report.summary())
    assert report.with_status("passed")
    assert not verdicts(report, [])
    assert not left
