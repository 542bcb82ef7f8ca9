"""What a run is, compared on resume: which settings count, which do not, which cannot change."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any


class Verdict(Enum):
    """What becomes of a setting that differs from the checkpoint's.

    Attributes:
        FREE: it changes nothing in the result.
        COUNTS: it counts from here on.
        IGNORED: the checkpoint's counts.
        REFUSED: the run cannot go on with it.
    """

    FREE = auto()
    COUNTS = auto()
    IGNORED = auto()
    REFUSED = auto()


# By the beginning of a key, the first that matches; what is not here counts from here on.
_VERDICTS = tuple(
    (re.compile(rf"(?:{pattern})(?:\.|$)"), verdict)
    for pattern, verdict in (
        (
            r"paths|run_id|name|ckpt_path|print_summary|compile|optimized_metric|logger",
            Verdict.FREE,
        ),
        (r"data\.(num_workers|num_render_workers|pin_memory|persistent_workers)", Verdict.FREE),
        (r"data\.(verify_\w+|linked_folders|val_batch_size)", Verdict.FREE),
        (r"callbacks\.(last|learning_rate|gradient_norm|progress_bar|curves)", Verdict.FREE),
        (r"callbacks\.(contact_sheet|instances_table|adjacency_maps|model_artifact)", Verdict.FREE),
        (r"callbacks\.\w+\.(dirpath|mode|filename)", Verdict.FREE),
        (r"trainer\.(max_steps|max_epochs|max_time|min_steps|min_epochs|min_time)", Verdict.FREE),
        (r"trainer\.(accelerator|devices|num_nodes|strategy|sync_batchnorm)", Verdict.FREE),
        (r"trainer\.(check_val_every_n_epoch|val_check_interval|log_every_n_steps)", Verdict.FREE),
        (r"trainer\.(deterministic|benchmark|detect_anomaly|profiler)", Verdict.FREE),
        (r"trainer\.(num_sanity_val_steps|enable_\w+|default_root_dir)", Verdict.FREE),
        (r"(\w+\.)+checkpointing", Verdict.FREE),
        # Of weights at the start of a run.
        (r"init_from", Verdict.IGNORED),
        (r"(model\.)?backbone\.(pretrained|weights)", Verdict.FREE),
        (r"model\.\w+\.(mlp_init|attention_start)", Verdict.FREE),
        (r"(\w+\.)+initializer_range", Verdict.FREE),
        # States that the checkpoint has.
        (
            r"(optim|module)\.(lr|weight_decay|param_groups\.\d+\.(lr|weight_decay))",
            Verdict.IGNORED,
        ),
        (r"(optim|module)\.param_groups\.\d+\.optional", Verdict.FREE),
        (r"(optim|module)\.optimizer\.(fused|foreach)", Verdict.FREE),
        (r"(optim|module)\.optimizer\.\w+", Verdict.IGNORED),
        (r"callbacks\.early_stopping\.patience", Verdict.IGNORED),
        (r"(optim|module)\.scheduler\.\w+", Verdict.COUNTS),
        (r"optim|module\.(optimizer|scheduler|param_groups|interval)", Verdict.REFUSED),
        # The network.
        (r"(\w+\.)+\w*(dropout|drop_rate|drop_path_rate)\w*", Verdict.COUNTS),
        (r"model|backbone|text_encoder|tokenizer|sizes|keypoints", Verdict.REFUSED),
    )
)
_PEOPLE = ("data.batch_size", "trainer.accumulate_grad_batches", "processes")
# What decides whom an epoch has, and in which order.
_ORDER = re.compile(
    r"seed$|data(\.(seed|root|train_file|image_folder|on_error|limit_people|group_by_image"
    r"|train_scenes|split|people|scene_seed))?$"
)
_LONGEST = 60  # characters of a value in a message


@dataclass(frozen=True)
class Difference:
    """A setting that a checkpoint's run had otherwise.

    Attributes:
        key: as on a command line.
        before: what the checkpoint's run had; None where it had no such key.
        value: what this run has, also None.
        known: whether both have the key; versions of this package may differ in it.
    """

    key: str
    before: Any
    value: Any
    known: bool = True

    @property
    def verdict(self) -> Verdict:
        """What becomes of the setting."""
        verdicts = (verdict for pattern, verdict in _VERDICTS if pattern.match(self.key))
        verdict = next(verdicts, Verdict.COUNTS)
        unknown = verdict is Verdict.REFUSED and not self.known
        return Verdict.COUNTS if unknown else verdict

    def __str__(self) -> str:
        return f"{self.key}={shown(self.value)} (before: {shown(self.before)})"


def compare(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """All settings that differ; those of a node of another `_target_` as one.

    Args:
        before: resolved configuration of plain values.
        now: the same.
    """
    return list(_differences("", before, now, True))


def without_copies(
    differences: Sequence[Difference], unresolved: Mapping[str, Any]
) -> list[Difference]:
    """Leave out the keys that only take the value of another one that differs.

    Args:
        differences: of `compare`.
        unresolved: the present configuration with its interpolations.
    """
    keys = [difference.key for difference in differences]
    return [
        difference
        for difference in differences
        if not any(
            _is_within(key, source) or _is_within(source, key)
            for source in _sources(difference.key, unresolved)
            for key in keys
            if key != difference.key
        )
    ]


def without_equal_steps(
    differences: Sequence[Difference], before: int, now: int
) -> list[Difference]:
    """Leave out what changes how a step's people are divided, if their number is the same.

    Args:
        differences: of `compare`.
        before: people in an optimizer step of the checkpoint's run.
        now: of this one.
    """
    return [d for d in differences if before != now or d.key not in _PEOPLE]


def change_order(differences: Sequence[Difference]) -> bool:
    """Whether an epoch has other people, or another order, than in the checkpoint's run."""
    return any(_ORDER.match(difference.key) for difference in differences)


