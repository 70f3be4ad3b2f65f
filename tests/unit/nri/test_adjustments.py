"""What plugins may ask for: taken over exactly, or refused with the field's name."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import text_format

from minikubelet.base.errors import Code, NodeError
from minikubelet.criapi import nri_pb2 as nri
from minikubelet.nri import from_proto, merge, scheduling
from minikubelet.nri.merge import Adjustments
from minikubelet.runtime import adjust
from minikubelet.runtime.models import Adjusted, HugepageLimit, LinuxResources, Namespaces
from minikubelet.wire.messages import Device, Mount, Process, Rlimit, Scheduler


def adjustment(text: str) -> nri.ContainerAdjustment:
    return text_format.Parse(text, nri.ContainerAdjustment())


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('hooks { create_runtime { path: "/bin/true" } }', "hooks.create_runtime"),
        ('linux { cgroups_path: "/elsewhere" }', "linux.cgroups_path"),
        ('linux { namespaces { type: "network" } }', "linux.namespaces"),
        ('linux { net_devices { key: "a" value { name: "b" } } }', "linux.net_devices"),
        ("linux { rdt { remove: true } }", "linux.rdt"),
        ('linux { memory_policy { nodes: "0" } }', "linux.memory_policy"),
        ('linux { resources { blockio_class { value: "a" } } }', "linux.resources.blockio_class"),
        ('linux { resources { rdt_class { value: "a" } } }', "linux.resources.rdt_class"),
        ("linux { resources { devices { allow: true } } }", "linux.resources.devices"),
        ("linux { resources { memory { kernel { value: 1 } } } }", "linux.resources.memory.kernel"),
        (
            "linux { resources { memory { disable_oom_killer { value: true } } } }",
            "linux.resources.memory.disable_oom_killer",
        ),
        (
            "linux { resources { cpu { realtime_runtime { value: 1 } } } }",
            "linux.resources.cpu.realtime_runtime",
        ),
    ],
)
def test_what_is_not_built_is_named(text: str, field: str) -> None:
    with pytest.raises(NodeError) as caught:
        from_proto.refuse_unknown(adjustment(text))
    assert (caught.value.code, caught.value.field) == (Code.UNIMPLEMENTED, f"adjust.{field}")


def test_every_field_is_either_merged_or_refused() -> None:
    """A field that upstream adds must not be dropped in silence."""
    merged = {"annotations", "mounts", "env", "hooks", "linux", "rlimits", "CDI_devices", "args"}
    assert set(nri.ContainerAdjustment.DESCRIPTOR.fields_by_name) == merged
    handled = {"devices", "resources", "memory_policy", "sysctl", *merge._WHOLE}
    handled |= set(from_proto._NOT_BUILT)
    assert set(nri.LinuxContainerAdjustment.DESCRIPTOR.fields_by_name) == handled
    resources = {"memory", "cpu", "hugepage_limits", "unified", "pids", *from_proto._RESOURCES_NOT_BUILT}
    assert set(nri.LinuxResources.DESCRIPTOR.fields_by_name) == resources


def test_neutral_values_of_what_does_not_exist_are_fine() -> None:
    from_proto.refuse_unknown(adjustment("linux { resources { memory { kernel { } swappiness { } } } }"))


def test_everything_that_can_be_adjusted() -> None:
    wanted = adjustment(
        """
        annotations { key: "a" value: "1" } annotations { key: "-b" value: "" }
        args: "run" args: "fast"
        env { key: "NEW" value: "x=y" } env { key: "-OLD" }
        mounts { destination: "/opt/" source: "/usr" type: "bind" options: "rbind" options: "ro" }
        mounts { destination: "-/gone" } mounts { destination: "/t" type: "tmpfs" options: "size=1m" }
        rlimits { type: "RLIMIT_NOFILE" hard: 18446744073709551615 soft: 7 }
        CDI_devices { name: "v/c=d" }
        linux {
          devices { path: "/dev/x" type: "c" major: 1 minor: 3 file_mode { value: 384 } uid { value: 5 } }
          devices { path: "-/dev/y" }
          oom_score_adj { value: 0 }
          resources {
            memory { limit { value: 10 } reservation { value: 4 } } cpu { cpus: "0-1" }
            pids { limit: 9 } hugepage_limits { page_size: "2MB" limit: 8 }
          }
        }
        """
    )
    current = LinuxResources(oom_score_adj=500, cpu_shares=3, memory_limit=1)
    assert from_proto.adjusted(wanted, current, Namespaces()) == Adjusted(
        annotations={"a": "1"},
        removed_annotations=("b",),
        args=("run", "fast"),
        env=("NEW=x=y",),
        removed_env=("OLD",),
        mounts=(
            Mount(kind="bind", source="/usr", target="/opt", flags=["ro"]),
            Mount(kind="tmpfs", target="/t", data="size=1m"),
        ),
        removed_mounts=("/gone",),
        devices=(Device(path="/dev/x", kind="c", major=1, minor=3, mode=0o600, uid=5),),
        removed_devices=("/dev/y",),
        rlimits=(Rlimit(name="RLIMIT_NOFILE", soft=7, hard=-1),),
        cdi_devices=("v/c=d",),
        resources=LinuxResources(
            cpu_shares=3,
            memory_limit=10,
            cpuset_cpus="0-1",
            hugepages=(HugepageLimit(page_size="2MB", limit=8),),
            unified={"memory.low": "4", "pids.max": "9"},
        ),
    )


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('args: "a\\000b"', "adjust.args"),
        ('env { key: "A=B" }', "adjust.env"),
        ('env { key: "A" value: "\\000" }', "adjust.env"),
        ('mounts { destination: "relative" source: "/usr" }', "adjust.mounts[0].destination"),
        ('mounts { destination: "/a/../b" source: "/usr" }', "adjust.mounts[0].destination"),
        ('mounts { destination: "/" source: "/usr" }', "adjust.mounts[0].destination"),
        ('mounts { destination: "/a" source: "/no/such" }', "adjust.mounts[0].source"),
        ('mounts { destination: "/a" source: "/usr" options: "odd" }', "adjust.mounts[0].options"),
        ('mounts { destination: "/a" type: "ext4" }', "adjust.mounts[0].type"),
        ('linux { devices { path: "dev" type: "c" } }', "adjust.linux.devices[0].path"),
        ('linux { devices { path: "/dev/a" type: "x" } }', "adjust.linux.devices[0].type"),
        ('rlimits { type: "RLIMIT_LOVE" }', "adjust.rlimits.type"),
        ('linux { sysctl { key: "kernel.panic" value: "1" } }', "adjust.linux.sysctl['kernel.panic']"),
        ('linux { sysctl { key: "kernel.sem" value: "1\\n2" } }', "adjust.linux.sysctl['kernel.sem']"),
        ("linux { scheduler { nice: 1 } }", "adjust.linux.scheduler.policy"),
        ("linux { scheduler { policy: SCHED_ISO } }", "adjust.linux.scheduler.policy"),
        ("linux { scheduler { policy: SCHED_BATCH nice: 20 } }", "adjust.linux.scheduler.nice"),
        ("linux { scheduler { policy: SCHED_OTHER priority: 1 } }", "adjust.linux.scheduler.priority"),
        ("linux { scheduler { policy: SCHED_RR period: 1 } }", "adjust.linux.scheduler.period"),
        ("linux { scheduler { policy: SCHED_OTHER flags: 99 } }", "adjust.linux.scheduler.flags"),
        ("linux { io_priority { priority: 1 } }", "adjust.linux.io_priority.class"),
        (
            "linux { io_priority { class: IOPRIO_CLASS_BE priority: 8 } }",
            "adjust.linux.io_priority.priority",
        ),
        ('rlimits { type: "RLIMIT_CPU" soft: 2 hard: 1 }', "adjust.rlimits"),
    ],
)
def test_impossible_adjustments_name_their_field(text: str, field: str) -> None:
    with pytest.raises(NodeError) as caught:
        from_proto.adjusted(adjustment(text), LinuxResources(), Namespaces())
    assert caught.value.field.startswith(field)


def test_seccomp_in_the_words_of_a_profile() -> None:
    wanted = adjustment(
        """
        linux { seccomp_policy {
          default_action: "SCMP_ACT_ALLOW"
          syscalls { names: "mkdir" action: "SCMP_ACT_ERRNO" errno_ret { value: 7 }
                     args { index: 1 value: 2 op: "SCMP_CMP_EQ" } }
        } }
        """
    )
    profile = from_proto.adjusted(wanted, LinuxResources(), Namespaces()).seccomp
    assert profile is not None
    process = adjust.process(Process(args=[b"a"]), Adjusted(seccomp=profile))
    assert len(process.seccomp) > 0 and len(process.seccomp) % 8 == 0


# --- several plugins ---------------------------------------------------------------------------------


def merged(*answers: str) -> tuple[Adjustments, nri.CreateContainerRequest]:
    request = nri.CreateContainerRequest()
    request.container.id = "app-id"
    request.container.env.extend(["OLD=1", "KEEP=2"])
    request.container.mounts.add(destination="/old", source="/a")
    made = Adjustments(request)
    for number, text in enumerate(answers):
        made.apply(text_format.Parse(text, nri.CreateContainerResponse()), f"{number}0-plugin")
    return made, request


def test_removed_and_set_anew() -> None:
    made, request = merged(
        'adjust { env { key: "A" value: "first" } mounts { destination: "/m" source: "/1" } }',
        'adjust { env { key: "-A" } env { key: "A" value: "second" } env { key: "-OLD" } '
        'mounts { destination: "-/m" } mounts { destination: "/m" source: "/2" } '
        'mounts { destination: "-/old" } }',
    )
    assert list(request.container.env) == ["KEEP=2", "A=second"]
    assert [(mount.destination, mount.source) for mount in request.container.mounts] == [("/m", "/2")]
    made.adjust.mounts[-1].source = "/usr"
    result = from_proto.adjusted(made.adjust, LinuxResources(), Namespaces())
    assert result.env == ("A=second",)
    assert "OLD" in result.removed_env
    assert "/old" in result.removed_mounts


@pytest.mark.parametrize(
    "text",
    [
        'annotations { key: "a" value: "1" }',
        'args: "a"',
        'env { key: "A" }',
        'mounts { destination: "/m" }',
        'rlimits { type: "RLIMIT_CPU" }',
        'CDI_devices { name: "v/c=d" }',
        'linux { devices { path: "/dev/x" } }',
        "linux { oom_score_adj { value: 1 } }",
        'linux { seccomp_policy { default_action: "SCMP_ACT_ALLOW" } }',
        'linux { sysctl { key: "net.ipv4.ip_forward" value: "1" } }',
        "linux { scheduler { policy: SCHED_OTHER } }",
        "linux { io_priority { class: IOPRIO_CLASS_BE } }",
        "linux { resources { memory { limit { value: 1 } } } }",
        'linux { resources { cpu { mems: "0" } } }',
        'linux { resources { unified { key: "cpu.max" value: "1" } } }',
        "linux { resources { pids { limit: 1 } } }",
        'linux { resources { hugepage_limits { page_size: "2MB" } } }',
    ],
)
def test_the_same_thing_twice_is_a_conflict(text: str) -> None:
    with pytest.raises(NodeError, match="'00-plugin' and '10-plugin' both set"):
        merged(f"adjust {{ {text} }}", f"adjust {{ {text} }}")


def test_arguments_may_be_replaced_on_purpose() -> None:
    made, _ = merged('adjust { args: "a" }', 'adjust { args: "" args: "b" args: "c" }')
    assert list(made.adjust.args) == ["b", "c"]


def test_a_plugin_may_not_update_what_is_being_made() -> None:
    with pytest.raises(NodeError, match="updates what is being created"):
        merged('update { container_id: "app-id" }')


def test_mounts_stay_in_order() -> None:
    made = [
        Mount(kind="proc", target="/proc"),
        Mount(kind="bind", target="/a/b"),
        Mount(kind="bind", target="/c"),
    ]
    adjusted = Adjusted(mounts=(Mount(kind="tmpfs", target="/a"),), removed_mounts=("/c",))
    assert [mount.target for mount in adjust.mounts(made, adjusted)] == ["/proc", "/a", "/a/b"]


def test_process_without_adjustments_is_untouched() -> None:
    process: Any = Process(args=[b"a"], env=[b"A=1"])
    assert adjust.process(process, Adjusted()) is process
    changed = adjust.process(process, Adjusted(args=("b",), env=("A=2", "B=3"), removed_env=("C",)))
    assert (changed.args, changed.env) == ([b"b"], [b"A=2", b"B=3"])


def test_what_the_kernel_is_told_of_a_process() -> None:
    made = from_proto.adjusted(
        adjustment(
            """
            linux {
              sysctl { key: "net.core.somaxconn" value: "7" } sysctl { key: "-kernel.sem" value: "" }
              scheduler { policy: SCHED_BATCH nice: 5 flags: SCHED_FLAG_RESET_ON_FORK }
              io_priority { class: IOPRIO_CLASS_BE priority: 6 }
            }
            """
        ),
        LinuxResources(),
        Namespaces(),
    )
    assert made.sysctls == {"net.core.somaxconn": "7"}
    assert made.scheduler == Scheduler(policy=3, nice=5, flags=1)
    assert made.io_priority is not None and made.io_priority == 2 << 13 | 6
    process = adjust.process(Process(args=[b"a"]), made)
    assert (process.scheduler, process.io_priority) == (made.scheduler, made.io_priority)
    assert made.scheduler is not None
    shown = nri.LinuxContainerAdjustment(
        scheduler=scheduling.scheduler_message(made.scheduler),
        io_priority=scheduling.io_priority_message(made.io_priority),
    )
    assert (scheduling.scheduler(shown), scheduling.io_priority(shown)) == (made.scheduler, made.io_priority)


def test_parameters_of_the_hosts_namespaces_are_refused() -> None:
    wanted = adjustment('linux { sysctl { key: "net.core.somaxconn" value: "7" } }')
    with pytest.raises(NodeError, match="host's network namespace"):
        from_proto.adjusted(wanted, LinuxResources(), Namespaces(network="node"))


def test_a_parameter_is_removed_and_set_anew() -> None:
    made, request = merged(
        'adjust { linux { sysctl { key: "kernel.sem" value: "1" } } }',
        'adjust { linux { sysctl { key: "-kernel.sem" } sysctl { key: "kernel.sem" value: "2" } } }',
    )
    assert dict(request.container.linux.sysctl) == {"kernel.sem": "2"}
    assert dict(made.adjust.linux.sysctl) == {"kernel.sem": "2"}
