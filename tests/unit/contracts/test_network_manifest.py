"""Manifests of format 2: what comes back, what does not belong together, what older and newer versions say."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.contracts.inference_models import Feed, ModelManifest, TableKeys
from streamtrain.contracts.json_codec import UnknownFormatError
from streamtrain.contracts.manifest import FileEntry
from streamtrain.contracts.network_manifest import NetworkManifest, TableEntry, decode_manifest
from streamtrain.contracts.served_network import Constant, DenseFeed, SlotFeed, TargetVariable

names = st.text("abcXYZ_019.", min_size=1, max_size=6).filter(lambda name: name not in (".", ".."))


@st.composite
def manifests(draw: st.DrawFn) -> NetworkManifest:
    """Slots that are looked up in some of the tables each, with floats, a constant, several targets."""
    tables = {
        name: TableEntry(
            draw(st.integers(0, 99)), draw(st.integers(0, 9)), width=len(pulls) + draw(st.integers(0, 9)), pulls=pulls,
            thresholds=draw(st.none() | st.just({"base_threshold": 1.5})),
        )
        for name in draw(st.lists(names, min_size=1, max_size=3, unique=True))
        for pulls in [draw(st.sampled_from([("embed_w",), ("show", "click", "embed_w")]))]
    }  # fmt: skip
    feeds = draw(st.lists(names, min_size=1, max_size=8, unique=True))
    cut = draw(st.integers(1, len(feeds)))
    slots, dense = [], []
    for number, name in enumerate(feeds[:cut], 2):
        length = draw(st.integers(0, 3))
        for table in draw(st.lists(st.sampled_from(sorted(tables)), min_size=1, max_size=4)):
            slots.append(SlotFeed(name, number, table, f"v{len(slots)}", length))
    for name in feeds[cut:]:
        dense.append(
            DenseFeed(name, tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=2))), f"d{len(dense)}")
        )
    targets = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    return NetworkManifest(
        day="20240101", pass_id=1, kind="full", keys=sum(t.keys for t in tables.values()),
        deleted=sum(t.deleted for t in tables.values()), files=(FileEntry("a", 1, "b"),), feeds=tuple(slots),
        dense_feeds=tuple(dense), constants=draw(st.sampled_from([(), (Constant("show", 1.0, True),)])), tables=tables,
        targets=tuple(TargetVariable(name, f"{name}.tmp") for name in targets),
    )  # fmt: skip


@given(manifests())
def test_manifests_come_back(manifest: NetworkManifest) -> None:
    assert decode_manifest(manifest.encode()) == manifest
    network = manifest.network
    assert network.variables == [*(f.variable for f in network.slots), *(f.variable for f in network.dense),
                                 *(c.variable for c in network.constants)]  # fmt: skip
    one = len(manifest.tables) == 1
    assert manifest.directories == {
        "sparse" if one else f"sparse/{name}": TableKeys(table.keys, table.deleted)
        for name, table in manifest.tables.items()
    }
    with pytest.raises(UnknownFormatError, match="its format is 2, this version reads 1"):  # as 0.3.0 does
        ModelManifest.decode(manifest.encode())


def document(**changes: Any) -> bytes:
    values = {
        "format": 2, "day": "20240101", "pass_id": 1, "kind": "full", "keys": 3, "deleted": 0, "files": [],
        "feeds": [
            {"name": "user", "slot": 2, "table": "deep", "variable": "a"},
            {"name": "user", "slot": 2, "table": "wide", "variable": "b"},
            {"name": "item", "slot": 3, "table": "deep", "variable": "c", "length": 1},
        ],
        "dense_feeds": [{"name": "price", "shape": [3], "variable": "price"}],
        "tables": {
            "deep": {"width": 5, "pulls": ["show", "click", "embed_w"], "keys": 1},
            "wide": {"width": 1, "pulls": ["embed_w"], "keys": 2},
        },
        "targets": [{"name": "ctr", "variable": "p"}],
    }  # fmt: skip
    return json.dumps({key: value for key, value in {**values, **changes}.items() if value is not None}).encode()


def test_what_a_manifest_must_have_is_little() -> None:
    manifest = decode_manifest(document())
    assert isinstance(manifest, NetworkManifest) and manifest.network.tables["deep"].columns == (
        "key", "show", "click", "embed_w", "embedx_0", "embedx_1"
    )  # fmt: skip
    assert manifest.network.lengths == {2: 0, 3: 1} and manifest.network.dense[0].width == 3


USER = {"name": "user", "slot": 2, "table": "deep", "variable": "a"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"feeds": [{**USER, "table": "other"}]}, "feed 'user' is of the table 'other', which it does not have"),
        ({"feeds": [USER, {**USER, "slot": 3, "variable": "b"}]}, "feed 'user' is two slots"),
        ({"feeds": [USER, {**USER, "variable": "b", "length": 2}]}, "feed 'user' is two slots"),
        ({"feeds": [USER, {**USER, "name": "item", "variable": "b"}]}, "the slot '2' is there twice"),
        ({"feeds": [USER, {**USER, "table": "wide"}]}, "the variable 'a' is there twice"),
        ({"dense_feeds": [{"name": "user", "shape": [1], "variable": "x"}]}, "the feed 'user' is there twice"),
        ({"dense_feeds": [{"name": "x", "shape": [], "variable": "x"}]}, "dense_feeds.0.shape"),
        ({"constants": [{"variable": "a", "value": 1}]}, "the variable 'a' is there twice"),
        ({"targets": [{"name": "p", "variable": v} for v in "ab"]}, "the target 'p' is there twice"),
        ({"targets": []}, "targets: Tuple should have at least 1 item"),
        ({"tables": {}}, "tables: Dictionary should have at least 1 item"),
        ({"tables": {"deep": {"width": 2, "pulls": ["show", "click", "embed_w"], "keys": 3},
                     "wide": {"width": 1, "pulls": ["embed_w"], "keys": 0}}}, "has a width of 2, it pulls 3 columns"),
        ({"tables": {"deep": {"width": 5, "pulls": ["embed_w"], "keys": 1},
                     "../wide": {"width": 1, "pulls": ["embed_w"], "keys": 2}}}, "not a path below its directory"),
        ({"keys": 4}, "keys is 4, its tables have 3"),
        ({"deleted": 1}, "deleted is 1, its tables have 0"),
    ],
)  # fmt: skip
def test_what_does_not_belong_together_is_refused(changes: dict[str, Any], reason: str) -> None:
    if "tables" in changes and "../wide" in changes["tables"]:
        changes = {**changes, "feeds": [USER]}
    with pytest.raises(ValueError, match="it is not an inference model's manifest") as refused:
        decode_manifest(document(**changes))
    assert reason in str(refused.value)


@pytest.mark.parametrize("number", [3, 0, "2", 2.5, True])
def test_other_numbers_are_a_newer_versions(number: object) -> None:
    with pytest.raises(UnknownFormatError, match="this version reads 1 and 2: a newer version wrote it"):
        decode_manifest(document(format=number))


def test_format_1_is_read_as_a_network() -> None:
    manifest = ModelManifest(
        day="20240101", pass_id=1, kind="full", keys=2, width=3, feeds=(Feed(5, "x"), Feed(2, "y")), target="p",
        files=(),
    )  # fmt: skip
    network = manifest.network
    assert [(feed.name, feed.slot, feed.variable) for feed in network.slots] == [("5", 5, "x"), ("2", 2, "y")]
    assert network.tables["sparse"].columns == ("key", "embed_w", "embedx_0", "embedx_1")
    assert network.targets == (TargetVariable("p", "p"),) and manifest.directories == {"sparse": TableKeys(2, 0)}