def shown(value: Any) -> str:
    """A value as on a command line, a node by its class, long ones cut short."""
    if isinstance(value, Mapping) and "_target_" in value:
        text = str(value["_target_"]).rpartition(".")[2]
    else:
        text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _differences(key: str, before: Any, now: Any, known: bool) -> Iterator[Difference]:
    if _are_nodes(before, now):
        for name in {**before, **now}:
            inner = f"{key}.{name}" if key else str(name)
            both_know = name in before and name in now
            yield from _differences(inner, before.get(name), now.get(name), both_know)
    elif _are_lists_of_nodes(before, now):
        for index, pair in enumerate(zip(before, now, strict=True)):
            yield from _differences(f"{key}.{index}", *pair, known)
    elif before != now:
        yield Difference(key, before, now, known)


def _are_nodes(before: Any, now: Any) -> bool:
    """Whether both are mappings, of the same class if they are of one."""
    both = isinstance(before, Mapping) and isinstance(now, Mapping)
    return both and before.get("_target_") == now.get("_target_")


def _are_lists_of_nodes(before: Any, now: Any) -> bool:
    both = isinstance(before, list) and isinstance(now, list) and len(before) == len(now)
    return both and any(isinstance(value, Mapping) for value in (*before, *now))


def _is_within(key: str, node: str) -> bool:
    return key == node or key.startswith(f"{node}.")


def _sources(key: str, unresolved: Mapping[str, Any]) -> list[str]:
    """The keys that a key's interpolation names, its own or that of a node that it is in."""
    node: Any = unresolved
    path = key.split(".")
    depth = 0
    while depth < len(path) and isinstance(node, (Mapping, list)):
        part = path[depth]
        node = node.get(part) if isinstance(node, Mapping) else node[int(part)]
        depth += 1
    if not isinstance(node, str) or "${" not in node:
        return []
    names = re.findall(r"[\w.]+", node)
    beside = ".".join(path[: depth - 1])
    absolute = (f"{beside}{name}" if name.startswith(".") else name for name in names)
    return [".".join((name, *path[depth:])) for name in absolute]
