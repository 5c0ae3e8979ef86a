"""The forward half of a training program: what predicts a pass.

Paddle's infer_from_dataset leaves out the pushes alone: every gradient of the training program is computed, and thrown
away. It also ends with a flush of pushes that there are none of, which sleeps 0.1 s (BrpcPsClient::flush).
"""

from __future__ import annotations

from typing import Any

from paddle.base.core import op_proto_and_checker_maker

_ROLE = op_proto_and_checker_maker.OpRole
#: Roles of operators that train, and of those that predicting has a use of only where a loss has gradients in it; a
#: role is a sum of flags.
_TRAINS = int(_ROLE.Optimize) | int(_ROLE.RPC) | int(_ROLE.Dist)
_GRADIENT = int(_ROLE.Backward)
#: It has the role of the lookup that it was made of.
_PUSH = "distributed_push_sparse"


def forward_half(program: Any) -> Any:
    """A copy of a worker's program for infer_from_dataset, without what only trains. Its metrics are the same
    variables; dense parameters are those of the scope: they are pulled before."""
    forward = program.clone()
    block = forward.global_block()
    read: set[str] = set()  # by the operators that stay
    for index in reversed(range(len(block.ops))):
        op = block.ops[index]
        role = int(op.attr("op_role")) if op.has_attr("op_role") else 0
        unread = role & _GRADIENT and not read.intersection(op.output_arg_names)
        if unread or role & _TRAINS or op.type == _PUSH:
            block._remove_op(index, sync=False)
        else:
            read.update(op.input_arg_names)
    forward._sync_with_cpp()
    options = dict(program._fleet_opt)
    # Hogwild runs the operators alone: it has neither Downpour's own pulls of dense parameters nor its flush
    options.update(trainer="MultiTrainer", device_worker="Hogwild")
    [tables] = options["program_configs"].values()
    options["program_configs"] = {str(id(forward)): tables}
    forward._fleet_opt = options
    return forward
