"""The log: a JSON object a line on standard error. Never what is on a picture, its file name, a key, or an address of a client."""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO, final

__all__ = ["Log"]


@final
class Log:
    """Writes events. Safe among threads.

    Parameters
    ----------
    stream
        Where lines go; by default standard error.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()

    def write(self, event: str, *, level: str = "info", values: Mapping[str, Any] | None = None) -> None:
        """One line: the time in UTC, the level, the event, and values."""
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level, "event": event, **(values or {})}
        with self._lock:
            try:
                self._stream.write(json.dumps(line, ensure_ascii=True, default=str) + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # a log that nobody reads any more is no reason to stop serving
                return

    def fault(self, event: str, error: BaseException) -> None:
        """One line with where an exception came from; its values are not printed."""
        where = traceback.format_list(traceback.extract_tb(error.__traceback__))
        self.write(event, level="error", values={"error": f"{type(error).__name__}: {str(error)[:300]}", "where": where})

    def take_over(self) -> None:
        """What libraries tell Python's log of this process, from warnings on, becomes lines of this one."""
        logging.captureWarnings(True)
        root = logging.getLogger()
        root.handlers = [_Handler(self)]
        root.setLevel(logging.WARNING)
        for name in ("uvicorn", "uvicorn.error", "asyncio"):
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [], True
            logger.setLevel(logging.WARNING)


@final
class _Handler(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self._log.fault(record.name, record.exc_info[1])
        else:
            # What decoders say quotes from the photo, or from its form.
            quotes = record.name.partition(".")[0] in ("PIL", "python_multipart")
            self._log.write(record.name, level=record.levelname.lower(), values=None if quotes else {"message": record.getMessage()[:500]})
