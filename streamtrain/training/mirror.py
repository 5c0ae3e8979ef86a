"""Inference models at an fsspec URL: uploaded from the local folder, their donefiles last.

What is there is made to be what the local donefiles say, so a crash in the middle, or a store that was away, is
made good by the next run().
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fsspec
from tenacity import RetryError, Retrying, stop_after_attempt, wait_exponential_jitter

from streamtrain.contracts.inference_models import DONEFILES, DoneLine
from streamtrain.contracts.manifest import NAME
from streamtrain.errors import ConfigError, StreamtrainError

log = logging.getLogger("streamtrain.checkpoint")

ATTEMPTS = 4


class Mirror:
    """url: where model_save_path says. check(): raises when a newer trainer has taken over: nothing is listed then."""

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
        self._gone: set[str] = set()
        self.problem = ""

    def run(self, lines: Sequence[DoneLine], gone: Sequence[str] = ()) -> bool:
        """Uploads what is not there, replaces the donefiles, then deletes the directories `gone`.

        lines: all of the local donefiles. A store that fails is said loudly and tried again at the next call;
        False then. Raises Fenced.
        """
        self._gone |= set(gone)
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
        self.problem = ""
        return True

    def _run(self, lines: Sequence[DoneLine]) -> None:
        listed = self._read_listed() if self._listed is None else self._listed
        self._listed = None  # until all is done: a failure in the middle leaves who knows what
        if listed - {line.digest for line in lines}:  # before what they name is written over
            self._list([line for line in lines if line.digest in listed])
        for line in lines:
            if line.digest not in listed:
                self._check()
                self._upload(line.path)
        self._list(lines)
        self._listed = {line.digest for line in lines}
        for path in sorted(self._gone - {line.path for line in lines}):
            if self._fs.exists(f"{self._base}/{path}"):
                self._fs.rm(f"{self._base}/{path}", recursive=True)
        self._gone.clear()

    def _list(self, lines: Sequence[DoneLine]) -> None:
        self._check()
        for kind, name in DONEFILES.items():
            self._replace(f"{self._base}/{name}", b"".join(x.encode() for x in lines if x.kind == kind))

    def _read_listed(self) -> set[str]:
        found = set()
        for name in DONEFILES.values():
            try:
                found |= {line.digest for line in DoneLine.read(self._fs.cat_file(f"{self._base}/{name}"))}
            except FileNotFoundError:
                continue
            except ValueError as error:
                log.error("%s/%s: %s; it is written anew", self._url, name, error)
        return found

    def _upload(self, path: str) -> None:
        """The manifest last; then what stands there besides, of an upload that was cut, is removed."""
        target = f"{self._base}/{path}"
        local = self._root / path
        names = sorted(str(p.relative_to(local)) for p in local.rglob("*") if p.is_file() and p.name != NAME)
        for name in [*names, NAME]:
            self._fs.makedirs(f"{target}/{name}".rpartition("/")[0], exist_ok=True)
            self._fs.put_file(str(local / name), f"{target}/{name}")
        ours = {f"{target}/{name}".lstrip("/") for name in (*names, NAME)}
        for found in self._fs.find(target):
            if found.lstrip("/") not in ours:
                self._fs.rm_file(found)

    def _replace(self, path: str, data: bytes) -> None:
        """On stores whose writes are not atomic (files), through a rename."""
        self._fs.makedirs(self._base, exist_ok=True)
        self._fs.pipe_file(f"{path}.new", data)
        self._fs.mv(f"{path}.new", path)


def _is_store_error(state: Any) -> bool:
    """What stores raise is as various as they are; ours goes through."""
    error = state.outcome.exception()
    return isinstance(error, Exception) and not isinstance(error, StreamtrainError)
