"""``serve``: the server from its first to its last moment."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, final

from greffon.errors import OptionError
from greffon.server.limits import ServerLimits

__all__ = ["serve"]

#: Seconds that a connection which was let in last has, at most, to send the head of its request.
_LAST_WORD = 2.0


def serve(
    models: Sequence[str | Path],
    *,
    port: int = 8000,
    host: str = "127.0.0.1",
    api_keys: Path | None = None,
    limits: ServerLimits | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Answer requests until the process is told to stop (SIGTERM, SIGINT). SIGHUP reads the models again.

    Parameters
    ----------
    models
        Export folders, or model folders, which are exported first; each may be ``NAME=FOLDER``.
    port
        0: one that is free.
    host
        What to listen on; by default this machine alone can ask.
    api_keys
        A file with keys, one a line; without it everybody who can reach the server may ask.
    limits
        Of requests, queue and time.
    ready
        Called with the address when requests are answered.

    Raises
    ------
    ModelError
        A folder that may not be served, and why.
    OptionError
        An option that cannot be used; the port is taken.
    """
    _has_extra()
    from greffon.server.keys import Keys, read_keys
    from greffon.server.shelf import read_sources

    if not 0 <= port <= 65535:
        raise OptionError(f"serve: --port must be from 0 to 65535, got {port}")
    sources = read_sources([str(model) for model in models])
    if not sources:
        raise OptionError("serve: there is no model to serve", hint="greffon serve DIR, a folder of greffon export's")
    keys = read_keys(api_keys) if api_keys else Keys()
    with _listening(host, port) as listener:
        _Running(sources, limits or ServerLimits(), keys, listener, ready).run(host)


def _has_extra() -> None:
    import importlib.util

    needed = {"fastapi": "fastapi", "uvicorn": "uvicorn", "python_multipart": "python-multipart", "prometheus_client": "prometheus-client"}
    missing = [package for module, package in needed.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise OptionError(f"serve needs {', '.join(missing)}, which {'are' if len(missing) > 1 else 'is'} not installed",
                          hint='Install what it needs: pip install "greffon[serve]".')  # fmt: skip


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that has its address; it listens when the models are read."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise OptionError(f"serve: --host {host[:80]!r} is no address ({getattr(error, 'strerror', None) or error})") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise OptionError(f"serve: cannot listen on {host} port {port} ({error.strerror})", hint="Another --port?") from error
        yield listener
    finally:
        listener.close()


@final
class _Running:
    """One server while it runs."""

    def __init__(self, sources: Sequence[Any], limits: ServerLimits, keys: Any, listener: socket.socket,
                 ready: Callable[[str], None] | None) -> None:  # fmt: skip
        from greffon.server.edge import Stage
        from greffon.server.logs import Log
        from greffon.server.measures import Measures
        from greffon.server.shelf import Shelf

        self._log, self._measures, self._stage = Log(), Measures(), Stage()
        self._limits, self._keys, self._listener, self._ready = limits, keys, listener, ready
        self._shelf = Shelf(sources, limits, self._measures, self._log)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: Any = None

    def run(self, host: str) -> None:
        """Until the process is told to stop."""
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(self._shelf.read)  # most of it is outside of Python, and the imports here are inside of it
            import uvicorn

            from greffon.server.app import make_app

            reading.result()
        app = make_app(self._shelf, self._limits, keys=self._keys, stage=self._stage, measures=self._measures, log=self._log,
                       life=self._life)  # fmt: skip
        self._log.take_over()
        config = uvicorn.Config(
            app, http="h11", ws="none", loop="asyncio", lifespan="on", log_config=None, access_log=False, proxy_headers=False,
            server_header=False, timeout_keep_alive=max(1, round(self._limits.headers)), h11_max_incomplete_event_size=32 * 1024,
            timeout_graceful_shutdown=round(self._limits.deadline) + 5,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._url = _address(self._listener)
        if not _is_loopback(host) and not self._keys:
            message = f"everybody who can reach {host} may ask; with --api-keys only those who have a key"
            self._log.write("open", level="warning", values={"message": message})
        self._server.run(sockets=[self._listener])

    @asynccontextmanager
    async def _life(self) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        # Uvicorn has set handlers of its own before: these take their place until the loop ends.
        for number, seconds in ((signal.SIGTERM, self._limits.drain), (signal.SIGINT, 0.0)):
            loop.add_signal_handler(number, self._stop, seconds)
        if hasattr(signal, "SIGHUP"):
            loop.add_signal_handler(signal.SIGHUP, lambda: self._begin(self._shelf.reload()))
        self._begin(self._announce())
        self._begin(self._close_idle())
        yield
        for task in self._tasks:
            task.cancel()

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _announce(self) -> None:
        while not self._server.started:
            await asyncio.sleep(0.005)
        self._log.write("ready", values={"url": self._url, "models": list(self._shelf.models)})
        if self._ready:
            self._ready(self._url)

    def _stop(self, seconds: float) -> None:
        if self._stage.stopping:  # told twice: at once
            self._server.force_exit = self._server.should_exit = True
            return
        self._stage.stopping = True
        self._log.write("stopping")
        self._begin(self._drain(seconds))

    async def _drain(self, seconds: float) -> None:
        """Answer whoever still comes, each on its last connection; then take no more, and let the server end.

        A connection that stands in the kernel's queue when a listening socket is closed is reset. So the queue is made as
        short as can be, then emptied, and the socket is closed in the same breath, before the event loop turns again.
        """
        await asyncio.sleep(seconds)
        let_in = self._last_ones()
        for server in self._server.servers:
            server.close()
        loop = asyncio.get_running_loop()
        for one in let_in:
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(self._protocol, one)
        await asyncio.sleep(min(0.1, seconds))
        until = time.monotonic() + min(_LAST_WORD, 2 * seconds)
        while time.monotonic() < until and any(one.cycle is None for one in self._server.server_state.connections):
            await asyncio.sleep(0.02)  # who has just been let in has still to say what he wants
        self._server.should_exit = True

    def _last_ones(self) -> list[socket.socket]:
        """All that stand in the kernel's queue."""
        found = []
        with contextlib.suppress(OSError):  # BlockingIOError: the queue is empty
            self._listener.listen(0)
            while True:
                found.append(self._listener.accept()[0])
        return found

    def _protocol(self) -> asyncio.Protocol:
        """What Uvicorn talks to one connection with."""
        config = self._server.config
        return config.http_protocol_class(config=config, server_state=self._server.server_state, app_state=self._server.lifespan.state)

    async def _close_idle(self) -> None:
        """Close connections that take too long to say what they want."""
        since: dict[Any, float] = {}
        while True:
            await asyncio.sleep(0.5)
            now = time.monotonic()
            waiting = [one for one in self._server.server_state.connections if _waits(one)]
            since = {one: since.get(one, now) for one in waiting}
            for one, began in since.items():
                if now - began > self._limits.headers and one.transport is not None:
                    one.transport.abort()


def _waits(connection: Any) -> bool:
    """Whether one of Uvicorn's connections has no request that is being answered."""
    return connection.cycle is None or connection.cycle.response_complete


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


