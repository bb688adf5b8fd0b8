"""Weights from elsewhere and back: the layouts of diffusers and transformers, read and written without torch."""
