"""The secret that all roles of a job on several machines share, from the environment.

STREAMTRAIN_SECRET         the secret itself, at least 16 characters
STREAMTRAIN_SECRET_FILE    a file that holds it (Docker's and Kubernetes' secrets are files)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

from streamtrain.errors import ConfigError

SECRET = "STREAMTRAIN_SECRET"
SECRET_FILE = "STREAMTRAIN_SECRET_FILE"
SHORTEST = 16
_REMEDY = f"Set {SECRET}, the same for all roles, or {SECRET_FILE}: openssl rand -hex 32 makes one."


def is_loopback(host: str) -> bool:
    """Whether an address, or a host name, is this machine's alone. A name other than localhost is not looked up."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def shared_secret(hosts: Sequence[str]) -> bytes:
    """The secret; empty when there is none, which is allowed when all `hosts` are loopback.

    Raises ConfigError naming the variable: none is set, both are, the file cannot be read, the secret is too short.
    """
    where, text = _from_environment()
    if not text and not where:
        outside = [host for host in hosts if not is_loopback(host)]
        if outside:
            raise ConfigError(
                f"{SECRET} is not set, and {outside[0]} is not a loopback address: "
                "whoever reaches the port where the roles meet could end the job",
                remedy=_REMEDY,
            )
        return b""
    if len(text) < SHORTEST:
        raise ConfigError(f"{where}: the secret has {len(text)} characters, not {SHORTEST} or more", remedy=_REMEDY)
    return text.encode()


def _from_environment() -> tuple[str, str]:
    """What names it, and the secret without blanks and line ends around it; two empty texts when nothing is set."""
    text, file = os.environ.get(SECRET), os.environ.get(SECRET_FILE)
    if text is not None and file is not None:
        raise ConfigError(f"both {SECRET} and {SECRET_FILE} are set", remedy="Set one of them.")
    if text is not None:
        return SECRET, text.strip()
    if file is None:
        return "", ""
    try:
        return f"{SECRET_FILE}: {file}", Path(file).read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{SECRET_FILE}: {file}: {reason}", remedy=_REMEDY) from error
