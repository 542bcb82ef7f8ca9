"""What Hydra cannot compose is explained; what the documentation shows composes."""

from __future__ import annotations

import os
import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf

from tests.composition import compose_eval, compose_train
from uniphd.cli import evaluate, train
from uniphd.config.compose import config_dir
from uniphd.config.messages import explain_overrides, explanation
from uniphd.refusals import tracebacks_wanted

SYNTHETIC = "data=synthetic"
UNKNOWN = {
    ("optim.weight_decy=1",): r"no key optim\.weight_decy; the nearest is optim\.weight_decay; see "
    r"\S+configs/optim/step\.yaml\.$",
    ("optim=cosine", "optim.learning_rate=1"): r"no key optim\.learning_rate; optim has lr, .*see "
    r"\S+optim/cosine\.yaml\.$",
    ("sizes.hiden_dim=64",): r"nearest is sizes\.hidden_dim; see \S+configs/model/uniphd\.yaml",
    ("batch_size=8",): r"no key batch_size; the nearest is data\.batch_size; see \S+train\.yaml",
    ("bakbone=swin_b",): r"no key bakbone; the nearest is backbone;",
    (SYNTHETIC, "data.limit_people=3"): r"no key data\.limit_people; .*data/synthetic\.yaml",
    ("callbacks=[default,ema]", "callbacks.ema.decy=0.9"): r"the nearest is callbacks\.ema\.decay;",
    ("text_encoder.config.hidden_size=8",): r"text_encoder has name.*text_encoder/roberta_base",
    ("optim.lr.base=3",): r"no key optim\.lr\.base; the nearest is optim\.lr;",
    ("trainer.overfit_batches=1",): r"another argument by \+trainer\.overfit_batches=VALUE",
    ("backbone.options={depths:[1]}",): r"no key backbone\.options\.depths; .*\+backbone\.options",
    ("backbone=swin_x",): r"^backbone=swin_x: there is no such choice; did you mean swin_t\? "
    r"Choices: resnet50, swin_b, .*tiny_resnet\.$",
    ("callbacks=[default,emma]",): r"callbacks=emma: .*mean ema\? Choices: default, early_stopping",
    ("hydra/launcher=joblb",): r"joblb: there is no such choice.*pip install 'uniphd\[sweep\]'",
    ("optim.lr=1e-4,3e-4",): r"^optim\.lr=1e-4,3e-4 has several values; add -m .*optim\.lr=\[",
    ("optim lr=3",): r"^optim lr=3 cannot be read; write KEY=VALUE",
    ("+optim.lr=3",): r"An item is already at 'optim\.lr'",
}


@pytest.mark.parametrize("overrides", UNKNOWN, ids=" ".join)
def test_what_is_unknown_is_explained(overrides: tuple[str, ...]) -> None:
    with pytest.raises(HydraException) as caught:
        compose_train(None, *overrides)
    said = explanation(caught.value, "train", overrides)
    assert re.search(UNKNOWN[overrides], said), said
    assert "\n" not in said


@pytest.mark.parametrize(
    "value",
    [
        "/a,b",
        "~/x",
        "/a=b",
        "/a[1]",
        "/a{b}",
        "/Fräulein/データ",
        "/a (1)",
        "/it's,",
        'a"b,',
        "a\\b,c",
    ],
)
def test_a_value_with_signs_is_shown_as_it_is_to_be_written(value: str) -> None:
    word = f"data.root={value}"
    with pytest.raises(HydraException) as caught:
        compose_train(None, word)
    said = explanation(caught.value, "train", [word])
    (argument,) = shlex.split(said[said.index("'data.root=") :].partition(" for one value")[0])
    assert compose_train(None, argument.rstrip(".")).data.root == value


@pytest.mark.parametrize(
    ("module", "argument", "said"),
    [
        (train, "optim.rate=1", r"uniphd-train: There is no key optim\.rate;"),
        (train, "-m prompt=text,points", r"uniphd-train: prompt=points: .*did you mean point\?"),
        (evaluate, "ckp=FILE", r"uniphd-eval: There is no key ckp; the nearest is ckpt; see \S+l"),
    ],
)
def test_a_command_ends_with_the_sentence(
    module: object, argument: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["command", *argument.split(), "hydra.sweep.dir=sweep"])
    with pytest.raises(SystemExit, match=said):
        module.main()  # type: ignore[attr-defined]
    assert "HYDRA_FULL_ERROR" not in os.environ


