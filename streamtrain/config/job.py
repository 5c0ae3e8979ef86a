"""config_online.yaml, typed.

A PaddleRec file works unchanged: `runner:`, `hyper_parameters:` and `table_parameters:` as there. Two
sections are ours: `kafka:` (librdkafka properties, passed through) and `stream:`. docs/config.md lists
every key.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import orjson
import yaml
from pydantic import ValidationError

from streamtrain.config import checks, kafka_properties, rows, tables
from streamtrain.config.sections import NO_EFFECT, RunnerConfig, Section, StreamConfig
from streamtrain.config.suggest import suggestion
from streamtrain.config.yaml_text import read_yaml
from streamtrain.contracts.feature_text import MAX_SLOT
from streamtrain.contracts.line_format import LineFormat
from streamtrain.contracts.row_layout import RowLayout
from streamtrain.errors import ConfigError
from streamtrain.locations import Account, Location, is_remote, location
from streamtrain.masking import MASK, is_secret, mask_text, mask_value, printable
from streamtrain.schedule import Schedule

SECTIONS = ("runner", "hyper_parameters", "table_parameters", "kafka", "stream")
#: Bytes that a config may have: far more than one has, and less than a wrong path may name.
MAX_BYTES = 16 << 20
_S = TypeVar("_S", bound=Section)


class ConfigProblems(ConfigError):
    """Everything that is wrong in a config, a line each. kafka: those properties of the section that are text, for more
    checks."""

    def __init__(self, path: Path, problems: Sequence[str], kafka: Mapping[str, str] | None = None) -> None:
        lines = "\n  ".join(problems)
        super().__init__(f"{path} has {len(problems)} problem(s):\n  {lines}", remedy="See docs/config.md.")
        self.problems = tuple(map(printable, map(mask_text, problems)))
        self.kafka = dict(kafka or {})


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
        sections = {name: _mapping(self.raw, name, problems) for name in SECTIONS}
        runner = _section(sections["runner"], "runner", RunnerConfig, problems)
        stream = _section(sections["stream"], "stream", StreamConfig, problems)
        problems.extend(kafka_properties.problems(sections["kafka"]))
        problems.extend(tables.problems(sections["table_parameters"]))
        for name in ("hyper_parameters", "table_parameters"):
            problems.extend(checks.not_finite(sections[name], name))
        if runner is not None:
            problems.extend(checks.schedule(runner))
        if stream is not None:
            problems.extend(checks.stream(stream))
            count = sections["hyper_parameters"].get("slot_num")
            problems.extend(rows.problems(stream, _counted(count) or ()))
        if runner is not None and stream is not None:
            problems.extend(checks.paths(runner, stream, self.resolve))
        if problems or runner is None or stream is None:
            raise ConfigProblems(path, problems, kafka_properties.texts(kafka_properties.right(sections["kafka"])))
        self.runner: RunnerConfig = runner
        self.stream: StreamConfig = stream
        self.schedule = Schedule(
            runner.split_interval, runner.split_per_pass, runner.start_day, runner.end_day, stream.timezone
        )
        self._kafka = kafka_properties.texts(sections["kafka"])
        _ = self.group_slot, self.data, self.models  # which are refused here

    @property
    def embedded(self) -> bool:
        """Whether the embedded Kafka is used: no `kafka:` section."""
        return not self._kafka

    def kafka(self) -> dict[str, str]:
        """The librdkafka properties with ${ENV} expanded. Raises ConfigError that names all that are not set."""
        return kafka_properties.expanded(self._kafka)

    @property
    def kafka_as_written(self) -> dict[str, str]:
        """The librdkafka properties, ${ENV} as it stands there."""
        return dict(self._kafka)

    def resolve(self, text: str) -> Path:
        """A path of the config, absolute."""
        path = Path(text)
        return path if path.is_absolute() else (self.path.parent / path).resolve()

    @property
    def data_dir(self) -> str:
        """The data tree: a local path made absolute, or a URL; messages show it."""
        return str(self.data) if isinstance(self.data, Path) else self.data.shown

    @property
    def data(self) -> Path | Location:
        """The data tree: a local folder, or where it is."""
        return self._place("runner.train_data_dir", self.runner.train_data_dir)

    @property
    def infer_data(self) -> Path | Location:
        """The data set that is predicted after each pass, as data."""
        return self._place("runner.infer_data_dir", self.runner.infer_data_dir)

    @property
    def warmup(self) -> Path | Location:
        """What the job's first pass begins from, as data. Of a config whose runner.warmup_model_path is not empty."""
        return self._place("runner.warmup_model_path", self.runner.warmup_model_path)

    def _place(self, key: str, text: str) -> Path | Location:
        return location(key, text, self.account) if is_remote(text) else self.resolve(text)

    @property
    def account(self) -> Account:
        """runner.fs_client, or what the older keys fs_name and fs_ugi say."""
        client = self.runner.fs_client
        user, _, passwd = self.runner.fs_ugi.partition(",")
        return Account(client.uri or self.runner.fs_name, client.user or user, client.passwd or passwd)

    @property
    def model_save_path(self) -> Path:
        """The local folder of the checkpoints, and of inference models before they are uploaded; a cache of store."""
        return self.resolve(self.runner.model_save_path if self.models is None else self.stream.checkpoint_dir)

    @property
    def models(self) -> Location | None:
        """The store that inference models are uploaded to; None when model_save_path is a local folder."""
        text = self.runner.model_save_path
        return location("runner.model_save_path", text, self.account) if is_remote(text) else None

    @property
    def store(self) -> Location | None:
        """The store that the checkpoints are kept in; None when they are in model_save_path alone."""
        return self.models if self.stream.store_checkpoints else None

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
        if (slots := rows.slots(self.stream)) is not None:
            return slots
        count = (self.raw.get("hyper_parameters") or {}).get("slot_num")
        if count is None:
            raise ConfigError(
                f"{self.path}: neither stream.slots, stream.features nor hyper_parameters.slot_num defines the slots",
                remedy="Set one of them.",
            )
        if (counted := _counted(count)) is None:
            raise ConfigError(
                f"{self.path}: hyper_parameters.slot_num: a number from 1 to {MAX_SLOT - 1} is wanted, found {count!r}",
                remedy="Correct it, or set stream.slots.",
            )
        return counted

    @property
    def layout(self) -> RowLayout:
        """What the job's rows have. Raises ConfigError when no key defines the slots."""
        return rows.layout(self.stream, self.slots)

    @property
    def line_format(self) -> LineFormat:
        """How a line becomes a row. Raises ConfigError when no key defines the slots."""
        stream = self.stream
        columns = stream.columns.columns(self.layout) if stream.columns is not None else None
        header = None if isinstance(stream.header, str) else tuple(stream.header)
        return LineFormat(stream.format, columns, header, tuple(stream.feed_order or ()))

    @property
    def group_slot(self) -> int | None:
        """The number of stream.group_slot; None when there is none. Raises ConfigError for one that is no slot."""
        wanted = self.stream.group_slot
        if wanted is None:
            return None
        number = self.layout.slot_number(wanted)
        if number is None:
            raise ConfigError(
                f"{self.path}: stream.group_slot: {wanted} is none of the model's slots",
                remedy="Give the number of a slot, or its name in stream.features.",
            )
        return number

    @property
    def no_effect(self) -> list[str]:
        """Keys that are accepted and do nothing here, by path."""
        extra = [f"runner.{key}" for key in self.runner.model_extra or {}]
        return sorted([*extra, *(["runner.fs_client.hadoop_bin"] if self.runner.fs_client.hadoop_bin else [])])

    @property
    def sha256(self) -> str:
        """Of masked(), in hex: manifests record it."""
        raw = orjson.dumps(self.masked(), option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
        return hashlib.sha256(raw).hexdigest()

    def masked(self) -> dict[str, Any]:
        """The config as understood, defaults filled in and secrets masked."""
        return {
            "runner": mask_value({k: v for k, v in self.runner.model_dump().items() if k not in NO_EFFECT}),
            "stream": mask_value(self.stream.model_dump(by_alias=True)),
            "kafka": kafka_properties.masked(self._kafka) or "embedded",
            "hyper_parameters": mask_value(self.raw.get("hyper_parameters") or {}),
            "table_parameters": mask_value(self.raw.get("table_parameters") or {}),
        }


def _counted(count: Any) -> tuple[int, ...] | None:
    """The slots of hyper_parameters.slot_num; None for what is no number of slots."""
    return tuple(range(2, count + 2)) if type(count) is int and 1 <= count <= MAX_SLOT - 1 else None


def _unknown_sections(raw: Mapping[Any, Any]) -> Iterator[str]:
    for key in raw:
        if key not in SECTIONS:
            yield f"{key}: unknown section{suggestion(key, SECTIONS)}"


def _mapping(raw: Mapping[str, Any], name: str, problems: list[str]) -> Mapping[str, Any]:
    """The section's keys; none when it is absent, or wrong: then `problems` gets why. Keys are text, but a model's own
    may be numbers."""
    values = raw.get(name)
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        problems.append(f"{name}: must be a mapping, found {type(values).__name__}")
        return {}
    wrong = [key for key in values if not isinstance(key, str)] if name != "hyper_parameters" else []
    problems.extend(f"{name}.{key}: unknown key, a number" for key in wrong)
    return {key: value for key, value in values.items() if key not in wrong}


def _section(values: Mapping[str, Any], name: str, model: type[_S], problems: list[str]) -> _S | None:
    """Validates a section; adds what is wrong, by dotted path, to `problems`."""
    known = list(model.model_fields)
    if name == "runner":
        for key in values:
            if key not in known and key not in NO_EFFECT:
                problems.append(f"runner.{key}: unknown key{suggestion(key, [*known, *NO_EFFECT])}")
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        for item in error.errors():
            where = ".".join(str(part) for part in item["loc"])
            if item["type"] == "missing":
                problems.append(f"{name}.{where}: required, not given")
            elif item["type"] == "extra_forbidden":
                problems.append(f"{name}.{where}: unknown key{suggestion(where, known)}")
            else:
                found = MASK if is_secret(str(item["loc"][-1])) else repr(item["input"])
                problems.append(f"{name}.{where}: {item['msg'].removeprefix('Value error, ')}, found {found}")
        return None


def load_config(path: str | Path) -> JobConfig:
    """Reads and checks a config_online.yaml. Raises ConfigError naming the file, the line or the key."""
    path = Path(path).absolute()
    if str(path) != printable(str(path)):
        raise ConfigError(f"{path}: the path is not UTF-8", remedy="Rename its folder or the file.")
    text = _read_text(path)
    try:
        raw = read_yaml(text, {"kafka": None, "runner": RunnerConfig.text_keys(), "stream": StreamConfig.text_keys()})
    except yaml.YAMLError as error:
        raise _refusal(path, text, error) from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} is not a mapping of sections", remedy="See docs/config.md.")
    return JobConfig(path, raw)


