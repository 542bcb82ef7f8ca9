"""Values of the wrong type are refused by their keys; all published choices have the right ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from omegaconf import OmegaConf

from tests.composition import EXPERIMENTS, compose_train
from uniphd.config.argument_types import argument_types, refuse_wrong_types
from uniphd.errors import ConfigError

if TYPE_CHECKING:
    from decimal import Decimal

WRONG = {
    ("optim.lr=fast",): r"^optim\.lr is 'fast'; give a number\.$",
    ("optim.lr=nan",): r"^optim\.lr is nan; give a number\.$",
    ("data.batch_size=many",): r"^data\.batch_size is 'many'; give a whole number\.$",
    ("data.batch_size=2.5",): r"^data\.batch_size is 2\.5; give a whole number\.$",
    ("data.batch_size=true",): r"^data\.batch_size is True; give a whole number\.$",
    ("data.batch_size=null",): r"^data\.batch_size is null; give a whole number\.$",
    ("data.batch_size={a:1}",): r"^data\.batch_size is \{'a': 1\}; give a whole number\.$",
    ("trainer.max_steps=abc",): r"^trainer\.max_steps is 'abc'; give a whole number\.$",
    ("trainer.precision=fp16",): r"^trainer\.precision is 'fp16'; give 64, .*32-true.* or null\.$",
    ("trainer.precision=8",): r"^trainer\.precision is 8; give 64, ",
    ("seed=abc",): r"^seed is 'abc'; give a whole number\.$",
    ("init_from=3",): r"^init_from is 3; give a text or null\.$",
    ("print_summary=perhaps",): r"^print_summary is 'perhaps'; give true or false\.$",
    ("sizes.num_queries=few",): r"^sizes\.num_queries is 'few'; give a whole number\.$",
    ("loss.weights.class=big",): r"^loss\.weights\.class is 'big'; give a number\.$",
    ("loss.matcher=null",): r"^loss\.matcher is null; give HungarianMatcher\.$",
    ("data.val_prompts=text",): r"^data\.val_prompts is 'text'; give a list \[a text, \.\.\.\]\.$",
    ("optim.optimizer.betas=[0.9]",): r"betas is \[0\.9\]; give a list \[a number",
    ("optim.scheduler.milestones=late",): r"milestones is 'late'; give a list \[a whole number",
    (
        "callbacks.last.every_n_steps=often",
    ): r"^callbacks\.last\.every_n_steps is 'often'; give a w",
    ("module.non_finite=ignore",): r"^module\.non_finite is 'ignore'; give stop or skip\.$",
    ("data._target_=nothing.Here",): r"^data\._target_ cannot be used: .*nothing\.Here",
}


@pytest.mark.parametrize("overrides", WRONG, ids=" ".join)
def test_a_wrong_type_is_refused_by_its_key(overrides: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=WRONG[overrides]):
        refuse_wrong_types(compose_train(tmp_path, "data.root=unused", *overrides))


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiments_have_the_right_types(experiment: str, tmp_path: Path) -> None:
    for extra in ((), ("debug=smoke", "callbacks=[default,ema,early_stopping]", "trainer=ddp")):
        given = (f"experiment={experiment}", "++data.root=unused", "logger=wandb", *extra)
        refuse_wrong_types(compose_train(tmp_path, *given))


class Base:
    def __init__(self, count: int = 0, share: float | None = None) -> None: ...


class Part(Base):
    def __init__(
        self,
        kind: Literal["a", "b"],
        names: Sequence[str],
        weights: Mapping[str, float],
        price: Decimal,
        base: Base | None = None,
        **others: Any,
    ) -> None: ...


TARGET = f"{__name__}.Part"


def test_types_are_those_of_the_bases_too() -> None:
    types = argument_types(Part)
    assert (types["count"], types["share"]) == (int, float | None)
    assert types["price"] is Any  # its module is there for type checkers alone


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ({"kind": "a", "names": ["x"], "weights": {"w": 1}, "price": "any", "count": 3}, None),
        ({"share": None, "base": {"_target_": TARGET}, "unknown": "anything"}, None),
        ({"kind": "c"}, "node.kind is 'c'; give a or b"),
        ({"names": ["x", 3]}, r"node.names is \['x', 3\]"),
        ({"weights": {"w": float("inf")}}, "node.weights.w is inf; give a number"),
        ({"share": "half"}, "node.share is 'half'; give a number or null"),
        ({"count": "${other.number}"}, "other.number is 'three'; give a whole number"),
        ({"base": [{"_target_": TARGET, "count": 1.0}]}, r"node.base\[0\].count is 1.0"),
    ],
)
def test_values_fit_or_are_named(value: dict[str, Any], wrong: str | None) -> None:
    node = {"_target_": TARGET, **value}
    config = OmegaConf.create({"node": node, "other": {"number": "three"}})
    if wrong is None:
        refuse_wrong_types(config)
    else:
        with pytest.raises(ConfigError, match=wrong):
            refuse_wrong_types(config)
