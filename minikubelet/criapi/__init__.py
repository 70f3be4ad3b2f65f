"""The gRPC interfaces as Python: messages generated from proto/, and tables of the services' methods.

- `api_pb2`: CRI v1 (proto/runtime/v1/api.proto).
- `node_pb2`: minikubelet's own service beside it (proto/minikubelet/v1/node.proto).
- `services`: every method's path, message classes and streaming kind, read from the descriptors. Server and
  clients use these, so there are no generated stubs; nothing here imports grpc.

`scripts/gen-proto` regenerates the `_pb2` files; never edit them.
"""
