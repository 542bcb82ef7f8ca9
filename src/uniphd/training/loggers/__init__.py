"""Loggers that show images, keep models and go on where a checkpoint was written."""
