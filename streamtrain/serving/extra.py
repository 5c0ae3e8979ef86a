"""Packages of the extra `serving`."""

from __future__ import annotations

import importlib
from types import ModuleType

from streamtrain.errors import ConfigError


def need(module: str) -> ModuleType:
    """Imports it. Raises ConfigError when it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"serving needs {module.partition('.')[0]}, which is not installed",
            remedy="Run: pip install 'streamtrain[serving]'",
        ) from error
