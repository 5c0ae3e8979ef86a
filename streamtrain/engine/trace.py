"""What a variable of a network is made of, followed back through its operators. Needs no Paddle: it takes a block."""

from __future__ import annotations

from typing import Any

#: Operators whose output has their first input's values: of another type or form at most.
_SAME = frozenset(
    ["cast", "assign", "reshape", "reshape2", "squeeze2", "unsqueeze2", "flatten2", "flatten_contiguous_range"]
)
_CONSTANT = ("fill_constant", "fill_any_like", "fill_constant_batch_size_like")


class Trace:
    """Of a block, before its gradients are added."""

    def __init__(self, block: Any) -> None:
        self._makers: dict[str, Any] = {}
        self._readers: dict[str, list[Any]] = {}
        for op in block.ops:
            for name in op.output_arg_names:
                self._makers[name] = op
            for name in op.input_arg_names:
                self._readers.setdefault(name, []).append(op)

    def maker(self, name: str) -> Any | None:
        """The operator that makes it; None for a feed or a parameter."""
        return self._makers.get(name)

    def readers(self, name: str) -> list[Any]:
        return self._readers.get(name, [])

    def origin(self, name: str) -> str:
        """The variable that its values are, behind casts and reshapes."""
        seen = {name}
        while (op := self._makers.get(name)) is not None and op.type in _SAME:
            name = op.input("X")[0]
            if name in seen:  # an operator that writes what it reads
                break
            seen.add(name)
        return name

    def constant(self, name: str) -> float | None:
        """The one value that it has; None when it is not a constant."""
        op = self._makers.get(self.origin(name))
        if op is None or op.type not in _CONSTANT:
            return None
        text = op.attr("str_value") if op.has_attr("str_value") else ""
        try:
            return float(text or op.attr("value"))
        except ValueError:
            return None

    def probability(self, name: str) -> str:
        """Of a variable [rows, 2], as paddle.static.auc is given, that which is its second column: p of
        concat([1 - p, p]), or the slice that takes it; '' when there is none."""
        maker = self._makers.get(name)
        if maker is not None and maker.type == "concat" and len(maker.input("X")) == 2:
            return str(maker.input("X")[1])
        for op in self.readers(name):
            if op.type == "slice" and [list(op.attr(key)) for key in ("axes", "starts", "ends")] == [[1], [1], [2]]:
                return str(op.output("Out")[0])
        return ""

    def is_one(self, name: str) -> bool:
        """Whether it is 1 for every row: the feed show, or a constant."""
        return self.origin(name) == "show" or self.constant(name) == 1.0
