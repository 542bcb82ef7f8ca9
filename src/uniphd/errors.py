"""Errors about input that a user can mend; each message says what, where and what to do."""


class UniPHDError(Exception):
    """Base of every error that is about the user's input rather than about our code.

    Args:
        lines: the message, a sentence, and lines below it if there are any. Names in it may be
            anybody's; `str` shows them as `printable` does.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)

    def __str__(self) -> str:
        return "\n".join(printable(str(line)) for line in self.args)


def printable(text: str) -> str:
    """The text in one line, with escapes for what is not printable, such as a terminal's codes.

    Args:
        text: it may hold the name of a file, which may hold anything.
    """
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text
    )


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
