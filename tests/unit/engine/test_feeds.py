"""A network's feeds, recognised by what they are, against the rows of a job."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.contracts.network import NetworkFeed, click_feeds
from streamtrain.contracts.row_layout import Dense, Label, RowLayout
from streamtrain.engine.feeds import FeedVariable, Said, recognise
from streamtrain.errors import ConfigError

FILE = Path("net/static_model.py")
LAYOUT = RowLayout(
    (2, 3, 7), {"user": 2, "items": 3}, (Label("click"), Label("dwell", "float")), (Dense("price", 3, 0),), "importance"
)  # fmt: skip


def slot(name: str, lod_level: int = 1, width: int = 1, looked_up: bool = True) -> FeedVariable:
    return FeedVariable(name, "int64", (width,), lod_level, looked_up)


def floats(name: str, width: int = 1) -> FeedVariable:
    return FeedVariable(name, "float32", (width,), 0, looked_up=False)


def number(name: str) -> FeedVariable:
    return FeedVariable(name, "int64", (1,), 1, looked_up=False)


ALL = [
    floats("price", 3), slot("items"), number("click"), floats("dwell"), slot("7", 0, 4), number("show"),
    floats("importance"), slot("user", 0),
]  # fmt: skip


def problem(*variables: FeedVariable, layout: RowLayout | None = LAYOUT, said: Said = Said()) -> ConfigError:  # noqa: B008
    with pytest.raises(ConfigError) as refused:
        recognise(FILE, variables, layout, said)
    assert str(FILE) in refused.value.message
    return refused.value


def test_each_kind_wherever_it_stands() -> None:
    assert recognise(FILE, ALL, LAYOUT, Said()) == (
        NetworkFeed("price", "dense", width=3),
        NetworkFeed("items", "slot", slot=3, integer=True),
        NetworkFeed("click", "label", integer=True),
        NetworkFeed("dwell", "label"),
        NetworkFeed("7", "slot", slot=7, width=4, integer=True, sequence=False),
        NetworkFeed("show", "show", integer=True),
        NetworkFeed("importance", "weight"),
        NetworkFeed("user", "slot", slot=2, integer=True, sequence=False),
    )


@given(st.permutations(ALL))
def test_the_order_of_feeds_says_nothing(variables: list[FeedVariable]) -> None:
    kinds = {feed.name: feed for feed in recognise(FILE, ALL, LAYOUT, Said())}
    assert [kinds[v.name] for v in variables] == list(recognise(FILE, variables, LAYOUT, Said()))


@pytest.mark.parametrize("layout", [None, RowLayout((2, 3))])
def test_paddlerecs_form(layout: RowLayout | None) -> None:
    usual = [number("show"), number("click"), slot("2"), slot("3")]
    assert recognise(FILE, usual, layout, Said()) == click_feeds((2, 3))
    other = [number("show"), number("label"), slot("2"), slot("3")]  # one label each: whatever it is called
    found = recognise(FILE, other, layout, Said(of_auc=("label",)))
    assert found[1] == NetworkFeed("label", "label", integer=True)


def test_labels_and_weight_that_the_code_names() -> None:
    variables = [*ALL[:6], floats("w"), ALL[7]]
    assert recognise(FILE, variables, LAYOUT, Said(weight="w"))[6] == NetworkFeed("w", "weight")
    assert "labels names nix, which is no feed" in problem(*ALL, said=Said(labels=("click", "nix"))).message
    refused = problem(number("clicked"), number("dwell"), slot("user"), said=Said(labels=("clicked", "dwell")))
    assert "label clicked is not in stream.labels" in refused.message
    assert "stream.labels says dwell: float, which needs float32" in refused.message


def test_a_label_of_an_auc_that_the_rows_lack() -> None:
    layout = RowLayout((2,), dense=(Dense("price", 1, 0),))
    for love, kind in ((number("love"), "binary"), (floats("love"), "float")):
        variables = [number("click"), love, floats("price"), slot("2")]
        refused = problem(*variables, layout=layout, said=Said(of_auc=("click", "love", "price")))
        assert "label love is not in stream.labels" in refused.message
        assert refused.remedy.endswith(f"labels: {{click: binary, love: {kind}}}")


def test_the_lines_to_write_are_right() -> None:
    variables = [*ALL, slot("city"), slot("tags"), floats("age"), floats("vector", 16)]
    refused = problem(*variables)
    for words in ("slot city is not", "slot tags is not", "feed vector (float32, [None, 16], lod_level 0) is not in"):
        assert words in refused.message
    lines = refused.remedy.partition("in the config: ")[2].split("; ")
    stream = {key: value for line in lines for key, value in yaml.safe_load(line).items()}
    assert stream["features"] == {"user": 2, "items": 3, "city": 4, "tags": 5}
    assert stream["dense"] == {"price": 3, "age": 1, "vector": 16}
    dense = (*LAYOUT.dense, Dense("age", 1, 3), Dense("vector", 16, 4))
    recognise(FILE, variables, replace(LAYOUT, names=stream["features"], slots=(2, 3, 7, 4, 5), dense=dense), Said())


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        (floats("price", 4), "stream.dense says 3 floats, the network reads 4"),
        (replace(floats("price", 3), lod_level=1), "lod_level 0 and a fixed width"),
        (slot("x", looked_up=False), "feed x (int64, [None, 1], lod_level 1) is no label, and no sparse_embedding"),
        (slot("user", 2), "a slot is [None, 1] with lod_level 1"),
        (slot("user", 1, 5), "a slot is [None, 1] with lod_level 1"),
        (replace(floats("price", 3), dtype="float64"), "int64 or float32 is wanted"),
        (replace(number("show"), shape=(2,)), "of [None, 1] is wanted"),
        (slot("3"), "two feeds are slot 3"),
    ],
)
def test_a_feed_that_does_not_fit(variable: FeedVariable, words: str) -> None:
    variables = [number("click"), floats("dwell"), slot("items"), variable]
    assert words in problem(*variables).message


def test_networks_without_a_label_or_a_slot() -> None:
    assert "no label" in problem(slot("user")).message
    refused = problem(number("click"), floats("dwell"), floats("price", 3))
    assert "no slot" in refused.message and "floats alone" in refused.remedy
    assert "gives feed user twice" in problem(slot("user"), slot("user")).message
    assert "feed 'user' is not a slot" in problem(number("click"), slot("user"), layout=None).message
