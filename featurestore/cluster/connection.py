"""A client of a Dask scheduler that reports mistakes in the address at once if possible.

Exceptions of Dask and Tornado are translated here, each into one line.
"""

import errno
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from distributed import Client, LocalCluster
from distributed.comm.addressing import parse_address, parse_host_port
from distributed.comm.registry import get_backend

from featurestore.errors import ClusterError, cause
from featurestore.text import mask_url

_PROBE_TIMEOUT_S = 2.0
_REFUSED_PAUSE_S = 0.5
"""Pause in seconds before a refused connection is retried: a scheduler may just be starting."""
_BY_SOCKET = ("tcp", "tls", "ws", "wss")
_FINAL = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL)
_FAULTS_OF_DASK = (OSError, ValueError, TypeError, RuntimeError, ImportError)
"""Errors of a client that cannot connect; CommClosedError and TimeoutError are OSErrors."""
_PAGE_BYTES = 2**16
_NOISY = ("distributed", "tornado", "asyncio")


def connect(scheduler: str | LocalCluster, timeout: str) -> Client:
    """Return a client of a scheduler, which does not become Dask's default client.

    Args:
        scheduler: Address, such as `tcp://host:8786`, or a local cluster.
        timeout: Timeout for an answer, such as `20s`. A refused connection, an unknown host and an
            invalid address are reported within two seconds.

    Raises:
        ClusterError: No scheduler answers there.
    """
    listens = isinstance(scheduler, str) and _probe(scheduler)
    try:
        return Client(scheduler, timeout=timeout, set_as_default=False)
    except _FAULTS_OF_DASK as error:
        reason = first_line(error)
        if isinstance(error, OSError) and listens:
            reason = (
                "something else listens there, such as the scheduler's dashboard, or it is of "
                "another version of Dask (a scheduler's own port is 8786 by default)"
            )
        raise _no_answer(scheduler, reason) from error


def _no_answer(scheduler: str | LocalCluster, reason: str) -> ClusterError:
    shown = mask_url(reason, secrets_of=str(scheduler))  # Dask repeats parts of an address
    return ClusterError(f"no Dask scheduler answers at {scheduler}: {shown}")


def _probe(address: str) -> bool:
    """Return whether anything listens at an address; False if that is not known yet.

    Raises:
        ClusterError: It is known that no scheduler can be reached there.
    """
    try:
        scheme, location = parse_address(address)
        get_backend(scheme)
        if scheme not in _BY_SOCKET:
            return False
        host, port = parse_host_port(location)
        places = socket.getaddrinfo(host or " ", port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise _no_answer(address, f"no host is called {host!r} ({cause(error)})") from error
    except (ValueError, UnicodeError, OverflowError) as error:
        reason = f"{first_line(error)}; an address looks like tcp://host:8786"
        raise _no_answer(address, reason) from error
    return _listens(address, (host, port)) if places else False


def _listens(address: str, place: tuple[str, int]) -> bool:
    for last in (False, True):
        try:
            socket.create_connection(place, _PROBE_TIMEOUT_S).close()
        except OSError as error:
            if error.errno not in _FINAL:
                return False  # silence: the client waits longer
            if last:
                raise _no_answer(address, cause(error)) from error
            time.sleep(_REFUSED_PAUSE_S)
        else:
            return True
    return False


def first_line(error: BaseException) -> str:
    """Return an exception's message as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def dashboard_link(client: Client) -> str | None:
    """Return the URL of the scheduler's dashboard, if it answers.

    A scheduler without bokeh serves a page that says so; that is no dashboard.
    """
    try:
        link = str(client.dashboard_link)
        with build_opener(ProxyHandler({})).open(link, timeout=_PROBE_TIMEOUT_S) as answer:
            page = answer.read(_PAGE_BYTES)
    except (URLError, OSError, ValueError, KeyError, AttributeError):
        return None
    return link if b"bokeh" in page.lower() and b"Dask needs bokeh" not in page else None


@contextmanager
def silent_logs() -> Iterator[None]:
    """Keep Dask's logs, which are tracebacks where a connection breaks, off the terminal."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith(_NOISY)]
    levels = {logger: logger.level for logger in map(logging.getLogger, names)}
    for logger in levels:  # each: Dask gives its modules levels of their own
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
