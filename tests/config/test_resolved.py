"""The resolved copy of a run's configuration."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

from tests.composition import compose_train
from uniphd.config.resolved import resolved, write_resolved


def test_the_resolved_configuration_has_no_interpolations(tmp_path: Path) -> None:
    config = compose_train(tmp_path, "data.root=unused", "sizes.hidden_dim=64")
    plain = resolved(config)
    assert plain["model"]["encoder"]["hidden_dim"] == 64
    write_resolved(plain, tmp_path)
    text = (tmp_path / ".hydra" / "config_resolved.yaml").read_text()
    assert "${" not in text
    assert OmegaConf.create(text) == OmegaConf.create(plain)
    assert list(OmegaConf.create(text)) == list(config)  # in the order of the files
    assert OmegaConf.is_interpolation(config.model.encoder, "hidden_dim")  # still as composed
