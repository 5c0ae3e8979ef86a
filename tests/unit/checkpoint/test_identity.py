"""What a job is stays fixed: a config against a checkpoint with an identity, and against one of a version without."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from streamtrain.checkpoint.identity import IdentityCheck, refuse_other_job
from streamtrain.checkpoint.identity_keys import fixed_keys, free_keys
from streamtrain.checkpoint.store import put_manifest, seal
from streamtrain.config import JobConfig, load_config
from streamtrain.contracts.identity import NAME, JobIdentity
from streamtrain.contracts.network import Network, NetworkFeed, TableUse, click_feeds
from streamtrain.contracts.table_text import SHARD
from streamtrain.engine.tables import TableFormat
from streamtrain.errors import JobChanged, UnknownFormat
from streamtrain.schedule import PassId
from tests.support import checkpoints
from tests.support.jobs import write_config
from tests.support.paths import ROOT

FIRST = PassId("20240101", 1)
DENSE = {"linear_0.w_0": (36, 8), "linear_0.b_0": (8,)}


def job(folder: Path) -> JobConfig:
    return write_config(folder, "job", {"bootstrap.servers": "127.0.0.1:1"})


def saved(
    config: JobConfig, *, with_identity: bool, dense: Mapping[str, tuple[int, ...]] = DENSE, pass_id: PassId = FIRST,
    network: Network | None = None,
) -> Path:  # fmt: skip
    """A checkpoint of that pass, as the trainer of `config` makes it."""
    store = checkpoints.taken_over(config.model_save_path)
    staged = store.stage(pass_id)
    (staged / SHARD).mkdir()
    table = TableFormat("embedding", config.raw["table_parameters"]["embedding"])
    (staged / SHARD / "part-0.meta").write_bytes(table.meta(0))
    if with_identity:
        checked = IdentityCheck(config, dense, network=network).newest()
        (staged / NAME).write_bytes(checked.identity.encode())
    schedule = config.schedule
    manifest = checkpoints.manifest(pass_id, seal(staged))
    values = {**orjson.loads(manifest.encode()), "event_time": schedule.ends_at(schedule.last_sequence(pass_id))}
    values["partitions"] = config.stream.partitions
    put_manifest(staged, type(manifest).decode(orjson.dumps(values)))
    return store.publish(staged, pass_id)


def changed(config: JobConfig, changes: Mapping[str, Any]) -> JobConfig:
    """changes: a value by dotted key; None takes the key out."""
    raw = copy.deepcopy(config.raw)
    for key, value in changes.items():
        *parents, last = key.split(".")
        section = raw
        for parent in parents:
            section = section.setdefault(parent, {})
        if value is None:
            del section[last]
        else:
            section[last] = value
    config.path.write_text(yaml.safe_dump(raw))
    return load_config(config.path)


TABLE = "table_parameters.embedding"
RULE = f"{TABLE}.accessor.embed_sgd_param.name"
FIXED = [
    ({"runner.split_per_pass": 2}, "runner.split_per_pass", "1", "2"),
    ({"runner.split_interval": 360}, "runner.split_interval", "720", "360"),
    ({"runner.start_day": "20240102"}, "runner.start_day", "20240101", "20240102"),
    ({"stream.partitions": 4}, "stream.partitions", "2", "4"),
    ({RULE: "SparseAdamSGDRule"}, RULE, "SparseAdaGradSGDRule", "SparseAdamSGDRule"),
    ({f"{TABLE}.shard_num": 8}, f"{TABLE}.shard_num", "4", "8"),
    ({f"{TABLE}.accessor.embedx_dim": 4, f"{TABLE}.accessor.fea_dim": 7}, "accessor.embedx_dim", "8", "4"),
]
FIXED_BY_IDENTITY = [
    ({"stream.job": "other"}, "stream.job", "job", "other"),
    ({"stream.format": "multislot"}, "stream.format", "feasign_slot", "multislot"),
    ({"stream.unknown_slot": "reject"}, "stream.unknown_slot", "ignore", "reject"),
    ({"stream.slots": [2, 3, 4, 6]}, "stream.slots", "[2, 3, 4, 5]", "[2, 3, 4, 6]"),
    ({"hyper_parameters.slot_num": 5}, "stream.slots", "[2, 3, 4, 5]", "[2, 3, 4, 5, 6]"),
    ({"hyper_parameters.adam_d2sum": False}, "hyper_parameters.adam_d2sum", "True", "False"),
    ({f"{TABLE}.accessor.ctr_accessor_param.show_click_decay_rate": 0.5}, "show_click_decay_rate", "", "0.5"),
]


@pytest.mark.parametrize(("changes", "key", "old", "new"), [*FIXED, *FIXED_BY_IDENTITY])
def test_a_fixed_key_is_refused_by_its_name(
    changes: dict[str, Any], key: str, old: str, new: str, tmp_path: Path
) -> None:
    config = job(tmp_path)
    saved(config, with_identity=True)
    with pytest.raises(JobChanged) as refused:
        IdentityCheck(changed(config, changes)).newest()
    message = refused.value.message
    assert key in message and old in message and new in message and "20240101/1" in message
    assert refused.value.exit_code == 18 and "docs/config.md" in refused.value.remedy


@pytest.mark.parametrize(("changes", "key"), [row[:2] for row in FIXED])
def test_a_checkpoint_of_an_older_version_shows_it_by_its_files(
    changes: dict[str, Any], key: str, tmp_path: Path
) -> None:
    config = job(tmp_path)
    saved(config, with_identity=False)
    assert IdentityCheck(config, DENSE).newest().changes == ()
    with pytest.raises(JobChanged) as refused:
        IdentityCheck(changed(config, changes)).newest()
    assert key.rpartition(".")[2] in refused.value.message


def test_a_renamed_table_is_named_once(tmp_path: Path) -> None:
    config = job(tmp_path)
    saved(config, with_identity=True)
    raw = copy.deepcopy(config.raw)
    raw["table_parameters"] = {"second": raw["table_parameters"]["embedding"]}
    config.path.write_text(yaml.safe_dump(raw))
    with pytest.raises(JobChanged) as refused:
        IdentityCheck(load_config(config.path)).newest()
    assert refused.value.message.endswith("table_parameters: embedding in the checkpoint, second now")


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({"runner.end_day": "20240109"}, ["runner.end_day"]),
        ({"runner.train_batch_size": 64}, ["runner.train_batch_size"]),
        ({"stream.workers": 2, "stream.servers": 2}, ["stream.servers", "stream.workers"]),
        ({"hyper_parameters.optimizer.learning_rate": 0.5}, ["hyper_parameters.optimizer.learning_rate"]),
        ({f"{TABLE}.accessor.embed_sgd_param.adagrad.learning_rate": 0.5},
         [f"{TABLE}.accessor.embed_sgd_param.adagrad.learning_rate"]),
    ],
)  # fmt: skip
def test_what_may_change_is_recorded_with_its_time(changes: dict[str, Any], keys: list[str], tmp_path: Path) -> None:
    config = job(tmp_path)
    saved(config, with_identity=True)
    later = changed(config, changes)
    checked = IdentityCheck(later, DENSE).newest()
    assert [c.key for c in checked.changes] == keys and {c.after for c in checked.changes} == {"20240101/1"}
    assert all(c.time.endswith("+00:00") for c in checked.changes) and checked.identity.changes == checked.changes
    saved(later, with_identity=True)
    again = IdentityCheck(later, DENSE).newest()
    assert again.changes == () and [c.key for c in again.identity.changes] == keys


def test_a_default_that_is_written_out_is_no_change(tmp_path: Path) -> None:
    config = job(tmp_path)
    saved(config, with_identity=True)
    later = changed(config, {"stream.slots": [2, 3, 4, 5], RULE: "SparseAdaGradSGDRule"})
    assert [c.key for c in IdentityCheck(later).newest().changes] in ([], ["stream.slots"], [RULE])


@pytest.mark.parametrize(
    ("key", "mistaken"),
    [("embed_sgd_param.name", "SparseAdaGradSGDRule"), ("ctr_accessor_param.show_click_decay_rate", 0.98),
     ("ctr_accessor_param.delete_threshold", 0.8)],
)  # fmt: skip
def test_a_default_that_a_checkpoint_mistakes(key: str, mistaken: Any, tmp_path: Path) -> None:
    """The first identities took what Paddle's messages have as defaults; a key that the config gives is compared."""
    key = f"{TABLE}.accessor.{key}"
    config = changed(job(tmp_path), {key: mistaken})
    saved(config, with_identity=True)
    left_out = changed(config, {key: None})
    IdentityCheck(left_out, DENSE).newest()
    other = {"SparseAdaGradSGDRule": "SparseAdamSGDRule", 0.98: 1.0, 0.8: 0.0}[mistaken]
    with pytest.raises(JobChanged, match=re.escape(f"{key}: {mistaken} in the checkpoint, {other} now")):
        IdentityCheck(changed(left_out, {key: other}), DENSE).newest()


