"""Going back to an earlier checkpoint, or to nothing: what came later is set aside, never deleted.

1. the trainer before is fenced, as by a newer one           (Committer.take_over)
2. rewind.json says where to and where what is set aside goes: from here on a crash is finished by the next start
3. donefile lines of later models and checkpoints are taken out: no reader begins with one that is about to move
4. later inference models and checkpoints are renamed below `.set-aside/<time>/`, the newest first; passes.jsonl and the
   donefiles have been copied there
5. the group's offsets become those of the checkpoint, with its digest as the witness
6. rewind.json is moved there too

A start that finds rewind.json does 3 to 6 again: each of them leaves alone what is done.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from pydantic import TypeAdapter

from streamtrain.checkpoint.journal import NAME as JOURNAL
from streamtrain.checkpoint.journal import Journal
from streamtrain.checkpoint.published import PublishedModels
from streamtrain.checkpoint.runs import Run, refusals
from streamtrain.checkpoint.store import Checkpoint, CheckpointStore
from streamtrain.contracts import json_codec
from streamtrain.contracts.donefiles import DoneLine, kept_lines
from streamtrain.contracts.json_codec import UnknownFormatError
from streamtrain.contracts.manifest import ModelRef
from streamtrain.contracts.paths import Day, PassNumber, PlainPath
from streamtrain.errors import CheckpointError, UnknownFormat
from streamtrain.failpoints import failpoint
from streamtrain.files import read_bytes
from streamtrain.schedule import PassId

log = logging.getLogger("streamtrain.checkpoint")

FORMAT = 1
NAME = "rewind.json"
SET_ASIDE = ".set-aside"


@dataclass(frozen=True)
class Target:
    """The checkpoint that is gone back to."""

    day: Day
    pass_id: PassNumber

    @property
    def id(self) -> PassId:
        return PassId(self.day, self.pass_id)


@dataclass(frozen=True)
class Intent:
    """rewind.json. to: None for nothing. aside: the directory below the root that what came later goes to."""

    to: Target | None
    aside: PlainPath
    format: int = FORMAT

    def encode(self) -> bytes:
        return json_codec.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Intent:
        """Raises UnknownFormatError, ValueError."""
        return json_codec.decode(_INTENT, data, "a rewind's intent", format=FORMAT)

    @property
    def newest(self) -> PassId | None:
        return self.to.id if self.to is not None else None


_INTENT = TypeAdapter(Intent)


@dataclass(frozen=True)
class RewindPlan:
    """What a rewind does. to: the verified checkpoint; None: nothing. checkpoints, models: that are set aside, the
    oldest first."""

    to: Checkpoint | None
    checkpoints: tuple[PassId, ...]
    models: tuple[ModelRef, ...]


def plan(root: Path, to: PassId | None, store: CheckpointStore | None = None) -> RewindPlan:
    """Reads alone. root: where the donefiles are. store: the checkpoints, those of `root` by default.

    Raises CheckpointError when there is no valid checkpoint `to`; UnknownFormat, Unreadable.
    """
    store = store or CheckpointStore(root)
    target = None
    if to is not None:
        if to not in store.ids():
            raise CheckpointError(
                f"{store.where} has no checkpoint {to}", remedy="`streamtrain checkpoints list` lists them."
            )
        target = store.read(to)
        if (problem := store.verify(target)) is not None:
            refusal = problem.refusal(to)
            raise refusal or CheckpointError(
                f"checkpoint {to} is damaged: {problem}",
                remedy="Choose another, or restore it from a copy.",
            )
    lines = PublishedModels(root).lines()
    kept = _kept(lines, to)
    return RewindPlan(
        target,
        tuple(pass_id for pass_id in store.ids() if to is None or pass_id > to),
        tuple(line.ref for line in lines if line not in kept),
    )


def _kept(lines: list[DoneLine], to: PassId | None) -> list[DoneLine]:
    """Of the donefiles' lines, those of the model that is gone back to. That of the empty model, from before the first
    pass, goes with all others."""
    return kept_lines(lines, to)


def begin(run: Run, to: PassId | None) -> Intent:
    """Step 2. The run must have taken over. Raises Fenced, CheckpointError."""
    intent = intent_of(to)
    run.replace(run.root / NAME, intent.encode())
    return intent


def intent_of(to: PassId | None) -> Intent:
    """To be written as rewind.json."""
    time = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    return Intent(Target(to.day, to.pass_id) if to is not None else None, f"{SET_ASIDE}/{time}")


def interrupted(root: Path) -> Intent | None:
    """The rewind that a crash interrupted; None when there is none.

    Raises UnknownFormat, Unreadable, CheckpointError.
    """
    try:
        data = read_bytes(root / NAME)
    except OSError:
        return None
    return decode_intent(data, str(root / NAME))


def decode_intent(data: bytes, name: str) -> Intent:
    """Of the file of that name. Raises UnknownFormat, CheckpointError."""
    try:
        return Intent.decode(data)
    except UnknownFormatError as error:
        raise UnknownFormat(
            f"{name}: {error}", remedy="Start the version of streamtrain that wrote it, or a newer one."
        ) from error
    except ValueError as error:
        raise CheckpointError(
            f"{name} is damaged: {error}", remedy="Remove it, and give the rewind command again."
        ) from error


def finish(run: Run, intent: Intent, settle: Callable[[Checkpoint | None], None]) -> RewindPlan:
    """Steps 3 to 6. settle(checkpoint) commits its offsets and witness, those of nothing for None.

    Raises Fenced, CheckpointError, KafkaError: the next start goes on from there.
    """
    root, to = run.root, intent.newest
    aside = root / intent.aside
    store, models = CheckpointStore(root, run), PublishedModels(root, run)
    done = plan(root, to)
    with refusals(aside, "cannot be made"):
        aside.mkdir(parents=True, exist_ok=True)
    _copy_records(root, aside)
    models.write_donefiles(_kept(models.lines(), to))
    store.cut_donefile(to)
    failpoint("rewind.unlisted")
    for model in reversed(_models_after(models, PublishedModels(aside).lines(), done, to)):
        path = models.path(model)
        run.set_aside(path, aside / path.relative_to(root))
    for pass_id in reversed(done.checkpoints):
        path = store.path(pass_id)
        run.set_aside(path, aside / path.relative_to(root))
        failpoint("rewind.moved")
    for day in {pass_id.day for pass_id in done.checkpoints} | {model.day for model in done.models}:
        with contextlib.suppress(OSError):  # it has earlier passes
            (root / day).rmdir()
    journal = Journal(root)
    journal.roll_back(to, run)
    journal.close()
    settle(done.to)
    failpoint("rewind.settled")
    run.set_aside(root / NAME, aside / NAME)
    log.info("rewound to %s: %d checkpoints and %d models are in %s", to or "nothing", len(done.checkpoints),
                len(done.models), aside)  # fmt: skip
    return done


def _models_after(
    models: PublishedModels, before: list[DoneLine], done: RewindPlan, to: PassId | None
) -> list[ModelRef]:
    """The models to set aside: those that the donefiles listed before the rewind, whose copies are aside, since after a
    crash their lines are gone; and those that the checkpoints' manifests name. before: lines of the copies."""
    kept = _kept(before, to)
    listed = [line.ref for line in before if line not in kept]
    store = CheckpointStore(models.root)
    named = [m for p in done.checkpoints if (c := store.read(p).manifest) is not None for m in c.models]
    every = dict.fromkeys([*done.models, *listed, *named])
    return sorted((m for m in every if models.path(m).is_dir()), key=lambda m: (m.day, m.pass_id))


def _copy_records(root: Path, aside: Path) -> None:
    """donefiles and passes.jsonl, as they were before the rewind; once."""
    with refusals(aside, "cannot be written"):
        for name in (JOURNAL, "donefile.txt", "base_donefile.txt", "patch_donefile.txt"):
            if (root / name).exists() and not (aside / name).exists():
                shutil.copyfile(root / name, aside / f"{name}.new")
                (aside / f"{name}.new").rename(aside / name)
