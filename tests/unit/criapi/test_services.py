"""The method tables agree with the generated classes and drive a real channel."""

from __future__ import annotations

from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

from minikubelet.criapi import api_pb2, node_pb2, services


def test_every_service_of_the_descriptors_is_listed() -> None:
    files = (api_pb2.DESCRIPTOR, node_pb2.DESCRIPTOR)
    declared = {service.full_name for file in files for service in file.services_by_name.values()}
    assert {service.name for service in services.ALL} == declared


def test_a_unary_method() -> None:
    method = services.RUNTIME.methods["RunPodSandbox"]
    assert method.path == "/runtime.v1.RuntimeService/RunPodSandbox"
    assert method.request is api_pb2.RunPodSandboxRequest
    assert method.response is api_pb2.RunPodSandboxResponse
    assert method.kind == "unary_unary"


def test_streams_are_told_by_direction() -> None:
    assert services.RUNTIME.methods["GetContainerEvents"].kind == "unary_stream"
    assert services.IMAGE_STORE.methods["Load"].kind == "stream_stream"
    assert services.IMAGE.methods["PullImage"].kind == "unary_unary"


def test_client_and_server_meet_over_a_socket(tmp_path: Path) -> None:
    def version(request: api_pb2.VersionRequest, context: grpc.ServicerContext) -> api_pb2.VersionResponse:
        return api_pb2.VersionResponse(version=request.version, runtime_name="test")

    def pull(request: node_pb2.PullRequest, context: grpc.ServicerContext) -> Any:
        yield node_pb2.PullProgress(layer=node_pb2.LayerProgress(digest="sha256:1", total=3))
        yield node_pb2.PullProgress(image_id=request.reference)

    answers = {"Version": version, "Pull": pull}
    server = grpc.server(futures.ThreadPoolExecutor(1))
    for service in (services.RUNTIME, services.IMAGE_STORE):
        handlers = {
            method.name: getattr(grpc, f"{method.kind}_rpc_method_handler")(
                answers[method.name],
                request_deserializer=method.request.FromString,
                response_serializer=method.response.SerializeToString,
            )
            for method in service
            if method.name in answers
        }
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service.name, handlers)])
    address = f"unix://{tmp_path}/s.sock"
    server.add_insecure_port(address)
    server.start()
    try:
        with grpc.insecure_channel(address) as channel:
            reply = services.RUNTIME.connect(channel).Version(api_pb2.VersionRequest(version="v1"))
            assert (reply.version, reply.runtime_name) == ("v1", "test")
            stream = services.IMAGE_STORE.connect(channel).Pull(node_pb2.PullRequest(reference="sha256:2"))
            assert [item.WhichOneof("event") for item in stream] == ["layer", "image_id"]
    finally:
        server.stop(None)
