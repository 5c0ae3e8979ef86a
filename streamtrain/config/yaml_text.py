"""YAML text as values: PyYAML's parser with the scalars of YAML 1.2's core schema, and nothing that the text hides.

    060 -> 60, 0o60 -> 48, 0x1F -> 31, 5e-2 -> 0.05, true -> True, empty -> None
    1_000, 12:30, yes, on, 2019-07-20 -> text

Merge keys (`<<`), anchors and aliases are taken. Refused, with the line: a key given twice, a key that is neither text
nor a whole number, a tag that names another type, a value that contains itself, more values than MAX_VALUES once all
aliases are replaced by what they stand for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import yaml

#: Values that a document may have, an alias counted as what it stands for: aliases of aliases can stand for billions.
MAX_VALUES = 500_000
MAX_DEPTH = 50
_PREFIX = "tag:yaml.org,2002:"
_TEXT, _INT, _FLOAT, _BOOL, _NULL, _MERGE, _LIST, _MAPPING = (
    f"{_PREFIX}{name}" for name in ("str", "int", "float", "bool", "null", "merge", "seq", "map")
)
_SCALARS = frozenset({_TEXT, _INT, _FLOAT, _BOOL, _NULL})
_INT_TEXT = re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")
_FLOAT_TEXT = re.compile(
    r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)
_BOOL_TEXT = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_NULL_TEXT = re.compile(r"(?:~|null|Null|NULL|)\Z")


class _Loader(yaml.SafeLoader):
    """SafeLoader with resolvers and constructors of its own."""


_Loader.yaml_implicit_resolvers = {}
_Loader.yaml_constructors = {}

for _tag, _pattern, _first in (
    (_BOOL, _BOOL_TEXT, "tTfF"),
    (_INT, _INT_TEXT, "-+0123456789"),
    (_FLOAT, _FLOAT_TEXT, "-+.0123456789"),
    (_NULL, _NULL_TEXT, ["~", "n", "N", ""]),
    (_MERGE, re.compile(r"(?:<<)\Z"), "<"),
):
    _Loader.add_implicit_resolver(_tag, _pattern, list(_first))


def _error(node: yaml.Node, problem: str) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _scalar(kind: str, pattern: re.Pattern[str], convert: Callable[[str], Any]) -> Callable[[_Loader, yaml.Node], Any]:
    def construct(loader: _Loader, node: yaml.Node) -> Any:
        text = str(loader.construct_scalar(node))  # type: ignore[arg-type]
        if not pattern.match(text):
            raise _error(node, f"{text!r} is not {kind}")
        return convert(text)

    return construct


def _to_int(text: str) -> int:
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10)) if len(text) < 60 else 1 << 200


def _whole_number(loader: _Loader, node: yaml.Node) -> int:
    value = int(_scalar("a whole number", _INT_TEXT, _to_int)(loader, node))
    if not -(1 << 63) <= value < 1 << 64:
        raise _error(node, "the number does not fit 64 bits: if it is text, put it in quotes")
    return value


def _number(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _mapping(loader: _Loader, node: yaml.Node) -> dict[Any, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise _error(node, "it is tagged as a mapping, and is none")
    loader.flatten_mapping(node)
    return dict(loader.construct_pairs(node, deep=True))


def _list(loader: _Loader, node: yaml.Node) -> list[Any]:
    if not isinstance(node, yaml.SequenceNode):
        raise _error(node, "it is tagged as a list, and is none")
    return list(loader.construct_sequence(node, deep=True))


def _other(_loader: _Loader, node: yaml.Node) -> Any:
    raise _error(node, f"the tag {node.tag.replace(_PREFIX, '!!')} is not known here: remove it")


_Loader.add_constructor(_TEXT, lambda loader, node: str(loader.construct_scalar(node)))  # type: ignore[arg-type]
_Loader.add_constructor(_INT, _whole_number)
_Loader.add_constructor(_FLOAT, _scalar("a number", _FLOAT_TEXT, _number))
_Loader.add_constructor(_BOOL, _scalar("true or false", _BOOL_TEXT, lambda text: text.lower() == "true"))
_Loader.add_constructor(_NULL, _scalar("null", _NULL_TEXT, lambda _: None))
_Loader.add_constructor(_MAPPING, _mapping)
_Loader.add_constructor(_LIST, _list)
_Loader.add_constructor(None, _other)


def read_yaml(text: str, as_written: Mapping[str, Collection[str] | None] | None = None) -> Any:
    """The document's value; None when there is none.

    as_written: keys, by section, whose scalars are handed on as the text that stands there; None: all of the section.
    An empty value, one that is not even a pair of quotes, is None there too. Raises yaml.YAMLError.
    """
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _check(loader, root)
        return loader.construct_document(_keep_text(loader, root, as_written or {}))
    except RecursionError:
        raise yaml.YAMLError(f"more than {MAX_DEPTH} lists and mappings in each other") from None
    finally:
        loader.dispose()


def _check(loader: _Loader, root: yaml.Node) -> None:
    """Before anything is constructed: keys, nesting, size. Raises yaml.YAMLError."""
    measured: dict[int, tuple[int, int]] = {}

    def measure(node: yaml.Node, above: frozenset[int]) -> tuple[int, int]:
        """Values in the node, and how deep they lie."""
        if id(node) in above:
            raise _error(node, "this value contains itself")
        if id(node) in measured:
            return measured[id(node)]
        if isinstance(node, yaml.MappingNode):
            _check_keys(loader, node)
        if isinstance(node, yaml.ScalarNode) and re.search("[\ud800-\udfff\0]", node.value):
            raise _error(node, "the text has a character that is none: NUL, or half of a pair")
        size, depth = 1, 0
        for inner in _inside(node):
            inner_size, inner_depth = measure(inner, above | {id(node)})
            size, depth = size + inner_size, max(depth, inner_depth + 1)
            if size > MAX_VALUES:
                raise _error(node, f"more than {MAX_VALUES} values, once aliases are replaced by what they stand for")
            if depth > MAX_DEPTH:
                raise _error(node, f"more than {MAX_DEPTH} lists and mappings in each other")
        measured[id(node)] = size, depth
        return measured[id(node)]

    measure(root, frozenset())


def _inside(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _check_keys(loader: _Loader, node: yaml.MappingNode) -> None:
    """Before merging, which puts the merged keys beside the mapping's own."""
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise _error(key_node, "a key must be text, found a list or mapping")
        key = "<<" if key_node.tag == _MERGE else loader.construct_object(key_node)
        if not isinstance(key, str) and type(key) is not int:
            raise _error(key_node, f"a key must be text, found {key_node.value or 'nothing'}: put it in quotes")
        if key in seen:
            raise _error(key_node, f"key {key!r} is given twice")
        seen.add(key)


