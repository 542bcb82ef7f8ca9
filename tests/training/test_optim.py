"""Parameter groups and schedules."""

from __future__ import annotations

import math

import pytest
import torch

from tests.composition import compose_train
from uniphd.errors import ConfigError
from uniphd.models.uniphd import UniPHD
from uniphd.training.optim import parameter_groups, warmup_cosine


def test_the_first_rule_that_matches_decides(tiny_network: UniPHD) -> None:
    rules = [
        {"pattern": r"^backbone\.", "lr": 1e-5},
        {"pattern": r"text_encoder\.", "lr": 2e-5},
        {"pattern": r"\.bias$", "weight_decay": 0.0},
    ]
    groups = parameter_groups(tiny_network.named_parameters(), 1e-4, 1e-3, rules)
    rates = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    expected = {
        "backbone.norms.0.bias": (1e-5, 1e-3),
        "prompt_encoder.text_encoder.body.pooler.dense.bias": (2e-5, 1e-3),
        "encoder.layers.0.norm.bias": (1e-4, 0.0),
        "encoder.layers.0.norm.weight": (1e-4, 1e-3),
    }
    for name, rate in expected.items():
        assert rates[id(tiny_network.get_parameter(name))] == rate, name
    assert len(rates) == len(list(tiny_network.parameters()))


def test_the_official_config_separates_text_encoder_and_backbone(tiny_network: UniPHD) -> None:
    optim = compose_train(None, "experiment=swint_refhuman", "data.root=unused").optim
    groups = parameter_groups(
        tiny_network.named_parameters(), optim.lr, optim.weight_decay, optim.param_groups
    )
    rates = {group["name"]: group["lr"] for group in groups}
    assert rates == {
        "default": 1e-4,
        r"^backbone\.": 1e-5,
        r"^prompt_encoder\.text_encoder\.": 1e-4,
        r"\.adjacency$": 1e-4,
    }


def test_frozen_parameters_are_left_out(tiny_network: UniPHD) -> None:
    tiny_network.prompt_encoder.text_encoder.requires_grad_(False)
    groups = parameter_groups(tiny_network.named_parameters(), 1e-4, 0.0)
    frozen = {id(p) for p in tiny_network.prompt_encoder.text_encoder.parameters()}
    assert frozen.isdisjoint(id(p) for group in groups for p in group["params"])


@pytest.mark.parametrize("rule", [{"pattern": "no_such_part", "lr": 1.0}, {"lr": 1.0}])
def test_a_rule_that_matches_nothing_is_an_error(
    tiny_network: UniPHD, rule: dict[str, object]
) -> None:
    with pytest.raises(ConfigError, match="matches no parameter"):
        parameter_groups(tiny_network.named_parameters(), 1e-4, 0.0, [rule])


def test_an_optional_rule_may_match_nothing(tiny_network: UniPHD) -> None:
    named = dict(tiny_network.named_parameters())
    rule = {"pattern": r"\.adjacency$", "lr": 0.5, "optional": True}
    groups = parameter_groups(named.items(), 1e-4, 0.0, [rule])
    assert [group["lr"] for group in groups].count(0.5) == 1
    without = {name: value for name, value in named.items() if "adjacency" not in name}
    (group,) = parameter_groups(without.items(), 1e-4, 0.0, [rule])
    assert (group["name"], group["lr"]) == ("default", 1e-4)


def test_warmup_then_cosine_to_zero() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    schedule = warmup_cosine(optimizer, warmup_steps=10, total_steps=110)
    rates = []
    for _ in range(110):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(0.01)
    assert rates[10] == pytest.approx(1.0)
    assert rates[60] == pytest.approx(0.5)
    assert rates[-1] < 1e-3


def test_a_cosine_over_the_whole_run() -> None:
    rates = []
    for lengths in ({"run_steps": 40}, {"run_steps": math.inf, "total_steps": 40}):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
        schedule = warmup_cosine(optimizer, warmup_steps=10, **lengths)
        for _ in range(25):
            optimizer.step()
            schedule.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("run_steps", [10, math.inf])
def test_a_cosine_needs_an_end_after_its_warmup(run_steps: float) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    with pytest.raises(ConfigError, match=r"trainer\.max_steps"):
        warmup_cosine(optimizer, warmup_steps=10, run_steps=run_steps)
