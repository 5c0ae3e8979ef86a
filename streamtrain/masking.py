"""What is shown of secrets: nothing. Property names that hold one, and URLs with a user, password or token in them."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

MASK = "********"

#: Names of properties with a secret: librdkafka's sensitive ones, and what is called like one.
_SECRET = re.compile(
    r"passw|passphrase|secret|token|credential|(^|[._-])key[._]pem$|^ssl_key$|private[._]key|api[._-]?key|access[._-]?key"
    r"|^sasl\.username$|^sasl\.oauthbearer\.config$|^sasl\.jaas\.config$|^sasl\.kerberos\.kinit\.cmd$"
    r"|^ssl_engine_callback_data$|^fs_ugi$",
    re.IGNORECASE,
)
#: Names that say where a secret is, or who it belongs to, and hold none.
_PLACE = re.compile(r"(\.file|\.location|\.url|client\.id)$", re.IGNORECASE)
#: User and password of a URL. A password may hold any character but a blank; a number before a slash is a port.
_USER = re.compile(r"(?<=://)(?:[^\s/@:'\"]*:(?!\d+(?:/|$))[^\s'\"]*|[^\s/'\"]+)@")
_QUERY = re.compile(
    r"([?&;][\w.-]*(?:passw\w*|secret|token|sig|signature|credential|key|key_?id)=)[^&;\s'\"]+", re.IGNORECASE
)


def is_secret(name: str) -> bool:
    """Whether a property of this name holds a secret."""
    return bool(_SECRET.search(name)) and not _PLACE.search(name)


def mask_text(text: str) -> str:
    """The text with what is secret in its URLs masked."""
    if "://" not in text:
        return text
    return _QUERY.sub(rf"\1{MASK}", _USER.sub(f"{MASK}@", text))


def mask_value(value: Any, name: str = "") -> Any:
    """A value of a config, of any depth, with its secrets masked."""
    if isinstance(value, Mapping):
        return {key: mask_value(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [mask_value(item, name) for item in value]
    if is_secret(name) and isinstance(value, str):
        return MASK
    return mask_text(value) if isinstance(value, str) else value


def printable(text: str) -> str:
    """Text that can be written and encoded: bytes of a file's name that are no UTF-8 are shown as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


class MaskingFormatter(logging.Formatter):
    """Of log lines, their stack traces included."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return printable(mask_text(super().format(record)))


def show_no_secrets() -> None:
    """Gives the root logger's handlers this form."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(MaskingFormatter())
