"""What Hydra cannot compose, in one sentence: what is unknown, what is near, where to look."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from uniphd.config.compose import config_dir, unresolved
from uniphd.errors import printable
from uniphd.refusals import exceptions_from_hydra, storage_error, tracebacks_wanted

_LIKE = 0.6  # what difflib takes for a close match


@contextmanager
def explain_overrides(command: str, config_name: str) -> Iterator[None]:
    """End the program with our sentence where Hydra would end it with its own.

    Also where the run's folder, which Hydra makes, has no name or cannot be written.

    Hydra prints an error and exits, unless HYDRA_FULL_ERROR=1 asks it to raise the exception. Who
    has set that wants the exception, and gets it.

    Args:
        command: the program's name.
        config_name: of the configuration that it composes.
    """
    try:
        with exceptions_from_hydra():
            yield
    except HydraException as error:
        if tracebacks_wanted():
            raise
        sys.exit(printable(f"{command}: {explanation(error, config_name, sys.argv[1:])}"))
    except OmegaConfBaseException as error:
        if tracebacks_wanted():
            raise
        sys.exit(printable(f"{command}: {unresolved(error)}"))
    except OSError as error:
        if tracebacks_wanted():
            raise
        said = storage_error(
            error,
            advice="Start it in a folder that can be written, or give the run's with "
            "hydra.run.dir=DIR.",
        )
        sys.exit(f"{command}: {said}")


def explanation(error: HydraException, config_name: str, arguments: Sequence[str]) -> str:
    """What is wrong with a command line, in one line.

    Args:
        error: what Hydra says.
        config_name: of the configuration that was composed.
        arguments: the command line; the choices among them say which keys there are.
    """
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _unknown_choice(error.missing_cfg_file, error.options)
    if isinstance(error, OverrideParseException):
        return f"{error.override} cannot be read; write {_quoted(str(error.override))}."
    message = " ".join(str(error).split())
    if match := re.match(r"Could not override '([^'@]+)'\.", message):
        inside = getattr(error.__cause__, "full_key", None) or ""  # of a mapping that was given
        key = inside if inside.startswith(f"{match[1]}.") else match[1]
        return _unknown_key(key, _compose_choices(config_name, arguments))
    if match := re.match(r"Ambiguous value for argument '([^']+)'", message):
        key = match[1].partition("=")[0]
        return (
            f"{match[1]} has several values; add -m for a run with each, write {key}=[...] for a "
            f"list, or {_quoted(match[1])} for one value with commas."
        )
    return message


def _quoted(override: str) -> str:
    """How a shell and Hydra take a value as it stands, or the form of an override."""
    key, _, value = override.partition("=")
    if not value or not re.fullmatch(r"[\w.+@/~-]+", key) or value[0] in "[{\"'":
        return "KEY=VALUE, and 'KEY=\"...\"' around signs"
    escaped = re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ("\\" + m[2] if m[2] else ""), value)
    return shlex.quote(f'{key}="{escaped}"')


def _unknown_choice(file: str, options: Sequence[str] | None) -> str:
    """A group has no such file."""
    group, _, name = file.rpartition("/")
    known = options or sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))
    near = get_close_matches(name, known, 1)
    question = f"; did you mean {near[0]}?" if near else "."
    plugins = " pip install 'uniphd[sweep]' adds some." if group.startswith("hydra/") else ""
    listed = f" Choices: {', '.join(known)}." if known else ""
    return f"{group}={name}: there is no such choice{question}{listed}{plugins}"


def _unknown_key(key: str, config: DictConfig) -> str:
    """The composed configuration has no such key."""
    parts = key.split(".")
    above, node = _deepest_mapping(parts, config)
    name, names = parts[len(above)], [str(other) for other in node if other != "_target_"]
    prefix = ".".join([*above, ""])
    if not above:  # perhaps a key of some mapping
        name, names = parts[-1], [other for other in _keys(node) if not other.startswith("hydra.")]
    near = max(names, key=lambda other: _likeness(name, other), default="")
    where = _file(key, config)
    if near and _likeness(name, near) >= _LIKE:
        sentence = f"There is no key {key}; the nearest is {prefix}{near}; see {where}."
    elif above and names:
        sentence = f"There is no key {key}; {prefix[:-1]} has {', '.join(names)}; see {where}."
    else:
        sentence = f"There is no key {key}; see {where}."
    if "_target_" in node or above[-1:] in (["options"], ["config"]):
        sentence += f" What is built there is given another argument by +{key}=VALUE."
    return sentence


def _deepest_mapping(parts: Sequence[str], config: DictConfig) -> tuple[list[str], DictConfig]:
    """The mapping that holds the last part of a key, or the nearest above it that there is."""
    for end in range(len(parts) - 1, 0, -1):
        node = OmegaConf.select(config, ".".join(parts[:end]))
        if isinstance(node, DictConfig):
            return list(parts[:end]), node
    return [], config


def _likeness(name: str, key: str) -> float:
    """How much the last part of a key looks like a name; among equals a short key is preferred."""
    return SequenceMatcher(None, name, key.rpartition(".")[2]).ratio() - len(key) / 10_000


def _keys(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """Every key of a configuration, dotted, with those of inner mappings."""
    plain = cast(dict[str, Any], OmegaConf.to_container(node, resolve=False))
    for name, value in plain.items():
        key = f"{prefix}{name}"
        yield key
        if isinstance(value, dict):
            yield from _keys(OmegaConf.create(value), f"{key}.")


def _file(key: str, config: DictConfig) -> Path:
    """The file where a key's part of the configuration stands."""
    choices = config.hydra.runtime.choices
    part = "model" if key.split(".")[0] == "sizes" else key.split(".")[0]
    choice = choices.get(part)
    path = config_dir() / part / f"{choice}.yaml"
    return path if path.is_file() else config_dir() / f"{config.hydra.job.config_name}.yaml"


def _compose_choices(config_name: str, arguments: Sequence[str]) -> DictConfig:
    """The configuration with the command line's choices of files alone."""
    chosen = []
    for argument in arguments:
        group, _, value = argument.partition("=")
        if (config_dir() / group).is_dir() and group and value:
            chosen.append(argument if value.startswith("[") else f"{group}={value.split(',')[0]}")
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        try:
            return compose(config_name, chosen, return_hydra_config=True)
        except HydraException:
            return compose(config_name, return_hydra_config=True)
