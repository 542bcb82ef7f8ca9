"""RefHuman for Lightning: files checked before the first step, then the loaders."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from uniphd.data.annotations import ReferredPerson, load_annotations
from uniphd.data.images import ImageFolder, verify_images
from uniphd.data.loaders import LoaderOptions, ReferringDataModule, require_positive
from uniphd.data.paths import at_home, existing_folders
from uniphd.data.problems import OnError, raise_or_log, unusable_ids
from uniphd.errors import ConfigError, ImageError
from uniphd.prompts.sides import count_unknown_sides

if TYPE_CHECKING:
    from typing_extensions import Unpack

_SHOWN = 5  # words in a warning

_logger = logging.getLogger(__name__)


class RefHumanDataModule(ReferringDataModule):
    """People of annotation files in RefHuman's format.

    Only the file that is needed has to exist: validating works with `RefHuman_val.json` alone, and
    training without validation with `val_file=None`.

    Args:
        root: folder of the annotation files and of the image folder. Here and in the other paths, a
            leading `~` is the home folder.
        train_file: annotations to train on.
        val_file: annotations to validate on, or None for none.
        val_distractors_file: further people of the same images whom nobody refers to, or None.
        image_folder: of the images, inside `root`.
        linked_folders: folders elsewhere into which links of the image folder may lead.
        limit_people: train on this many people, those with the lowest image ids; None for all.
        limit_val_people: validate on this many people, those with the lowest image ids.
        on_error: "raise" stops before the first step at unusable annotations or images; "skip"
            leaves them out and logs how many.
        verify_fields: whether to compare box, area, keypoints and scribbles with the mask. A file
            that contradicts itself is refused; single people who do are warned of, or with "skip"
            left out.
        verify_files: whether to read every image once at the start; without, a damaged one
            stops the run when it is reached.
        loading: the arguments of `ReferringDataModule`.

    Raises:
        ConfigError: a batch size or limit below 1, no or an unknown kind of prompt, or a linked
            folder that does not exist.
    """

    def __init__(
        self,
        root: Path | str,
        train_file: str = "RefHuman_train.json",
        val_file: str | None = "RefHuman_val.json",
        val_distractors_file: str | None = None,
        image_folder: str = "images",
        linked_folders: Sequence[str] | str = (),
        limit_people: int | None = None,
        limit_val_people: int | None = None,
        on_error: OnError = "raise",
        verify_fields: bool = True,
        verify_files: bool = True,
        **loading: Unpack[LoaderOptions],
    ) -> None:
        super().__init__(**loading)
        require_positive(limit_people=limit_people, limit_val_people=limit_val_people)
        self.root = at_home(root)
        self.train_file = train_file
        self.val_file = val_file
        self.val_distractors_file = val_distractors_file
        self.image_folder = self.root / at_home(image_folder)
        self.linked_folders = existing_folders(linked_folders)
        self.limit_people = limit_people
        self.limit_val_people = limit_val_people
        self.on_error: OnError = on_error
        self.verify_fields = verify_fields
        self.verify_files = verify_files

    @property
    def read(self) -> ImageFolder:
        """Reads the image of a record from the image folder."""
        return ImageFolder(self.image_folder, self.linked_folders)

    @property
    def validates(self) -> bool:
        """Whether there is a file to validate on."""
        return self.val_file is not None

    def setup(self, stage: str | None = None) -> None:
        """Read and check what a stage ("fit", "validate", ...) needs, once.

        Raises:
            AnnotationError: a file or record is not valid.
            ImageError: an image is missing or damaged.
            ConfigError: there is no file to validate on.
        """
        if stage == "validate" and self.val_file is None:
            raise ConfigError("data.val_file is null; name the annotations to validate on.")
        if stage in (None, "fit") and not self.train_instances:
            self.train_instances = self._load(
                "training",
                self.train_file,
                self.limit_people,
                self.prompt_sampler.scribble_kinds,
                bool(self.prompt_sampler.caption_kinds),
                self.prompt_sampler.kinds == self.prompt_sampler.caption_kinds,
            )
            if getattr(self.train_transform, "flip_probability", 1) > 0:
                _warn_of_unknown_sides(self.train_instances, self.train_file)
        if self.val_file is not None and not self.val_instances:
            self.val_instances = self._load(
                "validating",
                self.val_file,
                self.limit_val_people,
                self.val_scribble_prompts,
                self.val_text_prompts,
                all(prompt.caption_kinds for prompt in self._fixed_prompts),
            )
            if self.val_text_prompts:
                _describe_texts(self.val_instances, self.root / at_home(self.val_file))
            if self.val_distractors_file is not None:
                others = load_annotations(
                    self.root / at_home(self.val_distractors_file),
                    self.on_error,
                    self.schema,
                    (),
                    self.verify_fields,
                    text_prompts=False,
                )
                self.val_distractors = others.instances

    def _load(
        self,
        purpose: str,
        file: str,
        limit: int | None,
        scribble_prompts: Sequence[str],
        text_prompts: bool,
        text_alone: bool,
    ) -> tuple[ReferredPerson, ...]:
        """The valid instances of a file, at most `limit` of them, with usable images.

        Where every prompt is made of captions, people without are left out.
        """
        path = self.root / at_home(file)
        read = load_annotations(
            path, self.on_error, self.schema, scribble_prompts, self.verify_fields, text_prompts
        )
        instances = read.instances
        if text_prompts:
            instances = _with_text(instances, path, text_alone)
        instances = instances[:limit]
        if self.verify_files:
            workers = min(8, os.cpu_count() or 1)
            problems = verify_images(instances, self.image_folder, workers, self.linked_folders)
            raise_or_log(problems, self.on_error, ImageError, str(self.image_folder))
            unusable = unusable_ids(problems)
            instances = tuple(person for person in instances if person.image_id not in unusable)
        if not instances:
            raise ImageError(f"{path} has no person with a usable image; correct the files.")
        subset = "" if limit is None else ", those with the lowest image ids"
        ids = f"image ids {instances[0].image_id} to {instances[-1].image_id}"
        _logger.info("%s on %d people of %s%s (%s)", purpose, len(instances), path, subset, ids)
        bare = sum(len(person.scribbles) == 0 for person in instances)
        if bare:
            _logger.info("%d of them have no scribble, which none of the prompts needs", bare)
        return instances


def _with_text(
    people: tuple[ReferredPerson, ...], path: Path, text_alone: bool
) -> tuple[ReferredPerson, ...]:
    """The people; where there are text prompts alone, those who have a caption.

    Raises:
        ConfigError: nobody has one.
    """
    described = tuple(person for person in people if person.captions)
    if not described:
        raise ConfigError(
            f"{path} has nobody with a caption, of which text prompts are made; choose other "
            "prompts, such as prompt=spatial, or a file with captions."
        )
    if len(described) < len(people):
        what = "are left out" if text_alone else "are asked for by other prompts alone"
        _logger.info(
            "%s: %d of %d people have no caption and %s",
            *(path, len(people) - len(described), len(people), what),
        )
    return described if text_alone else people


def _describe_texts(people: Sequence[ReferredPerson], path: Path) -> None:
    """Say so where the validation does not ask every caption."""
    several = sum(len(person.captions) > 1 for person in people)
    if several:
        _logger.info(
            "%s: %d people have several captions, of which the validation asks the first; in a "
            "file of uniphd-data from-coco --per-sentence every caption counts",
            *(path, several),
        )


def _warn_of_unknown_sides(people: Sequence[ReferredPerson], file: str) -> None:
    """Say which words may name a side and stay as they are where an image is mirrored."""
    captions = (text for person in people for text in person.captions)
    words = count_unknown_sides(captions).most_common()
    if words:
        shown = ", ".join(f"{count} x {word:.40}" for word, count in words[:_SHOWN])
        rest = f" and {len(words) - _SHOWN} other words" if len(words) > _SHOWN else ""
        _logger.warning(
            "%s: a mirrored image keeps words of its captions that may mean left or right (%s%s); "
            "write left and right, or train with augment=none",
            file,
            shown,
            rest,
        )
