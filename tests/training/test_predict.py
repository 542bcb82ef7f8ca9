"""`Trainer.predict`, against the network's own output."""

from __future__ import annotations

import pytest
import torch
from lightning import Trainer
from torchvision.ops import box_convert

from tests.composition import TINY, compose_train
from uniphd.config.compose import build, build_network
from uniphd.models.build import build_tokenizer


@pytest.mark.filterwarnings("ignore:The 'predict_dataloader' does not have many workers")
def test_predictions_are_instances_of_every_prompt_in_pixels_of_the_image() -> None:
    config = compose_train(
        None,
        *TINY,
        "data=synthetic",
        "data.size=[96,128]",
        "data.eval_transform.size=72",
        "data.eval_transform.max_size=96",
        "data.val_scenes=2",
        "data.num_render_workers=1",
        "data.val_batch_size=2",
        "data.val_prompts=[point,box]",
        "optim.scheduler.total_steps=1",
    )
    torch.manual_seed(0)
    network, model_config = build_network(config)
    module = build(config.module, model=network, criterion=None, model_config=model_config, top_k=2)
    data = build(config.data, tokenize=build_tokenizer(model_config.tokenizer))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", devices=1, enable_checkpointing=False, **quiet)
    predictions = trainer.predict(module, datamodule=data)
    network.eval()
    assert predictions is not None
    assert len(predictions) == 2  # point, box
    for batches, loader in zip(predictions, data.val_dataloader(), strict=True):
        for detections, batch in zip(batches, loader, strict=True):
            with torch.no_grad():
                final = network(*batch.inputs).final
            for i, instances in enumerate(detections):
                best = final.logits[i].flatten().argmax() // 2
                assert instances.scores.tolist() == sorted(instances.scores.tolist(), reverse=True)
                assert instances.queries[0] == best
                scale = torch.tensor([128.0, 96.0])
                torch.testing.assert_close(instances.keypoints[0], final.keypoints[i, best] * scale)
                corners = box_convert(final.boxes[i, best], "cxcywh", "xyxy") * scale.repeat(2)
                torch.testing.assert_close(instances.boxes[0], corners)
                assert instances.masks is not None
                assert instances.masks.shape == (2, 96, 128)
