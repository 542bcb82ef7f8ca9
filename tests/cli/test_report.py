"""`uniphd-report` on folders as `uniphd-train` writes them."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from uniphd.analysis.plots import metric_figure
from uniphd.analysis.published import published_models
from uniphd.analysis.runs import read_run
from uniphd.analysis.table import make_table
from uniphd.cli import report
from uniphd.config.compose import config_dir

Metrics = dict[str, float]


def write_run(
    folder: Path,
    validations: dict[int, Metrics],
    *overrides: str,
    data: str = "synthetic",
    monitor: str | None = "val/mean/mIoU",
    **config: Any,
) -> Path:
    """A run's folder; metrics by step and "<kind>/<metric>"."""
    callbacks = {"best": None if monitor is None else {"monitor": monitor, "mode": "max"}}
    shared = {"name": "run", "monitor": "val/mean/pose_AP", "optim": {"lr": 0.001}}
    config = {**shared, "callbacks": callbacks, **config}
    given = dict(override.split("=") for override in overrides)
    choices = {"data": data, "prompt": given.get("prompt", "all"), "experiment": None}
    (folder / ".hydra").mkdir(parents=True)
    (folder / "csv").mkdir()
    OmegaConf.save(OmegaConf.create(config), folder / ".hydra" / "config.yaml")
    OmegaConf.save(OmegaConf.create(list(overrides)), folder / ".hydra" / "overrides.yaml")
    hydra = {"hydra": {"runtime": {"choices": choices}}}
    OmegaConf.save(OmegaConf.create(hydra), folder / ".hydra" / "hydra.yaml")
    names = sorted({f"val/{name}" for metrics in validations.values() for name in metrics})
    with (folder / "csv" / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["epoch", "step", "train/loss", *names])
        writer.writeheader()
        for step, metrics in validations.items():
            writer.writerow({"epoch": 0, "step": step, "train/loss": 3.5})
            values = {f"val/{name}": value for name, value in metrics.items()}
            writer.writerow({"epoch": 0, "step": step, **values})
    return folder


def metrics(kind: str, value: float, **others: float) -> Metrics:
    named = {"pose_AP": value, "PCKh@0.5": value, "mIoU": value, "P@0.5": 0.9, **others}
    return {f"{k}/{name}": v for k in (kind, "mean") for name, v in named.items()}


