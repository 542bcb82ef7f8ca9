"""Errors are sentences: without codes for the terminal, and with the traceback one flag away."""

from __future__ import annotations

import errno
import logging
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from uniphd.errors import AnnotationError, ConfigError, ImageError, UniPHDError, printable
from uniphd.ops.errors import NativeOpsError
from uniphd.refusals import escape_log_records, exit_on_user_error, message, reason, refused

NAME = "a\nfile\x1b[31m.png"


def test_names_in_errors_are_printable() -> None:
    assert printable(NAME) == "a\\nfile\\x1b[31m.png"
    assert printable("Müller 中 \u202e \udcff") == "Müller 中 \\u202e \\udcff"
    error = ImageError(f"{NAME} does not exist; add the image.")
    assert str(error) == "a\\nfile\\x1b[31m.png does not exist; add the image."
    assert str(ConfigError(f"image id 3: {error}")) == f"image id 3: {error}"


def test_lines_of_an_error_stay_lines_and_survive_another_process() -> None:
    for error in (AnnotationError("two problems:", f"  {NAME}"), NativeOpsError("no", "a\nb\nc")):
        assert len(str(error).splitlines()) == len(error.args)
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), copy.args) == (type(error), error.args)


def test_records_of_ours_are_printable(caplog: pytest.LogCaptureFixture) -> None:
    before = logging.getLogRecordFactory()
    try:
        escape_log_records()
        logging.getLogger("uniphd.data").warning("%s is left out", NAME)
        logging.getLogger("other").warning("two\nlines")
    finally:
        logging.setLogRecordFactory(before)
    assert caplog.messages == ["a\\nfile\\x1b[31m.png is left out", "two\nlines"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("it is no number.\nSee the manual."), "it is no number (ValueError)"),
        (
            TypeError("field 'size':\n  expected int\nmore"),
            "field 'size': expected int (TypeError)",
        ),
        (AssertionError(), "AssertionError"),
        (KeyError("\n"), "'\\n' (KeyError)"),
    ],
)
def test_a_reason_is_the_first_sentence_and_the_class(error: Exception, said: str) -> None:
    assert reason(error) == said


def test_what_a_loading_process_raised_is_said_without_its_traceback() -> None:
    around = "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent "
    error = ValueError(f"{around}call last):\n  File x\nValueError: no: such thing\n")
    assert message(error) == "no: such thing"
    assert reason(error) == "no: such thing (ValueError)"


def test_what_a_library_refuses_is_one_sentence() -> None:
    with pytest.raises(ConfigError) as caught, refused("It fails", "Give another."):
        raise RuntimeError("no such thing.\nDetails")
    assert str(caught.value) == (
        "It fails: no such thing (RuntimeError). Give another. HYDRA_FULL_ERROR=1 shows the "
        "traceback."
    )
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_our_errors_and_interrupts_are_not_refusals() -> None:
    for error in (ImageError("ours"), KeyboardInterrupt(), SystemExit(3)):
        with pytest.raises(type(error)) as caught, refused("It fails"):
            raise error
        assert caught.value is error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConfigError(f"{NAME} is wrong."), "uniphd-x: a\\nfile\\x1b[31m.png is wrong."),
        (
            OSError(errno.ENOSPC, "No space left on device", NAME),
            "uniphd-x: a\\nfile\\x1b[31m.png cannot be written: No space left on device (OSError). "
            "Free space, or choose another disk. HYDRA_FULL_ERROR=1 shows the traceback.",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "out"),
            "uniphd-x: out cannot be used: Permission denied (PermissionError). Choose one that "
            "can be used. HYDRA_FULL_ERROR=1 shows the traceback.",
        ),
    ],
)
def test_a_command_ends_with_a_sentence_or_with_the_traceback(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(SystemExit) as ended, exit_on_user_error("uniphd-x"):
        raise error
    assert ended.value.code == said
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises((UniPHDError, OSError)) as caught, exit_on_user_error("uniphd-x"):
        raise error
    assert caught.value is error


def test_an_error_without_a_file_names_the_folder() -> None:
    with pytest.raises(SystemExit) as ended, exit_on_user_error("uniphd-x", "runs/1"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "A file in runs/1 cannot be written: No space" in str(ended.value)


def test_mistakes_of_our_code_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError), exit_on_user_error("uniphd-x"):
        _ = 1 // 0


PRINTS = (
    "from uniphd.refusals import exit_on_user_error\n"
    "with exit_on_user_error('x'):\n    print('y' * 200_000)"
)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_takes_no_more_is_one_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", PRINTS], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith(
        b"x: A file cannot be written: No space left on device (OSError)."
    )
    assert b"Traceback" not in done.stderr


def test_a_reader_who_leaves_is_no_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PRINTS], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        command.stdout.close()
        assert command.stderr.read() == b""
    assert command.returncode == 1
