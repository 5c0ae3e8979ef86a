"""What can be found out about a job without starting it: folders, Kafka's properties, the parse function, the model.

`config check` shows all of it. `run` and `train` refuse with it before they touch anything.
"""

from __future__ import annotations

import os
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from streamtrain.checkpoint import rewind, warmup
from streamtrain.checkpoint.identity import IdentityCheck
from streamtrain.checkpoint.opening import Readable
from streamtrain.checkpoint.remote_rewind import RemoteRewind
from streamtrain.config import JobConfig
from streamtrain.config.checks import dump_dirs
from streamtrain.config.kafka_properties import expanded
from streamtrain.connectors.tree import Tree
from streamtrain.connectors.user_function import load_function
from streamtrain.contracts.line_format import BUILT_IN
from streamtrain.contracts.warmup import WarmStart
from streamtrain.engine.dry_build import BuildReport
from streamtrain.engine.model_checks import no_table
from streamtrain.errors import ConfigError, StreamtrainError, Unreadable
from streamtrain.kafka import properties
from streamtrain.object_store import ObjectStore
from streamtrain.runtime.model_build import build_model

#: Bytes of TMPDIR: a socket's path has 107 at most, and below it are /pymp-XXXXXXXX/listener-XXXXXXXX.
MAX_TMPDIR = 107 - 32


def problems(config: JobConfig, *, bridge: bool = True) -> list[StreamtrainError]:
    """All that is wrong, the model apart. bridge: also what the bridge needs, the data and the parse function."""
    checks: list[Callable[[], object]] = [
        lambda: config.slots,
        lambda: _table(config),
        _temporary_folder,
        lambda: _store(config),
    ]
    if bridge:
        checks.append(lambda: _data(config))
    if config.runner.need_infer_dump:
        checks.append(lambda: Tree(config.infer_data, "", key="runner.infer_data_dir").check())
    if bridge or config.runner.need_infer_dump:
        checks.append(lambda: config.stream.format in BUILT_IN or load_function(config.stream.format))
    found: list[StreamtrainError] = []
    for check in checks:
        try:
            check()
        except StreamtrainError as error:
            found.append(error)
    return [*found, *_folders(config), *kafka_problems(config.kafka_as_written)]


def kafka_problems(given: Mapping[str, str]) -> list[ConfigError]:
    """given: the properties, ${NAME} as it stands there."""
    try:
        return properties.problems(expanded(given))
    except ConfigError as error:
        return [error]


def problems_of(report: BuildReport) -> list[ConfigError]:
    return [ConfigError(message, remedy=remedy) for message, remedy in report.problems]


def refuse(config: JobConfig, *, bridge: bool, stop: threading.Event | None = None) -> None:
    """Raises what is wrong with a job that is about to start, before anything is touched. The model is built, which
    takes seconds, unless the newest checkpoint is of the same model: then that has been done. Returns early when
    stopped.

    Raises ConfigError, or what the only problem is; JobChanged when the checkpoint is of another job, of a network
    with other layers too.
    """
    found = [problem for problem in problems(config, bridge=bridge) if not isinstance(problem, Unreadable)]
    rewind.interrupted(config.model_save_path)  # one that is damaged
    store = config.store
    if store is not None:
        RemoteRewind(ObjectStore(store)).interrupted()
    _raise_all(config.path, found)  # for data that cannot be seen now the bridge waits
    if IdentityCheck(config).newest().same_model:
        return
    report = build_model(config, stop)
    if report is not None:
        _raise_all(config.path, problems_of(report))
        IdentityCheck(config, report.dense, network=report.network).newest()
        warm_start(config, report)


def warm_start(config: JobConfig, report: BuildReport) -> WarmStart | None:
    """What a job that has no checkpoint yet begins from; None when it begins from nothing, or has begun. report: of
    its network. Raises as checkpoint.warmup.decided()."""
    if not warmup.wanted(config) or any(True for _ in Readable(config).checkpoints.ids_newest_first()):
        return None
    with warmup.decided(config, report.dense, report.own_parameters) as decided:
        return decided.start


def _raise_all(path: Path, found: Sequence[StreamtrainError]) -> None:
    if len(found) == 1:
        raise found[0]
    if found:
        lines = "\n  ".join(map(str, found))
        raise ConfigError(f"{path} has {len(found)} problem(s):\n  {lines}")


def _table(config: JobConfig) -> None:
    if not config.raw.get("table_parameters"):
        raise no_table()


def _store(config: JobConfig) -> None:
    """Nothing is asked of it: its library is there, and takes what the config says."""
    if config.models is not None:
        config.models.open()


def _temporary_folder() -> None:
    try:
        folder = tempfile.gettempdir()
    except OSError as error:
        raise ConfigError(f"TMPDIR: {error.strerror or error}", remedy="Name a folder that can be written.") from error
    if (length := len(os.fsencode(folder))) > MAX_TMPDIR:
        raise ConfigError(
            f"TMPDIR: {folder} has {length} bytes, at most {MAX_TMPDIR} will do: the workers make a socket below it",
            remedy="Name a folder with a shorter path.",
        )


def _data(config: JobConfig) -> None:
    tree = Tree(config.data, config.runner.data_donefile, config.stream.ignore_files)
    tree.check()
    if names := tree.unscheduled(config.schedule):
        runner = config.runner
        raise ConfigError(
            f"runner.split_interval: {runner.split_interval}, but {config.data_dir} has {', '.join(names[:3])}"
            f"{' and others' if len(names) > 3 else ''}, which are no splits of {runner.split_interval} minutes",
            remedy="Correct it, or move these directories away: their rows would never be read.",
        )


def _folders(config: JobConfig) -> Iterator[ConfigError]:
    """All folders that are written. Each is made when it is needed, so a folder above it may be what matters."""
    saved = "runner.model_save_path" if config.models is None else "stream.checkpoint_dir"
    wanted = {saved: config.model_save_path, "stream.state_dir": config.state_dir, "stream.spool_dir": config.spool_dir}
    if config.embedded:
        wanted["stream.broker_dir"] = config.broker_dir
    wanted.update({key: config.resolve(value) for key, value in dump_dirs(config.runner, config.stream).items()})
    for key, folder in wanted.items():
        if reason := why_not_written(folder):
            yield ConfigError(f"{key}: {reason}", remedy="Correct the path, or what stands there.")
    if reason := why_not_written(config.path.parent / "log"):
        yield ConfigError(
            f"{config.path}: log/ is made in its folder: {reason}",
            remedy="Copy the config to a folder that can be written.",
        )


def why_not_written(folder: Path) -> str:
    """Why nothing can be written to a folder, or why it cannot be made; empty when it can."""
    for place in (folder, *folder.parents):
        made = "" if place == folder else f"{folder} cannot be made: "
        try:
            mode = place.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            if place.is_symlink():
                return f"{made}{place} is a link to nothing"
            continue
        except OSError as error:
            return f"{made}{place}: {error.strerror}"
        if not stat.S_ISDIR(mode):
            return f"{made}{place} is a file, a folder is wanted"
        if not os.access(place, os.W_OK | os.X_OK):
            read_only = os.statvfs(place).f_flag & os.ST_RDONLY
            return f"{made}{place} cannot be written{' (its file system is read-only)' if read_only else ''}"
        return ""
    return ""
