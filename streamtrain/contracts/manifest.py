"""manifest.json of a checkpoint: its files, and its position in the stream. Pure.

The file decides a job's position; the consumer group's offsets are its witness. Its SHA-256 is the checkpoint's digest.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import orjson
from pydantic import TypeAdapter, ValidationError

from streamtrain.contracts import json_codec
from streamtrain.contracts.json_codec import UnknownFormatError
from streamtrain.contracts.paths import Day, PassNumber, PlainPath
from streamtrain.schedule import PassId

FORMAT = 1
NAME = "manifest.json"


@dataclass(frozen=True)
class FileEntry:
    """A file of a checkpoint or inference model: path below its directory, size in bytes, SHA-256 in hex."""

    path: PlainPath
    bytes: int
    sha256: str


#: Of an inference model.
Kind = Literal["full", "incremental"]


@dataclass(frozen=True)
class ModelRef:
    """An inference model: its day and pass_id (0: before the day's first pass), SHA-256 of its manifest.json."""

    day: Day
    pass_id: PassNumber
    digest: str


@dataclass(frozen=True)
class ModelChain:
    """What the next incremental inference model patches.

    base: the newest full model. previous: the newest model of all, the base or an incremental one over it. shrinks,
    deletions: those of Manifest when `previous` was made; -1 in manifests that lack them.
    """

    base: ModelRef
    previous: ModelRef
    shrinks: int = -1
    deletions: int = -1


@dataclass(frozen=True)
class Manifest:
    """A checkpoint's manifest. A newer version may have more keys: they are ignored.

    marker_offset: marker-log offset that the next pass's segment starts at. offsets: the same for each
    partition of the samples topic, as text keys (JSON). rows: trained since the job's start. keys: in the
    sparse table. metrics: the pass's PassRecord, which a crash right after the rename keeps out of passes.jsonl.
    shrinks: day ends at which keys were shrunk; deletions: keys that these have deleted. late_rows: of revisions that
    came after their split's pass.
    untrained: passes (day/pass_id) that the gate kept from training; `rows` is without theirs. event_time: the end
    of the newest split in the model, ISO 8601. models: inference models published together with it. chain: what the
    next incremental one patches.
    """

    job: str
    day: Day
    pass_id: PassNumber
    marker_offset: int
    offsets: dict[str, int]
    samples_topic_id: str
    splits_topic_id: str
    cluster_id: str
    partitions: int
    rows: int
    keys: int
    metrics: dict[str, Any]
    config_sha256: str
    program: str
    created: str
    files: tuple[FileEntry, ...]
    shrinks: int = 0
    deletions: int = 0
    late_rows: int = 0
    untrained: tuple[str, ...] = ()
    event_time: str = ""
    models: tuple[ModelRef, ...] = ()
    chain: ModelChain | None = None
    format: int = FORMAT

    @property
    def id(self) -> PassId:
        return PassId(self.day, self.pass_id)

    def encode(self) -> bytes:
        return json_codec.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Raises UnknownFormatError when it is of another format, ValueError when it is damaged."""
        manifest = json_codec.decode(_MANIFEST, data, "a checkpoint's manifest", format=FORMAT)
        json_codec.check_keys(orjson.loads(data), [f.name for f in fields(cls)])
        return manifest


_MANIFEST = TypeAdapter(Manifest)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Witness:
    """The metadata of the consumer group's offsets: which checkpoint was committed last.

    Its format is 1 where it has no key `format`, as this version writes it.
    """

    day: str
    pass_id: int
    digest: str

    def encode(self) -> str:
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def decode(cls, text: str | None) -> Witness | None:
        """None when there is no text: offsets that were set by hand have none. Keys that this version does not know are
        ignored. Raises UnknownFormatError for a newer format, and for text that is not a witness."""
        if not text:
            return None
        try:
            document = json_codec.decode_object(text.encode(), "a witness")
            json_codec.check_format(document.get("format", FORMAT), FORMAT)
            return _WITNESS.validate_python(document)
        except ValidationError as error:
            raise UnknownFormatError(f"it is not a witness: {json_codec.first_problem(error)}") from error
        except UnicodeEncodeError as error:
            raise UnknownFormatError("it is not a witness: it is not text") from error
        except UnknownFormatError:
            raise
        except ValueError as error:
            raise UnknownFormatError(str(error)) from error

    @property
    def id(self) -> PassId:
        return PassId(self.day, self.pass_id)


_WITNESS = TypeAdapter(Witness)
