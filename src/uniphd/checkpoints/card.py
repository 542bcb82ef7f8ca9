"""The model card: what a model is, what it was trained on, and how well it does."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from uniphd.checkpoints.folder import ModelConfig
from uniphd.checkpoints.provenance import Provenance
from uniphd.models.uniphd import UniPHD
from uniphd.prompts import KINDS

_TASK = "keypoint-detection"
_TAGS = ["uniphd", "referring-expression", "human-pose-estimation", "image-segmentation"]
_ABOUT = """\
A network that finds one referred person in an image: keypoints and mask, from a text, a point, a
scribble, a box or a mask.

```python
from uniphd import Predictor

predictor = Predictor("hf://OWNER/NAME")
person = predictor.predict("photo.jpg", text="the woman on the left")
```"""


def model_card(
    config: ModelConfig,
    network: UniPHD,
    provenance: Provenance,
    license: str | None,
    repository: str,
) -> str:
    """The text of the card, Markdown below the hub's metadata.

    Args:
        config: of the model.
        network: the model's.
        provenance: what is known of its training.
        license: of the weights, an identifier of the hub's.
        repository: where the model is to be found.
    """
    bases = base_models(_part(provenance.record or {}, "config"))
    metadata = ModelCardData(
        library_name="uniphd",
        pipeline_tag=_TASK,
        tags=list(_TAGS),
        license=license,
        base_model=bases or None,
    )
    parts = [
        f"---\n{metadata.to_yaml()}\n---",
        "# Referring human pose and mask estimation",
        _ABOUT.replace("OWNER/NAME", repository),
        _network(config, network),
        _training(provenance.record),
        _metrics(provenance),
        _license(license, bases),
    ]
    return "\n\n".join(parts) + "\n"


def base_models(config: Mapping[str, Any]) -> list[str]:
    """Names on the hub of the pretrained models that a run started from.

    Args:
        config: the run's, as `run.json` has it.
    """
    found: list[str] = []
    backbone, text_encoder = _part(config, "backbone"), _part(config, "text_encoder")
    if backbone.get("pretrained"):
        source = timm.get_pretrained_cfg(str(backbone.get("name")), allow_unregistered=True)
        found.append(getattr(source, "hf_hub_id", None) or f"timm/{backbone.get('name')}")
    if text_encoder.get("name"):
        found.append(str(text_encoder["name"]))
    return [name for name in found if _is_on_hub(name)]


def _is_on_hub(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not Path(name).exists()


def _network(config: ModelConfig, network: UniPHD) -> str:
    count = sum(parameter.numel() for parameter in network.parameters())
    body = network.prompt_encoder.text_encoder.body.config
    rows = {
        "parameters": f"{count / 1e6:.1f} million",
        "backbone": config.model.get("backbone", {}).get("name"),
        "text encoder": getattr(body, "model_type", None),
        "keypoints": f"{config.keypoints} ({len(network.schema.names)})",
        "image size": ", ".join(f"{key} {value}" for key, value in config.preprocessing.items()),
    }
    return "## Network\n\n" + _table(("", ""), rows.items())


def _training(record: Mapping[str, Any] | None) -> str:
    if record is None:
        return "## Training\n\nNot recorded."
    config, versions = _part(record, "config"), _part(record, "versions")
    names = _part(record, "devices").get("names")
    rows = {
        "data": _data(_part(config, "data")),
        "command": f"`{_command(str(record.get('command', '')))}`",
        "commit": _commit(_part(record, "git")),
        "date": record.get("date"),
        "versions": ", ".join(
            f"{name} {versions[name]}" for name in ("uniphd", "torch", "timm") if name in versions
        ),
        "devices": ", ".join(map(str, names)) if isinstance(names, list) else None,
        "weights of the start": _start(config),
    }
    return "## Training\n\n" + _table(("", ""), rows.items())


def _part(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A mapping in a record, which may be of any version."""
    part = record.get(name)
    return part if isinstance(part, Mapping) else {}


def _commit(git: Mapping[str, Any]) -> str:
    if not git.get("commit"):
        return "not recorded"
    return f"{git['commit']}{' and changes' if git.get('dirty') else ''}"


def _data(data: Mapping[str, Any]) -> str:
    """The data set, without the folders of whose machine it lay on."""
    kind = str(data.get("_target_", "not recorded")).rpartition(".")[2]
    sizes = [f"{key} {data[key]}" for key in ("train_scenes", "size", "people") if data.get(key)]
    files = [
        Path(str(data[key])).name for key in ("root", "train_file", "val_file") if data.get(key)
    ]
    return ", ".join([kind, *sizes, *files])


def _start(config: Mapping[str, Any]) -> str:
    start = config.get("init_from")
    return Path(str(start)).name if start else "those of the base models, otherwise random"


def _command(command: str) -> str:
    """The command without the folder of its program."""
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    return shlex.join([Path(words[0]).name, *words[1:]]) if words else ""


def _metrics(provenance: Provenance) -> str:
    if not provenance.metrics:
        return "## Metrics\n\nNot measured."
    kinds = sorted(provenance.metrics, key=[*KINDS, *provenance.metrics].index)
    names = dict.fromkeys(name for values in provenance.metrics.values() for name in values)
    rows = (
        (name, *(_percent(provenance.metrics[kind].get(name)) for kind in kinds)) for name in names
    )
    said = f"Percent by prompt kind, of {provenance.measured}."
    return f"## Metrics\n\n{said}\n\n" + _table(("metric", *kinds), rows)


def _percent(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def _license(license: str | None, bases: list[str]) -> str:
    said = (
        f"The weights' licence is {license}."
        if license
        else "Whoever published these weights states no licence for them."
    )
    if bases:
        said += f" They started from {' and '.join(bases)}, whose licences hold, too."
    return f"## Licence\n\n{said} uniphd itself, the code, has the licence Apache-2.0."


def _table(head: tuple[str, ...], rows: Any) -> str:
    return "\n".join(_lines(head, rows))


def _lines(head: tuple[str, ...], rows: Any) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for row in rows:
        cells = ["–" if cell in (None, "") else str(cell) for cell in row]
        yield "| " + " | ".join(" ".join(c.split()).replace("|", "\\|") for c in cells) + " |"
