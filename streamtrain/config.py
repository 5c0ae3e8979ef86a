"""config_online.yaml, typed.

A PaddleRec file works unchanged: `runner:`, `hyper_parameters:` and `table_parameters:` as there. Two
sections are ours: `kafka:` (librdkafka properties, passed through) and `stream:`. docs/config.md lists
every key.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import orjson
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from streamtrain.errors import ConfigError
from streamtrain.masking import MASK, is_secret, mask_value
from streamtrain.schedule import Schedule, parse_day

#: Keys of PaddleRec's runner that have no effect here: reported once, never refused.
NO_EFFECT = frozenset(
    {
        "use_gpu", "shuffle_thread_num", "preload_thread_num", "reader_type", "pipe_command",
        "dataset_debug", "prefetch", "infer_thread_num", "infer_data_dir", "fs_client", "fs_name",
        "fs_ugi", "parse_ins_id", "parse_content", "train_reader_path", "test_data_dir",
        "infer_reader_path", "epochs", "print_interval", "warmup_model_path", "need_prune",
        "infer_batch_size", "use_auc", "use_xpu",
        "infer_load_path", "infer_start_epoch", "infer_end_epoch", "geo_step", "thread_num",
    }
)  # fmt: skip
#: Characters that a shell does not treat as part of a word.
SHELL = re.compile(r"[^\w./+,:@%=-]")


class RunnerConfig(BaseModel):
    """The `runner:` section, in PaddleRec's words and with its defaults."""

    model_config = ConfigDict(extra="allow", strict=False, coerce_numbers_to_str=True)

    train_data_dir: str = Field(description="the tree of logs, day/HHMM/files")
    split_interval: int = Field(ge=1, le=1440, description="minutes of logs in a split; divides 1440")
    split_per_pass: int = Field(ge=1, description="splits in a pass; divides the splits of a day")
    start_day: str = Field(description="first day, YYYYMMDD")
    end_day: str = Field(description="last day, YYYYMMDD, inclusive")
    checkpoint_per_pass: int = Field(ge=1, description="passes between two checkpoints")
    data_donefile: str = Field("", description="file that marks a finished split; empty: none")
    data_sleep_second: float = Field(10, gt=0, description="seconds between two checks for a split")
    model_save_path: str = Field(
        "output_model",
        description="where checkpoints and inference models go; an fsspec URL: inference models alone, uploaded",
    )
    train_batch_size: int = Field(32, ge=1, description="rows in a batch")
    train_thread_num: int = Field(1, ge=1, description="over 1: one worker with a warning")
    model_dir: str | None = Field(None, description="folder of static_model.py; the config's by default")
    sync_mode: str = Field("async", description="only async works with Paddle 3.0.0")
    save_first_base: bool = Field(False, description="a full inference model of the empty model, before the first pass")
    save_delta_frequency: int = Field(
        0, ge=0, description="passes between two inference models within a day, each with a checkpoint; 0: none within"
    )
    need_train_dump: bool = Field(False, description="write the model's `train_dump_fields` of every row trained")
    need_infer_dump: bool = Field(False, description="write the model's `infer_dump_fields` of every row predicted")
    train_dump_fields_dir: str = Field("train_dump_data", description="folder of the train dumps; below it day/pass_id")
    infer_dump_fields_dir: str = Field("infer_dump_data", description="folder of the infer dumps")

    @field_validator("start_day", "end_day")
    @classmethod
    def _is_day(cls, value: str) -> str:
        parse_day(value)
        return value

    @field_validator("sync_mode")
    @classmethod
    def _is_async(cls, value: str) -> str:
        if value != "async":
            raise ValueError("only async works here: Paddle 3.0.0 crashes in sync mode")
        return value


class KeepConfig(BaseModel):
    """What is kept: the newest `count`, and what is younger than `hours`."""

    model_config = ConfigDict(extra="forbid", strict=False)

    count: int = Field(1, ge=1)
    hours: float = Field(0, ge=0)


class GateConfig(BaseModel):
    """Bounds of a pass's predict AUC, and what happens to a pass out of bounds."""

    model_config = ConfigDict(extra="forbid", strict=False)

    min_auc: float | None = Field(None, ge=0, le=1, description="least predict AUC")
    max_drop: float | None = Field(None, ge=0, le=1, description="most below the mean of the last passes within bounds")
    passes: int = Field(10, ge=1, description="passes of that mean")
    min_rows: int = Field(100, ge=1, description="a pass of fewer rows is within bounds: its AUC says little")
    train: bool = Field(True, description="whether a pass out of bounds is trained")
    export: bool = Field(False, description="whether an inference model is published after it")


