"""The sections `runner:` and `stream:`, typed: every key with its type, default and bounds."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from streamtrain.config.columns import FEED_NAME, ColumnsConfig
from streamtrain.contracts.fast_paths import FastPaths
from streamtrain.contracts.line_format import BUILT_IN
from streamtrain.contracts.row_layout import LabelKind
from streamtrain.processes import processors
from streamtrain.schedule import parse_day, parse_zone

#: Names of files that nobody reads: hidden ones, and those that a writer renames once they are complete.
IGNORED_FILES = (".*", "_*", "*._COPYING_", "*.tmp", "*.inprogress", "*.crc")
#: Keys of PaddleRec's runner that have no effect here: reported once, never refused.
NO_EFFECT = frozenset(
    {
        "use_gpu", "shuffle_thread_num", "preload_thread_num", "reader_type", "pipe_command",
        "dataset_debug", "prefetch", "infer_thread_num", "parse_ins_id", "parse_content", "train_reader_path",
        "test_data_dir",
        "infer_reader_path", "epochs", "print_interval", "need_prune",
        "infer_batch_size", "use_auc", "use_xpu",
        "infer_load_path", "infer_start_epoch", "infer_end_epoch", "geo_step", "thread_num",
    }
)  # fmt: skip


#: Decimal numbers as text: what quotes around a number leave of it.
_DECIMAL = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?")
#: Floats of one name: a row of them still fits into a message.
MAX_FLOATS = 65536
#: Seconds and hours that a wait can last: a year.
_YEAR_S, _YEAR_H = 366 * 86_400, 366 * 24


class Section(BaseModel):
    """A number is wanted where the type says so: neither true nor 1_000 is one, nor .inf."""

    model_config = ConfigDict(extra="forbid", strict=False, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_what_is_wanted(cls, value: Any, info: ValidationInfo) -> Any:
        wanted = _types(cls.model_fields[str(info.field_name)].annotation)
        if not wanted & {int, float} or (bool in wanted):
            return value
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str) and str in wanted:
                continue  # a word, or what the type says of it
            if isinstance(item, bool) or (isinstance(item, str) and not _DECIMAL.fullmatch(item)):
                raise ValueError("a number is wanted")
        return value

    @classmethod
    def text_keys(cls) -> frozenset[str]:
        """Keys whose values are text: 0123 is a name there, not a number."""
        return frozenset(name for name, field in cls.model_fields.items() if str in _types(field.annotation))


def _types(annotation: Any) -> set[Any]:
    """The types that an annotation is made of: of list[int] | None, list, int and None."""
    if get_origin(annotation) is Literal:
        return {str}
    inner = [kind for part in get_args(annotation) for kind in _types(part)]
    return {annotation, *inner}


class FsClientConfig(Section):
    """The cluster of the paths that begin with `hdfs:/` or `afs:/`, and who is known there."""

    uri: str = Field("", description="scheme://host:port")
    user: str = Field("", description="who reads and writes there")
    passwd: str = Field("", repr=False, description="of an AFS; HDFS has none")
    hadoop_bin: str = Field("", description="without effect: no Hadoop program is run")

    @field_validator("*", mode="before")
    @classmethod
    def _may_be_empty(cls, value: Any) -> Any:
        return "" if value is None else value


class RunnerConfig(Section):
    """The `runner:` section, in PaddleRec's words and with its defaults."""

    model_config = ConfigDict(extra="allow")

    train_data_dir: str = Field(
        min_length=1,
        description="the tree of logs, day/HHMM/files: a folder, or on a store, see [stores.md](stores.md)",
    )
    split_interval: int = Field(ge=1, le=1440, description="minutes of logs in a split; divides 1440")
    split_per_pass: int = Field(ge=1, description="splits in a pass; divides the splits of a day")
    start_day: str = Field(description="first day, YYYYMMDD")
    end_day: str = Field(description="last day, YYYYMMDD, inclusive")
    checkpoint_per_pass: int = Field(ge=1, description="passes between two checkpoints")
    data_donefile: str = Field("", description="file that marks a finished split; empty: none")
    data_sleep_second: float = Field(10, gt=0, le=_YEAR_S, description="seconds between two checks for a split")
    model_save_path: str = Field(
        "output_model",
        min_length=1,
        description="where checkpoints and inference models go: a folder, or a store, see [stores.md](stores.md)",
    )
    train_batch_size: int = Field(32, ge=1, le=2**31 - 1, description="rows in a batch")
    train_thread_num: int = Field(1, ge=1, description="over 1: one worker with a warning")
    model_dir: str | None = Field(None, description="folder of static_model.py; the config's by default")
    sync_mode: str = Field("async", description="only async works with Paddle 3.0.0")
    save_first_base: bool = Field(False, description="a full inference model of the empty model, before the first pass")
    save_delta_frequency: int = Field(
        6, ge=0, description="passes between two inference models within a day, each with a checkpoint; 0: none within"
    )
    need_train_dump: bool = Field(False, description="write the model's `train_dump_fields` of every row trained")
    need_infer_dump: bool = Field(
        False, description="predict `infer_data_dir` after each pass and write the model's `infer_dump_fields`"
    )
    infer_data_dir: str = Field("", description="data set that is predicted after each pass; a URL too; see below")
    train_dump_fields_dir: str = Field(
        "train_dump_data", min_length=1, description="folder of the train dumps; below it day/pass_id"
    )
    infer_dump_fields_dir: str = Field("infer_dump_data", min_length=1, description="folder of the infer dumps")
    warmup_model_path: str = Field(
        "", description="what a job's first pass begins from: [warm_start.md](warm_start.md); empty: nothing"
    )

    fs_client: FsClientConfig = Field(
        default_factory=lambda: FsClientConfig(uri="", user="", passwd="", hadoop_bin=""),
        description="`uri`, `user`, `passwd` of `hdfs:/` and `afs:/` paths; see [stores.md](stores.md)",
    )
    fs_name: str = Field("", description="an older name of fs_client.uri")
    fs_ugi: str = Field("", repr=False, description="`user,passwd`: an older name of fs_client.user and passwd")

    @field_validator("fs_client", mode="before")
    @classmethod
    def _may_be_none(cls, value: Any) -> Any:
        return {} if value is None else value

    @field_validator("start_day", "end_day")
    @classmethod
    def _is_day(cls, value: str) -> str:
        if not 1970 <= parse_day(value).year <= 9998:
            raise ValueError("a day of the years 1970 to 9998 is wanted")
        return value

    @field_validator("data_donefile", "infer_data_dir", "warmup_model_path", "fs_name", "fs_ugi", mode="before")
    @classmethod
    def _may_be_empty(cls, value: Any) -> Any:
        return "" if value is None else value

    @field_validator("data_donefile")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if value in (".", "..") or "/" in value:
            raise ValueError("the name of a file in a split's directory is wanted")
        return value

    @field_validator("sync_mode")
    @classmethod
    def _is_async(cls, value: str) -> str:
        if value != "async":
            raise ValueError("only async works here: Paddle 3.0.0 crashes in sync mode")
        return value


