"""`uniphd-serve`: a page on which one points at people, and the JSON service behind it."""

from __future__ import annotations

import argparse
import importlib
import ipaddress
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from uniphd.config.allocator import keep_freed_memory
from uniphd.errors import ConfigError, printable
from uniphd.inference.predictor import Predictor
from uniphd.interrupt import exit_at_interrupt
from uniphd.refusals import exit_on_user_error
from uniphd.serve.limits import Limits

if TYPE_CHECKING:
    import uvicorn

_SYNTHETIC = "synthetic_cpu"
_NOTE = (
    f"{_SYNTHETIC} is a small network trained on synthetic people; on photographs it is only there "
    "to try the page out."
)
_PORTS = range(2**16)
_MIB, _MEGAPIXEL = 2**20, 1_000_000
_SECONDS_TO_END = 5  # for requests that are being answered at Ctrl-C


@exit_at_interrupt("uniphd-serve")
def main() -> None:
    """Run the command."""
    keep_freed_memory()
    options = _parse()
    with exit_on_user_error("uniphd-serve"):
        _run(options)


def _run(options: argparse.Namespace) -> None:
    _require_extra()
    limits = Limits(
        upload=options.max_upload * _MIB,
        pixels=options.max_megapixels * _MEGAPIXEL,
        cached=options.cache,
    )
    with _listen(options.host, options.port) as listener:
        predictor = Predictor(
            options.model, options.device, options.precision, batch_size=options.batch_size
        )
        server = _server(predictor, limits, options)
        host, port = listener.getsockname()[:2]
        if not ipaddress.ip_address(host).is_loopback:
            _say(
                f"everybody who reaches this machine at port {port} can use the service and what "
                "is sent is not encrypted; leave --host out to serve this machine alone."
            )
        print(printable(f"{options.model}: {_address(host, port)} (Ctrl-C ends it)"), flush=True)
        server.run(sockets=[listener])


def _server(predictor: Predictor, limits: Limits, options: argparse.Namespace) -> uvicorn.Server:
    import uvicorn

    from uniphd.serve.app import create_app
    from uniphd.serve.service import Service

    app = create_app(
        Service(predictor, limits),
        model=options.model if options.model == _SYNTHETIC else Path(options.model).name,
        note=_NOTE if options.model == _SYNTHETIC else "",
        hosts=(options.host, socket.gethostname(), *options.allow_host),
    )
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            lifespan="off",
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=_SECONDS_TO_END,
        )
    )


def _require_extra() -> None:
    try:
        for name in ("starlette", "uvicorn"):
            importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            "The page needs the packages starlette and uvicorn; pip install 'uniphd[serve]'."
        ) from error


def _listen(host: str, port: int) -> socket.socket:
    """A socket at the address, before the network is loaded.

    Raises:
        ConfigError: the address is unknown or in use.
    """
    if port not in _PORTS:  # which the system would take modulo 65536
        raise ConfigError(f"There is no port {port}; give one from 0 (any that is free) to 65535.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
        except OSError:
            listener.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"{host:.200} cannot be listened to at port {port} ({reason}); give another --host or "
            "--port, or --port 0 for any that is free."
        ) from error
    return listener


def _address(host: str, port: int) -> str:
    """The page's address on this machine."""
    if ipaddress.ip_address(host).is_unspecified:
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _say(sentence: str) -> None:
    print(printable(f"uniphd-serve: {sentence}"), file=sys.stderr, flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="uniphd-serve",
        description="Serve a page on which one clicks, scribbles, drags a box or types, and sees "
        "the person that this refers to; and the same as a JSON service, described by "
        "/openapi.json. Only this machine is served unless --host says otherwise.",
    )
    add = parser.add_argument
    add(
        "model", nargs="?", default=_SYNTHETIC,
        help="model folder, checkpoint of uniphd-train, or packaged model (default: %(default)s)",
    )  # fmt: skip
    add(
        "--host", default="127.0.0.1",
        help="address to listen to; 0.0.0.0 for all of this machine's (default: %(default)s)",
    )  # fmt: skip
    add("--port", type=int, default=8000, help="0 for any that is free (default: %(default)s)")
    add(
        "--allow-host", action="append", default=[], metavar="NAME",
        help="a name by which clients call this machine, beside its own, its addresses and "
        "localhost; may be repeated",
    )  # fmt: skip
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: %(default)s)")
    add("--precision", help="bf16 or fp16 for mixed precision (default: 32-bit numbers)")
    add("--batch-size", type=int, help="prompts at once (default: what is fastest)")
    add("--max-upload", type=int, default=32, metavar="MIB", help="of an image (default: 32)")
    add("--max-megapixels", type=int, default=50, help="of an image (default: 50)")
    add("--cache", type=int, default=8, help="encoded images that are kept (default: 8)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
