"""The data module: files checked at the start, one validation loader per prompt kind."""

from __future__ import annotations

import json
import logging
import multiprocessing
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image
from torch import Tensor

from uniphd.data.datamodule import RefHumanDataModule
from uniphd.data.transforms import EvaluationTransform, TrainingTransform
from uniphd.errors import AnnotationError, ConfigError, ImageError
from uniphd.models.tokenizer import HashTokenizer
from uniphd.prompts import PromptSampler
from uniphd.structures import Batch

Tokenizer = Callable[[Sequence[str]], tuple[Tensor, Tensor]]
Make = Callable[..., RefHumanDataModule]

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture
def make(folder: Path, tokenize: Tokenizer) -> Make:
    """A data module on the drawn people, small images, in the main process."""

    def make(**settings: Any) -> RefHumanDataModule:
        defaults: dict[str, Any] = {
            "root": folder,
            "tokenize": tokenize,
            "train_transform": TrainingTransform(
                (48, 64), 96, crop_scales=(60,), crop_size=(40, 60)
            ),
            "eval_transform": EvaluationTransform(64, 96),
            "prompt_sampler": PromptSampler(),
            "batch_size": 3,
            "val_batch_size": 3,
            "num_workers": 0,
        }
        return RefHumanDataModule(**{**defaults, **settings})

    return make


def image_ids(loader: Any) -> list[int]:
    return [image_id for batch in loader for image_id in batch.image_ids]


