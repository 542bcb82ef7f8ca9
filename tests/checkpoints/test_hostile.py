"""Checkpoints of strangers: nothing in them runs, is fetched, or takes more than its file."""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import uniphd
from tests.checkpoints.contents import edit, run_content
from tests.composition import compose_eval
from uniphd.checkpoints.convert import convert
from uniphd.checkpoints.folder import CONFIG_KEY
from uniphd.checkpoints.reading import read_checkpoint
from uniphd.cli.evaluate import evaluate
from uniphd.errors import CheckpointError, ConfigError, UniPHDError
from uniphd.training.fault_tolerance.checkpoint_io import DurableCheckpointIO


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def plain_pickle(path: Path, mark: Path) -> None:
    path.write_bytes(pickle.dumps(Hostile(mark)))


def torch_archive(path: Path, mark: Path) -> None:
    torch.save({CONFIG_KEY: {}, "state_dict": {}, "model": {}, "args": Hostile(mark)}, path)


def legacy_archive(path: Path, mark: Path) -> None:
    torch.save({"model": Hostile(mark)}, path, _use_new_zipfile_serialization=False)


def tar_archive(path: Path, mark: Path) -> None:
    import tarfile

    inner = path.with_name("pickle")
    plain_pickle(inner, mark)
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            archive.add(inner, name)


def zip_of_pickles(path: Path, mark: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "archive/data.pkl", "archive/constants.pkl"):
            archive.writestr(name, pickle.dumps(Hostile(mark)))
        archive.writestr("archive/version", "3\n")


def in_a_namespace(path: Path, mark: Path) -> None:
    torch.save({"model": {}, "args": argparse.Namespace(num_group=Hostile(mark))}, path)


FORMATS = [plain_pickle, torch_archive, legacy_archive, tar_archive, zip_of_pickles, in_a_namespace]


def evaluate_it(path: Path, tmp_path: Path) -> None:
    evaluate(compose_eval(tmp_path / "out", f"ckpt={path}", f"data.root={tmp_path}"))


@pytest.mark.parametrize("write", FORMATS)
def test_no_pickle_is_executed(tmp_path: Path, write: Callable[[Path, Path], None]) -> None:
    mark = tmp_path / "executed"
    for name in ("model.pth", "last.ckpt", "model.safetensors", "model.zip"):
        path = tmp_path / name
        write(path, mark)
        for use in (uniphd.load_model, read_checkpoint, lambda p: convert(p, tmp_path / "out")):
            with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
                use(path)
    with pytest.raises(CheckpointError, match=r"last\.ckpt"):
        evaluate_it(tmp_path / "last.ckpt", tmp_path)
    assert not mark.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("write", [plain_pickle, torch_archive])
def test_the_hostile_files_are_hostile(tmp_path: Path, write: Callable[[Path, Path], None]) -> None:
    write(tmp_path / "a", tmp_path / "executed")
    if write is plain_pickle:
        pickle.loads((tmp_path / "a").read_bytes())
    else:
        torch.load(tmp_path / "a", weights_only=False)
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_no_pickle_in_a_model_folder_is_executed(
    folder: Path, tmp_path: Path, write: Callable[[Path, Path], None], name: str
) -> None:
    write(folder / name, tmp_path / "executed")
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        uniphd.load_model(folder)
    assert not (tmp_path / "executed").exists()


@pytest.mark.slow
def test_the_commands_say_one_sentence(tmp_path: Path) -> None:
    path, mark = tmp_path / "model.pth", tmp_path / "executed"
    torch_archive(path, mark)
    commands = [
        ["uniphd.cli.convert", str(path), str(tmp_path / "out")],
        ["uniphd.cli.evaluate", f"ckpt={path}", f"data.root={tmp_path}"],
    ]
    for module, *arguments in commands:
        code = f"import sys; from {module} import main; sys.exit(main())"
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "asks for code to be executed" in done.stderr
        assert "Traceback" not in done.stderr
    assert not mark.exists()