def _read_text(path: Path) -> str:
    """Raises ConfigError when the file cannot be read, or is not UTF-8 text; a byte order mark is left out."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path} is not a file", remedy="Give the config with -m.")
        if status.st_size > MAX_BYTES:
            raise ConfigError(f"{path} has {status.st_size} bytes: it is no config", remedy="Give the config with -m.")
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", remedy="Give the config with -m.") from error
    except ValueError as error:  # a NUL in the path
        raise ConfigError(f"{str(path)!r} is not a path", remedy="Give the config with -m.") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError(f"{path} is UTF-16 or UTF-32 text, not UTF-8", remedy="Save it as UTF-8.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}, line {line}: not UTF-8 text (byte {error.start})", remedy="Save it as UTF-8."
        ) from error


def _refusal(path: Path, text: str, error: yaml.YAMLError) -> ConfigError:
    if isinstance(error, yaml.reader.ReaderError):
        where = f"{path}, line {text.count(chr(10), 0, error.position) + 1}"
        return ConfigError(f"{where}: the character U+{error.character:04X} cannot stand in YAML", remedy="Remove it.")
    mark = getattr(error, "problem_mark", None)
    where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
    what = getattr(error, "problem", None) or str(error)
    remedy = "Use spaces, not tabs, to indent." if "\\t" in what else "Correct the YAML."
    return ConfigError(f"{where}: {what}", remedy=remedy)
