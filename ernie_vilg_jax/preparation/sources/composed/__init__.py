"""Scenes of many things, composed from emoji art and drawn shapes: see `source`."""
