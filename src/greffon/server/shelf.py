"""The models that are served, by name; each can be replaced while requests run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from greffon.errors import GreffonError, OptionError
from greffon.server.batching import Batcher
from greffon.server.child import exported_folder
from greffon.server.engines import Engine, make_engine
from greffon.server.exported import Export, read_export
from greffon.server.limits import ServerLimits
from greffon.server.logs import Log
from greffon.server.measures import Measures
from greffon.server.problems import Problem
from greffon.settings import processors

__all__ = ["Served", "Shelf", "Source", "read_sources"]


@final
@dataclass(frozen=True, slots=True)
class Source:
    """A name and the folder that is served under it: an export, or a model that is exported first."""

    name: str
    folder: Path


@final
class Served:
    """One model that runs. It is put away when nobody uses it any more.

    Parameters
    ----------
    name
        Under which it is asked for.
    export
        What it is, without the bytes of its network.
    batcher
        That runs it.
    """

    def __init__(self, name: str, export: Export, batcher: Batcher) -> None:
        self.name = name
        self.export = export
        self.batcher = batcher
        self._users = 0

    @contextmanager
    def used(self) -> Iterator[Served]:
        """While the block runs, the model stays."""
        self._users += 1
        try:
            yield self
        finally:
            self._users -= 1

    async def put_away(self) -> None:
        """Wait for those who use it, and end its thread."""
        while self._users:
            await asyncio.sleep(0.05)
        await asyncio.to_thread(self.batcher.stop)


def read_sources(words: Sequence[str]) -> list[Source]:
    """``FOLDER`` or ``NAME=FOLDER``, each. Without a name, a model has that of its folder. Raises OptionError."""
    found: list[Source] = []
    for word in words:
        name, equals, folder = word.partition("=")
        if not equals or Path(word).exists():
            name, folder = Path(word).resolve().name, word
        if not name or not folder or len(name) > 100 or not name.isprintable():
            raise OptionError(f"serve: a model is given as FOLDER or NAME=FOLDER, got {word[:80]!r}")
        if name in [one.name for one in found]:
            raise OptionError(f"serve: two models have the name {name}", hint=f"Give one of them another: other={folder}")
        found.append(Source(name, Path(folder)))
    return found


@final
class Shelf:
    """All models of one server.

    Parameters
    ----------
    sources
        The first one is what answers where no model is named.
    limits, measures, log
        Of the server.
    """

    def __init__(self, sources: Sequence[Source], limits: ServerLimits, measures: Measures, log: Log) -> None:
        self._sources = tuple(sources)
        self._limits, self._measures, self._log = limits, measures, log
        self._engines: dict[str, tuple[Export, Engine]] = {}
        self._served: dict[str, Served] = {}
        self._reading = asyncio.Lock()

    def read(self) -> None:
        """Read all models and try each once; before ``start``. Raises ModelError."""
        for source in self._sources:
            self._engines[source.name] = self._engine(source)

    def start(self) -> None:
        """Begin to run them; in the thread of the event loop."""
        for name, (export, engine) in self._engines.items():
            self._served[name] = self._serving(name, export, engine)
        self._engines.clear()

    @property
    def models(self) -> Mapping[str, Served]:
        """Those that answer, by name, the default one first."""
        return self._served

    def get(self, name: str) -> Served:
        """The model of a name, or the first one where it is "". Raises Problem ``no-such-model``."""
        found = self._served.get(name) if name else next(iter(self._served.values()), None)
        if found is None:
            raise Problem("no-such-model", f"no model {name[:80]!r} is served; there are: {', '.join(self._served)}")
        return found

    async def reload(self) -> None:
        """Read every folder again, and replace what has changed. What cannot be read leaves the old one where it is."""
        async with self._reading:
            for source in self._sources:
                await self._reload(source)

    async def _reload(self, source: Source) -> None:
        old = self._served[source.name]
        try:
            export = await asyncio.to_thread(self._export, source)
            if export.fingerprint == old.export.fingerprint:
                outcome = "unchanged"
            else:
                export, engine = await asyncio.to_thread(self._engine, source)
                self._served[source.name] = self._serving(source.name, export, engine)
                await old.put_away()
                outcome = "replaced"
        except GreffonError as error:
            outcome = "refused"
            self._log.write("reload", level="error", values={"model": source.name, "outcome": outcome, "reason": error.what})
        else:
            self._log.write("reload", values={"model": source.name, "outcome": outcome})
        self._measures.reload(source.name, outcome)

    async def stop(self) -> None:
        """Answer what waits, and end all threads."""
        for served in self._served.values():
            await served.put_away()

    def _export(self, source: Source) -> Export:
        def say(message: str) -> None:
            self._log.write("exporting", values={"model": source.name, "message": message})

        return read_export(exported_folder(source.folder, say))

    def _engine(self, source: Source) -> tuple[Export, Engine]:
        export = self._export(source)
        return replace(export, graph=b"", weights=b""), make_engine(export, threads=processors())

    def _serving(self, name: str, export: Export, engine: Engine) -> Served:
        batcher: Batcher | None = None
        watcher = self._measures.model(name, lambda: batcher.admitted if batcher else 0)
        batcher = Batcher(engine, self._limits, watcher=watcher, fault=lambda error: self._log.fault("engine", error))
        batcher.measured(2 * engine.cost)  # under load, decoding takes its share of the processor
        return Served(name, export, batcher)
