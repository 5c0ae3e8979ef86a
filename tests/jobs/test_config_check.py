"""`config check` against Paddle: its keys, and models that do not build."""

import json
import subprocess
import sys
import types
import typing
from typing import Any

import pytest
from pydantic import BaseModel

from streamtrain.config.tables import TableParameters


def shape(model: type[BaseModel]) -> dict[str, Any]:
    """Keys and kinds, as the child below gives those of Paddle."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        inner = _leaves(field.annotation)
        kind = next(k for k in inner if k is not type(None))
        found[name] = shape(kind) if isinstance(kind, type) and issubclass(kind, BaseModel) else kind.__name__
    return found


def _leaves(annotation: Any) -> list[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _leaves(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType, list):
        return [leaf for part in typing.get_args(annotation) for leaf in _leaves(part)]
    return [annotation]


PADDLES = """
import json
from paddle.distributed.fleet.proto import distributed_strategy_pb2
KINDS = {1: "int", 2: "int", 3: "int", 4: "int", 5: "float", 6: "float", 7: "bool", 9: "str"}
def shape(descriptor):
    return {f.name: shape(f.message_type) if f.message_type else KINDS.get(f.cpp_type, "str")
            for f in descriptor.fields}
print(json.dumps(shape(distributed_strategy_pb2.TableParameter.DESCRIPTOR)))
"""


@pytest.mark.paddle
def test_the_keys_and_types_are_paddles() -> None:
    done = subprocess.run([sys.executable, "-c", PADDLES], capture_output=True, text=True, check=True)
    theirs = json.loads(done.stdout.splitlines()[-1])
    del theirs["table_id"], theirs["table_name"]  # the engine sets them
    ours = shape(TableParameters)
    assert ours["accessor"]["table_accessor_save_param"].pop("num") == "int"  # of Paddle's reading code
    assert ours == theirs
