"""Streamtrain: click-through-rate models trained from Kafka, each row exactly once."""

__version__ = "0.1.0"