def cells(markdown: str) -> list[list[str]]:
    """The cells of all table lines, without the one of dashes."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[c.strip() for c in line.strip("|").split("|")] for line in lines if "---" not in line]


def run_report(out: Path, *arguments: Path | str) -> tuple[list[list[str]], list[dict[str, str]]]:
    """The Markdown table's cells and the CSV table's rows."""
    report.main([*map(str, arguments), "--out", str(out)])
    with (out / "report.csv").open(newline="") as file:
        return cells((out / "report.md").read_text()), list(csv.DictReader(file))


def test_what_differs_is_a_column_and_runs_are_in_natural_order(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    for number in (10, 2, 0):
        lr = ["optim.lr=0.1"] if number == 10 else []
        kind = "point" if number == 2 else "text"
        overrides = ["experiment=same", f"prompt={kind}", *lr]
        config = {"optim": {"lr": 0.1 if lr else 0.001}}
        write_run(sweep / str(number), {9: metrics(kind, number / 20)}, *overrides, **config)
    markdown, rows = run_report(tmp_path / "out", sweep)
    assert markdown == [
        ["run", "prompt", "optim.lr", "last step", "best step", "text", "point"],
        ["0", "text", "0.001", "9", "9", "0.0 / 0.0 / 0.0", ""],
        ["2", "point", "0.001", "9", "9", "", "10.0 / 10.0 / 10.0"],
        ["10", "text", "0.1", "9", "9", "50.0 / 50.0 / 50.0", ""],
    ]
    assert [row["optim.lr"] for row in rows] == ["0.001", "0.001", "0.1"]
    assert [row["text/pose_AP"] for row in rows] == ["0", "", "0.5"]
    assert {row["source"] for row in rows} == {"measured"}


def test_a_list_of_files_is_shown_as_it_was_given(tmp_path: Path) -> None:
    long = {f"callback{i}": {"dirpath": "${paths.output_dir}/a_$b"} for i in range(20)}
    best = {"best": {"monitor": "val/mean/mIoU", "mode": "max"}}
    for name, given in (("a", ["callbacks=[default, early_stopping]"]), ("b", [])):
        config = {"callbacks": {**best, **long}}
        write_run(tmp_path / "runs" / name, {1: metrics("text", 0.5)}, *given, **config)
    markdown, rows = run_report(tmp_path / "out", tmp_path / "runs")
    assert markdown[1][1] == rows[0]["callbacks"] == "[default,early_stopping]"
    assert len(rows[1]["callbacks"]) <= 41
    assert (tmp_path / "out" / "mIoU.png").exists()


def test_the_text_of_users_is_no_markup(tmp_path: Path) -> None:
    name = r"$\frac{a$ *b* <i> _c_ a_b [d](e)"
    for run, value in ((name, r"$x_y_z$"), ("other", "`1`")):
        folder = tmp_path / "runs" / run
        kinds = {**metrics("text", 0.5), "$a_b_c$/mIoU": 0.5}
        write_run(folder, {1: kinds}, f"note={value}", note=value)
    run_report(tmp_path / "out", tmp_path / "runs")
    line = (tmp_path / "out" / "report.md").read_text().splitlines()[4]
    assert line.startswith(r"| \$\\frac{a\$ \*b\* \<i> \_c\_ a_b [d]\(e) | \$x_y_z\$ |")


def test_names_hold_no_codes_for_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, given in (("a\x1b[31m\nb", "2\x1b[5m"), ("other", "1")):
        write_run(tmp_path / "runs" / name, {1: metrics("text", 0.5)}, f"optim.lr={given}")
    _, rows = run_report(tmp_path / "out", tmp_path / "runs")
    assert rows[0]["run"] == "a\\x1b[31m\\nb"
    for text in (capsys.readouterr().out, (tmp_path / "out" / "report.md").read_text()):
        assert "\x1b" not in text


def test_the_inputs_of_a_public_report() -> None:
    cases = Path(__file__).parents[3] / "shared" / "cases" / "17-report-callbacks"
    if not cases.is_dir():
        pytest.skip("the folder of shared cases is not there")
    runs = [read_run(cases / name) for name in ("nan1", "nan2")]
    table = make_table(runs, "best", ())
    assert [row.settings["callbacks"] for row in table.rows] == [
        "default",
        "[default,early_stopping]",
    ]
    for metric in table.metrics:
        metric_figure(runs, table, metric).canvas.draw()


def test_the_head_says_what_the_cells_are(tmp_path: Path) -> None:
    for name, lr in (("a", 0.1), ("b", 0.2)):
        given = ("experiment=same", f"optim.lr={lr}")
        write_run(tmp_path / "runs" / name, {1: metrics("text", lr)}, *given, optim={"lr": lr})
    run_report(tmp_path / "out", tmp_path / "runs")
    first, second, *_ = (tmp_path / "out" / "report.md").read_text().splitlines()
    assert first.endswith("at the best validation by val/mean/mIoU; steps count from 0.")
    assert second == "In all runs: experiment=same"


def test_names_and_places_are_no_settings(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        places = (f"paths.output_dir={tmp_path / name}", f"hydra.run.dir={tmp_path / name}")
        told = ("logger=csv", f"+logger.wandb.name={name}", f"ckpt_path={name}.ckpt")
        overrides = (f"run_id={name}", f"name={name}", *places, *told, f"seed={seed}")
        config = {"run_id": name, "name": name, "ckpt_path": f"{name}.ckpt", "seed": seed}
        write_run(tmp_path / "runs" / name, {1: metrics("text", 0.5)}, *overrides, **config)
    markdown, rows = run_report(tmp_path / "out", tmp_path / "runs")
    assert markdown[0] == ["run", "seed", "last step", "best step", "text"]
    assert [(row["run"], row["seed"]) for row in rows] == [("a", "0"), ("b", "1")]


def test_best_is_what_the_run_kept_as_best(tmp_path: Path) -> None:
    first, second, third = metrics("box", 0.6), metrics("box", 0.7), metrics("box", 0.5)
    second["mean/mIoU"] = math.nan
    run = write_run(tmp_path / "run", {4: first, 9: second, 14: third})
    markdown, rows = run_report(tmp_path / "best", run)
    assert markdown[1] == ["run", "14", "4", "60.0 / 60.0 / 60.0"]
    assert (rows[0]["last_step"], rows[0]["best_step"]) == ("14", "4")
    markdown, _ = run_report(tmp_path / "last", run, "--at", "last")
    assert markdown[1] == ["run", "14", "4", "50.0 / 50.0 / 50.0"]
    unmonitored = write_run(tmp_path / "b", {4: first, 9: second, 14: third}, monitor=None)
    assert read_run(unmonitored).best.step == 9  # by mean pose AP
    undefined = {step: {"box/mIoU": 0.5, "mean/mIoU": math.nan} for step in (4, 9)}
    assert read_run(write_run(tmp_path / "c", undefined)).best.step == 9


def test_the_mean_is_of_several_prompt_kinds(tmp_path: Path) -> None:
    both = {**metrics("text", 0.2), **metrics("box", 0.4), "mean/mIoU": 0.3}
    markdown, _ = run_report(tmp_path / "out", write_run(tmp_path / "run", {1: both}))
    assert markdown[0] == ["run", "last step", "best step", "text", "box", "mean"]
    assert markdown[1][-1] == "40.0 / 40.0 / 30.0"


def test_published_numbers_are_those_of_the_experiment_file() -> None:
    models = {model.name: model.metrics for model in published_models()}
    text = (config_dir() / "experiment" / "swint_refhuman.yaml").read_text()
    names = ("pose_AP", "PCKh@0.5", "oIoU", "mask_AP")
    for kind in ("text", "point", "scribble"):
        (numbers,) = re.findall(rf"{kind} ([\d.]+ / [\d.]+ / [\d.]+ / [\d.]+)", text)
        expected = dict(zip(names, map(float, numbers.split(" / ")), strict=True))
        found = {name: 100 * models["UniPHD"][f"{kind}/{name}"] for name in names}
        assert found == pytest.approx(expected)
    assert len(models) == 4


def test_published_numbers_stand_below_runs_on_refhuman(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {1: metrics("text", 0.5, oIoU=0.25)}, data="refhuman")
    markdown, rows = run_report(tmp_path / "out", run)
    assert [row[0].partition(" – ")[0] for row in markdown[1:]] == [
        "run",
        "Uni-ED-Pose",
        "Uni-GroupPose",
        "UniPHD",
    ]
    assert "published" in markdown[4][0]
    assert markdown[4][1:] == ["", "", "66.7 / 79.0 / 75.0 / –"]
    assert [row["source"].split()[0] for row in rows] == ["measured"] + ["published"] * 3
    assert float(rows[3]["text/oIoU"]) == pytest.approx(0.75)
    assert len(run_report(tmp_path / "a", run, "--no-published")[1]) == 1
    other = write_run(tmp_path / "other", {1: metrics("text", 0.5)})
    assert len(run_report(tmp_path / "b", other)[1]) == 1
    assert len(run_report(tmp_path / "c", other, "--published")[1]) == 4


def test_a_run_is_counted_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / "runs" / name, {1: metrics("text", 0.5)})
    _, rows = run_report(tmp_path / "out", tmp_path / "runs" / "a", tmp_path / "runs")
    assert [row["run"] for row in rows] == ["a", "b"]


def test_many_settings_have_a_table_of_their_own(tmp_path: Path) -> None:
    for name, value in (("a", 1), ("b", 2)):
        sizes = {f"key{i}": value for i in range(7)}
        overrides = [f"sizes.{key}={value}" for key in sizes]
        write_run(tmp_path / "runs" / name, {1: metrics("text", 0.5)}, *overrides, sizes=sizes)
    markdown, rows = run_report(tmp_path / "out", tmp_path / "runs")
    assert markdown[0] == ["run", "last step", "best step", "text"]
    assert markdown[3] == ["setting", "a", "b"]
    assert markdown[4:] == [[f"sizes.key{i}", "1", "2"] for i in range(7)]
    assert rows[1]["sizes.key3"] == "2"


def test_unusable_runs_are_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    write_run(runs / "good", {1: metrics("text", 0.5)})
    write_run(runs / "early", {})
    (write_run(runs / "nocsv", {}) / "csv" / "metrics.csv").unlink()
    (write_run(runs / "noconfig", {}) / ".hydra" / "config.yaml").unlink()
    (write_run(runs / "badconfig", {}) / ".hydra" / "config.yaml").write_text("a: [")
    damaged = write_run(runs / "damaged", {}) / "csv" / "metrics.csv"
    damaged.write_text("step,val/text/mIoU\nabc,0.5\n")
    _, rows = run_report(tmp_path / "out", runs)
    assert [row["run"] for row in rows] == ["good"]
    sentences = capsys.readouterr().err.splitlines()
    assert len(sentences) == 5
    for name in ("early", "nocsv", "noconfig", "badconfig", "damaged"):
        (sentence,) = (line for line in sentences if f"/{name}" in line)
        assert sentence.startswith("uniphd-report: left out: ")


def test_without_any_run_there_is_one_sentence(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "early", {})
    with pytest.raises(SystemExit, match=r"uniphd-report: no run with a validation in .*runs;"):
        report.main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit, match=r"uniphd-report: .*nowhere is not a folder"):
        report.main([str(tmp_path / "nowhere")])
    run = write_run(tmp_path / "run", {1: metrics("text", 0.5)})
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"uniphd-report: cannot write to .*file"):
        report.main([str(run), "--out", str(tmp_path / "file" / "out")])


def test_one_image_per_metric_with_all_runs(tmp_path: Path) -> None:
    for name, lr in (("a", 0.1), ("b", 0.2)):
        validations = {4: metrics("text", lr), 9: metrics("text", 3 * lr)}
        validations[9] |= {"point/mIoU": math.nan, "point/oIoU": lr}
        optim = {"optim": {"lr": lr}}
        write_run(tmp_path / "runs" / name, validations, f"optim.lr={lr}", **optim)
    run_report(tmp_path / "out", tmp_path / "runs")
    images = {path.name: path for path in (tmp_path / "out").glob("*.png")}
    assert images.keys() == {"pose_AP.png", "PCKh@0.5.png", "oIoU.png", "mIoU.png"}
    for path in images.values():
        image = np.asarray(Image.open(path).convert("RGB"))
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 10


def test_curves_are_the_validations_and_a_run_keeps_its_colour(tmp_path: Path) -> None:
    kinds = ("text", "point", "point")
    runs = [
        read_run(write_run(tmp_path / name, {4: metrics(kind, 0.1), 9: metrics(kind, 0.3)}))
        for name, kind in zip("abc", kinds, strict=True)
    ]
    figure = metric_figure(runs, make_table(runs, "best", ()), "mIoU")
    lines = {axes.get_title(): axes.get_lines() for axes in figure.axes}
    assert {kind: len(drawn) for kind, drawn in lines.items()} == {"text": 1, "point": 2}
    for line in (*lines["text"], *lines["point"]):
        np.testing.assert_allclose(line.get_xydata(), [[4, 10], [9, 30]])
    assert len({line.get_color() for drawn in lines.values() for line in drawn}) == 3
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b", "c"]


def test_many_runs_have_a_legend_that_fits(tmp_path: Path) -> None:
    runs = [
        read_run(write_run(tmp_path / f"{number}", {4: metrics("text", number / 50)}))
        for number in range(30)
    ]
    figure = metric_figure(runs, make_table(runs, "best", ()), "mIoU")
    figure.canvas.draw()
    (legend,) = figure.legends
    box, page = legend.get_window_extent(), figure.bbox
    assert page.y0 <= box.y0
    assert box.y1 <= page.y1


def test_numbers_that_cannot_be_compared_are_marked_with_one_footnote(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    limited = {"trainer": {"limit_val_batches": 2}}
    whole = {"trainer": {"limit_val_batches": 1.0}, "data": {"limit_val_people": None}}
    ends = {"a": "finished", "e": None, "f": "TrainingError: Step 3 is not finite: all of them"}
    for name, config in (("a", whole), ("b", limited), ("c", limited), ("d", {}), ("e", {})):
        write_run(runs / name, {1: metrics("text", 0.5)}, **config)
    write_run(runs / "f", {1: metrics("text", 0.5)})
    for name, end in ends.items():
        (runs / name / "run.json").write_text(json.dumps({"end": end}))
    hydra = OmegaConf.load(runs / "d" / ".hydra" / "hydra.yaml")
    hydra.hydra.runtime.choices.debug = "smoke"
    OmegaConf.save(hydra, runs / "d" / ".hydra" / "hydra.yaml")
    markdown, rows = run_report(tmp_path / "out", runs)
    assert [row[0] for row in markdown[1:]] == ["a", "b †", "c †", "d †", "e †", "f †"]
    assert [row["caveat"] for row in rows] == [
        "",
        "trainer.limit_val_batches=2",
        "trainer.limit_val_batches=2",
        "debug=smoke",
        "not finished",
        "ended early (TrainingError: Step 3 is not finite: all…)",
    ]
    notes = [line for line in (tmp_path / "out" / "report.md").read_text().splitlines() if line]
    assert notes[-1].startswith(
        "† Not to be compared with other numbers: trainer.limit_val_batches=2 (b, c); "
        "debug=smoke (d); not finished (e); ended early"
    )
    assert sum("†" in line and "|" not in line for line in notes) == 1


def test_where_every_run_counts_there_is_no_footnote(tmp_path: Path) -> None:
    run_report(tmp_path / "out", write_run(tmp_path / "run", {1: metrics("text", 0.5)}))
    assert "†" not in (tmp_path / "out" / "report.md").read_text()
