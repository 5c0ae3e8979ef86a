"""Inference models on disk, loaded, predicted with, followed as they appear. `predictor.Predictor` is the way in."""
