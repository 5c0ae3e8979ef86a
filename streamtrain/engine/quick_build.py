"""Paddle's passes over a program of hundreds of look-ups, without what they repeat for each operator.

Block._remove_op copies the whole block from C++ first, and the pass that fuses look-ups asks C++ for a variable's name
a million times: 3.5 s of the 5.4 s that a network of 300 slots takes to build, in each of a job's processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from paddle.base.framework import Block, Variable
from paddle.distributed.passes.ps_trainer_pass import DistributedOpsPass


def _remove_op(block: Any, index: int, sync: bool = True) -> None:
    """As Paddle's, with the copy where operators were added in C++ alone."""
    if sync and block.desc.op_size() != len(block.ops):
        block._sync_with_cpp()
    block.desc._remove_op(index, index + 1)
    del block.ops[index]


@contextlib.contextmanager
def _known_names() -> Iterator[None]:
    """Variables ask for their names once: nothing may rename one meanwhile."""
    names: dict[int, tuple[str, Any]] = {}  # by id: to compare two variables adds an operator to the program
    asked = Variable.name

    def name_of(variable: Any) -> str:
        known = names.get(id(variable))
        if known is None:
            known = names[id(variable)] = str(asked.fget(variable)), variable
        return known[0]

    Variable.name = property(name_of, asked.fset)
    try:
        yield
    finally:
        Variable.name = asked


@contextlib.contextmanager
def quick_passes() -> Iterator[None]:
    """While an optimizer is made. The programs are those that Paddle makes without it."""
    remove, fuse = Block._remove_op, DistributedOpsPass._pull_sparse_fuse

    def fuse_quickly(*arguments: Any) -> Any:
        with _known_names():
            return fuse(*arguments)

    Block._remove_op, DistributedOpsPass._pull_sparse_fuse = _remove_op, fuse_quickly
    try:
        yield
    finally:
        Block._remove_op, DistributedOpsPass._pull_sparse_fuse = remove, fuse
