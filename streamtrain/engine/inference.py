"""Networks of inference models. The one place where serving meets Paddle.

`Network` predicts, by paddle.inference; `Evaluator` computes any variables of the program, by a static Executor.
Both work on the bytes of model/__model__ and dense/.
"""

from __future__ import annotations

import os
import queue
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

from streamtrain.engine.environment import importing_paddle, inference_environment

for _name, _value in inference_environment().items():
    os.environ.setdefault(_name, _value)  # before paddle is imported

import numpy as np
import numpy.typing as npt

with importing_paddle():
    import paddle
    from paddle import inference

from streamtrain.contracts.tensors import read_tensor
from streamtrain.engine.program import check_parameters, fold, parse
from streamtrain.errors import CheckpointError

F32: TypeAlias = npt.NDArray[np.float32]

paddle.disable_signal_handler()  # its own end the process at SIGTERM

#: What Paddle raises for a program or parameters that it cannot take.
_PADDLE_ERRORS = (RuntimeError, ValueError, OSError, AttributeError, NotImplementedError)


class Fed(NamedTuple):
    """What a feed is given. offsets: of a sequence, where the values of each row begin, and where the last one's end,
    [rows + 1]; None: the values are [rows, ..]."""

    values: npt.NDArray[Any]
    offsets: list[int] | None = None


class Network:
    """A network that predicts. Several threads may use it: `threads` compute at once, others wait.

    program: model/__model__; params: dense/__params__; feeds: variables of the slots, in the order of the model's;
    others: those of floats and constants. targets: how many predictions a row has. foldable: whether the sums of all
    feeds would be of one table.

    `sums` says what run() wants (whether `program.fold` could take the sums out of the network), `order` in which order
    of feeds. Raises CheckpointError when Paddle refuses it.
    """

    def __init__(
        self,
        program: bytes,
        params: bytes,
        feeds: Sequence[str],
        *,
        others: Sequence[str] = (),
        targets: int = 1,
        foldable: bool = True,
        threads: int = 1,
    ) -> None:
        self._targets = targets
        try:
            if not params:
                raise ValueError("dense/__params__ is empty")
            check_parameters(program, params)
            folded = fold(program, tuple(feeds)) if foldable else None
            self.sums = folded is not None
            self.order: tuple[str, ...] = folded.order if folded else tuple(feeds)
            first = inference.create_predictor(_config(folded.program if folded else program, params))
            names = [*([folded.feed] if folded else feeds), *others]
            if missing := set(names) - set(first.get_input_names()):
                raise CheckpointError(f"model/__model__ has no feed {min(missing)!r}, which the manifest names")
            if (found := len(first.get_output_names())) != targets:
                raise CheckpointError(f"model/__model__ has {found} targets, the manifest names {targets}")
            self._idle: queue.LifoQueue[_Runner] = queue.LifoQueue()
            self._idle.put(_Runner(first, names))
            for _ in range(threads - 1):
                self._idle.put(_Runner(first.clone(), names))
        except _PADDLE_ERRORS as error:
            raise CheckpointError(
                f"Paddle cannot load model/__model__ with dense/__params__: {_reason(error)}"
            ) from error

    def run(self, inputs: Sequence[Fed], rows: int) -> F32:
        """Predictions, [rows, targets].

        inputs: of `order`, then of the others; with `sums` the first are one, the sums of all slots, [rows, slots *
        width]. Raises CheckpointError when Paddle fails.
        """
        with self._runner() as runner:
            try:
                results = runner.run(inputs)
            except _PADDLE_ERRORS as error:
                raise CheckpointError(f"Paddle cannot run model/__model__: {_reason(error)}") from error
        if wrong := [result.shape for result in results if result.size != rows]:
            raise CheckpointError(f"model/__model__ gives {wrong[0]} for {rows} rows, not one prediction a row")
        columns = [np.asarray(result, np.float32).reshape(rows, 1) for result in results]
        return columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)

    @contextmanager
    def _runner(self) -> Iterator[_Runner]:
        runner = self._idle.get()
        try:
            yield runner
        finally:
            self._idle.put(runner)


