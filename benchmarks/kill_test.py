"""Kill a small training again and again, resume it each time, and compare it with one left alone.

    python benchmarks/kill_test.py --kills 24

Every training is a process of its own that runs `uniphd-train`'s function with `ckpt_path=last`. It
is sent SIGKILL at random moments: while it starts or resumes, in a step, in a validation, while a
checkpoint is written. Afterwards the losses of all steps and the final checkpoint have to be those
of a training that was never killed, to the last bit.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from hydra import compose, initialize_config_dir

from uniphd.cli.train import train
from uniphd.config.compose import config_dir, fill_resolvers, silence_noise
from uniphd.training.fault_tolerance.checkpoint_io import DurableCheckpointIO
from uniphd.training.module import RefHumanModule

STEPS = 24
PHASES = ("start", "step", "validation", "writing")
# What a process says of itself, in memory that outlives it.
PHASE, STEP, SAVED, RESUMED, VISITS = range(5)  # from VISITS on, how often it was in each phase
NEVER = -1
OVERRIDES = (
    "experiment=tiny_refhuman", "data=synthetic", "prompt=point", "callbacks=[default,ema]",
    "data.train_scenes=5", "data.val_scenes=2", "data.people=[2,2]", "data.size=[96,96]",
    "data.num_render_workers=1", "data.num_workers=0", "data.batch_size=2", "data.val_batch_size=2",
    "data.eval_transform.size=96", "data.eval_transform.max_size=96",
    "sizes.hidden_dim=32", "sizes.num_queries=3", "sizes.num_heads=4", "sizes.feedforward_dim=32",
    "sizes.encoder_layers=1", "sizes.decoder_layers=2",
    "text_encoder.config.hidden_size=32", "text_encoder.config.intermediate_size=32",
    "callbacks.progress_bar=null", "callbacks.contact_sheet=null", "callbacks.curves=null",
    "callbacks.learning_rate=null", "callbacks.last.every_n_steps=2",
    "optim.scheduler.warmup_steps=2", "print_summary=false",
    "trainer.enable_progress_bar=false", "trainer.log_every_n_steps=1", "logger=none",
    "trainer.val_check_interval=6", f"trainer.max_steps={STEPS}", "ckpt_path=last",
)  # fmt: skip


def main() -> None:
    """Run the test and print its figures; the exit code is 1 where one of them is not right."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=24, help="kills to try (default: 24)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = kill_test(Path(folder), options.kills, options.seed)
    print(json.dumps(figures, indent=2))
    raise SystemExit(0 if passed(figures) else 1)


def passed(figures: dict[str, Any]) -> bool:
    """Whether nothing was lost."""
    return (
        figures["kills survived"] == figures["kills tried"]
        and figures["torn checkpoints"] == 0
        and figures["steps with another loss"] == 0
        and figures["final checkpoints that differ"] == 0
    )


