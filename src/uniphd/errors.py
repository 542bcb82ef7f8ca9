"""Errors about input that a user can mend; each message says what, where and what to do."""


class UniPHDError(Exception):
    """Base of every error that is about the user's input rather than about our code."""


class AnnotationError(UniPHDError):
    """An annotation file, or one record in it, is not valid RefHuman data."""


class ImageError(UniPHDError):
    """An image file is missing, damaged or not usable."""


class PromptError(UniPHDError):
    """A prompt is empty, of the wrong shape or outside the image."""


class CheckpointError(UniPHDError):
    """A checkpoint lacks entries, has entries left over, or is not one of ours."""


class ConfigError(UniPHDError):
    """A configuration value is unknown or contradicts another one."""


class TrainingError(UniPHDError):
    """A training cannot go on: its loss is not finite, or one of its processes is lost."""


class StorageError(UniPHDError):
    """A file of the run cannot be written: the disk is full, or the folder is not writable."""
