#!/usr/bin/env bash
# Compiles the .proto files beside this script. Needs Python 3.8 to 3.12 and 'grpcio-tools==1.62.*'
# (protoc 25), whose output runs with every protobuf from 4.25 on, and mypy-protobuf for the types.
set -euo pipefail
cd "$(dirname "$0")/../.."
python -m grpc_tools.protoc --proto_path=. --python_out=. --mypy_out=. \
  bncheck/proto/tensors.proto bncheck/proto/objects.proto bncheck/proto/graphs.proto
