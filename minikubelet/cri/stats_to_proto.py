"""Measurements as CRI messages."""

from __future__ import annotations

from minikubelet.cri import kept, to_proto
from minikubelet.criapi import api_pb2 as api
from minikubelet.linux.cgroup.pressure import Pressure, Stall
from minikubelet.runtime.stats import Disk, Interface, Memory, PodUsage, Usage


def _uint(value: int) -> api.UInt64Value:
    return api.UInt64Value(value=max(0, value))


def container(usage: Usage) -> api.ContainerStats:
    """ContainerStats; a container that isn't running has attributes and writable layer only."""
    message = api.ContainerStats(attributes=kept.container_attributes(usage.container))
    if usage.cpu is not None:
        message.cpu.CopyFrom(_cpu(usage.timestamp, usage.cpu, usage.nano_cores, usage.pressure.get("cpu")))
    if usage.memory is not None:
        message.memory.CopyFrom(_memory(usage.timestamp, usage.memory, usage.pressure.get("memory")))
        swap = _swap(usage.timestamp, usage.memory)
        if swap is not None:
            message.swap.CopyFrom(swap)
    if "io" in usage.pressure:
        message.io.CopyFrom(api.IoUsage(timestamp=usage.timestamp, psi=_pressure(usage.pressure["io"])))
    if usage.disk is not None:
        message.writable_layer.CopyFrom(disk(usage.disk))
    return message


def pod(usage: PodUsage) -> api.PodSandboxStats:
    """PodSandboxStats."""
    source = usage.sandbox
    linux = api.LinuxPodSandboxStats(
        cpu=_cpu(usage.timestamp, usage.cpu, usage.nano_cores, None),
        memory=_memory(usage.timestamp, usage.memory, None),
        process=api.ProcessUsage(timestamp=usage.timestamp, process_count=_uint(usage.processes)),
        containers=[container(item) for item in usage.containers],
    )
    if usage.interfaces:
        linux.network.CopyFrom(
            api.NetworkUsage(
                timestamp=usage.timestamp,
                default_interface=_interface(usage.interfaces[0]),
                interfaces=[_interface(item) for item in usage.interfaces[1:]],
            )
        )
    return api.PodSandboxStats(
        attributes=api.PodSandboxAttributes(
            id=source.id,
            metadata=to_proto.sandbox_metadata(source),
            labels=source.config.labels,
            annotations=source.config.annotations,
        ),
        linux=linux,
    )


def disk(usage: Disk) -> api.FilesystemUsage:
    """FilesystemUsage of a writable layer."""
    return api.FilesystemUsage(
        timestamp=usage.timestamp,
        fs_id=api.FilesystemIdentifier(mountpoint=usage.path),
        used_bytes=_uint(usage.bytes),
        inodes_used=_uint(usage.inodes),
    )


def _cpu(timestamp: int, spent: int, rate: int | None, stalls: Pressure | None) -> api.CpuUsage:
    return api.CpuUsage(
        timestamp=timestamp,
        usage_core_nano_seconds=_uint(spent),
        usage_nano_cores=None if rate is None else _uint(rate),
        psi=None if stalls is None else _pressure(stalls),
    )


def _memory(timestamp: int, memory: Memory, stalls: Pressure | None) -> api.MemoryUsage:
    return api.MemoryUsage(
        timestamp=timestamp,
        working_set_bytes=_uint(memory.working_set),
        available_bytes=_uint(memory.available),
        usage_bytes=_uint(memory.usage),
        rss_bytes=_uint(memory.rss),
        page_faults=_uint(memory.page_faults),
        major_page_faults=_uint(memory.major_page_faults),
        psi=None if stalls is None else _pressure(stalls),
    )


def _swap(timestamp: int, memory: Memory) -> api.SwapUsage | None:
    if memory.swap_usage is None:
        return None
    return api.SwapUsage(
        timestamp=timestamp,
        swap_usage_bytes=_uint(memory.swap_usage),
        swap_available_bytes=None if memory.swap_available is None else _uint(memory.swap_available),
    )


def _pressure(stalls: Pressure) -> api.PsiStats:
    return api.PsiStats(Full=_stall(stalls.full), Some=_stall(stalls.some))


def _stall(stall: Stall) -> api.PsiData:
    return api.PsiData(Total=stall.total * 1000, Avg10=stall.avg10, Avg60=stall.avg60, Avg300=stall.avg300)


def _interface(source: Interface) -> api.NetworkInterfaceUsage:
    return api.NetworkInterfaceUsage(
        name=source.name,
        rx_bytes=_uint(source.rx_bytes),
        rx_errors=_uint(source.rx_errors),
        tx_bytes=_uint(source.tx_bytes),
        tx_errors=_uint(source.tx_errors),
    )
