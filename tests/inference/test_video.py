"""Frames of video files, of which each shows its number and whether it is turned."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from uniphd.errors import ConfigError, ImageError
from uniphd.inference.video import is_video, read_frames

COUNT, HEIGHT, WIDTH = 7, 48, 64
UPRIGHT = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
# QuickTime: (x, y) -> (a x + c y, b x + d y); here right becomes down, a quarter clockwise.
CLOCKWISE = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Frames with a red left half, ten levels brighter from frame to frame."""
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(COUNT):
            pixels = np.full((HEIGHT, WIDTH, 3), 20 + 10 * index, np.uint8)
            pixels[:, : WIDTH // 2, 0] = 200
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def test_frames_come_in_their_order(clip: Path) -> None:
    frames = list(read_frames(clip))
    assert [frame.index for frame in frames] == list(range(COUNT))
    assert [round(frame.seconds or 0, 3) for frame in frames] == [i / 10 for i in range(COUNT)]
    assert frames[3].name == "frame_000003"
    for frame in frames:
        assert frame.image.size == (WIDTH, HEIGHT)
        assert frame.image.mode == "RGB"
        green = np.asarray(frame.image)[:, WIDTH // 2 + 8 :, 1].mean()
        assert abs(green - (20 + 10 * frame.index)) < 4


def test_every_third_frame(clip: Path) -> None:
    assert [frame.index for frame in read_frames(clip, every=3)] == [0, 3, 6]


def test_a_turned_video_is_turned(clip: Path) -> None:
    content = clip.read_bytes()
    place = content.index(UPRIGHT, content.index(b"tkhd"))
    clip.write_bytes(content[:place] + CLOCKWISE + content[place + len(CLOCKWISE) :])
    red = np.asarray(next(read_frames(clip)).image)[..., 0]
    assert red.shape == (WIDTH, HEIGHT)
    assert red[:24].mean() > 150 > 100 > red[40:].mean()  # left has become above
    assert next(read_frames(clip, upright=False)).image.size == (WIDTH, HEIGHT)


def test_one_frame_is_decoded_at_a_time(clip: Path) -> None:
    frames = read_frames(clip)
    next(frames)
    frames.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["a.mp4", "a.MOV", "b/c.webm"])
def test_names_of_videos(name: str) -> None:
    assert is_video(Path(name))
    assert not is_video(Path(name + ".jpg"))
    assert not is_video(Path("a.gif"))


def test_files_that_are_no_videos(tmp_path: Path, clip: Path) -> None:
    path = tmp_path / "b.mp4"
    with pytest.raises(ImageError, match=r"b\.mp4"):
        next(read_frames(path))
    path.write_bytes(b"no video")
    with pytest.raises(ImageError, match=r"b\.mp4 cannot be read as a video: "):
        next(read_frames(path))
    path.write_bytes(clip.read_bytes()[:-900])
    with pytest.raises(ImageError, match=r"b\.mp4 cannot be read as a video: "):
        list(read_frames(path))


def test_without_the_decoder(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError, match=r"pip install 'uniphd\[video\]'"):
        next(read_frames(clip))