class KeepConfig(Section):
    """What is kept: the newest `count`, and what is younger than `hours`."""

    count: int = Field(1, ge=1)
    hours: float = Field(0, ge=0, le=100 * _YEAR_H)


class LabelBounds(Section):
    """Bounds of a pass's predictions of one label."""

    min_auc: float | None = Field(None, ge=0, le=1, description="least predict AUC")
    max_drop: float | None = Field(None, ge=0, le=1, description="most below the mean of the last passes within bounds")
    copc: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        None, description="`[low, high]`: bounds of the predict COPC, actual by predicted rate"
    )

    @field_validator("copc")
    @classmethod
    def _is_a_range(cls, value: list[float] | None) -> list[float] | None:
        if value is not None and not 0 <= value[0] < value[1]:
            raise ValueError("[low, high] is wanted, 0 <= low < high")
        return value


class GateConfig(LabelBounds):
    """Bounds of a pass's predictions of the first label and of others, and what happens to a pass out of bounds."""

    labels: dict[str, LabelBounds] = Field({}, description="bounds of other labels, by name")
    passes: int = Field(10, ge=1, description="passes of that mean")
    min_rows: int = Field(100, ge=1, description="a pass of fewer rows is within bounds: its AUC says little")
    train: bool = Field(True, description="whether a pass out of bounds is trained")
    export: bool = Field(False, description="whether an inference model is published after it")