def test_another_network_is_refused_with_the_keys_that_may_explain_it(tmp_path: Path) -> None:
    config = job(tmp_path)
    saved(config, with_identity=True)
    later = changed(config, {"hyper_parameters.layer_sizes": [16]})
    assert IdentityCheck(later).newest().changes  # without the network it is not known what the key does
    with pytest.raises(JobChanged) as refused:
        IdentityCheck(later, {"linear_0.w_0": (36, 16), "linear_0.b_0": (16,)}).newest()
    assert "hyper_parameters.layer_sizes: [8] in the checkpoint, [16] now" in refused.value.message
    assert "dense parameter linear_0.w_0: [36, 8] in the checkpoint, [36, 16] now" in refused.value.message


def test_an_older_version_that_trained_in_between_does_not_make_the_job_forget_what_it_is(tmp_path: Path) -> None:
    """It writes no identity: the one of the newest checkpoint that has one holds, with the changes so far."""
    config = job(tmp_path)
    saved(config, with_identity=True)
    config = changed(config, {"runner.train_batch_size": 64})
    saved(config, with_identity=True, pass_id=PassId("20240101", 2))
    saved(config, with_identity=False, pass_id=PassId("20240102", 1))
    config = changed(config, {"stream.servers": 2})
    checked = IdentityCheck(config, DENSE).newest()
    assert [(c.key, c.after) for c in checked.identity.changes] == [
        ("runner.train_batch_size", "20240101/1"), ("stream.servers", "20240101/2")
    ]  # fmt: skip
    with pytest.raises(JobChanged, match=r"20240101/2 is of: stream.unknown_slot: ignore in the checkpoint, reject"):
        IdentityCheck(changed(config, {"stream.unknown_slot": "reject"})).newest()


