"""How much a client may ask for, and the error for what it asks beyond that."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from uniphd.errors import ConfigError, UniPHDError

_BASE64 = 4 / 3  # bytes of JSON per byte of an image
_BESIDE_IMAGE = 2**20  # bytes of JSON for everything but an image, masks above all


@dataclass(frozen=True)
class Limits:
    """What is refused before it costs memory or time.

    Attributes:
        upload: bytes of an image's file.
        pixels: of an image, before it is decoded.
        cached: encoded images that are kept; the one that was not used for longest goes first.
        requests: images and prompts that are read or wait for the network at once.
        seconds: until a request has to be read.
        prompts: per request.
        candidates: per prompt.
        points: of a scribble.
        characters: of a text.

    Raises:
        ConfigError: one is not above zero.
    """

    upload: int = 32 * 2**20
    pixels: int = 50_000_000
    cached: int = 8
    requests: int = 16
    seconds: float = 60.0
    prompts: int = 32
    candidates: int = 10
    points: int = 500
    characters: int = 1000

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ConfigError(f"The limit of {name} is {value}; give a number above 0.")

    @property
    def json(self) -> int:
        """Bytes of a request's JSON, which may hold an image."""
        return int(self.upload * _BASE64) + _BESIDE_IMAGE


class RequestError(UniPHDError):
    """A request that the service refuses.

    Args:
        status: of HTTP.
        sentence: what is wrong and what to do.
    """

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