class WarmupConfig(Section):
    """What of runner.warmup_model_path is taken."""

    statistics: bool = Field(True, description="the optimizer's statistics too; false: weights, show and click alone")
    dense: bool = Field(True, description="the dense parameters too; false: the sparse tables alone")


class FastPathsConfig(Section):
    """The fast paths; each computes what the slow one does."""

    predict: bool = Field(
        True,
        description="whether the network's forward half alone predicts; false: Paddle's training program without its "
        "pushes, as PaddleRec predicts",
    )
    pool: bool = Field(
        True,
        description="whether the embeddings of many slots are pooled by one operator where the network concatenates "
        "their pools; false: each slot's by its own, as the network is written",
    )
    save: bool = Field(
        True,
        description="whether a checkpoint is saved while the next pass is read and predicted, and committed while it "
        "is trained; false: nothing else is done meanwhile",
    )

    def paths(self) -> FastPaths:
        return FastPaths(**self.model_dump())


class StreamConfig(Section):
    """The `stream:` section: keys that PaddleRec lacks."""

    job: str = Field(
        "streamtrain",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=200,
        description="prefix of topics, group and transactional ids",
    )
    partitions: int = Field(2, ge=1, le=1024, description="partitions of the samples topic")
    servers: int = Field(1, ge=1, le=1024, description="parameter servers")
    workers: int | str = Field(
        "auto",
        description="workers; at most `partitions`. auto: one for each processor that this process may "
        "use, as far as partitions go",
    )
    parse_processes: int | str = Field(
        "auto",
        description="processes of the bridge that parse lines; 0: the bridge itself does. What is published does not "
        "depend on them. auto: as many as processors are left, beside the bridge and, under `run`, the workers and "
        "servers, at most 4; 0 with a function of yours as `format`, which may depend on being called in one process",
    )
    format: str = Field(
        "feasign_slot",
        description="feasign_slot, multislot, name_value, csv, tsv, json, or a dotted path module:function of yours",
    )
    header: Literal["first_line"] | Annotated[list[str], Field(min_length=1)] = Field(
        "first_line", description="of csv and tsv: `first_line` of each file, or a list of all columns in order"
    )
    columns: ColumnsConfig | None = Field(
        None, description="of csv, tsv and json: which column is which label, float and slot; see [rows.md](rows.md)"
    )
    feed_order: list[str] | None = Field(
        None, description="of multislot: a line's feeds in order; by default show, labels, weight, dense, slots"
    )
    slots: list[int] | None = Field(
        None, description="the model's slots; by default 2 .. hyper_parameters.slot_num + 1"
    )
    features: dict[str, int] | None = Field(
        None, description="number of each slot that has a name, or a list of names, numbered from 2 on; see below"
    )
    labels: dict[str, LabelKind] = Field(
        {"click": "binary"},
        min_length=1,
        description="a row's labels in their order: `binary` (0 or 1), `int`, `float`; or a list of names, all binary",
    )
    dense: dict[str, Annotated[int, Field(ge=1, le=MAX_FLOATS)]] = Field(
        {}, description="names of a row's floats, and how many each has; or a list of names of one float each"
    )
    weight: str = Field("", description="name of a row's weight; empty: rows have none, and a network reads 1")
    group_slot: str | None = Field(
        None, description="number or name of the slot of a row's user, by which GAUC is computed; see docs/metrics.md"
    )
    unknown_slot: Literal["ignore", "reject"] = Field(
        "ignore", description="a slot that the model lacks: drop the feature, as PaddleRec, or the line"
    )
    max_reject_ratio: float = Field(0.01, ge=0, le=1, description="rejected lines a split, at most")
    predict_dump_dir: str = Field(
        "", description="folder in which each pass's predictions before it is trained are dumped; empty: none"
    )
    shuffle: bool = Field(True, description="whether the rows of a pass are trained in a random order, as in PaddleRec")
    missing_split: Literal["wait", "skip"] = Field("wait", description="what to do when a split is not there")
    missing_split_grace_second: float = Field(
        60, ge=0, le=_YEAR_S, description="seconds before a missing split is skipped"
    )
    changed_split: Literal["fail", "ignore", "append"] = Field(
        "fail", description="what to do when a bridged split's files change"
    )
    ignore_files: list[str] = Field(
        list(IGNORED_FILES), description="glob patterns of names of files and directories in a split that are left out"
    )
    settle_second: float = Field(
        60, ge=0, description="seconds for which a split without a donefile must not change before it is read; 0: none"
    )
    broker_dir: str = Field(".streamtrain/kafka", min_length=1, description="folder of the embedded Kafka")
    spool_dir: str = Field(".streamtrain/spool", min_length=1, description="folder for the passes being trained")
    state_dir: str = Field(
        ".streamtrain/state", min_length=1, description="folder where each part reports what it is doing"
    )
    checkpoint_dir: str = Field(
        ".streamtrain/checkpoints",
        min_length=1,
        description="local folder of the checkpoints when model_save_path is a store: a cache of what is there",
    )
    store_checkpoints: bool = Field(
        True,
        description="when model_save_path is a store: whether checkpoints are kept there, or in checkpoint_dir alone",
    )
    inference_model: Literal["both", "full", "incremental", "none"] = Field(
        "both",
        description="what is published for serving: a full model a day with incremental ones over it, only "
        "full ones, only incremental ones, nothing",
    )
    inference_keys: Literal["touched", "thresholds"] = Field(
        "touched",
        description="keys of an inference model: all (incremental: all that were touched), or those above "
        "the accessor's thresholds, as PaddleRec",
    )
    keep_checkpoints: KeepConfig | None = Field(
        None, description="`count`, or `{count: N, hours: H}`; by default all are kept"
    )
    keep_inference_models: KeepConfig | None = Field(
        None, description="the same for inference models: a full one and the incremental ones over it go together"
    )
    gate: GateConfig | None = Field(
        None, description="bounds of the predictions: `min_auc`, `max_drop`, `copc`; see below"
    )
    consistency_rows: int = Field(
        0, ge=0, description="rows that online and offline predictions are compared on; 0: none"
    )
    consistency_every: int = Field(1, ge=1, description="inference models between two such comparisons")
    consistency_tolerance: float = Field(1e-4, gt=0, description="largest difference, relative to 1 + the value")
    warmup: WarmupConfig = Field(
        default_factory=lambda: WarmupConfig(statistics=True, dense=True),
        description="what of runner.warmup_model_path is taken: `statistics`, `dense`; see "
        "[warm_start.md](warm_start.md)",
    )
    fast_paths: FastPathsConfig = Field(
        default_factory=lambda: FastPathsConfig(predict=True, pool=True, save=True),
        description="each can be switched off; see [performance.md](performance.md)",
    )
    timezone: str = Field(
        "UTC",
        description="time zone of the logs' days and HHMM, a name such as Asia/Shanghai: `event_time` has its offset",
    )
    spare_roles_after: float = Field(
        60.0,
        ge=0,
        description="seconds after a start of the roles until spare ones are started, which import Paddle, build the "
        "model and wait, so that a restart takes them, with the config and the model's code as they were then; they "
        "hold as much memory as the others before their first pass, and there are none where less is left than the "
        "roles use; 0: none",
    )
    max_restarts: int = Field(10, ge=0, description="restarts of the trainer without a finished pass between")

    @property
    def exact_delta(self) -> bool:
        """Whether an inference model has every key that was touched."""
        return self.inference_model != "none" and self.inference_keys == "touched"

    @property
    def worker_count(self) -> int:
        """Of `run` and `train` on this machine."""
        return self.workers if isinstance(self.workers, int) else min(self.partitions, processors())

    def parse_process_count(self, beside: int) -> int:
        """Of a bridge. beside: processors that other parts of the job use on its machine."""
        if isinstance(self.parse_processes, int):
            return self.parse_processes
        return min(4, max(0, processors() - 1 - beside)) if self.format in BUILT_IN else 0

    @field_validator("workers", "parse_processes", mode="before")
    @classmethod
    def _is_a_count(cls, value: Any, info: ValidationInfo) -> Any:
        if value == "auto":
            return value
        least, most = (1, 1024) if info.field_name == "workers" else (0, 64)
        if isinstance(value, bool) or not str(value).isdecimal() or not least <= int(value) <= most:
            raise ValueError(f"a whole number from {least} to {most}, or auto, is wanted")
        return int(value)

    @field_validator("keep_checkpoints", "keep_inference_models", mode="before")
    @classmethod
    def _count_alone(cls, value: Any) -> Any:
        return {"count": value} if isinstance(value, int) else value

    @field_validator("timezone")
    @classmethod
    def _is_zone(cls, value: str) -> str:
        parse_zone(value)
        return value

    @field_validator("ignore_files")
    @classmethod
    def _are_names(cls, value: list[str]) -> list[str]:
        for pattern in value:
            if not pattern or "/" in pattern:
                raise ValueError(
                    f"{pattern!r} matches no name: a pattern is for a file's or directory's name, not a path"
                )
        return value

    @field_validator("features", "labels", "dense", mode="before")
    @classmethod
    def _names_alone(cls, value: Any, info: ValidationInfo) -> Any:
        """A list stands for a mapping."""
        if not isinstance(value, list):
            return value
        if any(not isinstance(name, str) for name in value) or len(set(value)) != len(value):
            raise ValueError("a list of different names is wanted")
        if info.field_name == "features":
            return {name: number for number, name in enumerate(value, 2)}
        return dict.fromkeys(value, "binary" if info.field_name == "labels" else 1)

    @field_validator("features", "labels", "dense", "weight")
    @classmethod
    def _are_feed_names(cls, value: Any, info: ValidationInfo) -> Any:
        for name in value or () if not isinstance(value, str) else [value] if value else []:
            if info.field_name == "features" and name == "1":
                continue  # no slot has that number, and PaddleRec's rank models call their first one so
            if not FEED_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name: letters, digits, '_', '.', '-', beginning with a letter or '_'")
        return value

    @field_validator("features")
    @classmethod
    def _are_numbers_of_slots(cls, value: dict[str, int] | None) -> dict[str, int] | None:
        numbers = list((value or {}).values())
        if len(set(numbers)) != len(numbers) or any(not 2 <= number <= 65535 for number in numbers):
            raise ValueError("slots must be different numbers from 2 to 65535 (1 is the label)")
        return value

    @model_validator(mode="after")
    def _names_of_columns(self) -> StreamConfig:
        """Where stream.features is absent, stream.columns.fields gives slots their names and numbers."""
        numbers = self.columns.numbers() if self.columns is not None else {}
        if self.features is None and numbers:
            self.features = numbers
        return self

    @field_validator("slots")
    @classmethod
    def _are_slots(cls, value: list[int] | None) -> list[int] | None:
        if value is not None and (len(set(value)) != len(value) or any(not 2 <= s <= 65535 for s in value)):
            raise ValueError("slots must be different numbers from 2 to 65535 (1 is the label)")
        return value
