"""What a JUnit report of the conformance suite is read as, and when it is held to be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.critest.expectations import (
    DIGEST,
    Lack,
    apparmor_is_on,
    lacks_of_vm,
    maps_users,
    v2_controllers,
    verdicts,
)
from tests.critest.suite import Report, Spec, SuiteError, read_report

JUNIT = """<testsuites><testsuite>
<testcase name="[BeforeSuite]" status="passed" time="0.1"/>
<testcase name="[It] [k8s.io] Pods start" status="passed" time="1.5"/>
<testcase name="[It] [k8s.io] Pods stop" status="failed" time="2">
  <failure message="failed to stop: gone&#10;Unexpected error:&#10;  &lt;*status.Error | 0x1&gt;"/>
</testcase>
<testcase name="[It] [k8s.io] Pods crash" status="panicked"><error message="nil map"/></testcase>
<testcase name="[It] [k8s.io] AppArmor confines" status="skipped">
  <skipped message="skipped - AppArmor is disabled on this host"/></testcase>
<testcase name="[It] [k8s.io] benchmark" status="skipped"><skipped message="skipped"/></testcase>
{more}</testsuite></testsuites>"""


def report_of(tmp_path: Path, more: str = "") -> Report:
    junit = tmp_path / "junit.xml"
    junit.write_text(JUNIT.format(more=more))
    return read_report(junit)


def test_a_report_tells_what_became_of_each_spec(tmp_path: Path) -> None:
    report = report_of(tmp_path)
    assert report.specs == [
        Spec("[k8s.io] AppArmor confines", "skipped", "AppArmor is disabled on this host"),
        Spec("[k8s.io] Pods crash", "failed", "nil map"),
        Spec("[k8s.io] Pods start", "passed", "", 1.5),
        Spec("[k8s.io] Pods stop", "failed", "failed to stop: gone", 2.0),
    ]
    assert report.left_out == 1
    assert "1 passed, 2 failed, 1 skipped" in report.summary()
    assert "AppArmor is disabled" in report.summary()


def test_a_failed_set_up_counts(tmp_path: Path) -> None:
    broken = '<testcase name="[BeforeSuite]" status="failed"><failure message="no socket"/></testcase>'
    assert Spec("[BeforeSuite]", "failed", "no socket") in report_of(tmp_path, broken).specs


def test_no_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="no report"):
        read_report(tmp_path / "junit.xml")


PASSED, FAILED = Spec("a spec", "passed"), Spec("a spec", "failed", "why")
SKIPPED = Spec("a spec", "skipped", "no such thing here")


def test_failures_and_skips_are_wrong_unless_listed() -> None:
    assert verdicts(Report([PASSED]), []) == []
    assert verdicts(Report([FAILED]), []) == ["failed: a spec: why"]
    assert verdicts(Report([SKIPPED]), []) == ["skipped: a spec: no such thing here"]
    assert verdicts(Report([FAILED]), [Lack("spec$", "failed", "known")]) == []


def test_a_listed_failure_does_not_excuse_a_skip() -> None:
    assert len(verdicts(Report([SKIPPED]), [Lack("spec", "failed", "known")])) == 2


def test_a_lack_that_is_gone_is_wrong() -> None:
    (wrong,) = verdicts(Report([PASSED]), [Lack("spec", "failed", "known")])
    assert "known lacks" in wrong and "known)" in wrong


def test_the_host_is_asked_for_what_it_has(tmp_path: Path) -> None:
    switch = tmp_path / "enabled"
    assert not apparmor_is_on(switch)
    switch.write_text("Y\n")
    assert apparmor_is_on(switch)
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(f"1 0 0:1 / {tmp_path} rw shared:1 - cgroup2 cgroup2 rw\n")
    assert v2_controllers(mountinfo) == {"cpu", "memory"}
    mountinfo.write_text("1 0 0:1 / / rw - ext4 /dev/sda rw\n")
    assert v2_controllers(mountinfo) == set()


@pytest.mark.parametrize(
    ("release", "answer"),
    [("6.1.0-56-amd64", False), ("6.3.0", True), ("6.18.44-fc", True), ("5.19", False), ("7.0.1", True)],
)
def test_kernels_with_user_namespaces_for_pods(release: str, answer: bool) -> None:
    assert maps_users(release) is answer


@pytest.mark.parametrize(
    "name",
    ["[k8s.io] AppArmor confines", "[k8s.io] Security Context UserNamespaces maps", "a spec OOMKilled"],
)
@pytest.mark.parametrize("status", ["skipped", "failed"])
def test_in_the_vm_only_the_digest_may_be_missing(name: str, status: str) -> None:
    digest = Spec("[k8s.io] Image public image with digest should be pulled and removed", "failed", "no such")
    assert lacks_of_vm() == [DIGEST]
    assert verdicts(Report([digest, PASSED]), lacks_of_vm()) == []
    assert verdicts(Report([digest, Spec(name, status, "why")]), lacks_of_vm()) == [f"{status}: {name}: why"]
