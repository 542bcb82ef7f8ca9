"""Who may talk to the service: no other site's page, whatever name it found this machine by.

A server on 127.0.0.1 is reached by every page that the user's browser shows. Such a page could post
to it (browsers send what other sites' forms say), or, with a name that it lets point here (DNS
rebinding), read the results. The `Host` header has the name that the browser used; `Origin` and
`Sec-Fetch-Site` have the page's site. Nothing here sends headers that would allow other sites.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOCAL = "localhost"
_SAFE_METHODS = ("GET", "HEAD")
_OWN_SITES = ("same-origin", "none")  # none: the user typed the address
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")

_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """ASGI middleware that refuses other sites and adds headers that browsers obey.

    Addresses and `localhost` are always good names for this machine, as nobody can let them point
    elsewhere.

    Args:
        app: what it guards.
        hosts: further names that this machine is called by.
        content_policy: the page's `Content-Security-Policy`.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], content_policy: str) -> None:
        self._app = app
        self._hosts = {host.lower() for host in (_LOCAL, *hosts)}
        self._headers = {**_HEADERS, "Content-Security-Policy": content_policy}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the app answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        sentence = self._refusal(scope["method"], Headers(scope=scope))
        app = self._app
        if sentence is not None:
            app = JSONResponse({"error": sentence}, HTTPStatus.FORBIDDEN)
        await app(scope, receive, send_with_headers)

    def _refusal(self, method: str, headers: Headers) -> str | None:
        """Why a request is refused, in a sentence."""
        host = headers.get("host", "")
        name = _HOST.fullmatch(host)
        if name is None or not self._is_known(name[1].lower()):
            return (
                f"'{host:.80}' is no name of this service; use its address, or start uniphd-serve "
                "with --allow-host NAME."
            )
        if method in _SAFE_METHODS:
            return None
        origin = headers.get("origin")
        is_own = origin is None or re.sub(r"^https?://", "", origin) == host
        if not is_own or headers.get("sec-fetch-site", "none") not in _OWN_SITES:
            return "Another site's page may not use this service; open the service's own page."
        return None

    def _is_known(self, name: str) -> bool:
        return name in self._hosts or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
