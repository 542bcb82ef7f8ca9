"""The service over HTTP, without a browser: answers, refusals, limits, other sites, threads."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from PIL import Image
from starlette.testclient import TestClient

from tests.serve.conftest import image_file
from uniphd.inference.predictor import Predictor
from uniphd.serve.app import create_app, read_description
from uniphd.serve.limits import Limits
from uniphd.serve.service import Service

PROMPTS: list[dict[str, Any]] = [
    {"kind": "text", "text": "the man in the middle"},
    {"kind": "point", "point": [60, 70]},
    {"kind": "scribble", "points": [[60, 70], [62.5, 80], [63, 90]]},
    {"kind": "box", "box": [40, 20, 90, 140]},
]
URL = "http://127.0.0.1:8000"


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    app = create_app(service, "a network", "A note.", hosts=("studio.example",))
    with TestClient(app, URL, raise_server_exceptions=False) as client:
        yield client


def schema(name: str) -> Draft202012Validator:
    description = read_description()
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", **description})


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def send(client: TestClient, content: bytes) -> dict[str, Any]:
    return client.post("/images", content=content, headers={"Content-Type": "image/png"}).json()


def test_the_answers_are_the_predictors(
    client: TestClient, predictor: Predictor, scene_file: bytes
) -> None:
    mask = np.zeros((150, 200), bool)
    mask[30:120, 50:90] = True
    prompts = [*PROMPTS, predictor.predict(scene_file, mask=mask).prompt]
    values = [*PROMPTS, {"kind": "mask", **prompts[-1].to_json()}]
    request = {"image": encoded(scene_file), "prompts": values, "top_k": 2}
    assert schema("PredictRequest").is_valid(request)
    answer = client.post("/predict", json=request).json()
    schema("PredictResponse").validate(answer)
    assert (answer["width"], answer["height"]) == (200, 150)
    assert [result["prompt"] for result in answer["results"]] == values
    expected = predictor.predict(scene_file, prompts=prompts, top_k=2)
    for result, instance in zip(answer["results"], expected, strict=True):
        assert result["candidates"] == [one.to_coco() for one in instance.candidates]


def test_photographs_get_the_predictors_answers(predictor: Predictor, refhuman_mini: Path) -> None:
    service = Service(predictor, Limits())
    with TestClient(create_app(service, "a network"), URL) as client:
        for path in sorted((refhuman_mini / "images").glob("*.jpg"))[:3]:
            about = send(client, path.read_bytes())
            assert about["shown_alike"]
            middle = [about["width"] // 2, about["height"] // 2]
            prompts = [{"kind": "text", "text": "the man"}, {"kind": "point", "point": middle}]
            request = {"image_id": about["image_id"], "prompts": prompts}
            answer = client.post("/predict", json=request).json()
            expected = predictor.predict(path, prompts=prompts)
            found = [result["candidates"] for result in answer["results"]]
            assert found == [[one.to_coco()] for one in expected]


def test_an_image_is_sent_once_and_asked_by_its_id(client: TestClient, scene_file: bytes) -> None:
    about = send(client, scene_file)
    schema("ImageResponse").validate(about)
    request = {"image_id": about["image_id"], "prompts": PROMPTS[:1]}
    assert schema("PredictRequest").is_valid(request)
    by_id = client.post("/predict", json=request).json()
    request = {"image": encoded(scene_file), "prompts": PROMPTS[:1]}
    assert client.post("/predict", json=request).json()["results"] == by_id["results"]
    assert by_id["seconds"]["encode"] == 0


def test_the_image_is_as_one_sees_it(client: TestClient, scene_file: bytes) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = image_file(np.zeros((40, 60, 3), np.uint8), "JPEG", exif=exif)
    about = send(client, turned)
    assert (about["width"], about["height"]) == (40, 60)


def test_pages_and_description(client: TestClient) -> None:
    assert "<canvas" in client.get("/").text
    for path, name in (("/health", "Health"), ("/model", "Model")):
        schema(name).validate(client.get(path).json())
    description = client.get("/openapi.json").json()
    assert set(description["paths"]) == {
        "/predict",
        "/images",
        "/model",
        "/health",
        "/openapi.json",
    }
    for name in description["components"]["schemas"]:
        Draft202012Validator.check_schema(description["components"]["schemas"][name])


def test_the_description_has_the_usual_limits() -> None:
    schemas = read_description()["components"]["schemas"]
    limits = Limits()
    asked = schemas["PredictRequest"]["properties"]
    assert asked["prompts"]["maxItems"] == limits.prompts
    assert asked["top_k"]["maximum"] == limits.candidates
    assert schemas["TextPrompt"]["properties"]["text"]["maxLength"] == limits.characters
    assert schemas["ScribblePrompt"]["properties"]["points"]["maxItems"] == limits.points


@pytest.mark.parametrize(
    ("change", "status", "sentence"),
    [
        ({"prompts": None}, 400, "give a list of 1 to 32 prompts"),
        ({"prompts": []}, 400, "give a list of 1 to 32 prompts"),
        ({"prompts": PROMPTS * 9}, 400, "give a list of 1 to 32 prompts"),
        ({"top_k": 0}, 400, "top_k is 0"),
        ({"top_k": True}, 400, "top_k is True"),
        ({"top_k": 11}, 400, "from 1 to 10"),
        ({"image_id": "a"}, 400, "Give either image"),
        ({"image": None}, 400, "Give either image"),
        ({"image": 3}, 400, "image is not base64"),
        ({"image": None, "image_id": ["a"]}, 400, "image_id is ['a']"),
        ({"images": []}, 400, "'images' is no key of a request"),
        ({"prompts": [{"kind": "dot"}]}, 422, "prompts[0]: A prompt is"),
        ({"prompts": [7]}, 422, "prompts[0]: A prompt is 7"),
        ({"prompts": [PROMPTS[0], {"kind": "text", "text": " "}]}, 422, "prompts[1]: A text"),
        ({"prompts": [{"kind": "text", "text": "a" * 1001}]}, 422, "at most 1000"),
        ({"prompts": [{"kind": "text", "text": "a", "texts": "b"}]}, 422, "'texts' is no key"),
        ({"prompts": [{"kind": "scribble", "points": [[1, 2]] * 501}]}, 422, "at most 500"),
        ({"prompts": [{"kind": "point", "point": [1, 2, 3]}]}, 422, "needs (2,)"),
        ({"prompts": [{"kind": "box", "box": [1, 2, 3]}]}, 422, "needs (4,)"),
    ],
)
def test_what_the_description_forbids_is_refused_in_a_sentence(
    client: TestClient, scene_file: bytes, change: dict[str, Any], status: int, sentence: str
) -> None:
    request = changed(scene_file, change)
    assert not schema("PredictRequest").is_valid(request)
    require_refusal(client, request, status, sentence)


@pytest.mark.parametrize(
    ("change", "status", "sentence"),
    [
        ({"image": "%%%"}, 400, "image is not base64"),
        ({"image": encoded(b"no image")}, 422, "no image of a known format"),
        ({"image": encoded(b"")}, 422, "no image of a known format"),
        ({"prompts": [{"kind": "text", "text": "\udc80"}]}, 422, "half of a character"),
        (
            {"prompts": [{"kind": "mask", "size": [9999, 9999], "counts": "0"}]},
            422,
            "resize it to the image",
        ),
    ],
)
def test_what_the_description_cannot_say(
    client: TestClient, scene_file: bytes, change: dict[str, Any], status: int, sentence: str
) -> None:
    request = changed(scene_file, change)
    assert schema("PredictRequest").is_valid(request)
    require_refusal(client, request, status, sentence)


def changed(scene_file: bytes, change: dict[str, Any]) -> dict[str, Any]:
    """A good request but for a change, where None leaves a key out."""
    request = {"image": encoded(scene_file), "prompts": PROMPTS, **change}
    return {key: value for key, value in request.items() if value is not None}


def require_refusal(
    client: TestClient, request: dict[str, Any], status: int, sentence: str
) -> None:
    content = json.dumps(request)  # with escapes: half of a character is no UTF-8
    answer = client.post("/predict", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    schema("Error").validate(answer.json())
    assert sentence in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ({"kind": "point", "point": [300, 20]}, "outside of its 200 x 150 image"),
        ({"kind": "box", "box": [9, 9, 9, 9]}, "has no area"),
        ({"kind": "box", "box": [0.1, 0.1, 0.5, 0.6]}, "fractions of the image"),
        ({"kind": "point", "point": [1e999, 2]}, "finite"),
        ({"kind": "mask", "size": [150, 200], "counts": "\x00\x00"}, "A mask prompt"),
    ],
)
def test_what_only_the_image_can_refuse(
    client: TestClient, scene_file: bytes, prompt: dict[str, Any], sentence: str
) -> None:
    image_id = send(client, scene_file)["image_id"]
    require_refusal(client, {"image_id": image_id, "prompts": [prompt]}, 422, sentence)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xff", b"[" * 100_000, b"9" * 9999])
def test_what_is_no_json(client: TestClient, body: bytes) -> None:
    answer = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("The request is ")


def test_paths_methods_and_types(client: TestClient, scene_file: bytes) -> None:
    missing = client.get("/none")
    assert (missing.status_code, missing.json()) == (
        404,
        {"error": "Not Found; see /openapi.json."},
    )
    wrong = client.get("/predict")
    assert (wrong.status_code, wrong.headers["Allow"]) == (405, "POST")
    for path in ("/predict", "/images"):
        for kind in ("text/plain", "multipart/form-data", "application/x-www-form-urlencoded", ""):
            answer = client.post(path, content=scene_file, headers={"Content-Type": kind})
            assert answer.status_code == 415
            assert "content type" in answer.json()["error"]


def test_too_many_bytes_are_not_read(client: TestClient, service: Service) -> None:
    large = b"0" * (service.limits.upload + 1)

    def chunks() -> Iterator[bytes]:
        for _ in range(2**10):
            yield bytes(2**16)

    for content in (large, chunks()):
        answer = client.post("/images", content=content, headers={"Content-Type": "image/png"})
        assert answer.status_code == 413
        assert answer.json()["error"] == "An image has more than 1.0 MiB; send a smaller one."
    request = {"image": encoded(large), "prompts": PROMPTS}
    assert client.post("/predict", json=request).status_code == 413


def test_too_many_pixels_are_not_decoded(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", 1000, 101, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    for answer in (
        client.post("/images", content=bomb, headers={"Content-Type": "image/png"}),
        client.post("/predict", json={"image": encoded(bomb), "prompts": PROMPTS}),
    ):
        assert answer.status_code == 413
        assert answer.json()["error"] == (
            "An image has 1000 x 101 pixels and may have 0.1 million; scale it down."
        )


def test_images_that_were_not_used_for_longest_are_forgotten(
    client: TestClient, service: Service
) -> None:
    files = [image_file(np.full((20, 30, 3), value, np.uint8)) for value in (0, 100, 200)]
    first, second = (send(client, file)["image_id"] for file in files[:2])
    ask = {"prompts": [{"kind": "point", "point": [5, 5]}]}
    assert client.post("/predict", json={"image_id": first, **ask}).status_code == 200
    third = send(client, files[2])["image_id"]
    statuses = [
        client.post("/predict", json={"image_id": image_id, **ask}).status_code
        for image_id in (first, second, third)
    ]
    assert statuses == [200, 404, 200]
    assert len(service._encoded) == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9", "[::1]:8000", "Studio.Example"])
def test_names_of_this_machine(client: TestClient, host: str) -> None:
    assert client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "", "127.0.0.1@evil.example", "a b", "1" * 99],
)
def test_other_names_are_refused(client: TestClient, host: str) -> None:
    for path in ("/", "/health", "/none"):
        answer = client.get(path, headers={"Host": host})
        assert answer.status_code == 403
        assert "--allow-host" in answer.json()["error"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": URL, "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:9000"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_pages_of_other_sites_may_not_post(
    client: TestClient, scene_file: bytes, headers: dict[str, str], status: int
) -> None:
    answer = client.post(
        "/images", content=scene_file, headers={"Content-Type": "image/png", **headers}
    )
    assert answer.status_code == status
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_browsers_are_told_what_the_page_may_do(client: TestClient) -> None:
    for path in ("/", "/none"):
        headers = client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]


def test_a_fault_of_ours_shows_no_traceback(
    client: TestClient, scene_file: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Predictor, image: bytes) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(Predictor, "encode", fail)
    answer = client.post("/images", content=scene_file, headers={"Content-Type": "image/png"})
    assert answer.status_code == 500
    assert answer.json()["error"].startswith("The service failed")
    assert "secret" not in answer.text


def test_more_requests_than_may_wait_are_refused(service: Service, scene_file: bytes) -> None:
    client = TestClient(create_app(service, "a network"), URL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "_requests", service.limits.requests)
        answer = client.post("/images", content=scene_file, headers={"Content-Type": "image/png"})
        assert answer.status_code == 503
    assert "image_id" in send(client, scene_file)
    assert service._requests == 0


def test_simultaneous_requests_get_their_own_answers(
    client: TestClient, predictor: Predictor
) -> None:
    random = np.random.default_rng(0)
    files = [image_file(random.integers(0, 255, (60 + n, 80, 3), np.uint8)) for n in range(8)]
    ask = [{"kind": "point", "point": [40, 20]}]

    def post(file: bytes) -> dict[str, Any]:
        return client.post("/predict", json={"image": encoded(file), "prompts": ask}).json()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, files * 2))
    for file, answer in zip(files * 2, answers, strict=True):
        expected = predictor.predict(file, point=(40, 20))
        assert answer["results"][0]["candidates"] == [expected.to_coco()]
