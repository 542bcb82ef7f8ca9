"""Composing the repository's configuration in tests, at a size that takes no time."""

from __future__ import annotations

from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from uniphd.config.compose import config_dir, fill_resolvers

EXPERIMENTS = sorted(path.stem for path in (config_dir() / "experiment").glob("*.yaml"))
# The smallest network that has every part.
TINY = (
    "experiment=tiny_refhuman",
    "sizes.hidden_dim=32",
    "sizes.num_queries=3",
    "sizes.num_heads=4",
    "sizes.feedforward_dim=32",
    "sizes.encoder_layers=1",
    "sizes.decoder_layers=2",
    "text_encoder.config.hidden_size=32",
    "text_encoder.config.intermediate_size=32",
    "data.num_workers=0",
    "print_summary=false",
)


def compose_train(output: Path | None = None, *overrides: str) -> DictConfig:
    """The configuration of `uniphd-train`, with a run folder where one is given."""
    return _compose("train", output, overrides)


def compose_eval(output: Path | None = None, *overrides: str) -> DictConfig:
    """The configuration of `uniphd-eval`."""
    return _compose("eval", output, overrides)


def _compose(name: str, output: Path | None, overrides: tuple[str, ...]) -> DictConfig:
    fill_resolvers()
    folder = [] if output is None else [f"paths.output_dir={output}"]
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose(name, [*overrides, *folder])
