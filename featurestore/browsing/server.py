"""The web server of the page: loopback only, behind an unguessable token.

The token is the first component of every path, so that the page's links can be relative and no
other site can guess them. Requests with a foreign Host header are refused: a domain name that
resolves to 127.0.0.1 (DNS rebinding) does not reach the server.
"""

import re
import secrets
import socket
from collections.abc import Callable, Mapping

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from featurestore.browsing.site import Answer, Site

LOOPBACK = "127.0.0.1"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def make_app(site: Site, token: str, port: int) -> Starlette:
    """Return the ASGI application.

    Args:
        site: Files of the page.
        token: First component of every path.
        port: Port that the Host header must name.
    """
    hosts = {f"{name}:{port}" for name in (LOOPBACK, "localhost")}

    async def endpoint(request: Request) -> Response:
        if request.headers.get("host") not in hosts:
            return Response("not for this host\n", 403, HEADERS)
        if not secrets.compare_digest(request.path_params["token"].encode(), token.encode()):
            return Response("not found\n", 404, HEADERS)
        answer = await run_in_threadpool(site.answer, request.path_params["path"])
        return _response(answer, request.headers.get("range", ""))

    return Starlette(routes=[Route("/{token}/{path:path}", endpoint, methods=["GET", "HEAD"])])


def _response(answer: Answer, range_header: str) -> Response:
    """Return an answer, or the part of it that a Range header asks for.

    A browser seeks in a sound only where it gets parts: else it plays from the start again.
    """
    headers = {**HEADERS, "Accept-Ranges": "bytes"}
    size = len(answer.body)
    part = _RANGE.fullmatch(range_header)
    if answer.status != 200 or not part or part.group(1, 2) == ("", ""):
        return Response(answer.body, answer.status, headers, answer.media_type)
    first, last = part.groups()
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= size or start >= stop:
        return Response(b"", 416, headers | {"Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return Response(answer.body[start:stop], 206, headers, answer.media_type)


def serve(site: Site, port: int, ready: Callable[[str], object]) -> None:
    """Serve the page until the process is asked to stop.

    Args:
        site: Files of the page.
        port: Port on the loopback interface; 0 for any free one.
        ready: Called with the URL of the page once it can be opened.

    Raises:
        OSError: The port is in use.
    """
    with socket.create_server((LOOPBACK, port)) as listening:
        port, token = listening.getsockname()[1], secrets.token_urlsafe(24)
        config = uvicorn.Config(
            make_app(site, token, port),
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        ready(f"http://{LOOPBACK}:{port}/{token}/")
        uvicorn.Server(config).run(sockets=[listening])
