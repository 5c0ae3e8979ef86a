"""The operators that a network may have: those that compute tensors from tensors, and do nothing else.

A program comes from a file, and Paddle runs whatever it names: there are operators that read and write files, call
Python, talk over the network, take memory addresses. So the list is of what is allowed. It has the operators of
Paddle 3.0.0 that click-through-rate networks are made of; their gradients, and operators that Paddle's own
optimizations put in, are not needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from paddle.base.proto import framework_pb2

#: Each name is one of Paddle 3.0.0 (tests/jobs/test_foreign_files.py holds it to that).
ALLOWED = frozenset(
    word
    for words in (
        # what goes in and out
        "feed fetch assign assign_value fill_constant fill_constant_batch_size_like fill_any_like full_int_array",
        # activations
        "relu relu6 leaky_relu prelu elu selu celu gelu silu swish mish sigmoid logsigmoid hard_sigmoid hard_swish",
        "tanh tanh_shrink stanh softplus softsign softshrink hard_shrink thresholded_relu brelu soft_relu maxout",
        "swiglu softmax log_softmax sequence_softmax logit",
        # element by element
        "elementwise_add elementwise_sub elementwise_mul elementwise_div elementwise_max elementwise_min",
        "elementwise_pow elementwise_mod elementwise_floordiv elementwise_fmax elementwise_fmin",
        "abs sign square sqrt rsqrt reciprocal pow exp expm1 log log2 log10 log1p floor ceil round trunc erf",
        "sin cos tan asin acos atan sinh cosh asinh acosh atanh atan2 scale clip clip_by_norm increment cast lerp",
        "equal not_equal less_than less_equal greater_than greater_equal equal_all isclose allclose",
        "bitwise_and bitwise_or bitwise_not bitwise_xor elementwise_heaviside",
        "logical_and logical_or logical_not logical_xor isfinite_v2 isinf_v2 isnan_v2 where",
        # sums and products
        "sum mean reduce_sum reduce_mean reduce_max reduce_min reduce_prod reduce_all reduce_any logsumexp",
        "cumsum cumprod logcumsumexp mul matmul matmul_v2 bmm mv dot addmm baddbmm einsum kron cross fc",
        "bilinear_tensor_product norm p_norm frobenius_norm l1_norm squared_l2_norm dist",
        # forms
        "reshape reshape2 squeeze2 unsqueeze2 flatten2 flatten_contiguous_range transpose transpose2 concat split",
        "stack unstack unbind slice strided_slice crop crop_tensor expand expand_v2 expand_as_v2 tile",
        "broadcast_tensors flip reverse roll pad pad3d meshgrid shape size is_empty range linspace eye tril_triu",
        "diag_v2 diag_embed diagonal repeat_interleave partial_concat partial_sum multiplex",
        # look-ups
        "lookup_table lookup_table_v2 gather gather_nd index_select index_sample take_along_axis put_along_axis",
        "scatter scatter_nd_add masked_select one_hot_v2 arg_max arg_min argsort top_k top_k_v2 where_index",
        "hash shard_index kthvalue searchsorted tril_indices triu_indices unfold",
        # normalizations
        "batch_norm layer_norm instance_norm group_norm data_norm rms_norm lrn label_smooth dropout",
        # sequences, pools, convolutions, recurrences, attention over them
        "sequence_pool sequence_expand sequence_conv sequence_mask lod_reset segment_pool row_conv",
        "pool2d conv2d depthwise_conv2d im2sequence gru gru_unit lstm rnn add_position_encoding",
        # of click-through-rate networks
        "cvm fused_seqpool_cvm batch_fc rank_attention match_matrix_tensor",
    )
    for word in words.split()
)
#: Attributes by which an allowed operator would ask another machine for its rows.
_REMOTE = ("remote_prefetch", "is_distributed", "epmap", "endpoints", "table_names")


_BLOCKS = (framework_pb2.BLOCK, framework_pb2.BLOCKS)


class NotAllowedOperator(ValueError):
    """A network has an operator that is not on the list, or one that would leave the process."""


def check(blocks: Iterable[Any]) -> None:
    """blocks: of a ProgramDesc, all of them: an operator of one may run another. Raises NotAllowedOperator."""
    for number, block in enumerate(blocks):
        where = f"block {number} has the operator" if number else "it has the operator"
        for op in block.ops:
            if op.type not in ALLOWED:
                raise NotAllowedOperator(f"{where} {op.type[:80]!r}, which a network that is served may not have")
            for attribute in op.attrs:
                if attribute.type in _BLOCKS:
                    raise NotAllowedOperator(f"{where} {op.type!r}, which runs another block of the program")
                if attribute.name in _REMOTE and _is_set(attribute):
                    raise NotAllowedOperator(
                        f"{where} {op.type!r} with the attribute {attribute.name}, which asks another machine"
                    )


def _is_set(attribute: Any) -> bool:
    values = (attribute.b, attribute.i, attribute.l, attribute.s, *attribute.strings, *attribute.ints)
    return any(values)