TARGETS = [
    "os.system",
    "subprocess.run",
    "builtins.eval",
    "uniphd.models.os.system",
    "uniphd.models.backbone.os.system",
    "uniphd.models.build.import_module",
    "uniphd.models.backbone.load_file",
    "uniphd.models..os.system",
    "uniphd.models.",
    "uniphd.models.backbone.",
    "uniphd.models.backbone.Backbone.__init__",
    "uniphd.models.backbone.Backbone.__class__",
    "uniphd.models.text_encoder.AutoModel",
    "uniphd.models.\0.x",
    "uniphd.modelsevil.x",
    "uniphd.training.callbacks.ema.EMA",
    " uniphd.models.backbone.Backbone",
    "",
]
PLACES: list[Callable[[dict[str, Any], Any], object]] = [
    lambda content, node: content.update(model=node),
    lambda content, node: content["model"].update(backbone=node),
    lambda content, node: content["model"]["prompt_encoder"].update(text_encoder=node),
    lambda content, node: content["model"]["heads"].update(hidden_dim=node),
]


@pytest.mark.parametrize("place", PLACES, ids=["model", "part", "nested", "number"])
@pytest.mark.parametrize("target", TARGETS)
def test_only_our_classes_are_built(
    folder: Path, tmp_path: Path, target: str, place: Callable[[dict[str, Any], Any], object]
) -> None:
    mark = tmp_path / "executed"
    edit(folder, lambda content: place(content, {"_target_": target, "command": f"mkdir {mark}"}))
    with pytest.raises(ConfigError, match="_target_"):
        uniphd.load_model(folder)
    assert not mark.exists()


@pytest.mark.parametrize(
    "sizes",
    [
        {"size": {"_target_": "os.system", "command": "true"}},
        {"size": "${oc.env:HOME}"},
        {"size": 0},
        {"max_size": 10**9},
        {"size": True},
        {"size": 96.0},
        {"interpolation": 3},
        [96, 96],
        None,
    ],
)
def test_preprocessing_is_two_numbers(folder: Path, sizes: Any) -> None:
    edit(folder, lambda content: content.update(preprocessing=sizes))
    with pytest.raises(CheckpointError, match="preprocessing"):
        read_checkpoint(folder)


def test_the_evaluation_constructs_nothing_that_a_checkpoint_names(
    folder: Path, tmp_path: Path
) -> None:
    # It puts a checkpoint's sizes into its own configuration, from which Hydra constructs objects.
    node = {"_target_": "pathlib.Path.mkdir", "self": {"_target_": "pathlib.Path"}}
    node["self"]["_args_"] = [str(tmp_path / "executed")]  # type: ignore[index]
    edit(folder, lambda content: content.update(preprocessing={"size": node}))
    with pytest.raises(CheckpointError, match="preprocessing"):
        evaluate_it(folder, tmp_path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("backbone", {"pretrained": True}),
        ("backbone", {"weights": "/etc/passwd"}),
        ("backbone", {"name": "hf-hub:somebody/something"}),
        ("backbone", {"name": "local-dir:/somewhere"}),
        ("backbone", {"options": {"checkpoint_path": "a.pth"}}),
        ("backbone", {"options": {"pretrained_cfg_overlay": {"file": "a.pth"}}}),
        ("text_encoder", {"name": "somebody/something", "config": None}),
        ("text_config", {"_attn_implementation": "somebody/kernel"}),
        ("text_config", {"attn_implementation": "flash|somebody/kernel:name"}),
        ("text_config", {"auto_map": {"AutoModel": "somebody/something--code.Model"}}),
        ("text_config", {"model_type": "timm_backbone", "backbone": "hf-hub:somebody/something"}),
        ("text_config", {"model_type": "timm_wrapper", "architecture": "resnet18"}),
        ("text_config", {"model_type": "timm_wrapper", "other": ["local-dir:somewhere"]}),
        ("text_config", {"model_type": "maskformer", "backbone": "bert"}),
        ("text_config", {"model_type": "detr", "use_pretrained_backbone": True}),
        ("text_config", {"parts": [{"deep": {"backbone_config": {"model_type": "resnet"}}}]}),
        ("text_config", {"model_type": "lightglue", "trust_remote_code": True}),
    ],
)
def test_a_checkpoint_fetches_nothing(folder: Path, part: str, change: dict[str, Any]) -> None:
    def spoil(content: dict[str, Any]) -> None:
        text_encoder = content["model"]["prompt_encoder"]["text_encoder"]
        parts = {
            "backbone": content["model"]["backbone"],
            "text_encoder": text_encoder,
            "text_config": text_encoder["config"],
        }
        parts[part].update(change)

    edit(folder, spoil)
    with pytest.raises(CheckpointError, match="asks to load"):
        uniphd.load_model(folder)


