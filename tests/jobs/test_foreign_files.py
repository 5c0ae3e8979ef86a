"""A model's files come from others: nothing in them is executed, and what is not a tensor or a network is refused by
name."""

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamtrain.contracts.table_text import SHARD
from streamtrain.contracts.tensors import read_tensor, read_tensors
from streamtrain.engine import tables
from streamtrain.engine.inference import Evaluator
from streamtrain.engine.inference import Network as PaddleNetwork
from streamtrain.engine.operators import ALLOWED, NotAllowedOperator, check
from streamtrain.engine.program import parse
from streamtrain.errors import CheckpointError
from streamtrain.serving.predictor import Predictor
from tests.support.exports import Exports, vectors
from tests.support.networks import Network
from tests.support.serving import DAY, KEYS


def framework() -> Any:
    from paddle.base.proto import framework_pb2

    return framework_pb2


def test_the_reader_agrees_with_paddles_writer(networks: list[Network]) -> None:
    for network in networks:
        for name, data in network.dense.items():
            np.testing.assert_array_equal(read_tensor(data), network.weights[name])
        combined = list(read_tensors(network.params))
        for tensor, name in zip(combined, sorted(network.weights), strict=True):
            np.testing.assert_array_equal(tensor, network.weights[name])


@pytest.mark.parametrize("dtype", ["bool", "int16", "int32", "int64", "float16", "float32", "float64", "uint8", "int8"])
def test_every_type_agrees_with_paddles_writer(dtype: str, tmp_path: Path) -> None:
    import paddle

    for shape in ((), (1,), (0, 3), (4, 3), (2, 3, 4, 5)):
        array = np.random.default_rng(1).integers(0, 2, shape).astype(dtype)
        tensor = paddle.base.core.DenseTensor()
        tensor.set(array, paddle.CPUPlace())
        paddle.save(tensor, str(tmp_path / "t"), use_binary_format=True)
        found = read_tensor((tmp_path / "t").read_bytes())
        assert found.dtype == array.dtype and found.shape == array.shape
        np.testing.assert_array_equal(found, array)


def test_the_list_is_of_paddles_operators_and_none_of_those_that_act() -> None:
    from paddle.base import core

    pb = framework()
    known = {pb.OpProto.FromString(bytes(proto)).type for proto in core.get_all_op_protos()}
    assert known | set(core.get_all_op_names()) >= ALLOWED
    acting = ("save", "load", "py_func", "pylayer", "print", "read", "send", "recv", "listen", "push", "pull", "c_",
              "dist", "run_program", "while", "conditional", "memcpy", "as_strided", "share", "coalesce", "assert",
              "barrier", "comm", "create_", "decode_jpeg", "set_value", "engine")  # fmt: skip
    assert [op for op in sorted(ALLOWED) if op.startswith(acting) and op != "dist"] == []


def with_operator(program: bytes, change: Callable[[Any], None]) -> bytes:
    description = framework().ProgramDesc.FromString(program)
    change(description)
    data: bytes = description.SerializeToString()
    return data


def saving(kind: str, path: Path) -> Callable[[Any], None]:
    """An operator that writes a parameter to a file, right before the prediction is fetched."""
    pb = framework()

    def change(description: Any) -> None:
        block = description.blocks[0]
        parameter = next(v.name for v in block.vars if v.name == "out.w")
        op = pb.OpDesc(type=kind)
        op.inputs.add(parameter="X", arguments=[parameter])
        op.attrs.add(name="file_path", type=pb.STRING, s=str(path))
        ops = [*block.ops[:-1], op, block.ops[-1]]
        del block.ops[:]
        block.ops.extend(ops)

    return change


@pytest.mark.parametrize("kind", ["save", "save_combine"])
def test_an_operator_that_writes_a_file(kind: str, exports: Exports, networks: list[Network], tmp_path: Path) -> None:
    network, target = networks[0], tmp_path / "written"
    program = with_operator(network.program, saving(kind, target))
    feeds = list(network.feeds.values())
    with pytest.raises(CheckpointError, match=f"has the operator '{kind}'"):
        PaddleNetwork(program, network.params, feeds)
    with pytest.raises(CheckpointError, match=f"has the operator '{kind}'"):
        Evaluator(program, network.dense, feeds)
    exports.full(DAY, 0, vectors(KEYS, 1), Network(**{**network.__dict__, "program": program}))
    with pytest.raises(CheckpointError, match=rf"inference_model_0: .*model/__model__.*operator '{kind}'"):
        Predictor(exports.root)
    assert not target.exists()


