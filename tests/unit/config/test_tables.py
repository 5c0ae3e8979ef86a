"""`table_parameters:` against what Paddle's own TableParameter takes."""

import json
from typing import Any

import pytest

from streamtrain.config.tables import problems

GOOD = {
    "shard_num": 2, "table_class": "MemorySparseTable",
    "accessor": {
        "fea_dim": 11, "embedx_dim": 8,
        "embed_sgd_param": {
            "name": "SparseAdaGradSGDRule", "adagrad": {"learning_rate": 1, "weight_bounds": [-10, 10.0]},
        },
        "table_accessor_save_param": {"num": 2, "param": [1, 2], "converter": ["a", "b"], "deconverter": ["c", "d"]},
    },
}  # fmt: skip


def changed(path: str, value: Any) -> dict[str, Any]:
    table = json.loads(json.dumps(GOOD))
    part = table
    *above, last = path.split(".")
    for key in above:
        part = part.setdefault(key, {})
    part[last] = value
    return {"embedding": table}


def test_a_good_table() -> None:
    assert list(problems({"embedding": GOOD})) == []
    assert list(problems({})) == []


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("shard_nun", 2, "shard_nun: unknown key; did you mean shard_num?"),
        ("shard_num", 0, "shard_num: "),
        ("shard_num", "10", "shard_num: "),
        ("accessor.embedx_dim", 8.0, "accessor.embedx_dim: "),
        ("accessor.embedx_dim", True, "accessor.embedx_dim: "),
        ("accessor.embedx_treshold", 1, "accessor.embedx_treshold: unknown key; did you mean embedx_threshold?"),
        ("accessor.embed_sgd_param.adagrad.learning_rat", 1, "learning_rat: unknown key; did you mean learning_rate?"),
        ("accessor.embed_sgd_param.adagrad.learning_rate", "fast", "adagrad.learning_rate: "),
        ("accessor.embed_sgd_param.adagrad.weight_bounds", [1], "weight_bounds: "),
        ("accessor.embedx_sgd_param.name", "SparseAdagradSGDRule", "did you mean SparseAdaGradSGDRule?"),
        ("accessor.embedx_sgd_param.name", "x", "it has SparseNaiveSGDRule"),
        ("accessor.ctr_accessor_param.zero_init", 1, "zero_init: "),
        ("accessor.fea_dim", 12, "accessor.fea_dim: 12, and embedx_dim is 8"),
        ("accessor", [1], "accessor: "),
        ("accessor.accessor_class", "CtrDoubleAccessor", "trained with SparseAccessor or CtrCommonAccessor"),
        ("table_class", "SSDSparseTable", "table_class: only MemorySparseTable"),
    ],
)
def test_what_paddle_would_not_take(path: str, value: Any, message: str) -> None:
    found = list(problems(changed(path, value)))
    assert len(found) == 1 and found[0].startswith("table_parameters.embedding.") and message in found[0]


def test_several_tables() -> None:
    assert list(problems({"a": {}, "b_2.x": GOOD})) == []
    for name in ("a/b", "..", "-x", "a b", "$(id)", ""):
        (problem,) = problems({"a": {}, name: {}})
        assert problem.startswith(f"table_parameters.{name}: a table's name is the name of its directory")
        assert list(problems({name: {}})) == []  # one table's directory has another name
    assert list(problems({"a": 1})) == ["table_parameters.a: must be a mapping"]


def test_a_rule_that_divides_by_an_empty_embedx() -> None:
    """A table of width 1: FM's first order."""
    for name in ("SparseAdaGradSGDRule", "SparseSharedAdamSGDRule", "SparseAdamSGDRule", "SparseNaiveSGDRule"):
        table = changed("accessor.embedx_sgd_param", {"name": name})["embedding"]
        assert list(problems({"embedding": table})) == []
        table["accessor"].update(embedx_dim=0, fea_dim=3)
        found = list(problems({"embedding": table}))
        dividing = name in ("SparseAdaGradSGDRule", "SparseSharedAdamSGDRule")
        assert len(found) == dividing and all(f"{name} divides by embedx_dim" in each for each in found)