def test_where_a_language_model_is_from_may_be_said(folder: Path) -> None:
    said = {"_name_or_path": "somebody/something", "backbone": None, "architectures": ["A"]}
    edit(
        folder,
        lambda content: content["model"]["prompt_encoder"]["text_encoder"]["config"].update(said),
    )
    uniphd.load_model(folder)


def text_config(model: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = model["prompt_encoder"]["text_encoder"]["config"]
    return config


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda model: model["encoder"].update(num_layers=10**9), "more than 1048576"),
        (lambda model: model["encoder"].update(num_layers=10**6), "much larger network"),
        (lambda model: model["backbone"]["options"].update(depths=[10**6] * 4), "larger network"),
        (lambda model: model["mask_head"].update(hidden_dim=2**20), "larger network"),
        (lambda model: model["mask_head"].update(hidden_dim=96), "do not fit"),
        (lambda model: model["decoder"].update(hidden_dim=2**62), "more than 1048576"),
        (lambda model: model["decoder"].update(hidden_dim=-4), "cannot be built"),
        (lambda model: model["decoder"].update(num_heads=0), "cannot be built"),
        (lambda model: model["decoder"].update(hidden_dim="wide"), "model.decoder: "),
        (lambda model: model["query_selection"].update(num_queries=10**4), "more than 1000 "),
        (
            lambda model: model.update(neck=None),
            "model.neck is null",
        ),
        (lambda model: model.update(decoder=model["encoder"]), "at 'decoder'|cannot be built"),
        (lambda model: text_config(model).update(num_labels=4 * 10**8), "more than 1048576"),
        (lambda model: text_config(model).update(num_hidden_layers=10**6), "larger network"),
        (lambda model: text_config(model).update(hidden_size=10**6), "larger network|cannot be"),
        (lambda model: text_config(model).update(intermediate_size=10**6), "larger network"),
        (lambda model: text_config(model).update(vocab_size=10**6), "larger network"),
        (lambda model: text_config(model).update(max_position_embeddings=10**6), "larger network"),
        (lambda model: text_config(model).update(type_vocab_size=10**6), "larger network"),
        (
            lambda model: text_config(model).update(parts=[{"deep": [5, 10**7]}]),
            "more than 1048576",
        ),
        (lambda model: text_config(model).update(num_hidden_layers=5e7), "cannot be built"),
    ],
)
def test_senseless_sizes_are_refused_before_memory_is_taken(
    folder: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    edit(folder, lambda content: change(content["model"]))
    with pytest.raises(UniPHDError, match=says):
        uniphd.load_model(folder)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "gpt2", "n_layer": 10**6},
        {"model_type": "gpt2", "n_positions": 10**6, "n_embd": 12},
        {"model_type": "gpt_neo", "max_position_embeddings": 10**6, "hidden_size": 16},
        {"model_type": "distilbert", "n_layers": 10**6},
        {
            "model_type": "distilbert",
            "sinusoidal_pos_embds": True,
            "max_position_embeddings": 10**6,
        },
        {"model_type": "t5", "num_layers": 10**6},
        {"model_type": "t5", "d_ff": 10**6},
        {"model_type": "albert", "num_hidden_groups": 10**6},
        {"model_type": "xlm", "n_layers": 10**6},
        {"model_type": "marian", "max_position_embeddings": 10**6},
        {"model_type": "roberta", "num_hidden_layers": 10**6, "id2label": {}},
    ],
)
def test_however_a_language_model_calls_its_sizes(folder: Path, config: dict[str, Any]) -> None:
    def replace(content: dict[str, Any]) -> None:
        content["model"]["prompt_encoder"]["text_encoder"]["config"] = config

    edit(folder, replace)
    with pytest.raises(UniPHDError, match=r"much larger network|do not fit"):
        uniphd.load_model(folder)