def test_a_newer_identity_is_refused_and_a_newer_key_is_not(tmp_path: Path) -> None:
    config = job(tmp_path)
    data = IdentityCheck(config, DENSE).newest().identity.encode()
    assert JobIdentity.decode(orjson.dumps({**orjson.loads(data), "more": 1})).encode() == data
    path = saved(config, with_identity=True)
    (path / NAME).write_bytes(orjson.dumps({**orjson.loads(data), "format": 2}))
    with pytest.raises(UnknownFormat, match=r"job\.json: its format is 2"):
        IdentityCheck(config).newest()


def test_every_key_is_fixed_or_free(tmp_path: Path) -> None:
    config = job(tmp_path)
    assert not set(fixed_keys(config)) & set(free_keys(config))
    assert not [key for key in free_keys(config) if "password" in key.lower()]


def test_the_page_names_every_fixed_key(tmp_path: Path) -> None:
    page = (ROOT / "docs/config.md").read_text()
    section = page.partition("## What may change in a job")[2].partition("Every other key may change")[0]
    named = re.findall(r"`([a-z0-9_.]+)`", section)
    assert not [key for key in fixed_keys(job(tmp_path)) if not any(key.endswith(name) for name in named)]


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"runner.end_day": "20240103"}, True),
        ({"hyper_parameters.layer_sizes": [9]}, False),
        ({f"{TABLE}.accessor.embedx_threshold": 5}, False),
        ({"runner.need_infer_dump": True, "runner.infer_data_dir": "data"}, False),
        ({"stream.predict_dump_dir": "dumps"}, False),
        ({"stream.inference_model": "none"}, False),
    ],
)
def test_whether_the_model_is_the_checkpoints(changes: dict[str, Any], same: bool, tmp_path: Path) -> None:
    config = job(tmp_path)
    assert not IdentityCheck(config).newest().same_model  # nothing to compare with
    saved(config, with_identity=True)
    assert IdentityCheck(changed(config, changes)).newest().same_model == same


