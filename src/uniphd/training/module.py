"""The LightningModule: what a training and a validation step are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from uniphd.checkpoints.folder import CONFIG_KEY, ModelConfig
from uniphd.checkpoints.reading import portable_config
from uniphd.errors import ConfigError
from uniphd.inference.detect import detect, to_cpu
from uniphd.losses.criterion import CriterionResult, SetCriterion
from uniphd.losses.targets import count_instances
from uniphd.metrics.evaluator import RefHumanEvaluator
from uniphd.models.uniphd import UniPHD
from uniphd.refusals import refused
from uniphd.structures import Batch, Instances
from uniphd.training.accumulation import InstanceMean
from uniphd.training.fault_tolerance.finite import FiniteSteps, NonFinite
from uniphd.training.logged_steps import is_logged
from uniphd.training.optim import parameter_groups, require_rates
from uniphd.training.processes import SharedLosses, share_losses
from uniphd.training.schedule import Schedule, run_length
from uniphd.training.step_log import StepLog

_logger = logging.getLogger(__name__)

# Losses that are worth a place in the progress bar.
_FINAL = ("class", "keypoints", "oks", "dice")
_SHOWN = ("train/loss", *(f"train/final/{name}" for name in _FINAL))


class RefHumanModule(LightningModule):
    """Trains and validates a network on referred people.

    Validation runs one loader per prompt kind, in the order of the data module's `val_prompts`, and
    logs `val/<kind>/<metric>` and the mean over kinds as `val/mean/<metric>`.

    Args:
        model: the network.
        criterion: the loss; None where nothing is trained.
        model_config: how to rebuild the network; stored in checkpoints.
        optimizer: parameter groups -> optimizer; None where nothing is trained.
        scheduler: optimizer -> learning rate schedule, or None for a constant rate. See `Schedule`.
        lr: base learning rate.
        weight_decay: base weight decay.
        param_groups: exceptions by parameter name, see `parameter_groups`.
        interval: "epoch" or "step", when the schedule advances.
        top_k: predictions per image that count for AP; 20 in RefHuman's protocol.
        non_finite: what to do about losses and gradients that are NaN or infinite, see
            `FiniteSteps`.

    Raises:
        ConfigError: a rate or decay is negative or not finite, `top_k` is below 1, or the network
            does not give what an auxiliary loss reads.

    Attributes:
        step_log: what is logged of the step in progress.
        has_computed: whether a batch has been computed of what is going on, training or validation.
    """

    def __init__(
        self,
        model: UniPHD,
        criterion: SetCriterion | None,
        model_config: ModelConfig,
        optimizer: Callable[[list[dict[str, Any]]], Optimizer] | None,
        scheduler: Callable[..., LRScheduler] | None = None,
        lr: float = 1e-4,
        weight_decay: float = 1e-4,
        param_groups: Sequence[Mapping[str, Any]] = (),
        interval: str = "epoch",
        top_k: int = 20,
        non_finite: NonFinite = "stop",
    ) -> None:
        super().__init__()
        if criterion is not None:
            criterion.check(model)
        self.model = model
        self.criterion = criterion
        self.model_config = model_config
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        if top_k < 1:
            raise ConfigError(f"module.top_k is {top_k}; give a number of at least 1.")
        require_rates(lr, weight_decay, param_groups)
        self.lr = lr
        self.weight_decay = weight_decay
        self.param_groups = param_groups
        self.interval = interval
        self.top_k = top_k
        self.instances = torch.ones(())  # people of the batches in training, of all processes
        self.accumulated = InstanceMean()
        self.finite = FiniteSteps(non_finite)
        self.step_log = StepLog()
        self.evaluators: dict[str, RefHumanEvaluator] = {}
        self.results: dict[str, dict[str, float]] = {}
        self.has_computed = False
        self._has_validated = False

    def setup(self, stage: str) -> None:
        """Refuse data and losses of other keypoints than the network's.

        Raises:
            ConfigError: they have others.
        """
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        for name, part in (("data", data), ("loss", self.criterion)):
            if part is not None and part.schema != self.model.schema:
                raise ConfigError(
                    f"The {name} has {part.schema} and the network {self.model.schema}; give both "
                    "the same with keypoints=NAME."
                )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch, so weighted that its mean over processes is that over their people."""
        people = count_instances(batch.targets)
        result = self._criterion_result(batch, people)
        losses = {**result.losses, "loss": result.total}
        shared = share_losses(losses, {"non_finite_costs": result.non_finite_costs}, people)
        self.instances = shared.people
        self.finite.watch(batch.image_ids, losses, shared.losses["loss"])
        if is_logged(self.trainer):
            self._collect(shared)
        return losses["loss"] * shared.weight

    def _criterion_result(self, batch: Batch, people: int) -> CriterionResult:
        """The losses of one batch; in the warm-up, nothing behind the fusion is computed."""
        assert self.criterion is not None, "an evaluation's module does not train"
        indices = (batch.image_index, batch.person_ids)
        supervision = (batch.targets, self.model, people, *indices)
        result: CriterionResult
        if self.criterion.warms_up(self.global_step):
            encoded = self.model.encode(batch.images, batch.padding_mask)
            fused = self.model.fuse(
                encoded, batch.sizes, batch.prompts, batch.image_index, batch.extra_captions
            )
            result = self.criterion.warm_up(self.model.read_tokens(fused), *supervision)
        else:
            predictions = self.model(*batch.inputs, captions=batch.extra_captions)
            result = self.criterion(predictions, *supervision)
        return result

    def _collect(self, shared: SharedLosses) -> None:
        everything = {**shared.counts, **shared.losses}
        self.step_log.add({f"train/{name}": value for name, value in everything.items()})

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Know that what was chosen can be computed; log and show what was collected."""
        self.has_computed = True
        if values := self.step_log.read():
            shown = {name.rpartition("/")[2]: values[name] for name in _SHOWN if name in values}
            self.log_dict(values)
            self.log_dict(shown, prog_bar=True, logger=False)

    def on_validation_batch_end(
        self, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Know that what was chosen can be computed."""
        self.has_computed = self._has_validated = True

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Leave a step out whose losses or gradients are not finite: it then has no gradients."""
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        if not self.finite.allow(self.global_step, self.parameters(), scaled):
            optimizer.zero_grad()
            self.log("train/skipped_steps", float(self.finite.skipped))

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the norm that is known already.

        Lightning refuses to clip for fused optimizers in mixed precision, which is right with a
        gradient scaler alone.
        """
        by_norm = gradient_clip_algorithm in (None, "norm")
        if self.finite.norm is None or not by_norm or not gradient_clip_val:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        else:
            clip_grads_with_norm_(self.parameters(), gradient_clip_val, self.finite.norm)

    def on_before_zero_grad(self, optimizer: Optimizer) -> None:
        """Forget the batches of the optimizer step before."""
        self.accumulated.restart()

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Add a batch's gradients to those of the same optimizer step, as one large batch would."""
        batches = self.trainer.accumulate_grad_batches
        if batches > 1:  # Lightning has divided the loss by it, however large the batches are
            weight = self.accumulated.weigh(self.parameters(), self.instances)
            loss = loss * batches * weight
        super().backward(loss, *args, **kwargs)

    def on_validation_epoch_start(self) -> None:
        """Start every prompt kind's evaluation anew."""
        self.has_computed = self._has_validated
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        self.evaluators = {
            kind: RefHumanEvaluator(data.val_instances, data.val_distractors, only_asked=True)
            for kind in data.val_prompts
        }

    def validation_step(
        self, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> dict[str, list[Instances]]:
        """Evaluate the detections of a batch of one prompt kind, and hand them to callbacks."""
        detections = self.predict_step(batch, batch_idx)
        list(self.evaluators.values())[dataloader_idx].update(batch.image_ids, detections)
        return {"detections": detections}

    def predict_step(
        self, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> list[Instances]:
        """The `top_k` best detections for every prompt, on the CPU."""
        return to_cpu(detect(self.model, batch, self.top_k))

    def on_validation_epoch_end(self) -> None:
        """Compute and log every prompt kind's metrics and their mean over the kinds."""
        self.results = {kind: evaluator.compute() for kind, evaluator in self.evaluators.items()}
        self._log_people()
        names = next(iter(self.results.values())).keys()
        mean = {
            name: sum(result[name] for result in self.results.values()) / len(self.results)
            for name in names
        }
        for kind, result in {**self.results, "mean": mean}.items():
            self.log_dict({f"val/{kind}/{name}": value for name, value in result.items()})

    def _log_people(self) -> None:
        """Say so where a limit left people out of the validation."""
        people = self.trainer.datamodule.val_people  # type: ignore[attr-defined]
        evaluators = self.evaluators.values()
        numbers = [
            (each.counted, len(asked)) for each, asked in zip(evaluators, people, strict=True)
        ]
        counted, everybody = min(numbers, key=lambda pair: pair[0] / max(pair[1], 1))
        if counted < everybody and not self.trainer.sanity_checking:
            _logger.info(
                "validated %d of %d people (trainer.limit_val_batches=%s); the metrics are of them",
                counted,
                everybody,
                self.trainer.limit_val_batches,
            )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What is trained, and how fast; see `uniphd.training.optim.parameter_groups`."""
        named = self.model.named_parameters()
        return parameter_groups(named, self.lr, self.weight_decay, self.param_groups)

    def build_optimizer(self, groups: list[dict[str, Any]]) -> Optimizer:
        """The optimizer of parameter groups.

        Raises:
            ConfigError: it refuses its arguments.
        """
        assert self.make_optimizer is not None, "an evaluation's module does not train"
        with refused("optim.optimizer cannot be used"):
            return self.make_optimizer(groups)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimizer over named parameter groups, and its schedule."""
        optimizer = self.build_optimizer(self.parameter_groups())
        if (schedule := self._schedule()) is None:
            return optimizer
        with refused("optim.scheduler cannot be used"):
            scheduler = {"scheduler": schedule.on(optimizer), "interval": self.interval}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}  # type: ignore[return-value]

    def _schedule(self) -> Schedule | None:
        """The learning rates of the whole run; None where they are constant."""
        if self.make_scheduler is None:
            return None
        length = run_length(self.trainer, self.interval)
        return Schedule(self.make_scheduler, self.build_optimizer, self.interval, length)

    def on_train_start(self) -> None:
        """Let the schedule fit the run, whose length and place in it are known from here on.

        Raises:
            ConfigError: the schedule ends before the run.
        """
        if (schedule := self._schedule()) is None:
            return
        optimizer = self.trainer.optimizers[0]
        schedule.check(optimizer)
        schedule.resume(optimizer, self.trainer.lr_scheduler_configs[0].scheduler)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store how to rebuild the network, as plain values, beside its weights."""
        checkpoint[CONFIG_KEY] = portable_config(self.model_config, self.model)


def parameter_table(model: torch.nn.Module) -> dict[str, int]:
    """Number of parameters per part of the network, largest first, with the sum as `total`."""
    parts = {
        name: sum(parameter.numel() for parameter in part.parameters())
        for name, part in model.named_children()
    }
    ordered = dict(sorted(parts.items(), key=lambda item: -item[1]))
    return {**ordered, "total": sum(parts.values())}
