"""Triton's own description of config.pbtxt: the classes that NVIDIA generated from model_config.proto for tritonclient.

The module is loaded by its path: importing `tritonclient.grpc` would need grpcio.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import pytest


@cache
def _messages() -> Any:
    found = importlib.util.find_spec("tritonclient")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs tritonclient, which carries Triton's schema: pip install tritonclient")
    path = Path(found.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parse_config(text: str) -> Any:
    """A ModelConfig message.

    Raises:
        google.protobuf.text_format.ParseError: a field that the schema does not have, or a value of another type.
    """
    from google.protobuf import text_format

    return text_format.Parse(text, _messages().ModelConfig())


def as_json(text: str) -> dict[str, Any]:
    """What a Python model gets as `model_config`: names as in the schema, enumerations as texts."""
    from google.protobuf import json_format

    return json_format.MessageToDict(parse_config(text), preserving_proto_field_name=True)


def check_rules(config: Any) -> None:
    """What Triton's core demands beyond the schema (ValidateModelConfig and ValidateIOShape of its
    model_config_utils.cc, July 2026)."""
    assert config.name and config.backend and not config.platform
    assert config.max_batch_size >= 0
    for port in (*config.input, *config.output):
        assert port.name and port.data_type and len(port.dims) > 0, port
        assert all(size == -1 or size >= 1 for size in port.dims), port
    assert config.max_batch_size > 0 or not config.HasField("dynamic_batching")
    assert all(0 < size <= config.max_batch_size for size in config.dynamic_batching.preferred_batch_size)