def kill_test(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Train once undisturbed, and again with kills, as often as it takes for so many.

    A kill is survived if every checkpoint file is whole or replaced by one that is, the newest one
    is of the last step that the process had saved, and the next process goes on from there.

    Args:
        folder: for the runs.
        kills: how many moments to try, evenly over the phases.
        seed: of the moments.

    Returns:
        The figures by their names.
    """
    torch.set_num_threads(1)  # the threads of this process do not exist in its copies
    chance = random.Random(seed)
    whole = folder / "whole"
    run(whole)
    phases = [PHASES[i % len(PHASES)] for i in range(kills)]
    chance.shuffle(phases)
    hit: Counter[str] = Counter()
    found: Counter[str] = Counter()
    repeated = [0]
    places = [folder / "killed-0"]
    while True:
        place = places[-1]
        before = newest_step(place)
        aim = Aim(phases[-1], chance) if phases else None
        state, finished = run(place, aim)
        resumed_there = state[RESUMED] in (NEVER, before)
        if not finished:
            phases.pop()
            hit[PHASES[state[PHASE]]] += 1
            kept = newest_step(place) >= state[SAVED]
            torn = sum(not is_whole(file) for file in place.glob("checkpoints/*.ckpt"))
            survived = kept and resumed_there and not torn
            found["survived"] += survived
            found["torn"] += torn
            repeated.append(max(state[STEP] - newest_step(place), 0))
            outcome = "survived" if survived else "NOT SURVIVED"
            print(f"killed in {PHASES[state[PHASE]]} at step {state[STEP]}: {outcome}", flush=True)
            continue
        if not phases:
            break
        places.append(folder / f"killed-{len(places)}")  # it ended before the moment came
    expected = losses(whole)
    others = [losses(place) for place in places]
    return {
        "kills tried": kills,
        "kills survived": found["survived"],
        "killed in": dict(hit),
        "torn checkpoints": found["torn"],
        "steps to repeat after a kill": f"{min(repeated)} to {max(repeated)}",
        "trainings": len(places),
        "steps each": STEPS,
        "steps with another loss": sum(
            values != other.get(step) for other in others for step, values in expected.items()
        ),
        "final checkpoints that differ": sum(not same_end(whole, place) for place in places),
    }


class Aim:
    """A random moment within a phase, after the process has been in it a random number of times."""

    def __init__(self, phase: str, chance: random.Random) -> None:
        self.phase = PHASES.index(phase)
        self.visits = 1 if phase == "start" else chance.randint(1, 3)
        # Seconds; what takes longer or shorter is hit before or after its end.
        longest = {"start": 1.0, "step": 0.3, "validation": 0.5, "writing": 0.05}[phase]
        self.delay = chance.uniform(0, longest)

    def wait(self, state: Any, alive: Callable[[], bool]) -> None:
        """Return when the moment has come, or the process has ended."""
        while alive() and state[VISITS + self.phase] < self.visits:
            time.sleep(0.0005)
        time.sleep(self.delay)


def run(folder: Path, aim: Aim | None = None) -> tuple[Any, bool]:
    """Train in a process of its own, killed at `aim`.

    Returns:
        What the process said of itself last, and whether it ended by itself.

    Raises:
        RuntimeError: the training failed.
    """
    state = RawArray("q", VISITS + len(PHASES))
    state[RESUMED] = NEVER
    state[VISITS] = 1
    process = multiprocessing.get_context("fork").Process(target=child, args=(folder, state))
    process.start()
    if aim is not None:
        aim.wait(state, process.is_alive)
        process.kill()
    process.join()
    if process.exitcode not in (0, -signal.SIGKILL):
        raise RuntimeError((folder / "log").read_text()[-4000:])
    return state, process.exitcode == 0


def child(folder: Path, state: Any) -> None:
    """Train, saying in `state` and `losses` what goes on."""
    folder.mkdir(exist_ok=True)
    with (folder / "log").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    silence_noise()
    fill_resolvers()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", [*OVERRIDES, f"paths.output_dir={folder}"])
    observe(folder / "losses", state)
    train(config)


def observe(path: Path, state: Any) -> None:
    """Let this process's training keep account of its steps, validations and checkpoints."""
    file = path.open("a", buffering=1)
    step, validate = RefHumanModule.training_step, RefHumanModule.on_validation_epoch_start
    save = DurableCheckpointIO.save_checkpoint

    def enter(phase: str) -> None:
        state[PHASE] = PHASES.index(phase)
        state[VISITS + state[PHASE]] += 1

    def training_step(module: RefHumanModule, *args: Any) -> torch.Tensor:
        if state[RESUMED] == NEVER:
            state[RESUMED] = module.global_step
        state[STEP] = module.global_step
        enter("step")
        loss = step(module, *args)
        file.write(f"{module.global_step} {loss.item()!r}\n")
        return loss

    def on_validation_epoch_start(module: RefHumanModule) -> None:
        enter("validation")
        validate(module)

    def save_checkpoint(
        files: DurableCheckpointIO, checkpoint: dict[str, Any], *args: Any, **kwargs: Any
    ) -> None:
        phase = PHASES[state[PHASE]]
        enter("writing")
        save(files, checkpoint, *args, **kwargs)
        state[SAVED] = checkpoint["global_step"]
        state[PHASE] = PHASES.index(phase)

    RefHumanModule.training_step = training_step  # type: ignore[method-assign]
    RefHumanModule.on_validation_epoch_start = on_validation_epoch_start  # type: ignore[method-assign]
    DurableCheckpointIO.save_checkpoint = save_checkpoint  # type: ignore[method-assign]


def is_whole(path: Path) -> bool:
    """Whether a checkpoint's checksums are right."""
    try:
        with ZipFile(path) as archive:
            return archive.testzip() is None
    except (BadZipFile, OSError):
        return False


def newest_step(folder: Path) -> int:
    """The step of the checkpoint that the next process resumes from; 0 where there is none."""
    files = (folder / "checkpoints" / name for name in ("last.ckpt", "previous.ckpt"))
    newest = next((file for file in files if file.exists() and is_whole(file)), None)
    if newest is None:
        return 0
    step: int = torch.load(newest, weights_only=True)["global_step"]
    return step


def losses(folder: Path) -> dict[int, set[str]]:
    """Every loss that was ever computed for a step; the line that a kill has cut is left out."""
    found: dict[int, set[str]] = {}
    for line in (folder / "losses").read_text().splitlines(keepends=True):
        step, _, loss = line.partition(" ")
        if line.endswith("\n"):
            found.setdefault(int(step), set()).add(loss.strip())
    return found


def same_end(a: Path, b: Path) -> bool:
    """Whether two finished runs' checkpoints are equal in every bit, but for paths and dates."""
    for name in ("last.ckpt", "best.ckpt"):
        first, second = (
            torch.load(folder / "checkpoints" / name, weights_only=True) for folder in (a, b)
        )
        for content in (first, second):
            del content["uniphd_run"], content["callbacks"]
        if not equal(first, second):
            return False
    return True


def equal(a: Any, b: Any) -> bool:
    """Whether two nested contents are equal in every bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


if __name__ == "__main__":
    main()
