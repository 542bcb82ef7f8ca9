"""What Lightning, torch and Hydra refuse ends in one sentence that names the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.composition import TINY, compose_train
from uniphd.cli.train import train
from uniphd.config.compose import build
from uniphd.errors import ConfigError, ImageError

REFUSED = {
    "trainer.accelerator=gpuu": r"^trainer\.accelerator=gpuu cannot be used: .*invalid accelerator",
    "trainer.strategy=foo": r"^trainer\.strategy=foo cannot be used: .*invalid strategy",
    "trainer.devices=0": r"^trainer\.devices=0 cannot be used: ",
    "trainer.devices=abc": r"^trainer\.devices=abc cannot be used: ",
    "+trainer.foo=1": r"^trainer\.foo=1 cannot be used: .*unexpected keyword argument 'foo'",
    "+data.foo=1": r"^data\.foo=1 cannot be used: ",
    "+model.foo=1": r"^model: .*unexpected keyword argument 'foo'",
    "data.num_workers=-1": r"^num_workers is -1; give a number from 0 on\.$",
    "data.batch_size=0": r"^batch_size is 0",
    "data.eval_transform.size=0": r"eval_transform has size=0",
    "seed=-1": r"^seed=-1 cannot be used: ",
    "compile=foo": r"^compile=foo is no mode of torch\.compile",
    "trainer.max_steps=-7": r"^trainer\.max_steps=-7 cannot be used: ",
    "optim.lr=-1": r"^optim\.lr is -1; give a finite number",
    "optim.weight_decay=-1": r"^optim\.weight_decay is -1",
    "optim.param_groups=[{pattern:heads,lr:-1}]": r"^optim\.lr of heads in .* is -1",
    "module.top_k=0": r"^module\.top_k is 0",
    "sizes.dropout=2": r"^sizes\.dropout=2 cannot be used: .*between 0 and 1",
    "callbacks.last.every_n_steps=0": r"^callbacks\.last\.every_n_steps is 0",
    "callbacks.contact_sheet.people=-3": r"people of a callback is -3",
    "callbacks.instances_table.every=0": r"every=0 of InstancesTable",
    "loss.matcher.box_cost=-1": r"^loss\.matcher\.box_cost is -1",
    "optim.optimizer.betas=[2,3]": r"^optim\.optimizer cannot be used: Invalid beta",
    "+optim.scheduler.foo=3": r"^optim\.scheduler cannot be used: .*foo",
    "optim.scheduler.warmup_steps=-3": r"a warm-up of -3",
}


@pytest.mark.parametrize("override", REFUSED)
def test_a_refusal_names_the_key(override: str, refuse: Any) -> None:
    with pytest.raises(ConfigError, match=REFUSED[override]) as caught:
        refuse(override)
    assert "\n" not in str(caught.value)


@pytest.fixture
def refuse(smallest: tuple[str, ...], tmp_path: Path) -> Any:
    """Train with an override, as far as it gets."""
    return lambda override: train(compose_train(tmp_path, *smallest, override))


@pytest.fixture
def smallest(refhuman_folder: Path) -> tuple[str, ...]:
    steps = (
        "trainer.max_steps=1",
        "trainer.val_check_interval=1",
        "optim.scheduler.warmup_steps=0",
    )
    return (*TINY, f"data.root={refhuman_folder}", *steps, "trainer.enable_progress_bar=false")


class Picky:
    def __init__(self, size: int = 0, inner: Any = None) -> None:
        if size == 1:
            raise ImageError("ours")
        if size == 2:
            raise KeyError(size)
        if size == 3:
            raise ValueError("the size is 3.\nAnd more")


TARGET = f"{__name__}.Picky"


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"size": 2}, r"^part cannot be used: 2 \(KeyError\)"),
        ({"size": 3}, r"^part\.size=3 cannot be used: the size is 3 \(ValueError\)"),
        ({"size": "${size}"}, r"^size=3 cannot be used: "),
        (
            {"inner": {"_target_": TARGET, "size": 3}},
            r"^part\.inner\.size=3 cannot be used: the si",
        ),
        (
            {"inner": {"_target_": TARGET, "size": 2}},
            r"^part\.inner cannot be used: 2 \(KeyError\)",
        ),
        ({"inner": {"_target_": TARGET, "inner": {"_target_": "no.Such"}}}, r"no\.Such"),
        ({"_target_": "no.Such"}, r"^part cannot be used: .*no\.Such"),
    ],
)
def test_the_cause_is_said_and_not_hydras_wrapping(node: dict[str, Any], said: str) -> None:
    config = OmegaConf.create({"part": {"_target_": TARGET, **node}, "size": 3})
    with pytest.raises(ConfigError, match=said) as caught:
        build(config.part)
    assert "InstantiationException" not in str(caught.value)
    assert "HYDRA_FULL_ERROR=1 shows the traceback." in str(caught.value)


@pytest.mark.parametrize("node", [{"size": 1}, {"inner": {"_target_": TARGET, "size": 1}}])
def test_errors_of_ours_are_raised_as_they_are(node: dict[str, Any]) -> None:
    with pytest.raises(ImageError, match=r"^ours$"):
        build(OmegaConf.create({"_target_": TARGET, **node}))
