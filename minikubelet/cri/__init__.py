"""Protobuf to model and back: thin servicers behind one interceptor."""
