"""Running a function in several processes at once, which find each other as torchrun's would."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

# Imports once what the processes need, in a process of its own from which they are forked.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["uniphd.cli.train", "uniphd.cli.evaluate"])


def run_processes(
    function: Callable[..., Any], count: int, *arguments: Any, timeout: float = 300
) -> list[Any]:
    """What `function(*arguments)` returns in every process, by rank.

    What it raises is returned, too; of a process that ended otherwise, a ChildProcessError.

    Args:
        function: of a module, so that it can be pickled.
        count: processes, on this machine.
        arguments: the same for every process.
        timeout: seconds after which processes are killed.
    """
    port = _free_port()
    processes, results = [], []
    for rank in range(count):
        receiver, sender = _CONTEXT.Pipe(duplex=False)
        process = _CONTEXT.Process(
            target=_run, args=(sender, rank, count, port, function, arguments), daemon=False
        )
        process.start()
        sender.close()
        processes.append((process, receiver))
    for process, receiver in processes:
        try:
            if receiver.poll(timeout):
                results.append(pickle.loads(receiver.recv_bytes()))
            else:
                results.append(TimeoutError(f"no answer in {timeout} s"))
        except EOFError:
            process.join()
            results.append(ChildProcessError(f"exit code {process.exitcode}"))
    for process, _ in processes:
        process.kill()
        process.join()
    return results


def _run(
    sender: Connection,
    rank: int,
    count: int,
    port: int,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(count),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        TORCHELASTIC_RUN_ID="test",
    )
    torch.set_num_threads(1)
    try:
        result = function(*arguments)
    except BaseException as error:
        result = error
    sender.send_bytes(pickle.dumps(result))  # `send` would leave tensors in the sender's memory


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