def _keep_text(loader: _Loader, root: yaml.Node, as_written: Mapping[str, Collection[str] | None]) -> yaml.Node:
    """The root with the scalars of `as_written` tagged as text, in nodes of their own: an alias may share them."""
    if not isinstance(root, yaml.MappingNode):
        return root
    loader.flatten_mapping(root)
    sections = []
    for name, section in root.value:
        kept = section
        if name.value in as_written and isinstance(section, yaml.MappingNode):
            loader.flatten_mapping(section)
            keys = as_written[name.value]
            every = keys is None
            pairs = [
                (_as_text(k) if every else k, _as_text(v) if every or k.value in (keys or ()) else v)
                for k, v in section.value
            ]
            kept = yaml.MappingNode(section.tag, pairs, section.start_mark, section.end_mark)
        sections.append((name, kept))
    return yaml.MappingNode(root.tag, sections, root.start_mark, root.end_mark)


def _as_text(node: yaml.Node) -> yaml.Node:
    if isinstance(node, yaml.SequenceNode):
        return yaml.SequenceNode(node.tag, [_as_text(n) for n in node.value], node.start_mark, node.end_mark)
    empty = node.tag == _NULL and node.value == ""
    if not isinstance(node, yaml.ScalarNode) or node.tag not in _SCALARS or empty:
        return node
    return yaml.ScalarNode(_TEXT, node.value, node.start_mark, node.end_mark)