def test_who_asks_for_the_exception_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "argv", ["command", "optim.rate=1"])
    with pytest.raises(HydraException, match=r"Could not override 'optim\.rate'"):
        train.main()
    assert os.environ["HYDRA_FULL_ERROR"] == "1"


ROOT = config_dir().parent
_PLACES = {"DIR": "unused", "NAME": "resnet18", "FILE": "unused", "…": "x", "FOLDER_OR_CKPT": "x"}
_COMMAND = re.compile(r"uniphd-(?:train|eval) (?:\\\n|[^\n`])*")
_CODE = re.compile(r"`((?:[a-z][a-z_./]*=[^`\s]+ ?)+)`")


def documented() -> list[tuple[str, tuple[str, ...]]]:
    """(program, overrides) of every command, and of every code span that is for some program."""
    found: set[tuple[str, tuple[str, ...]]] = set()
    files = [path for path in config_dir().rglob("*.yaml") if path.parent.name != "experiment"]
    for path in [ROOT / "README.md", *files]:
        text = path.read_text(encoding="utf-8").replace("\n#", "\n")
        for match in _COMMAND.finditer(text):
            program, *words = shlex.split(match[0].replace("\\\n", " "), comments=True)
            found.add((program.removeprefix("uniphd-"), overrides(words)))
        if path.suffix == ".md":
            found |= {("any", overrides(match[1].split())) for match in _CODE.finditer(text)}
    return sorted(found)


def overrides(words: list[str]) -> tuple[str, ...]:
    """Overrides among a command's words, with something for each placeholder, the first of many.

    Those for Hydra and those that a sweeper reads are left out.
    """
    kept = []
    for word in words:
        if "=" in word and "(" not in word and not word.startswith("hydra."):
            key, _, value = word.partition("=")
            for name, given in _PLACES.items():
                value = value.replace(name, given)
            kept.append(f"{key}={value if value.startswith('[') else value.split(',')[0]}")
    return tuple(kept)


@pytest.mark.slow
def test_every_documented_override_composes_without_a_plus() -> None:
    commands = documented()
    assert len(commands) > 30
    for program, given in commands:
        assert not any(word.startswith("+") for word in given)
        if "sweep=optuna" in given and find_spec("hydra_plugins.hydra_optuna_sweeper") is None:
            continue
        if program == "eval" or "int8=true" in given:
            compose_eval(None, *given)
        else:
            compose_train(None, *given)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as ended, explain_overrides("uniphd-train", "train"):
        (tmp_path / "file" / "run").mkdir()
    assert f"uniphd-train: {tmp_path / 'file' / 'run'} cannot be used: Not a dir" in str(
        ended.value
    )
    assert "hydra.run.dir=DIR" in str(ended.value)


def test_a_folder_without_a_name_is_one_sentence() -> None:
    config = OmegaConf.create({"folder": "${missing}"})
    with (
        pytest.raises(SystemExit, match="folder cannot be filled in: Interpolation key 'missing'"),
        explain_overrides("uniphd-train", "train"),
    ):
        _ = config.folder


def test_other_errors_of_files_are_one_sentence_with_their_class(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended, explain_overrides("uniphd-train", "train"):
        (tmp_path / "missing").read_text()
    assert "missing cannot be used: No such file or directory (FileNotFoundError)." in str(
        ended.value
    )


def test_what_this_program_asks_of_hydra_is_not_the_users_wish(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with explain_overrides("uniphd-train", "train"):
        assert os.environ["HYDRA_FULL_ERROR"] == "1"
        assert not tracebacks_wanted()
        with explain_overrides("uniphd-train", "train"):  # in a process that this one starts
            assert not tracebacks_wanted()
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with explain_overrides("uniphd-train", "train"):
        assert tracebacks_wanted()