def test_an_operator_in_another_block_and_one_that_asks_another_machine(networks: list[Network]) -> None:
    pb = framework()

    def deeper(description: Any) -> None:
        block = description.blocks.add(idx=1, parent_idx=0)
        block.ops.add(type="py_func")

    with pytest.raises(NotAllowedOperator, match="block 1 has the operator 'py_func'"):
        parse(with_operator(networks[0].program, deeper))

    def remote(description: Any) -> None:
        op = description.blocks[0].ops.add(type="lookup_table")
        op.attrs.add(name="remote_prefetch", type=pb.BOOLEAN, b=True)

    with pytest.raises(NotAllowedOperator, match="attribute remote_prefetch"):
        parse(with_operator(networks[0].program, remote))
    check(pb.ProgramDesc.FromString(networks[0].program).blocks)


ACTING = ("py_func", "save", "load_combine", "print", "run_program", "pylayer", "while", "conditional_block", "send",
          "my_custom_op", "read_file", "")  # fmt: skip


@pytest.mark.parametrize("kind", ACTING)
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_an_operator_that_acts_at_any_depth(kind: str, depth: int, networks: list[Network]) -> None:
    def change(description: Any) -> None:
        for index in range(1, depth + 1):
            description.blocks.add(idx=index, parent_idx=index - 1)
        description.blocks[depth].ops.add(type=kind)

    with pytest.raises(NotAllowedOperator, match=f"the operator '{kind}', which a network"):
        parse(with_operator(networks[0].program, change))


@pytest.mark.parametrize("kind", ["BLOCK", "BLOCKS"])
def test_an_allowed_operator_that_runs_a_block(kind: str, networks: list[Network]) -> None:
    pb = framework()

    def change(description: Any) -> None:
        op = description.blocks[0].ops.add(type="relu")
        op.attrs.add(name="sub_block", type=getattr(pb, kind), block_idx=0)

    with pytest.raises(NotAllowedOperator, match="'relu', which runs another block"):
        parse(with_operator(networks[0].program, change))


class Touching:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, int]]:
        return os.mkdir, (str(self.path), 0o700)


def test_a_pickle_in_a_models_dense_files(exports: Exports, networks: list[Network], tmp_path: Path) -> None:
    network, target = networks[0], tmp_path / "made"
    bad = pickle.dumps(Touching(target), 2)
    feeds = list(network.feeds.values())
    with pytest.raises(CheckpointError, match=r"dense/out\.w: it is not a tensor"):
        Evaluator(network.program, {**network.dense, "out.w": bad}, feeds)
    with pytest.raises(CheckpointError, match="dense/__params__: tensor 1"):
        PaddleNetwork(network.program, bad, feeds)
    exports.full(DAY, 0, vectors(KEYS, 1), Network(**{**network.__dict__, "params": bad + bytes(40)}))
    with pytest.raises(CheckpointError, match=r"inference_model_0: .*dense/__params__: tensor 1: it is not a tensor"):
        Predictor(exports.root)
    assert not target.exists()
    pickle.load(io.BytesIO(bad))
    assert target.exists(), "the pickle would have acted"


def test_part_files_whose_names_a_shell_would_run(tmp_path: Path) -> None:
    (tmp_path / SHARD).mkdir()
    (tmp_path / SHARD / "part-$(id).txt").touch()
    table = tables.TableFormat("embedding", {"shard_num": 1})
    with pytest.raises(CheckpointError, match=r"a part file that Paddle cannot be given: 'part-\$\(id\)\.txt'"):
        tables.paddle_layout(tmp_path, tmp_path, [table]).__enter__()
    assert not list(tmp_path.glob("load-*"))


def test_parameters_that_are_not_the_programs(networks: list[Network]) -> None:
    network, feeds = networks[0], list(networks[0].feeds.values())
    first, *others = (network.dense[name] for name in sorted(network.dense))
    for params, message in (
        (b"".join(others), "3 tensors, model/__model__ has 4 parameters"),
        (b"".join([*others, first]), r"in place of fc_0\.b, whose shape is \[8\]"),
        (network.params[:-1], r"tensor 4: its shape .* needs"),
    ):
        with pytest.raises(CheckpointError, match=message):
            PaddleNetwork(network.program, params, feeds)
