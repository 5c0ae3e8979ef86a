"""A config against the identity of the job that its checkpoints are of: what is fixed is refused by its key, what may
change is recorded with its time.

Checked twice: by the parent at the start, before anything runs, from the config alone; by every worker before it takes
over, with the network's dense parameters too.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from streamtrain.checkpoint.identity_keys import fixed_keys, free_keys
from streamtrain.checkpoint.opening import Readable
from streamtrain.checkpoint.store import Checkpoint
from streamtrain.config import JobConfig
from streamtrain.contracts import identity
from streamtrain.contracts.identity import (
    Change,
    Difference,
    JobIdentity,
    dense_differences,
    differences,
    flat,
    table_differences,
)
from streamtrain.contracts.json_codec import UnknownFormatError
from streamtrain.contracts.manifest import Manifest
from streamtrain.contracts.network import Network
from streamtrain.contracts.table_text import (
    DEFAULT_ACCESSOR,
    DEFAULT_SHARDS,
    SHARD,
    PartMeta,
    TableColumns,
)
from streamtrain.contracts.tensors import read_tensor
from streamtrain.contracts.warmup import FIXED, WarmStart
from streamtrain.errors import CheckpointError, JobChanged, UnknownFormat
from streamtrain.files import read_bytes

log = logging.getLogger("streamtrain.checkpoint")

_START_ANEW = (
    "Restore the key; docs/config.md says how to change it all the same. Another job needs a stream.job and a "
    "runner.model_save_path of its own. Nothing was touched."
)
#: What the first checkpoints with an identity say of keys that the config leaves out; Paddle never took it.
_MISTAKEN = {
    "accessor.embed_sgd_param.name": "SparseAdaGradSGDRule",
    "accessor.embedx_sgd_param.name": "SparseAdaGradSGDRule",
    "accessor.ctr_accessor_param.show_click_decay_rate": 0.98,
    "accessor.ctr_accessor_param.delete_threshold": 0.8,
}


#: Begins the keys that decide what the network is, and what is asked of it.
_OF_MODEL = (
    "hyper_parameters.", "table_parameters.", "runner.model_dir", "runner.need_", "stream.inference_",
    "stream.consistency_rows", "stream.predict_dump_dir",
)  # fmt: skip


@dataclass(frozen=True)
class Checked:
    """The identity to write into the next checkpoint, and the changes since the last one."""

    identity: JobIdentity
    changes: tuple[Change, ...] = ()
    #: Whether a checkpoint's identity was there to compare with.
    compared: bool = False

    @property
    def same_model(self) -> bool:
        """Whether the network that is trained is known to be the checkpoint's: neither its code nor what its code is
        given has changed."""
        return self.compared and not any(change.key.startswith(_OF_MODEL) for change in self.changes)


def refuse_other_job(config: JobConfig, wanted: Callable[[str], bool], checkpoint: Checkpoint | None = None) -> None:
    """For commands that compute something from a checkpoint by the config: raises JobChanged when a fixed key differs
    and is one that they go by. wanted: whether a key is. checkpoint: the newest by default."""
    check = IdentityCheck(config, wanted=wanted)
    if checkpoint is None:
        check.newest()
    else:
        check.against(checkpoint)


@dataclass(frozen=True)
class IdentityCheck:
    """Checks a config. dense: shapes of the network's dense parameters, network: its feeds and tables, where they are
    known. wanted: whether a key matters."""

    config: JobConfig
    dense: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    wanted: Callable[[str], bool] = lambda _key: True
    network: Network | None = None

    def newest(self) -> Checked:
        """Against the newest checkpoint, whose files are not verified.

        Raises JobChanged, naming each key that is fixed and differs; UnknownFormat and Unreadable when the newest
        checkpoint, or its identity, is not to be judged by this version.
        """
        store = Readable(self.config).checkpoints
        for pass_id in store.ids_newest_first():
            checkpoint = store.read(pass_id)
            if checkpoint.manifest is not None:
                try:
                    return self.against(checkpoint)
                except CheckpointError as error:
                    log.warning("%s: the checkpoint before it is looked at", error)  # a restart skips it too
                    continue
            refusal = checkpoint.problem.refusal(pass_id) if checkpoint.problem is not None else None
            if refusal is not None:
                raise refusal
        return self.against(None)

    def against(self, checkpoint: Checkpoint | None, start: WarmStart | None = None) -> Checked:
        """Against that checkpoint; None: the job starts from nothing, or from `start`. Raises as newest()."""
        network = self.network if self.network is not None and not self.network.is_usual else None
        now = JobIdentity(
            fixed=fixed_keys(self.config), config=free_keys(self.config), dense=dict(self.dense), network=network
        )
        if checkpoint is None or checkpoint.manifest is None:
            return Checked(_begun_from(now, start))
        before, of = identity_of(checkpoint), checkpoint
        found: list[Difference] = []
        changed: list[Difference] = []
        kept: tuple[Change, ...] = ()
        if before is None:  # of a version that wrote none
            found = list(self._against_files(checkpoint, checkpoint.manifest))
            before, of = self._older(checkpoint)
        if before is not None and before.warmup is not None:  # it stays, whatever the key says now
            now = _begun_from(now, before.warmup)
        if before is not None and not found:
            found = [d for d in differences(before.fixed, now.fixed) if not _is_mistaken(d, self.config.raw)]
            if any(d.key == "table_parameters" for d in found):  # another table has other keys
                found = [d for d in found if not d.key.startswith("table_parameters.")]
            changed = list(differences(before.config, now.config))
            kept = before.changes
            shapes = list(dense_differences(before.dense, now.dense))
            if shapes:
                suspects = [d for d in changed if d.key.startswith(("hyper_parameters.", "runner.model_dir"))]
                found += [*suspects, *(Difference(f"dense parameter {d.key}", d.old, d.new) for d in shapes)]
            if self.network is not None and not found:
                found = list(table_differences(before.tables, now.tables))
        if found := [d for d in found if self.wanted(d.key)]:
            raise JobChanged(
                f"{self.config.path} is not the config of the job that checkpoint {of.id} is of: "
                + "; ".join(map(str, found)),
                remedy=_START_ANEW,
            )
        changes = tuple(
            Change(datetime.now(timezone.utc).isoformat(timespec="seconds"), str(of.id), d.key, d.old, d.new)
            for d in changed
        )
        every = (*kept, *changes)[-identity.MAX_CHANGES :]
        dense = dict(self.dense) or (before.dense if before is not None else {})
        if self.network is None and before is not None:
            network = before.network
        return Checked(
            replace(now, dense=dense, changes=every, network=network),
            changes,
            before is not None,
        )

    def _older(self, checkpoint: Checkpoint) -> tuple[JobIdentity | None, Checkpoint]:
        """The identity that the newest checkpoint before this one has, and that checkpoint: an older version, which
        writes none, may have trained a while in between. None, and this one, when none has."""
        store = Readable(self.config).checkpoints
        for pass_id in store.ids_newest_first():
            older = store.read(pass_id) if pass_id < checkpoint.id else None
            if older is None or older.manifest is None:
                continue
            with contextlib.suppress(CheckpointError):  # damaged: it is not the one that is loaded
                if (found := identity_of(older)) is not None:
                    return found, older
        return None, checkpoint

    def _against_files(self, checkpoint: Checkpoint, manifest: Manifest) -> Iterator[Difference]:
        """Against what the files of a checkpoint without an identity show of it."""
        schedule = self.config.schedule
        if manifest.day < schedule.start_day:
            yield Difference("runner.start_day", f"no later than {manifest.day}", schedule.start_day)
        elif manifest.event_time:
            ends = schedule.ends_at(schedule.last_sequence(manifest.id))
            if ends[:19] != manifest.event_time[:19]:
                yield Difference(
                    "runner.split_interval, split_per_pass or start_day",
                    f"pass {manifest.id} ends at {manifest.event_time[:19]}",
                    f"at {ends[:19]}",
                )
        if manifest.partitions != self.config.stream.partitions:
            yield Difference("stream.partitions", manifest.partitions, self.config.stream.partitions)
        metas = sorted(e.path for e in manifest.files if e.path.startswith(f"{SHARD}/") and e.path.endswith(".meta"))
        for name, table in (self.config.raw.get("table_parameters") or {}).items():
            if metas:  # of a version that knew one table
                yield from _against_meta(name, table, _meta(checkpoint, metas[0]))
        for name in sorted({e.path for e in manifest.files} & set(self.dense)):
            shape = _shape(checkpoint, name)
            if shape != self.dense[name]:
                yield Difference(f"dense parameter {name}", list(shape), list(self.dense[name]))


def _begun_from(job: JobIdentity, start: WarmStart | None) -> JobIdentity:
    return job if start is None else replace(job, fixed={**job.fixed, FIXED: start.digest}, warmup=start)


def _is_mistaken(difference: Difference, raw: Mapping[str, Any]) -> bool:
    section, _, key = difference.key.partition(".")
    key = key.partition(".")[2]  # behind the table's name
    if section != "table_parameters" or _MISTAKEN.get(key) != difference.old:
        return False
    return flat(raw).get(difference.key) is None


def _against_meta(name: str, table: Mapping[str, Any], meta: PartMeta) -> Iterator[Difference]:
    accessor = table.get("accessor") or {}
    columns = TableColumns.of_accessor(accessor)
    where = f"table_parameters.{name}"
    if meta.shard_num is not None and meta.shard_num != int(table.get("shard_num", DEFAULT_SHARDS)):
        yield Difference(f"{where}.shard_num", meta.shard_num, table.get("shard_num", DEFAULT_SHARDS))
    if meta.accessor is not None and meta.accessor != str(accessor.get("accessor_class", DEFAULT_ACCESSOR)):
        yield Difference(f"{where}.accessor.accessor_class", meta.accessor, accessor.get("accessor_class"))
    if meta.names != columns.names:
        key = "embedx_dim" if meta.embedx_dim != columns.embedx_dim else "embed_sgd_param.name or embedx_sgd_param.name"
        old, new = (" ".join(n for n in names if n not in both) for names, both in _apart(meta.names, columns.names))
        yield Difference(f"{where}.accessor.{key}", f"columns {old or '(fewer)'}", f"columns {new or '(fewer)'}")


def _apart(
    one: tuple[str, ...], two: tuple[str, ...]
) -> tuple[tuple[tuple[str, ...], set[str]], tuple[tuple[str, ...], set[str]]]:
    both = set(one) & set(two)
    return (one, both), (two, both)


def _meta(checkpoint: Checkpoint, name: str) -> PartMeta:
    try:
        return PartMeta.decode(read_bytes(checkpoint.path / name))
    except (OSError, ValueError) as error:
        raise _damaged(checkpoint.path / name, error) from error


def _shape(checkpoint: Checkpoint, name: str) -> tuple[int, ...]:
    try:
        return tuple(read_tensor(read_bytes(checkpoint.path / name, limit=None)).shape)
    except (OSError, ValueError) as error:
        raise _damaged(checkpoint.path / name, error) from error


def _damaged(file: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{file} cannot be read: {error}", remedy="`streamtrain checkpoints verify` reports what is damaged."
    )


def identity_of(checkpoint: Checkpoint) -> JobIdentity | None:
    """None for a checkpoint of a version that wrote none. Raises CheckpointError, UnknownFormat."""
    manifest = checkpoint.manifest
    if manifest is None or identity.NAME not in {entry.path for entry in manifest.files}:
        return None
    file = checkpoint.path / identity.NAME
    try:
        return JobIdentity.decode(read_bytes(file))
    except UnknownFormatError as error:
        raise UnknownFormat(
            f"{file}: {error}",
            remedy=UnknownFormat.REMEDY,
        ) from error
    except (OSError, ValueError) as error:
        raise _damaged(file, error) from error


def log_changes(changes: tuple[Change, ...]) -> None:
    for change in changes:
        log.info(
            "config: %s was %s up to pass %s, it is %s from now on", change.key, change.old, change.after, change.new
        )
