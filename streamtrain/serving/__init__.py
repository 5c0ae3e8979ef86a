"""Inference models on disk: loaded, predicted with, followed as they appear. `Predictor` is the way in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamtrain.serving.predictor import Predictor

__all__ = ["Predictor"]


def __getattr__(name: str) -> Any:
    """At its first use, since it imports Paddle."""
    if name != "Predictor":
        raise AttributeError(f"module 'streamtrain.serving' has no attribute {name!r}")
    from streamtrain.serving.predictor import Predictor

    return Predictor