def test_frequencies_are_no_counts(folder: Path) -> None:
    edit(folder, lambda content: text_config(content["model"]).update(rope_theta=10**7))
    uniphd.load_model(folder)


@pytest.mark.parametrize(
    "tokenizer",
    [
        {"_target_": "uniphd.models.backbone.Backbone", "name": "resnet18", "pretrained": True},
        {"_target_": "uniphd.models.text_encoder.TextEncoder", "name": "somebody/something"},
        {"_target_": "uniphd.models.tokenizer.zlib", "name": "x"},
        {"_target_": "uniphd.models.tokenizer.HashTokenizer", "vocab_size": "many"},
        {"_target_": "uniphd.models.tokenizer.HashTokenizer", "vocab_size": {"_target_": "x"}},
        {"_target_": "uniphd.models.tokenizer.HashTokenizer", "max_length": 10**9},
        {"_target_": "uniphd.models.tokenizer.HashTokenizer", "surprise": 1},
        {"_target_": "uniphd.models.tokenizer.HuggingFaceTokenizer", "name": ["a"]},
        {"_target_": "uniphd.models.tokenizer.HuggingFaceTokenizer", "trust_remote_code": True},
    ],
)
def test_a_tokenizer_is_one_of_ours_and_plain(folder: Path, tokenizer: dict[str, Any]) -> None:
    edit(folder, lambda content: content.update(tokenizer=tokenizer))
    with pytest.raises(CheckpointError, match=r"config\.json .* its 'tokenizer'"):
        read_checkpoint(folder)


def test_a_tokenizer_with_more_words_than_the_language_model(folder: Path) -> None:
    edit(folder, lambda content: content["tokenizer"].update(vocab_size=10**6))
    with pytest.raises(CheckpointError, match=r"vocab_size=1000000, but its language model has"):
        uniphd.load_model(folder)


def test_names_of_a_compiled_network(folder: Path, tmp_path: Path) -> None:
    run = run_content(folder)
    state = {f"model._orig_mod.{k.removeprefix('model.')}": v for k, v in run["state_dict"].items()}
    torch.save({**run, "state_dict": state}, tmp_path / "last.ckpt")
    assert convert(tmp_path / "last.ckpt", tmp_path / "out").converted == len(state)


def test_values_that_float16_cannot_hold(folder: Path, tmp_path: Path) -> None:
    run = run_content(folder)
    next(iter(run["state_dict"].values())).fill_(1e6)
    torch.save(run, tmp_path / "last.ckpt")
    assert convert(tmp_path / "last.ckpt", tmp_path / "whole").kind == "run"
    with pytest.raises(CheckpointError, match="convert without --half"):
        convert(tmp_path / "last.ckpt", tmp_path / "out", half=True)


def test_a_configuration_of_one_part_is_no_model(folder: Path) -> None:
    edit(folder, lambda content: content.update(model=content["model"]["heads"]))
    with pytest.raises(CheckpointError, match="for a PredictionHeads"):
        uniphd.load_model(folder)