class StreamConfig(BaseModel):
    """The `stream:` section: keys that PaddleRec lacks."""

    model_config = ConfigDict(extra="forbid", strict=False)

    job: str = Field(
        "streamtrain",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="prefix of topics, group and transactional ids",
    )
    partitions: int = Field(2, ge=1, le=1024, description="partitions of the samples topic")
    servers: int = Field(1, ge=1, description="parameter servers")
    workers: int = Field(1, ge=1, description="workers; at most `partitions`")
    format: str = Field(
        "feasign_slot", description="feasign_slot, multislot, or a dotted path module:function of yours"
    )
    slots: list[int] | None = Field(
        None, description="the model's slots; by default 2 .. hyper_parameters.slot_num + 1"
    )
    unknown_slot: Literal["ignore", "reject"] = Field(
        "ignore", description="a slot that the model lacks: drop the feature, as PaddleRec, or the line"
    )
    max_reject_ratio: float = Field(0.01, ge=0, le=1, description="rejected lines a split, at most")
    missing_split: Literal["wait", "skip"] = Field("wait", description="what to do when a split is not there")
    missing_split_grace_second: float = Field(60, ge=0, description="seconds before a missing split is skipped")
    changed_split: Literal["fail", "ignore", "append"] = Field(
        "fail", description="what to do when a bridged split's files change"
    )
    broker_dir: str = Field(".streamtrain/kafka", description="folder of the embedded Kafka")
    spool_dir: str = Field(".streamtrain/spool", description="folder for the passes being trained")
    state_dir: str = Field(".streamtrain/state", description="folder where each part reports what it is doing")
    checkpoint_dir: str = Field(
        ".streamtrain/checkpoints", description="folder of the checkpoints when model_save_path is a URL"
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
    gate: GateConfig | None = Field(None, description="bounds of the predict AUC: `min_auc`, `max_drop`; see below")
    consistency_rows: int = Field(
        0, ge=0, description="rows that online and offline predictions are compared on; 0: none"
    )
    consistency_every: int = Field(1, ge=1, description="inference models between two such comparisons")
    consistency_tolerance: float = Field(1e-4, gt=0, description="largest difference, relative to 1 + the value")
    max_restarts: int = Field(10, ge=0, description="restarts of the trainer without a finished pass between")

    @field_validator("keep_checkpoints", "keep_inference_models", mode="before")
    @classmethod
    def _count_alone(cls, value: Any) -> Any:
        return {"count": value} if isinstance(value, int) else value

    @field_validator("slots")
    @classmethod
    def _are_slots(cls, value: list[int] | None) -> list[int] | None:
        if value is not None and (len(set(value)) != len(value) or any(not 2 <= s <= 65535 for s in value)):
            raise ValueError("slots must be different numbers from 2 to 65535 (1 is the label)")
        return value


#: Numbers that YAML 1.2 knows and YAML 1.1 (PyYAML) reads as text: an exponent without a point or without a sign.
_EXPONENT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+")
_TEXT_TAG = "tag:yaml.org,2002:str"
_FLOAT_TAG = "tag:yaml.org,2002:float"


class _ConfigLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, and reads 5e-6, 1e9 and 1.5e3 as numbers, as YAML 1.2 does."""


def _unique_mapping(loader: _ConfigLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
        seen.add(key)
    loader.flatten_mapping(node)
    return dict(loader.construct_pairs(node, deep=True))


_ConfigLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)
_ConfigLoader.add_implicit_resolver(_FLOAT_TAG, re.compile(f"(?:{_EXPONENT.pattern})$"), list("-+.0123456789"))


def _read_yaml(text: str) -> Any:
    """Raises yaml.YAMLError."""
    loader = _ConfigLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _keep_kafka_text(root)
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _keep_kafka_text(root: yaml.Node) -> None:
    """librdkafka takes text: a password 12e5 below `kafka:` is not a number."""
    sections = root.value if isinstance(root, yaml.MappingNode) else []
    for name, section in sections:
        if name.value == "kafka" and isinstance(section, yaml.MappingNode):
            for _, value in section.value:
                if value.tag == _FLOAT_TAG and _EXPONENT.fullmatch(value.value):
                    value.tag = _TEXT_TAG


def _expand(value: Any, key: str) -> str:
    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise ConfigError(f"kafka.{key}: the environment has no {name}", remedy=f"Set {name}.")
        return os.environ[name]

    text = str(value).lower() if isinstance(value, bool) else str(value)
    return re.sub(r"\$\{(\w+)\}", replace, text)


class JobConfig:
    """A job's whole config, from load_config().

    path: of the file. raw: the file as read; models see it by dotted keys. runner, stream: the sections with their
    defaults. schedule: the job's splits and passes. A relative path of the config starts at the config's folder.
    Raises ConfigError that names every key that is wrong.
    """

    def __init__(self, path: Path, raw: Mapping[str, Any]) -> None:
        self.path = path
        self.raw: dict[str, Any] = dict(raw)
        problems = list(_unknown_sections(self.raw))
        runner = _section(self.raw, "runner", RunnerConfig, problems)
        stream = _section(self.raw, "stream", StreamConfig, problems)
        kafka = self.raw.get("kafka")
        if kafka is not None and not isinstance(kafka, Mapping):
            problems.append("kafka: must be a mapping of librdkafka properties")
        for name in ("hyper_parameters", "table_parameters"):
            if not isinstance(self.raw.get(name) or {}, Mapping):
                problems.append(f"{name}: must be a mapping")
        if isinstance(runner, RunnerConfig):
            problems.extend(_schedule_problems(runner))
        if isinstance(stream, StreamConfig) and stream.workers > stream.partitions:
            problems.append(
                f"stream.workers: {stream.workers} workers need as many partitions; "
                f"stream.partitions is {stream.partitions}"
            )
        if isinstance(stream, StreamConfig) and stream.consistency_rows and stream.inference_keys == "thresholds":
            problems.append(
                "stream.consistency_rows: the trainer computes with all keys, stream.inference_keys: thresholds leaves "
                "some out of inference models, so the two differ; remove one of them"
            )
        if isinstance(runner, RunnerConfig) and isinstance(stream, StreamConfig):
            problems.extend(self._shell_problems(runner, stream))
            problems.extend(self._dump_problems(runner, stream))
        if problems or not isinstance(runner, RunnerConfig) or not isinstance(stream, StreamConfig):
            lines = "\n  ".join(problems)
            raise ConfigError(f"{path} has {len(problems)} problem(s):\n  {lines}\n", remedy="See docs/config.md")
        self.runner: RunnerConfig = runner
        self.stream: StreamConfig = stream
        self.schedule = Schedule(runner.split_interval, runner.split_per_pass, runner.start_day, runner.end_day)
        self._kafka: dict[str, Any] | None = dict(kafka) if kafka else None

    def _shell_problems(self, runner: RunnerConfig, stream: StreamConfig) -> Iterator[str]:
        """Paddle passes these paths to a shell unquoted: blanks and the shell's own characters would break saves and
        loads, or run as commands."""
        saved = {"runner.model_save_path": runner.model_save_path}
        if "://" in runner.model_save_path:
            saved = {"stream.checkpoint_dir": stream.checkpoint_dir}
        for key, value in {**saved, "stream.spool_dir": stream.spool_dir, **_dump_dirs(runner)}.items():
            path = str(self.resolve(value))
            if character := SHELL.search(path):
                yield f"{key}: {path} has the character {character[0]!r}, which Paddle's saving cannot handle"

    def _dump_problems(self, runner: RunnerConfig, stream: StreamConfig) -> Iterator[str]:
        """A dump replaces the directory of its name: that must not be another part's."""
        taken = {
            self.resolve(value): key
            for key, value in (("runner.model_save_path", runner.model_save_path),
                               ("stream.checkpoint_dir", stream.checkpoint_dir),
                               ("runner.train_data_dir", runner.train_data_dir))
        }  # fmt: skip
        for key, value in _dump_dirs(runner).items():
            path = self.resolve(value)
            if path in taken:
                yield f"{key}: {path} is {taken[path]} already"
            taken[path] = key

    @property
    def embedded(self) -> bool:
        """Whether the embedded Kafka is used: no `kafka:` section."""
        return self._kafka is None

    def kafka(self) -> dict[str, str]:
        """The librdkafka properties with ${ENV} expanded. Raises ConfigError for an unset one."""
        return {k: _expand(v, k) for k, v in (self._kafka or {}).items()}

    def resolve(self, text: str) -> Path:
        """A path of the config, absolute."""
        path = Path(text)
        return path if path.is_absolute() else (self.path.parent / path).resolve()

    @property
    def data_dir(self) -> str:
        """The data tree: a local path made absolute, or an fsspec URL as it is."""
        text = self.runner.train_data_dir
        return text if "://" in text else str(self.resolve(text))

    @property
    def model_save_path(self) -> Path:
        """The local folder of the checkpoints, and of inference models before they are uploaded."""
        return self.resolve(self.runner.model_save_path if self.models_url is None else self.stream.checkpoint_dir)

    @property
    def models_url(self) -> str | None:
        """The fsspec URL that inference models are uploaded to; None when model_save_path is a local folder."""
        text = self.runner.model_save_path
        return text if "://" in text else None

    @property
    def model_dir(self) -> Path:
        return self.resolve(self.runner.model_dir) if self.runner.model_dir else self.path.parent

    @property
    def broker_dir(self) -> Path:
        return self.resolve(self.stream.broker_dir)

    @property
    def spool_dir(self) -> Path:
        return self.resolve(self.stream.spool_dir)

    @property
    def state_dir(self) -> Path:
        return self.resolve(self.stream.state_dir)

    @property
    def slots(self) -> tuple[int, ...]:
        """The model's sparse slots in feed order. Raises ConfigError when no key defines them."""
        if self.stream.slots is not None:
            return tuple(self.stream.slots)
        count = (self.raw.get("hyper_parameters") or {}).get("slot_num")
        if not isinstance(count, int) or count < 1:
            raise ConfigError(
                f"{self.path}: neither stream.slots nor hyper_parameters.slot_num defines the slots",
                remedy="Set one of them.",
            )
        return tuple(range(2, count + 2))

    @property
    def no_effect(self) -> list[str]:
        """Keys that are accepted and do nothing here, by path."""
        extra = self.runner.model_extra or {}
        return sorted(f"runner.{key}" for key in extra)

    @property
    def sha256(self) -> str:
        """Of masked(), in hex: manifests record it."""
        raw = orjson.dumps(self.masked(), option=orjson.OPT_SORT_KEYS, default=str)
        return hashlib.sha256(raw).hexdigest()

    def masked(self) -> dict[str, Any]:
        """The config as understood, defaults filled in and secrets masked."""
        shown: dict[str, Any] = mask_value(
            {
                "runner": {k: v for k, v in self.runner.model_dump().items() if k not in NO_EFFECT},
                "stream": self.stream.model_dump(),
                "kafka": self._kafka or "embedded",
                "hyper_parameters": self.raw.get("hyper_parameters") or {},
                "table_parameters": self.raw.get("table_parameters") or {},
            }
        )
        if self._kafka:  # a password may look like a number
            shown["kafka"] |= {key: MASK for key in self._kafka if is_secret(key)}
        return shown


def _dump_dirs(runner: RunnerConfig) -> dict[str, str]:
    """The folders of the dumps that are on, by key."""
    folders = {}
    if runner.need_train_dump:
        folders["runner.train_dump_fields_dir"] = runner.train_dump_fields_dir
    if runner.need_infer_dump:
        folders["runner.infer_dump_fields_dir"] = runner.infer_dump_fields_dir
    return folders


def _suggest(key: str, known: Iterator[str] | list[str]) -> str:
    close = difflib.get_close_matches(key, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _unknown_sections(raw: Mapping[str, Any]) -> Iterator[str]:
    known = ["runner", "hyper_parameters", "table_parameters", "kafka", "stream"]
    for key in raw:
        if key not in known:
            yield f"{key}: unknown section{_suggest(str(key), known)}"


def _section(raw: Mapping[str, Any], name: str, model: type[BaseModel], problems: list[str]) -> BaseModel | None:
    """Validates a section; adds what is wrong, by dotted path, to `problems`."""
    values = raw.get(name)
    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        problems.append(f"{name}: must be a mapping, found {type(values).__name__}")
        return None
    known = list(model.model_fields)
    if name == "runner":
        for key in values:
            if key not in known and key not in NO_EFFECT:
                problems.append(f"runner.{key}: unknown key{_suggest(str(key), [*known, *NO_EFFECT])}")
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        for item in error.errors():
            where = ".".join(str(part) for part in item["loc"])
            if item["type"] == "missing":
                problems.append(f"{name}.{where}: required, not given")
            elif item["type"] == "extra_forbidden":
                problems.append(f"{name}.{where}: unknown key{_suggest(where, known)}")
            else:
                problems.append(f"{name}.{where}: {item['msg']}, found {item['input']!r}")
        return None


def _schedule_problems(runner: RunnerConfig) -> Iterator[str]:
    splits = 1440 // runner.split_interval
    if 1440 % runner.split_interval:
        yield f"runner.split_interval: {runner.split_interval} minutes do not divide a day of 1440 minutes"
    elif splits % runner.split_per_pass:
        yield f"runner.split_per_pass: {runner.split_per_pass} does not divide the {splits} splits of a day"
    if runner.end_day < runner.start_day:
        yield f"runner.end_day: {runner.end_day} is before runner.start_day, {runner.start_day}"


def load_config(path: str | Path) -> JobConfig:
    """Reads and checks a config_online.yaml. Raises ConfigError naming the file, the line or the key."""
    path = Path(path).absolute()
    try:
        text = path.read_bytes().decode("utf-8")
        raw = _read_yaml(text)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="Give the config with -m.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
        what = getattr(error, "problem", None) or str(error)
        remedy = "Use spaces, not tabs, to indent." if "\\t" in what else "Correct the YAML."
        raise ConfigError(f"{where}: {what}", remedy=remedy) from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} is not a mapping of sections", remedy="See docs/config.md.")
    return JobConfig(path, raw)
