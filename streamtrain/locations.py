"""Where a path of a config leads: a local folder, or a file system beyond this machine, by fsspec.

`hdfs:/user/x` and `afs:/user/x` are PaddleRec's: their cluster is that of runner.fs_client.uri. `scheme://..` is
fsspec's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import fsspec

from streamtrain.errors import ConfigError
from streamtrain.masking import mask_text

_ONE_SLASH = re.compile(r"(hdfs|afs):/(?!/)")
_INSTALL = {
    "hdfs": "Install pyarrow, Hadoop's native client (libhdfs) and a Java runtime, and set HADOOP_HOME, JAVA_HOME, and "
    "CLASSPATH to what `hadoop classpath --glob` prints; or use webhdfs://, which needs none of them.",
    "afs": "AFS has no open library: install a package that registers an fsspec implementation of the protocol `afs` "
    "(an entry point of the group fsspec.specs); it is then used, and is given user and passwd of runner.fs_client.",
    "s3": "Install s3fs.",
    "gs": "Install gcsfs.",
    "abfs": "Install adlfs.",
    "oss": "Install ossfs.",
}


@dataclass(frozen=True)
class Account:
    """runner.fs_client. uri: scheme://host:port of the cluster. user, passwd: how to log in there."""

    uri: str = ""
    user: str = ""
    passwd: str = field(default="", repr=False)


@dataclass(frozen=True)
class Location:
    """A directory of a file system that fsspec opens. key: of the config, for messages. url: as fsspec takes it.
    options: for its file system; they may hold secrets."""

    key: str
    url: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def shown(self) -> str:
        """The URL as messages and logs show it."""
        return mask_text(self.url)

    def open(self) -> tuple[Any, str]:
        """The file system and the directory's path in it. Raises ConfigError that names the key and what to install."""
        scheme = self.url.partition(":")[0]
        try:
            fs, path = fsspec.core.url_to_fs(self.url, **self.options)
        except Exception as error:  # some log in here, and raise errors of their own
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ConfigError(
                f"{self.key}: {self.shown} cannot be opened: {reason}",
                remedy=_INSTALL.get(scheme, "Correct the URL, or install fsspec's package for it."),
            ) from error
        return fs, str(path).rstrip("/")


def is_remote(text: str) -> bool:
    """Whether a path of a config is not a local one."""
    return "://" in text or _ONE_SLASH.match(text) is not None


def location(key: str, text: str, account: Account | None = None) -> Location:
    """Of a path for which is_remote() holds. account: whom paths of its cluster belong to.

    Raises ConfigError for a path of one slash whose cluster is not known.
    """
    account = account or Account()
    match = _ONE_SLASH.match(text)
    if match is None:
        return Location(key, text, _login(account, text))
    scheme = match[1]
    if account.uri:
        of_cluster = account.uri.partition("://")[0]
        if of_cluster != scheme or "://" not in account.uri:
            raise ConfigError(
                f"{key}: {text} is a path of {scheme}, runner.fs_client.uri is {mask_text(account.uri)}",
                remedy=f"Write runner.fs_client.uri as {scheme}://host:port, or the path with its own host.",
            )
        url = account.uri.rstrip("/") + text[len(scheme) + 1 :]
    elif scheme == "hdfs":
        url = f"hdfs://{text[len(scheme) + 1 :]}"  # the cluster that Hadoop's own configuration names
    else:
        raise ConfigError(
            f"{key}: {text} names no host, and runner.fs_client.uri is not set",
            remedy=f"Set runner.fs_client.uri to {scheme}://host:port.",
        )
    return Location(key, url, _login(account, url))


def _login(account: Account, url: str) -> dict[str, str]:
    """What the file system of `url` is given of the account: a user and a password are for the cluster that it names.
    HDFS has no passwords."""
    scheme, _, rest = url.partition("://")
    if scheme not in ("hdfs", "afs", "webhdfs") or not account.user:
        return {}
    of_scheme, _, of_rest = account.uri.partition("://")
    if account.uri and (of_scheme, of_rest.partition("/")[0]) != (scheme, rest.partition("/")[0]):
        return {}
    if scheme == "afs":
        return {"user": account.user, **({"passwd": account.passwd} if account.passwd else {})}
    return {"user": account.user}
