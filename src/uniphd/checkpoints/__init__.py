"""Checkpoints: our format for use, and converters of foreign ones."""
