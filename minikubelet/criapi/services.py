"""What the generated stubs would know, as data: each service's methods, read from the protobuf descriptors.

A server builds its handlers from a `Service`; a client gets one callable a method from `Service.connect`:

    runtime = services.RUNTIME.connect(channel)        # grpc.Channel or grpc.aio.Channel
    reply = runtime.Version(api.VersionRequest())
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType, SimpleNamespace
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.protobuf.message import Message

from minikubelet.criapi import (
    api_pb2,
    deviceplugin_pb2,
    node_pb2,
    pluginregistration_pb2,
    podresources_pb2,
)


@dataclass(frozen=True, slots=True)
class Method:
    """One gRPC method."""

    name: str
    path: str
    """As in HTTP/2's :path, "/runtime.v1.RuntimeService/RunPodSandbox"."""
    request: type[Message]
    response: type[Message]
    client_streaming: bool
    server_streaming: bool

    @property
    def kind(self) -> str:
        """The name grpc gives this combination of streams: "unary_unary", "unary_stream", …"""
        sides = (self.client_streaming, self.server_streaming)
        return "_".join("stream" if side else "unary" for side in sides)

    def connect(self, channel: Any) -> Any:
        """The method as a callable on `channel` (grpc.Channel or grpc.aio.Channel)."""
        return getattr(channel, self.kind)(
            self.path,
            request_serializer=self.request.SerializeToString,
            response_deserializer=self.response.FromString,
        )


@dataclass(frozen=True, slots=True)
class Service:
    """One gRPC service: its full name ("runtime.v1.RuntimeService") and its methods by their short names."""

    name: str
    methods: Mapping[str, Method]

    def __iter__(self) -> Iterator[Method]:
        return iter(self.methods.values())

    def connect(self, channel: Any) -> SimpleNamespace:
        """An object with one callable attribute a method."""
        return SimpleNamespace(**{method.name: method.connect(channel) for method in self})


def _method(descriptor: MethodDescriptor) -> Method:
    return Method(
        name=descriptor.name,
        path=f"/{descriptor.containing_service.full_name}/{descriptor.name}",
        request=message_factory.GetMessageClass(descriptor.input_type),
        response=message_factory.GetMessageClass(descriptor.output_type),
        client_streaming=descriptor.client_streaming,
        server_streaming=descriptor.server_streaming,
    )


def _service(file: FileDescriptor, name: str) -> Service:
    descriptor = file.services_by_name[name]
    methods = {method.name: _method(method) for method in descriptor.methods}
    return Service(descriptor.full_name, MappingProxyType(methods))


def _renamed(service: Service, name: str, *methods: str) -> Service:
    """Some methods of a service under another name."""
    chosen = {each: replace(service.methods[each], path=f"/{name}/{each}") for each in methods}
    return Service(name, MappingProxyType(chosen))


RUNTIME = _service(api_pb2.DESCRIPTOR, "RuntimeService")
IMAGE = _service(api_pb2.DESCRIPTOR, "ImageService")
IMAGE_STORE = _service(node_pb2.DESCRIPTOR, "ImageStore")

DEVICE_PLUGIN = _service(deviceplugin_pb2.DESCRIPTOR, "DevicePlugin")
DEVICE_REGISTRATION = _service(deviceplugin_pb2.DESCRIPTOR, "Registration")
PLUGIN_REGISTRATION = _service(pluginregistration_pb2.DESCRIPTOR, "Registration")
POD_RESOURCES = _service(podresources_pb2.DESCRIPTOR, "PodResourcesLister")
POD_RESOURCES_ALPHA = _renamed(POD_RESOURCES, "v1alpha1.PodResourcesLister", "List")
"""What agents from before v1 ask for: its messages are those of v1 without the fields that came later."""

ALL = (RUNTIME, IMAGE, IMAGE_STORE)
