"""Inference models at an fsspec URL: uploaded from the local folder, their donefiles last.

Each run() makes the URL's content what the local donefiles list, so the next one completes what a crash interrupted or
an unreachable store refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fsspec
from tenacity import RetryError, Retrying, stop_after_attempt, wait_exponential_jitter

from streamtrain.contracts.donefiles import DONEFILES, DoneLine, decode_valid_donefile, encode_donefile
from streamtrain.contracts.manifest import NAME
from streamtrain.errors import ConfigError, StreamtrainError

log = logging.getLogger("streamtrain.checkpoint")

ATTEMPTS = 4


class Mirror:
    """The models at `url`, a copy of those below `root`.

    check(): raises when a newer trainer has taken over; nothing is listed then. problem: why the last run() failed;
    None: it did not. Raises ConfigError when the URL cannot be opened.
    """

    def __init__(self, url: str, root: Path, check: Callable[[], None]) -> None:
        try:
            self._fs, self._base = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise ConfigError(
                f"runner.model_save_path: {url} cannot be opened: {error}",
                remedy="Correct the URL, or install fsspec's package for it.",
            ) from error
        self._url = url
        self._root = root
        self._check = check
        self._listed: set[str] | None = None
        self._removed: set[str] = set()
        self.problem: str | None = None

    def run(self, lines: Sequence[DoneLine], removed: Sequence[str] = ()) -> bool:
        """Uploads the models that are missing, replaces the donefiles, then deletes the directories `removed`.

        lines: all of the local donefiles. When the store fails, the failure is logged, False is returned, and the next
        call tries again. Raises Fenced.
        """
        self._removed |= set(removed)
        try:
            for attempt in Retrying(
                stop=stop_after_attempt(ATTEMPTS),
                wait=wait_exponential_jitter(multiplier=0.2, max=5),
                retry=_is_store_error,
            ):
                with attempt:
                    self._run(lines)
        except RetryError as error:
            cause = error.last_attempt.exception()
            self.problem = f"{self._url} (runner.model_save_path) cannot be written: {cause}"
            log.error("%s; inference models are NOT PUBLISHED there, tried again with the next one", self.problem)
            return False
        self.problem = None
        return True

    def _run(self, lines: Sequence[DoneLine]) -> None:
        listed = self._read_listed() if self._listed is None else self._listed
        self._listed = None  # until all is done: after a failure in the middle it is not known
        if listed - {line.digest for line in lines}:  # before their directories are overwritten
            self._list([line for line in lines if line.digest in listed])
        for line in lines:
            if line.digest not in listed:
                self._check()
                self._upload(line.path)
        self._list(lines)
        self._listed = {line.digest for line in lines}
        for path in sorted(self._removed - {line.path for line in lines}):
            if self._fs.exists(f"{self._base}/{path}"):
                self._fs.rm(f"{self._base}/{path}", recursive=True)
        self._removed.clear()

    def _list(self, lines: Sequence[DoneLine]) -> None:
        self._check()
        here = [line.moved(str(self._root), self._url) for line in lines]
        for kind, name in DONEFILES.items():
            self._replace(f"{self._base}/{name}", encode_donefile(here, kind))

    def _read_listed(self) -> set[str]:
        """Digests of the models that the URL's donefiles list."""
        digests: set[str] = set()
        for name in DONEFILES.values():
            try:
                lines = decode_valid_donefile(self._fs.cat_file(f"{self._base}/{name}"))
            except FileNotFoundError:
                continue
            except ValueError as error:
                log.error("%s/%s: %s; it is rewritten", self._url, name, error)
                continue
            digests |= {line.digest for line in lines}
        return digests

    def _upload(self, path: str) -> None:
        """The manifest last; then other files there, of an interrupted upload, are removed."""
        target = f"{self._base}/{path}"
        local = self._root / path
        names = sorted(str(p.relative_to(local)) for p in local.rglob("*") if p.is_file() and p.name != NAME)
        for name in [*names, NAME]:
            self._fs.makedirs(f"{target}/{name}".rpartition("/")[0], exist_ok=True)
            self._fs.put_file(str(local / name), f"{target}/{name}")
        uploaded = {f"{target}/{name}".lstrip("/") for name in (*names, NAME)}
        for file in self._fs.find(target):
            if file.lstrip("/") not in uploaded:
                self._fs.rm_file(file)

    def _replace(self, path: str, data: bytes) -> None:
        """Through a rename, since the writes of some file systems are not atomic."""
        self._fs.makedirs(self._base, exist_ok=True)
        self._fs.pipe_file(f"{path}.new", data)
        self._fs.mv(f"{path}.new", path)


def _is_store_error(state: Any) -> bool:
    """Each store raises errors of its own; those of this package are not the store's."""
    error = state.outcome.exception()
    return isinstance(error, Exception) and not isinstance(error, StreamtrainError)