class _Runner:
    """One of Paddle's predictors: one thread at a time."""

    def __init__(self, predictor: Any, names: Sequence[str]) -> None:
        self._predictor = predictor
        self._inputs = [predictor.get_input_handle(name) for name in names]
        self._outputs = [predictor.get_output_handle(name) for name in predictor.get_output_names()]

    def run(self, inputs: Sequence[Fed]) -> list[npt.NDArray[Any]]:
        for handle, fed in zip(self._inputs, inputs, strict=True):
            handle.copy_from_cpu(fed.values)
            if fed.offsets is not None:
                handle.set_lod([fed.offsets])
        self._predictor.run()
        return [output.copy_to_cpu() for output in self._outputs]


class Evaluator:
    """Computes any variables of a network, in a scope of its own. One thread at a time.

    dense: the binary tensor of each parameter, by name. Switches Paddle to static graphs for the whole process.
    Raises CheckpointError when Paddle refuses it.
    """

    def __init__(self, program: bytes, dense: Mapping[str, bytes], feeds: Sequence[str]) -> None:
        paddle.enable_static()
        self._feeds = list(feeds)
        self._place = paddle.CPUPlace()
        self._scope = paddle.static.Scope()
        self._executor = paddle.static.Executor(self._place)
        try:
            parse(program)
            self._program = paddle.static.deserialize_program(program)
            block = self._program.global_block()
            # the Executor then feeds by name; in the file the feeds have any order, numbered by `col`
            for index in reversed(range(len(block.ops))):
                if block.ops[index].type in ("feed", "fetch"):
                    block._remove_op(index)
            for name, data in dense.items():
                self._scope.var(name).get_tensor().set(_tensor(f"dense/{name}", data), self._place)
        except _PADDLE_ERRORS as error:
            raise CheckpointError(f"Paddle cannot load model/__model__ with dense/: {_reason(error)}") from error

    def run(self, inputs: Sequence[Fed], variables: Sequence[str]) -> list[npt.NDArray[Any]]:
        """The variables' values, in order. inputs: in the order of `feeds`. Raises CheckpointError for a variable that
        the program lacks."""
        block = self._program.global_block()
        if missing := [name for name in variables if not block.has_var(name)]:
            raise CheckpointError(f"model/__model__ does not compute {missing[0]!r}")
        feed = {
            name: fed.values if fed.offsets is None
            else paddle.base.create_lod_tensor(fed.values, [np.diff(fed.offsets).tolist()], self._place)
            for name, fed in zip(self._feeds, inputs, strict=True)
        }  # fmt: skip
        try:
            values = self._executor.run(
                self._program, feed=feed, fetch_list=list(variables), scope=self._scope, return_numpy=False
            )  # a sequence has no numpy form of its own
        except _PADDLE_ERRORS as error:
            raise CheckpointError(f"Paddle cannot run model/__model__: {_reason(error)}") from error
        return [np.asarray(value) for value in values]


def _tensor(file: str, data: bytes) -> npt.NDArray[Any]:
    try:
        return read_tensor(data)
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}") from error


def _config(program: bytes, params: bytes) -> Any:
    config = inference.Config()
    config.set_model_buffer(program, len(program), params, len(params))
    config.disable_gpu()
    config.disable_glog_info()
    # a request is a thread; Paddle's own would take the others' processors
    config.set_cpu_math_library_num_threads(1)
    # the passes find nothing to gain in such networks, and cost most of a load, with the interpreter's lock held
    config.switch_ir_optim(False)
    config.disable_mkldnn()
    return config


def _reason(error: BaseException) -> str:
    """The line of Paddle's message that names the problem: a C++ stack comes before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if re.match(r"\w+Error: ", line)), lines[-1] if lines else type(error).__name__)
