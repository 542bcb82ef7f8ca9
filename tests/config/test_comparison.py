"""Which differences between two configurations matter to a resumed run, and as what."""

from __future__ import annotations

from typing import Any, cast

import pytest
from omegaconf import OmegaConf

from tests.composition import TINY, compose_train
from uniphd.config.comparison import (
    Difference,
    Verdict,
    compare,
    without_copies,
    without_equal_steps,
)

OURS = (*TINY, "data.root=unused", "run_id=one")


def plain(*overrides: str, resolve: bool = True) -> dict[str, Any]:
    config = compose_train(None, *OURS, "paths.output_dir=out", *overrides)
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=resolve))


def changed(*overrides: str) -> dict[str, Verdict]:
    """The keys that overrides change, without copies, and what becomes of them."""
    found = compare(plain(), plain(*overrides))
    return {d.key: d.verdict for d in without_copies(found, plain(*overrides, resolve=False))}


def test_the_same_configuration_differs_in_nothing() -> None:
    assert changed() == {}


@pytest.mark.parametrize(
    ("override", "key", "verdict"),
    [
        ("paths.output_dir=elsewhere", "paths.output_dir", Verdict.FREE),
        ("data.num_workers=3", "data.num_workers", Verdict.FREE),
        ("trainer.max_steps=3000", "trainer.max_steps", Verdict.FREE),
        ("backbone.checkpointing=true", "backbone.checkpointing", Verdict.FREE),
        ("logger=none", "logger.csv", Verdict.FREE),
        ("callbacks.curves=null", "callbacks.curves", Verdict.FREE),
        ("optim.lr=5e-5", "optim.lr", Verdict.IGNORED),
        ("module.lr=5e-5", "module.lr", Verdict.IGNORED),
        ("optim.optimizer.betas=[0.8,0.9]", "optim.optimizer.betas", Verdict.IGNORED),
        ("init_from=uniphd-tiny", "init_from", Verdict.IGNORED),
        ("seed=3", "seed", Verdict.COUNTS),
        ("data.seed=3", "data.seed", Verdict.COUNTS),
        ("data.root=other", "data.root", Verdict.COUNTS),
        ("data.batch_size=2", "data.batch_size", Verdict.COUNTS),
        ("trainer.precision=bf16-mixed", "trainer.precision", Verdict.COUNTS),
        ("loss.weights.oks=3", "loss.weights.oks", Verdict.COUNTS),
        ("loss.matcher=null", "loss.matcher", Verdict.COUNTS),
        ("sizes.dropout=0.2", "sizes.dropout", Verdict.COUNTS),
        ("optim.scheduler.warmup_steps=3", "optim.scheduler.warmup_steps", Verdict.COUNTS),
        ("+data.new_key=3", "data.new_key", Verdict.COUNTS),
        ("+model.decoder.new_key=3", "model.decoder.new_key", Verdict.COUNTS),
        ("module.scheduler=null", "module.scheduler", Verdict.REFUSED),
        ("optim.interval=epoch", "optim.interval", Verdict.REFUSED),
        ("backbone.frozen_stages=1", "backbone.frozen_stages", Verdict.REFUSED),
        ("model.decoder.within_attention=plain", "model.decoder.within_attention", Verdict.REFUSED),
        ("sizes.num_heads=2", "sizes.num_heads", Verdict.REFUSED),
        (
            "optim.optimizer={_target_:torch.optim.SGD,_partial_:true}",
            "optim.optimizer",
            Verdict.REFUSED,
        ),
    ],
)
def test_a_setting_is_named_once_by_the_key_that_a_user_types(
    override: str, key: str, verdict: Verdict
) -> None:
    assert changed(override) == {key: verdict}


def test_groups_of_parameters_are_compared_one_by_one() -> None:
    before = [{"pattern": "^backbone", "lr": 1e-5}, {"pattern": "neck", "weight_decay": 0.0}]
    other_rate = [before[0] | {"lr": 2e-5}, before[1]]
    for now, keys in (
        (other_rate, {"optim.param_groups.0.lr": Verdict.IGNORED}),
        ([before[0], before[1] | {"pattern": "x"}], {"optim.param_groups.1.pattern": "refused"}),
        (before[:1], {"optim.param_groups": "refused"}),
    ):
        found = compare({"optim": {"param_groups": before}}, {"optim": {"param_groups": now}})
        assert [d.key for d in found] == list(keys)
        refused = [d.verdict is Verdict.REFUSED for d in found]
        assert refused == [verdict == "refused" for verdict in keys.values()]


def test_steps_of_as_many_people_are_the_same_steps() -> None:
    found = [Difference("data.batch_size", 4, 2), Difference("processes", 1, 2)]
    assert without_equal_steps(found, 4, 4) == []
    assert without_equal_steps(found, 4, 8) == found


def test_values_are_shown_as_they_are_typed() -> None:
    nodes = ({"_target_": "torch.optim.AdamW"}, {"_target_": "torch.optim.SGD", "lr": 1})
    (found,) = compare({"optim": {"optimizer": nodes[0]}}, {"optim": {"optimizer": nodes[1]}})
    assert str(found) == "optim.optimizer=SGD (before: AdamW)"
    assert str(Difference("compile", None, "default")) == "compile=default (before: null)"
    assert len(str(Difference("data.x", None, list(range(100))))) < 120
