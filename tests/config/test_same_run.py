"""Whether a checkpoint can go on as this run, and what is said about it."""

from __future__ import annotations

from copy import deepcopy
from types import SimpleNamespace
from typing import Any, cast

import pytest
from omegaconf import DictConfig, OmegaConf

from tests.composition import TINY, compose_train
from uniphd.checkpoints.folder import RUN_KEY
from uniphd.config.compose import build, build_network
from uniphd.config.same_run import require_same_run
from uniphd.errors import UniPHDError
from uniphd.training.callbacks.ema import ExponentialMovingAverage
from uniphd.training.module import RefHumanModule
from uniphd.training.schedule import Schedule

OURS = (*TINY, "data.root=unused", "run_id=one", "paths.output_dir=out", "data.batch_size=4")


def make(*overrides: str) -> tuple[DictConfig, RefHumanModule]:
    config = compose_train(None, *OURS, *overrides)
    network, model_config = build_network(config)
    module = build(config.module, model=network, criterion=None, model_config=model_config)
    return config, module


def stored(config: DictConfig, module: RefHumanModule, processes: int = 1) -> dict[str, Any]:
    """A checkpoint after three steps, in the middle of an epoch."""
    optimizer = module.build_optimizer(module.parameter_groups())
    schedules = []
    if module.make_scheduler is not None:
        arguments = (module.make_scheduler, module.build_optimizer, module.interval, 1000)
        schedules = [Schedule(*arguments).on(optimizer).state_dict()]
    progress = {"current": {"processed": 3}, "is_last_batch": False}
    return {
        "global_step": 3,
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": schedules,
        "loops": {"fit_loop": {"epoch_loop.batch_progress": progress}},
        RUN_KEY: {
            "config": OmegaConf.to_container(config, resolve=True),
            "devices": {"processes": processes},
        },
    }


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, Any]:
    return stored(*make())


def resume(
    content: dict[str, Any],
    *overrides: str,
    processes: int = 1,
    callbacks: Any = (),
    steps: int = 9,
) -> dict[str, Any]:
    trainer = SimpleNamespace(
        max_steps=steps, callbacks=callbacks, num_devices=processes, num_nodes=1
    )
    return require_same_run(deepcopy(content), "last.ckpt", *_with(trainer, make(*overrides)))


def _with(trainer: Any, run: tuple[DictConfig, RefHumanModule]) -> Any:
    return run[0], cast(Any, trainer), run[1]


def test_the_same_run_is_let_through(
    checkpoint: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert resume(checkpoint, "run_id=two", "data.num_workers=2", "callbacks.curves=null") == {}
    assert caplog.records == []


def test_what_the_checkpoint_decides_is_said_and_returned(
    checkpoint: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    kept = resume(checkpoint, "optim.lr=5e-5", "optim.optimizer.betas=[0.8,0.9]")
    assert (kept["optim.lr"], kept["module.lr"]) == (1e-3, 1e-3)
    assert kept["optim.optimizer.betas"] == [0.9, 0.999]
    (message,) = caplog.messages
    assert "does not count" in message
    assert "optim.lr=5e-05 (before: 0.001), optim.optimizer.betas=[0.8, 0.9]" in message
    assert "init_from=last.ckpt" in message
    assert "module.lr" not in message


def test_what_counts_from_here_on_is_said(
    checkpoint: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert resume(checkpoint, "prompt=point", "loss.weights.oks=3") == {}
    assert "other settings than in its first 3 steps: " in caplog.text
    assert "loss.weights.oks=3 (before: 4.0)" in caplog.text
    assert "data.prompt_sampler" in caplog.text
    assert "another order" not in caplog.text


@pytest.mark.parametrize("override", ["seed=1", "data.limit_people=3", "data.root=elsewhere"])
def test_another_order_within_an_epoch_is_said(
    checkpoint: dict[str, Any], caplog: pytest.LogCaptureFixture, override: str
) -> None:
    resume(checkpoint, override)
    assert f"{override} (before: " in caplog.text
    assert "some people come twice in it, others never" in caplog.text


def test_as_many_people_per_step_are_the_same_run(
    checkpoint: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    resume(checkpoint, "data.batch_size=2", processes=2)
    resume(checkpoint, "data.batch_size=2", "trainer.accumulate_grad_batches=2")
    assert caplog.records == []
    resume(checkpoint, processes=2)
    assert "processes=2 (before: 1)" in caplog.text


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("module.scheduler=null", r"module\.scheduler=null \(before: warmup_cosine\)"),
        ("optim=step", r"optim\.scheduler=MultiStepLR \(before: warmup_cosine\)"),
        ("optim.optimizer._target_=torch.optim.Adam", r"optim\.optimizer=Adam \(before: AdamW\)"),
        ("backbone.frozen_stages=1", r"backbone\.frozen_stages=1 \(before: 0\)"),
        ("text_encoder.trainable=false", r"text_encoder\.trainable=false \(before: true\)"),
        ("model.fusion.position_in_queries=true", r"position_in_queries=true \(before: false\)"),
    ],
)
def test_what_cannot_change_is_refused(
    checkpoint: dict[str, Any], override: str, says: str
) -> None:
    with pytest.raises(UniPHDError, match=rf"cannot change .*{says}.*init_from=last\.ckpt"):
        resume(checkpoint, override)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("module.scheduler=null", r"another scheduler .* optim\.scheduler"),
        ("backbone.frozen_stages=1", r"trained \d+ parameters in 1 groups; this one trains \d+"),
        ("optim.param_groups=[{pattern:neck,lr:1}]", r"in 1 groups; this one trains \d+ in 2"),
    ],
)
def test_of_a_checkpoint_without_settings_the_states_are_compared(
    checkpoint: dict[str, Any], override: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    without = {name: value for name, value in checkpoint.items() if name != RUN_KEY}
    with pytest.raises(UniPHDError, match=says):
        resume(without, override)
    assert "last.ckpt does not have the settings of its run" in caplog.text


def test_another_optimizer_is_noticed_by_its_state(checkpoint: dict[str, Any]) -> None:
    without = {name: value for name, value in checkpoint.items() if name != RUN_KEY}
    group = without["optimizer_states"][0]["param_groups"][0]
    sgd = {"params": group["params"], "lr": 1.0, "momentum": 0.9, "weight_decay": 0.0}
    without["optimizer_states"] = [{"state": {}, "param_groups": [sgd]}]
    with pytest.raises(UniPHDError, match="another optimizer than this run's"):
        resume(without)


def test_an_average_that_nobody_goes_on_with_is_refused(checkpoint: dict[str, Any]) -> None:
    averaged = {**checkpoint, "current_model_state": {}}
    resume(averaged, callbacks=[ExponentialMovingAverage()])
    with pytest.raises(UniPHDError, match=r"average .* give callbacks=\[default,ema\]"):
        resume(averaged)


def test_a_run_shorter_than_what_is_done_is_refused(checkpoint: dict[str, Any]) -> None:
    resume(checkpoint, steps=3)
    resume(checkpoint, steps=-1)
    with pytest.raises(UniPHDError, match=r"3 steps already, more than trainer\.max_steps=2"):
        resume(checkpoint, steps=2)
