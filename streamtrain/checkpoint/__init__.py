"""Checkpoints on disk and their commit."""