def test_other_source_files_are_another_model(tmp_path: Path) -> None:
    net = tmp_path / "net"
    net.mkdir()
    (net / "static_model.py").write_text("a = 1\n")
    config = changed(job(tmp_path), {"runner.model_dir": "net"})
    saved(config, with_identity=True)
    (net / "notes.txt").write_text("no source")
    assert IdentityCheck(config).newest().same_model
    (net / "static_model.py").write_text("a = 2\n")
    checked = IdentityCheck(config).newest()
    assert not checked.same_model and [c.key for c in checked.changes] == ["runner.model_dir/*.py"]


def test_a_command_refuses_the_keys_that_it_goes_by(tmp_path: Path) -> None:
    config = job(tmp_path)
    saved(config, with_identity=True)
    other = changed(config, {"stream.partitions": 4, "stream.slots": [2, 3]})
    refuse_other_job(other, lambda key: key == "stream.job")
    with pytest.raises(JobChanged) as caught:
        refuse_other_job(other, lambda key: key != "stream.partitions")
    assert "stream.slots: " in str(caught.value) and "stream.partitions" not in str(caught.value)


SLOTS = (2, 3, 4, 5)
USUAL = Network(click_feeds(SLOTS), (TableUse("embedding", SLOTS, show=True, click="click", width=9),))


def table_of(**changes: Any) -> Network:
    return replace(USUAL, tables=(replace(USUAL.tables[0], **changes),))


def test_a_usual_network_is_no_part_of_the_document(tmp_path: Path) -> None:
    config = job(tmp_path)
    with_it = IdentityCheck(config, DENSE, network=USUAL).newest().identity
    assert with_it == IdentityCheck(config, DENSE).newest().identity
    assert "network" not in orjson.loads(with_it.encode())
    (table,) = with_it.tables
    assert (table.name, table.slots, table.show, table.click) == ("embedding", SLOTS, True, "click")


@pytest.mark.parametrize(
    "network",
    [
        table_of(click=""),
        table_of(show=False),
        table_of(slots=(2, 2, 3, 4, 5)),
        replace(USUAL, feeds=(*USUAL.feeds, NetworkFeed("x", "dense", width=2))),
    ],
)
def test_another_network_comes_back(tmp_path: Path, network: Network) -> None:
    identity = IdentityCheck(job(tmp_path), DENSE, network=network).newest().identity
    assert JobIdentity.decode(identity.encode()).network == network and identity.tables == network.tables


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        (USUAL, table_of(click=""), "table embedding: slots 2, 3, 4, 5; show counts rows, click is label click in"),
        (table_of(click=""), USUAL, "click is 0 in the checkpoint, slots 2, 3, 4, 5; show counts rows, click is label"),
        (table_of(slots=(2, 3)), table_of(slots=(2, 4)), "table embedding: slots 2, 3; show counts rows, click is"),
        (USUAL, USUAL, ""),
        (table_of(click=""), None, ""),
        (table_of(click="", width=9), table_of(click="", width=0), ""),
    ],
)
def test_tables_that_count_other_things_are_refused(
    tmp_path: Path, before: Network, now: Network | None, words: str
) -> None:
    config = job(tmp_path)
    saved(config, with_identity=True, network=before)
    check = IdentityCheck(config, DENSE, network=now)
    if not words:
        kept = check.newest().identity.network
        assert kept == (None if before is USUAL else before if now is None else now)
        return
    with pytest.raises(JobChanged, match=re.escape(words)):
        check.newest()
