"""Variables of a network, followed back through operators: of a block of the same form as Paddle's."""

from dataclasses import dataclass, field
from typing import Any

from streamtrain.engine.trace import Trace


@dataclass
class Op:
    type: str
    inputs: dict[str, list[str]]
    outputs: dict[str, list[str]]
    attrs: dict[str, Any] = field(default_factory=dict)

    @property
    def input_arg_names(self) -> list[str]:
        return [name for names in self.inputs.values() for name in names]

    @property
    def output_arg_names(self) -> list[str]:
        return [name for names in self.outputs.values() for name in names]

    def input(self, key: str) -> list[str]:
        return self.inputs[key]

    def output(self, key: str) -> list[str]:
        return self.outputs[key]

    def has_attr(self, name: str) -> bool:
        return name in self.attrs

    def attr(self, name: str) -> Any:
        return self.attrs[name]


@dataclass
class Block:
    ops: list[Op]


def one(kind: str, source: str, target: str, **attrs: Any) -> Op:
    return Op(kind, {"X": [source]} if source else {}, {"Out": [target]}, attrs)


TRACE = Trace(
    Block(
        [
            one("cast", "click", "a"),
            one("reshape2", "a", "b"),
            one("sigmoid", "b", "c"),
            one("assign", "c", "d"),
            one("cast", "show", "s"),
            one("fill_any_like", "click", "ones", value=1.0),
            one("cast", "ones", "ones_too"),
            one("fill_constant", "", "half", str_value="0.5", value=0.0),
            one("assign", "loop", "loop"),
        ]
    )
)


def test_origins() -> None:
    assert [TRACE.origin(name) for name in ("click", "a", "b", "c", "d", "nix")] == ["click"] * 3 + ["c", "c", "nix"]
    assert TRACE.origin("loop") == "loop"


def test_constants() -> None:
    assert [TRACE.constant(name) for name in ("ones", "ones_too", "half", "a", "nix")] == [1.0, 1.0, 0.5, None, None]
    assert [TRACE.is_one(name) for name in ("s", "ones_too", "half", "a")] == [True, True, False, False]


def test_readers() -> None:
    assert [op.type for op in TRACE.readers("click")] == ["cast", "fill_any_like"] and TRACE.readers("d") == []


def test_probabilities() -> None:
    """Of what paddle.static.auc is given: of concat([1 - p, p]), or of a softmax whose second column is taken."""
    both = Op("concat", {"X": ["not_p", "p"]}, {"Out": ["both"]})
    cut = {"axes": [1], "starts": [1], "ends": [2]}
    first = Op("slice", {"Input": ["softmax"]}, {"Out": ["first"]}, {**cut, "starts": [0], "ends": [1]})
    rows = Op("slice", {"Input": ["softmax"]}, {"Out": ["rows"]}, {**cut, "axes": [0]})
    second = Op("slice", {"Input": ["softmax"]}, {"Out": ["second"]}, cut)
    three = Op("concat", {"X": ["a", "b", "c"]}, {"Out": ["three"]})
    trace = Trace(Block([both, three, first, rows, one("cast", "softmax", "x"), second]))
    assert [trace.probability(name) for name in ("both", "three", "softmax", "x")] == ["p", "", "second", ""]
    assert Trace(Block([first, rows])).probability("softmax") == ""
