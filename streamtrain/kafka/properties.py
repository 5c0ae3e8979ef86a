"""librdkafka's properties, checked by librdkafka itself: clients are made, and no broker is asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import confluent_kafka as ck

from streamtrain.config.kafka_properties import BROKERS
from streamtrain.errors import ConfigError
from streamtrain.kafka import clients

#: Of a broker's address, behind a protocol and a host: the port.
_PORT = re.compile(r"\]?:([^:\[\]]*)\Z")


def problems(properties: Mapping[str, str]) -> list[ConfigError]:
    """What is wrong with the section `kafka:`, each by its key; what only several properties together make wrong is
    looked for once each of them is right."""
    alone = [
        *(problem for key, value in properties.items() for problem in _of_one(key, value)),
        *_of_files(properties),
    ]
    return alone or _together(properties)


def _of_one(key: str, value: str) -> Iterator[ConfigError]:
    if key in BROKERS:
        yield from _of_brokers(key, value)
    elif key in clients.GUARDED:
        yield clients.guarded(key)
    elif error := clients.refusal_of(key, value):
        yield error


def _of_brokers(key: str, value: str) -> Iterator[ConfigError]:
    """librdkafka takes any text for an address, and then asks it without end."""
    for address in value.split(","):
        host = address.strip().rpartition("://")[2]
        port = _PORT.search(host) if host.count(":") == 1 or host.startswith("[") else None
        if not host or host.startswith(":") or re.search(r"\s|/", host):
            yield ConfigError(f"kafka.{key}: {address.strip()!r} is no host:port", remedy="Give host:port,host:port.")
        elif port and not (port[1].isdecimal() and port[1].isascii() and 0 < int(port[1][:6]) < 65536):
            yield ConfigError(f"kafka.{key}: {address.strip()}: a port is from 1 to 65535, found {port[1] or 'none'}")


def _of_files(properties: Mapping[str, str]) -> Iterator[ConfigError]:
    """librdkafka's own error names no file. A `.location` is a file, for certificates of authorities a folder too."""
    for key, value in properties.items():
        if not key.endswith(".location") or value == "probe":
            continue
        try:
            if not Path(value).is_dir():
                Path(value).open("rb").close()
            elif not key.endswith("ca.location"):
                yield ConfigError(f"kafka.{key}: {value} is a folder, a file is wanted")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            yield ConfigError(f"kafka.{key}: {value}: {reason}", remedy="Correct the path, or make it readable.")


def _together(properties: Mapping[str, str]) -> list[ConfigError]:
    """Makes each kind of client that a job has. None gets an address, so none asks a broker."""
    given = {key: value for key, value in properties.items() if key not in BROKERS}
    makers: list[Callable[[], Any]] = [
        lambda: clients.producer(given, "check"),
        lambda: clients.reader(given, "check"),
        lambda: clients.admin(given),
    ]
    found: dict[str, ConfigError] = {}
    for make in makers:
        try:
            client = make()
        except ConfigError as error:
            found.setdefault(str(error), error)
        else:
            if isinstance(client, ck.Consumer):
                client.close()
    return list(found.values())
