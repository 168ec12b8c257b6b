"""The classes of TensorRT and of CUDA's bindings, to annotate with. To a type checker each is Any: neither library
need be installed, and the versions differ. tests/runtime/tensorrt reads these annotations and holds every attribute of
such an object against what the real bindings have.
"""

from __future__ import annotations

from typing import Any, TypeAlias

TrtModule: TypeAlias = Any
ILogger: TypeAlias = Any
Builder: TypeAlias = Any
IBuilderConfig: TypeAlias = Any
INetworkDefinition: TypeAlias = Any
OnnxParser: TypeAlias = Any
Runtime: TypeAlias = Any
ICudaEngine: TypeAlias = Any
IExecutionContext: TypeAlias = Any

CudaModule: TypeAlias = Any
