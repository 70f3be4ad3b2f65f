"""The whole conformance suite against minikubelet: every spec passes but those on the list of known lacks.

As root; takes about a minute. The JUnit report and the logs stay in reports/, or in
$MINIKUBELET_CRITEST_REPORTS. MINIKUBELET_CRITEST_VM says that this is the VM, where the list is shorter.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.bench.contenders import ROOT
from tests.critest.expectations import lacks_of_host, lacks_of_vm, verdicts
from tests.critest.main import Options, run_and_clean

REPORTS = Path(os.environ.get("MINIKUBELET_CRITEST_REPORTS") or ROOT / "reports" / "critest")
IN_VM = "MINIKUBELET_CRITEST_VM" in os.environ
PARALLEL = 2 if IN_VM else 4
SPECS = 117
"""Of the suite, benchmarks apart: fewer mean that it wasn't run whole."""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_suite_passes() -> None:
    REPORTS.mkdir(parents=True, exist_ok=True)
    options = Options(parallel=PARALLEL, junit=REPORTS / "junit.xml", logs=REPORTS)
    report, left = run_and_clean(options)
    print(report.summary())
    assert len(report.specs) == SPECS
    assert not verdicts(report, lacks_of_vm() if IN_VM else lacks_of_host())
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
