"""What the decoder looks at: recorded as it is used, and drawn where it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from uniphd.models.uniphd import UniPHD
from uniphd.ops.reference import ms_deform_attn_reference
from uniphd.prompts import PointPrompt, batch_prompts
from uniphd.structures import Batch, Target, pack_targets
from uniphd.visualization.attention import (
    LEVEL_COLORS,
    Samples,
    record_attention,
    render_samples,
    samples_of,
    slot_names,
)

NOBODY = Target(
    labels=torch.zeros(0, dtype=torch.int64),
    boxes=torch.zeros(0, 4),
    keypoints=torch.zeros(0, 17, 2),
    visibility=torch.zeros(0, 17),
    area=torch.zeros(0),
    masks=torch.zeros(0, 96, 128, dtype=torch.bool),
)


@pytest.fixture
def batch() -> Batch:
    """Two images of twice the size; the second fills the left half of the canvas."""
    torch.manual_seed(0)
    images = torch.randint(256, (2, 3, 96, 128), dtype=torch.uint8)
    padding = torch.zeros(2, 96, 128, dtype=torch.bool)
    padding[1, :, 64:] = True
    prompts = [PointPrompt(torch.tensor([30.0, 40.0])), PointPrompt(torch.tensor([20.0, 50.0]))]
    return Batch(
        images=images.masked_fill(padding[:, None], 0),
        padding_mask=padding,
        image_index=(0, 1),
        sizes=((96, 128), (96, 64)),
        original_sizes=((192, 256), (192, 128)),
        prompts=batch_prompts(prompts, lambda texts: pytest.fail("there is no text")),
        packed_targets=pack_targets([NOBODY] * 2, (96, 128)),
        image_ids=(1, 2),
    )


def test_samples_explain_the_output_of_the_attention(tiny_network: UniPHD, batch: Batch) -> None:
    seen = []
    attention = tiny_network.decoder.layers[-1].cross_attention
    handle = attention.register_forward_hook(lambda module, args, out: seen.append((args, out)))
    with torch.no_grad(), record_attention(tiny_network) as layers:
        tiny_network(*batch.inputs)
        handle.remove()
        (_, _, memory, shapes, padding), output = seen[0]
        value = attention.value_proj(memory).masked_fill(padding[..., None], 0.0)
        looked_up = ms_deform_attn_reference(
            value.unflatten(-1, (attention.num_heads, -1)),
            shapes,
            layers[-1].locations.flatten(1, 2),
            layers[-1].weights.flatten(1, 2),
        )
        torch.testing.assert_close(attention.output_proj(looked_up), output)
    assert len(layers) == len(tiny_network.decoder.layers)
    assert layers[0].locations.shape[:3] == (2, 3, len(slot_names(tiny_network)))


def test_nothing_is_recorded_after_the_block(tiny_network: UniPHD, batch: Batch) -> None:
    with record_attention(tiny_network) as layers:
        pass
    with torch.no_grad():
        tiny_network(*batch.inputs)
    assert layers == []


@pytest.mark.parametrize("row", [0, 1])
def test_points_are_pixels_of_the_image(tiny_network: UniPHD, batch: Batch, row: int) -> None:
    with torch.no_grad(), record_attention(tiny_network) as layers:
        predictions = tiny_network(*batch.inputs)
    height, width = batch.original_sizes[row]
    samples = samples_of(layers[1], batch, row, query=2, slot=0)
    centre = predictions.layers[1].centre[row, 2].numpy() * (width, height)
    np.testing.assert_allclose(samples.reference, centre, rtol=1e-5)
    # The ring of an untrained layer: P points per head and level, at most P cells away.
    cells = np.array([2 * 8 * 2**level for level in samples.levels])
    points = tiny_network.decoder.layers[0].cross_attention.num_points
    away = np.abs(samples.points - samples.reference).max(axis=1) / cells
    assert away.max() <= points + 0.01
    assert set(np.round(away).astype(int)) == set(range(1, points + 1))
    assert samples.weights.sum() == pytest.approx(1)


def test_discs_stand_at_their_samples_in_the_colour_of_their_level() -> None:
    image = Image.new("RGB", (50, 40), (100, 100, 100))
    samples = Samples(
        reference=np.array([40.0, 30.0]),
        points=np.array([[10.0, 20.0], [25.0, 8.0]]),
        weights=np.array([0.9, 0.1]),
        levels=np.array([0, 2]),
    )
    rendered = render_samples(image, [samples], (400, 500))
    assert rendered.size == (500, 400)
    assert rendered.getpixel((100, 200)) == LEVEL_COLORS[0]
    assert rendered.getpixel((250, 80)) == LEVEL_COLORS[2]
    assert rendered.getpixel((400, 300)) == (20, 22, 26)  # inside the ring
    assert rendered.getpixel((300, 390)) == (55, 55, 55)
    areas = [(np.asarray(rendered) == LEVEL_COLORS[k]).all(axis=2).sum() for k in (0, 2)]
    assert areas[0] / areas[1] == pytest.approx(9, rel=0.2)
