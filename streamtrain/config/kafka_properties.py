"""The section `kafka:`: librdkafka properties, each the text that stands in the file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from streamtrain.errors import ConfigError
from streamtrain.masking import MASK, is_secret, mask_text

_VARIABLE = re.compile(r"\$\{(\w+)\}")
#: Properties that name brokers: librdkafka wants at least one of them, and takes lists with commas.
BROKERS = ("bootstrap.servers", "metadata.broker.list")


def problems(section: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong, by dotted key. section: read as written, so text, lists, mappings, None for an empty value."""
    for key, value in section.items():
        name = f"kafka.{key}"
        if isinstance(value, Mapping):
            inner = next(iter(value), "..")
            yield f"{name}: a property is one key: write {name}.{inner} as one key, {key}.{inner}: VALUE below kafka:"
        elif isinstance(value, list) and key not in BROKERS:
            yield f"{name}: a list; text is wanted"
        elif isinstance(value, list) and not all(isinstance(v, str) and v for v in value):
            yield f"{name}: a list of host:port is wanted, found {value!r}"
        elif value is None or (key in BROKERS and _is_nothing(value)):
            yield f"{name}: empty; give a value, or remove the key"
    if section and not any(key in section for key in BROKERS):
        yield "kafka.bootstrap.servers: required, not given; without the section kafka: the embedded Kafka is used"


def _is_nothing(brokers: str | list[str]) -> bool:
    """YAML's words for nothing are text in this section, and no host's name."""
    return not brokers or (isinstance(brokers, str) and brokers.strip().lower() in ("", "~", "null"))


def right(section: Mapping[str, Any]) -> dict[str, Any]:
    """The properties with which nothing is wrong, so far as problems() tells."""
    return {k: v for k, v in section.items() if not any(p.startswith(f"kafka.{k}:") for p in problems({k: v}))}


def texts(section: Mapping[str, Any]) -> dict[str, str]:
    """The properties, a list of brokers joined with commas; ${NAME} is left as it is."""
    return {k: ",".join(v) if isinstance(v, list) else str(v) for k, v in section.items()}


def masked(properties: Mapping[str, str]) -> dict[str, str]:
    """With stars for secrets."""
    return {k: MASK if is_secret(k) else mask_text(v) for k, v in properties.items()}


def expanded(properties: Mapping[str, str]) -> dict[str, str]:
    """With ${NAME} replaced by the environment's NAME. Raises ConfigError that names all that are not set."""
    wanted = [(key, name) for key, value in properties.items() for name in _VARIABLE.findall(value)]
    if missing := [(key, name) for key, name in wanted if name not in os.environ]:
        what = "; ".join(f"kafka.{key}: the environment has no {name}" for key, name in missing)
        raise ConfigError(what, remedy=f"Set {', '.join(dict.fromkeys(name for _, name in missing))}.")
    return {key: _VARIABLE.sub(lambda match: os.environ[match.group(1)], value) for key, value in properties.items()}