def test_a_deeply_nested_configuration(folder: Path) -> None:
    text = (folder / "config.json").read_text()
    for depth in (400, 100_000):
        deep = "[" * depth + "]" * depth
        (folder / "config.json").write_text(text.replace('"neck":', f'"deep": {deep}, "neck":'))
        with pytest.raises(UniPHDError):
            uniphd.load_model(folder)


def test_the_training_checkpoint_that_is_damaged_below_is_good(
    folder: Path, tmp_path: Path
) -> None:
    torch.save(run_content(folder), tmp_path / "last.ckpt")
    assert convert(tmp_path / "last.ckpt", tmp_path / "out").kind == "run"


def test_a_changed_byte_of_a_training_checkpoint(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    DurableCheckpointIO().save_checkpoint(run_content(folder), path)
    uniphd.load_model(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # of the weights
    path.write_bytes(content)
    for use in (uniphd.load_model, lambda p: convert(p, tmp_path / "out")):
        with pytest.raises(CheckpointError, match="checksum in its last bytes is wrong"):
            use(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda run: run.pop("state_dict"),
        lambda run: run.update(state_dict=[1]),
        lambda run: run["state_dict"].update({"model.x": 3}),
        lambda run: run["state_dict"].update({5: torch.ones(1)}),
        lambda run: run["state_dict"].popitem(),
        lambda run: run.update({CONFIG_KEY: "mine"}),
        lambda run: run[CONFIG_KEY].update(model=[]),
        lambda run: run[CONFIG_KEY].update(tokenizer={}),
        lambda run: run[CONFIG_KEY].update(surprise=1),
    ],
)
def test_damaged_training_checkpoints(
    folder: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    run, path = run_content(folder), tmp_path / "last.ckpt"
    change(run)
    torch.save(run, path)
    for use in (lambda: uniphd.load_model(path), lambda: convert(path, tmp_path / "out")):
        with pytest.raises(CheckpointError, match=r"last\.ckpt"):
            use()
    assert not (tmp_path / "out").exists()


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    torch.save({"model": {"fc.weight": torch.zeros(10**6)}}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    assert (tmp_path / "bomb.pth").stat().st_size < 20_000
    with pytest.raises(CheckpointError, match="compressed archive"):
        convert(tmp_path / "bomb.pth", tmp_path / "out")


def test_an_expanded_tensor_is_not_written_out(tmp_path: Path) -> None:
    names = ("patch_embed.proj.weight", "layers.0.blocks.0.attn.relative_position_bias_table")
    huge = torch.zeros(1, dtype=torch.half).expand(96, 10**12)
    state = {names[0]: huge, names[1]: torch.zeros(169, 3), "layers.2.blocks.5.x": huge}
    torch.save({"model": state}, tmp_path / "swin.pth")
    with pytest.raises(CheckpointError, match="could fill any memory"):
        convert(tmp_path / "swin.pth", tmp_path / "out")


@pytest.mark.parametrize(
    "state",
    [
        {"transformer.level_embed": torch.zeros(3)},
        {"transformer.level_embed": torch.zeros(())},
        {"patch_embed.proj.weight": torch.zeros(())},
        {"patch_embed.proj.weight": torch.zeros(96, 3, 4, 4)},
        {
            "patch_embed.proj.weight": torch.zeros(96, 3, 4, 4),
            "layers.0.blocks.0.attn.relative_position_bias_table": torch.zeros(169, 3),
        },
    ],
)
def test_known_names_with_other_shapes(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save({"model": state}, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError):
        convert(tmp_path / "odd.pth", tmp_path / "out")


def test_a_folder_in_place_of_a_file(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        convert(tmp_path, tmp_path / "out")
    (folder / "model.safetensors").unlink()
    save_file({"x": torch.ones(1)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="do not fit"):
        uniphd.load_model(folder)
