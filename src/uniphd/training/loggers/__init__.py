"""Loggers that show pictures, keep models and go on where a checkpoint was written."""
