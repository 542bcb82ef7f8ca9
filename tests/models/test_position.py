"""Position encodings against loops that follow the definition."""

import math

import torch

from uniphd.models.position import sine_position_1d, sine_position_2d, sine_position_of_points


def loop_encoding(position: float, num_feats: int, temperature: float) -> list[float]:
    values = []
    for feature in range(num_feats):
        angle = position / temperature ** (2 * (feature // 2) / num_feats)
        values.append(math.sin(angle) if feature % 2 == 0 else math.cos(angle))
    return values


def test_map_counts_valid_pixels_and_puts_y_first() -> None:
    padding = torch.ones(1, 4, 5, dtype=torch.bool)
    padding[0, :3, :4] = False
    encoded = sine_position_2d(padding, num_feats=6)
    y, x = 2, 1
    expected = loop_encoding((y + 1) / (3 + 1e-6) * 2 * math.pi, 6, 20)
    expected += loop_encoding((x + 1) / (4 + 1e-6) * 2 * math.pi, 6, 20)
    torch.testing.assert_close(encoded[0, :, y, x], torch.tensor(expected), atol=1e-5, rtol=0)


def test_sentence_is_normalised_by_its_own_length() -> None:
    padding = torch.tensor([[False, False, True], [False, False, False]])
    encoded = sine_position_1d(padding, num_feats=8)
    expected = loop_encoding(2 / (2 + 1e-6) * 2 * math.pi, 8, 10_000)
    torch.testing.assert_close(encoded[0, 1], torch.tensor(expected), atol=1e-5, rtol=0)
    assert not torch.allclose(encoded[0, 1], encoded[1, 1])


def test_point_puts_y_first() -> None:
    encoded = sine_position_of_points(torch.tensor([0.25, 0.75]), num_feats=4)
    expected = loop_encoding(0.75 * 2 * math.pi, 4, 10_000)
    expected += loop_encoding(0.25 * 2 * math.pi, 4, 10_000)
    torch.testing.assert_close(encoded, torch.tensor(expected), atol=1e-5, rtol=0)