def test_a_damaged_image_in_a_loading_process_is_our_sentence_alone(
    make: Make, folder: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(folder, tmp_path / "data")
    for image in (root / "images").iterdir():
        image.write_bytes(image.read_bytes()[:200])
    data = make(root=root, verify_files=False, num_workers=1, persistent_workers=False)
    data.setup("fit")
    with pytest.raises(ImageError) as caught:
        next(iter(data.train_dataloader()))
    assert multiprocessing.active_children() == []  # they would keep Python from ending
    assert re.fullmatch(
        r"image id \d+: \S+ cannot be read \(.*\); replace the image\.", str(caught.value)
    )
    assert "Original Traceback" in str(caught.value.__cause__)


def test_training_sees_everybody_and_validation_does_so_per_kind(make: Make) -> None:
    data = make(val_prompts=["point", "box"])
    data.setup("fit")
    assert sorted(image_ids(data.train_dataloader())) == list(range(1, 9))
    assert [person.image_id for person in data.val_instances] == list(range(100_001, 100_005))
    loaders = data.val_dataloader()
    assert len(loaders) == 2
    for kind, loader in zip(("point", "box"), loaders, strict=True):
        batches = list(loader)
        assert all(isinstance(batch, Batch) for batch in batches)
        assert {word for batch in batches for word in batch.prompts.kinds} == {kind}
        assert image_ids(loader) == list(range(100_001, 100_005))  # the last batch is kept


def test_limits_take_the_lowest_image_ids_and_say_so(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    data = make(limit_people=3, val_file="RefHuman_train.json", limit_val_people=3)
    with caplog.at_level(logging.INFO):
        data.setup("fit")
    assert [person.image_id for person in data.train_instances] == [1, 2, 3]
    assert data.val_instances[0].image_id == 1
    assert image_ids(data.val_dataloader()[0]) == [1, 2, 3]
    assert "training on 3 people" in caplog.text
    assert "lowest image ids (image ids 1 to 3)" in caplog.text
    generous = make(limit_people=1000)
    generous.setup("fit")
    assert len(generous.train_instances) == 8


def test_validating_needs_the_validation_file_alone(make: Make, folder: Path) -> None:
    (folder / "RefHuman_train.json").unlink()
    data = make()
    data.setup("validate")
    assert len(data.val_instances) == 4
    assert data.train_instances == ()
    with pytest.raises(AnnotationError, match=r"RefHuman_train\.json does not exist"):
        data.setup("fit")


def test_training_works_without_a_validation_file(make: Make, folder: Path) -> None:
    (folder / "RefHuman_val.json").unlink()
    data = make(val_file=None)
    data.setup("fit")
    assert data.val_dataloader() == []
    with pytest.raises(ConfigError, match=r"data\.val_file is null"):
        data.setup("validate")
    with pytest.raises(AnnotationError, match=r"RefHuman_val\.json does not exist"):
        make().setup("fit")


def test_scribbles_are_needed_by_prompts_made_of_them_alone(
    make: Make, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("train", "val"):
        path = folder / f"RefHuman_{name}.json"
        content = json.loads(path.read_text())
        for entry in content["annotations"]:
            del entry["scribble"]
        path.write_text(json.dumps(content))
    boxes = PromptSampler(text=0.5, box=0.5, point=0)
    data = make(prompt_sampler=boxes, val_prompts=["text", "box", "mask"])
    with caplog.at_level(logging.INFO):
        data.setup("fit")
    assert "8 of them have no scribble, which none of the prompts needs" in caplog.text
    assert len(image_ids(data.train_dataloader())) == 8
    assert all(len(image_ids(loader)) == 4 for loader in data.val_dataloader())
    clicks = make(prompt_sampler=boxes, val_prompts=["text", "point"])
    with pytest.raises(
        AnnotationError, match=r"(?s)RefHuman_val\.json has .*of which point prompts"
    ):
        clicks.setup("fit")
    drawn = make(prompt_sampler=PromptSampler(scribble=1), val_prompts=["text"])
    with pytest.raises(AnnotationError, match=r"(?s)RefHuman_train\.json has .*of which scribble"):
        drawn.setup("fit")


def test_words_that_may_name_a_side_are_warned_of_once(
    make: Make, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder / "RefHuman_train.json"
    content = json.loads(path.read_text())
    content["images"][0]["caption"] = "the leftfielder"
    content["images"][1]["captions"] = ["a LeftFielder, lefty", "leftright"]
    path.write_text(json.dumps(content))
    data = make()
    for _ in range(2):
        data.setup("fit")
    (record,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert record.message == (
        "RefHuman_train.json: a mirrored image keeps words of its captions that may mean left or "
        "right (2 x leftfielder, 1 x leftright); write left and right, or train with augment=none"
    )
    caplog.clear()
    make(train_transform=EvaluationTransform(64, 96)).setup("fit")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def spoil(folder: Path) -> None:
    """An empty caption for image id 2, and a damaged image of the ids 5 and 6."""
    path = folder / "RefHuman_train.json"
    content = json.loads(path.read_text())
    content["images"][1]["caption"] = ""
    path.write_text(json.dumps(content))
    image = folder / "images" / content["images"][4]["file_name"]
    image.write_bytes(image.read_bytes()[:300])


def test_bad_annotations_stop_before_the_first_step(make: Make, folder: Path) -> None:
    spoil(folder)
    with pytest.raises(AnnotationError, match="image id 2, annotation id 2: 'caption' is empty"):
        make().setup("fit")


def test_bad_images_stop_before_the_first_step(make: Make, folder: Path) -> None:
    (folder / "images" / "train_002.png").unlink()
    with pytest.raises(ImageError, match=r"image id 5, 6: .*train_002\.png does not exist"):
        make().setup("fit")


def test_unverified_images_stop_when_they_are_reached(make: Make, folder: Path) -> None:
    (folder / "images" / "train_002.png").unlink()
    data = make(verify_files=False)
    data.setup("fit")
    with pytest.raises(ImageError, match="does not exist"):
        image_ids(data.train_dataloader())


def test_bad_ones_can_be_skipped_and_are_counted(
    make: Make, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(folder)
    data = make(on_error="skip")
    with caplog.at_level(logging.WARNING):
        data.setup("fit")
    assert [person.image_id for person in data.train_instances] == [1, 3, 4, 7, 8]
    assert sorted(image_ids(data.train_dataloader())) == [1, 3, 4, 7, 8]
    assert "1 x missing caption" in caplog.text
    assert "1 x unusable image" in caplog.text


def test_images_that_are_turned_are_counted_and_used(
    make: Make, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("train_000.png", "train_001.png"):
        image = Image.open(folder / "images" / name)
        exif = image.getexif()
        exif[0x0112] = 3
        image.save(folder / "images" / name, exif=exif)
    data = make()
    with caplog.at_level(logging.WARNING):
        data.setup("fit")
    assert len(data.train_instances) == 8
    (record,) = caplog.records
    assert "used as it stands: 2 x EXIF orientation. The first: image id 1, 2" in record.message


def test_a_tilde_is_the_home_folder_at_the_start_of_a_path_only(
    make: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.chdir(folder.parent)
    for name, root in (("refhuman", "~/refhuman"), ("a~b", "a~b"), ("~", "~"), ("~", "~/~")):
        folder = folder.rename(folder.parent / name)
        data = make(root=root)
        data.setup("fit")
        assert len(data.train_instances) == 8
    data = make(root="unused", train_file="~/~/RefHuman_train.json", image_folder="~/~/images")
    assert data.image_folder == folder.parent / "~" / "images"
    assert make(root="~nobody-of-this-name/x").root == Path("~nobody-of-this-name/x")
    with pytest.raises(ConfigError, match="The path 2017 is no text"):
        make(root=2017)


def test_images_are_linked_from_folders_that_are_named(make: Make, folder: Path) -> None:
    elsewhere = (folder / "images").rename(folder.parent / "coco")
    (folder / "images").mkdir()
    for path in elsewhere.iterdir():
        (folder / "images" / path.name).symlink_to(path)
    with pytest.raises(ImageError, match="is a link out of the image folder"):
        make().setup("fit")
    for linked in (str(elsewhere), [folder.parent / "coco"]):
        data = make(linked_folders=linked)
        data.setup("fit")
        assert len(image_ids(data.train_dataloader())) == 8
    with pytest.raises(ConfigError, match=r"linked_folders has .*nowhere, which is no folder"):
        make(linked_folders=[folder / "nowhere"])


def test_nobody_left_is_an_error(make: Make, folder: Path) -> None:
    for image in (folder / "images").iterdir():
        image.unlink()
    with pytest.raises(ImageError, match="no person with a usable image"):
        make(on_error="skip").setup("fit")


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"val_batch_size": -1},
        {"limit_people": 0},
        {"limit_val_people": 0},
        {"val_prompts": []},
        {"val_prompts": ["words"]},
    ],
)
def test_impossible_settings_are_refused(make: Make, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        make(**wrong)


def test_loaders_leave_the_global_random_numbers_alone(make: Make) -> None:
    data = make()
    data.setup("fit")
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    image_ids(data.train_dataloader())
    image_ids(data.val_dataloader()[0])
    assert torch.equal(torch.rand(3), expected)


class Recorder(lightning.LightningModule):
    """Notes what it is given and learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained: list[tuple[int, tuple[int, ...], tuple[str, ...], float]] = []
        self.validated: list[tuple[int, tuple[int, ...]]] = []

    def training_step(self, batch: Batch, _: int) -> Tensor:
        draw = (batch.image_ids, batch.prompts.kinds, batch.images.sum().item())
        self.trained.append((self.current_epoch, *draw))
        return self.weight * 1

    def validation_step(self, batch: Batch, _: int, dataloader_idx: int = 0) -> None:
        self.validated.append((dataloader_idx, batch.image_ids))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(
    data: RefHumanDataModule, folder: Path, ckpt_path: str | None = None, **settings: Any
) -> Recorder:
    recorder = Recorder()
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=folder,
        num_sanity_val_steps=0,
        **settings,
    )
    trainer.fit(recorder, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    trainer.save_checkpoint(folder / "last.ckpt")
    return recorder


def test_lightning_trains_the_same_with_any_number_of_workers_and_resumed(
    make: Make, tmp_path: Path
) -> None:
    alone = fit(make(), tmp_path / "a", max_epochs=3)
    workers = fit(make(num_workers=2), tmp_path / "b", max_epochs=3)
    assert workers.trained == alone.trained
    assert workers.validated == alone.validated
    assert [epoch for epoch, *_ in alone.trained] == [0] * 3 + [1] * 3 + [2] * 3
    assert len({sums for *_, sums in alone.trained}) == 9  # every epoch draws anew
    assert sorted({kind for kind, _ in alone.validated}) == [0, 1, 2]

    fit(make(), tmp_path / "c", max_epochs=2)
    resumed = fit(make(), tmp_path / "d", str(tmp_path / "c" / "last.ckpt"), max_epochs=3)
    assert resumed.trained == alone.trained[6:]


@pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero:UserWarning")
def test_lightning_trains_without_validation(make: Make, tmp_path: Path) -> None:
    recorder = fit(make(val_file=None), tmp_path, max_epochs=1)
    assert len(recorder.trained) == 3
    assert recorder.validated == []


@pytest.mark.parametrize(
    ("prompt", "validated"),
    [
        ("refhuman", ("text", "point", "scribble")),
        ("all", ("text", "point", "scribble", "box", "mask")),
        ("mask", ("mask",)),
        ("text", ("text",)),
        ("point", ("point",)),
        ("scribble", ("scribble",)),
        ("box", ("box",)),
        ("spatial", ("point", "scribble")),
    ],
)
def test_the_configuration_builds_it(
    prompt: str, validated: tuple[str, ...], folder: Path, tokenize: Tokenizer
) -> None:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose(
            overrides=["+data=refhuman", "+augment=none", f"+prompt={prompt}", "+seed=3",
                       "+keypoints=coco", f"data.root={folder}", "data.num_workers=0"]
        )  # fmt: skip
    data = instantiate(config.data, tokenize=tokenize, _convert_="all")
    assert isinstance(data, RefHumanDataModule)
    assert (data.seed, data.val_prompts) == (3, validated)
    assert isinstance(data.train_transform, EvaluationTransform)
    data.setup("fit")
    drawn = {kind for batch in data.train_dataloader() for kind in batch.prompts.kinds}
    assert drawn <= set(validated)


def test_the_configured_augmentation_has_the_official_sizes(
    folder: Path, tokenize: Tokenizer
) -> None:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose(
            overrides=["+data=refhuman", "+augment=refhuman", "+prompt=refhuman", "+seed=0",
                       "+keypoints=coco", f"data.root={folder}"]
        )  # fmt: skip
    data = instantiate(config.data, tokenize=tokenize, _convert_="all")
    assert vars(data.train_transform) == vars(TrainingTransform())
    assert vars(data.eval_transform) == vars(EvaluationTransform())
    assert PromptSampler().weights.items() <= data.prompt_sampler.weights.items()


def test_real_people_come_through_the_loaders(refhuman_mini: Path, make: Make) -> None:
    data = make(root=refhuman_mini, limit_people=6, limit_val_people=6)
    data.setup("fit")
    for loader in (data.train_dataloader(), *data.val_dataloader()):
        for batch in loader:
            for row, (height, width) in enumerate(batch.sizes):
                assert batch.targets[row].masks[:, :height, :width].any()
                assert batch.targets[row].visibility.any()


def test_captions_that_are_cut_are_counted_once(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    data = make(val_prompts=["text", "point"], tokenize=HashTokenizer(max_length=4))
    data.setup("fit")
    for _ in range(2):
        data.val_dataloader()
    captions = {person.caption for person in data.val_instances}
    cut = [caption for caption in captions if len(caption.split()) > 2]
    said = [record.getMessage() for record in caplog.records if "are cut" in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith(f"Of {len(captions)} captions of the validation, {len(cut)} are")
