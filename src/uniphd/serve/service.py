"""What the service computes: an image is encoded once, requests are answered one at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http import HTTPStatus
from io import BytesIO
from threading import Lock
from time import perf_counter
from typing import Any

from PIL import ExifTags, Image

from uniphd.data.images import exif_orientation, explain_decoding, open_image
from uniphd.inference.encoded import EncodedImage
from uniphd.inference.predictor import Predictor
from uniphd.inference.result import Instance
from uniphd.serve.limits import Limits, RequestError
from uniphd.serve.requests import PredictRequest, read_prompts


class Service:
    """A predictor behind one lock, with the images that were asked about last.

    Everything that takes much memory (decoding, the network, enlarged masks) is behind the lock,
    so that memory does not grow with the number of clients. Threads may share a service.

    Args:
        predictor: finds people.
        limits: what is refused, and how many encoded images are kept.
    """

    def __init__(self, predictor: Predictor, limits: Limits) -> None:
        self.predictor = predictor
        self.limits = limits
        self._encoded: OrderedDict[str, EncodedImage] = OrderedDict()
        self._network = Lock()
        self._requests = 0
        self._counting = Lock()

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Count a request while it is read and answered.

        Raises:
            RequestError: there are as many as may be.
        """
        with self._counting:
            if self._requests >= self.limits.requests:
                raise RequestError(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    "The service is busy with other requests; try again in a moment.",
                )
            self._requests += 1
        try:
            yield
        finally:
            with self._counting:
                self._requests -= 1

    def add_image(self, content: bytes) -> dict[str, Any]:
        """Encode an image file for prompts to come; plain values for JSON.

        Raises:
            ImageError: it cannot be read.
            RequestError: it has too many pixels.
        """
        self._require_pixels(content)
        with self._network:
            shown_alike = _is_shown_alike(content)
            image_id, encoded, seconds = self._encode(content)
        about = {**_describe(image_id, encoded), "shown_alike": shown_alike}
        return {**about, "seconds": {"encode": seconds}}

    def predict(self, request: PredictRequest) -> dict[str, Any]:
        """Find the people that a request asks for; plain values for JSON.

        Raises:
            ImageError: the image cannot be read.
            PromptError: a prompt says nothing, or nothing about this image.
            RequestError: the image has too many pixels, or is not there any more.
        """
        if request.image is not None:
            self._require_pixels(request.image)
        with self._network:
            if request.image is not None:
                image_id, encoded, encoding = self._encode(request.image)
            else:
                image_id, encoded = self._recall(request.image_id or "")
                encoding = 0.0
            height, width = encoded.size
            prompts = read_prompts(request.prompts, width, height, self.limits)
            start = perf_counter()
            instances = encoded.predict(prompts=prompts, top_k=request.top_k)
            results = [_result(instance) for instance in instances]
            seconds = perf_counter() - start
        return {
            **_describe(image_id, encoded),
            "seconds": {"encode": encoding, "predict": seconds},
            "keypoint_names": list(self.predictor.schema.names),
            "results": results,
        }

    def _encode(self, content: bytes) -> tuple[str, EncodedImage, float]:
        """The image's id, what was computed of it, and the seconds that took."""
        image_id = sha256(content).hexdigest()
        start = perf_counter()
        encoded = self._encoded.get(image_id) or self.predictor.encode(content)
        self._encoded[image_id] = encoded
        self._encoded.move_to_end(image_id)
        while len(self._encoded) > self.limits.cached:
            self._encoded.popitem(last=False)
        return image_id, encoded, perf_counter() - start

    def _recall(self, image_id: str) -> tuple[str, EncodedImage]:
        if image_id not in self._encoded:
            raise RequestError(
                HTTPStatus.NOT_FOUND,
                f"There is no image with the id '{image_id:.80}' (the last {self.limits.cached} "
                "are kept); send the image again.",
            )
        self._encoded.move_to_end(image_id)
        return image_id, self._encoded[image_id]

    def _require_pixels(self, content: bytes) -> None:
        """Refuse an image by the size in its header, before anything is decoded."""
        with _opened(content) as image:
            width, height = image.size
        if width * height > self.limits.pixels:
            raise RequestError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"An image has {width} x {height} pixels and may have "
                f"{self.limits.pixels / 1e6:g} million; scale it down.",
            )


@contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """The image of a file, not decoded."""
    with (
        explain_decoding(f"An image of {len(content)} bytes"),
        open_image(BytesIO(content)) as image,
    ):
        yield image


def _is_shown_alike(content: bytes) -> bool:
    """Whether every browser shows an image as it is seen here; may decode it.

    All turn JPEG files by their EXIF data. Some turn no other formats, and none by XMP, as Pillow
    does.
    """
    with _opened(content) as image:
        orientation = exif_orientation(image)
        if orientation == 1:
            return True
        data = Image.Exif()
        data.load(image.info.get("exif", b""))
        return image.format == "JPEG" and data.get(ExifTags.Base.Orientation) == orientation


def _describe(image_id: str, encoded: EncodedImage) -> dict[str, Any]:
    height, width = encoded.size
    return {"image_id": image_id, "width": width, "height": height}


def _result(instance: Instance) -> dict[str, Any]:
    prompt = instance.prompt
    return {
        "prompt": {"kind": prompt.kind, **prompt.to_json()},
        "candidates": [candidate.to_coco() for candidate in instance.candidates],
    }
