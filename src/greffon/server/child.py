"""A model folder that was not exported yet: another process exports it, for this one stays without torch."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from greffon.errors import ModelError
from greffon.server.exported import is_export_folder
from greffon.settings import cache_root

__all__ = ["exported_folder"]

_FILES = ("model.json", "model.safetensors")


def exported_folder(folder: Path, say: Callable[[str], None]) -> Path:
    """An export folder as it is; of a model folder, its export in the cache, made where it is not there yet.

    ``say`` is told before that takes its time.

    Raises
    ------
    ModelError
        It is neither, or cannot be exported.
    """
    if is_export_folder(folder) or not _is_model_folder(folder):
        return folder
    kept = cache_root() / "exports" / _sum_of(folder)
    if is_export_folder(kept):
        return kept
    if importlib.util.find_spec("torch") is None:
        raise ModelError(f"{folder}: a model that was not exported, and this environment has no torch to do it with",
                         hint=f"Where it was trained: greffon export {folder} --out DIR; then serve DIR.")  # fmt: skip
    say(f"exporting {folder} to serve it; once")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".making-", ignore_cleanup_errors=True) as name:
            made = Path(name) / "export"
            _export(folder, made)
            try:
                made.replace(kept)
            except OSError:
                if not is_export_folder(kept):  # else another server was faster
                    raise
    except OSError as error:
        raise ModelError(f"{kept}: cannot be written ({error.strerror or error})", hint="GREFFON_CACHE names another place.") from error
    return kept


def _is_model_folder(folder: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return (folder / _FILES[0]).is_file()
    return False


def _sum_of(folder: Path) -> str:
    """Of the model's files and the version of greffon: another model in the same folder is another export."""
    found = hashlib.sha256(version("greffon").encode())
    for name in _FILES:
        try:
            with (folder / name).open("rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise ModelError(f"{folder / name}: cannot be read ({error.strerror})") from error
    return found.hexdigest()[:32]


def _export(folder: Path, out: Path) -> None:
    words = [sys.executable, "-m", "greffon", "export", str(folder.absolute()), "--to", "onnx", "--out", str(out), "--quiet"]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if done.returncode or not is_export_folder(out):
        shutil.rmtree(out, ignore_errors=True)
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")] or lines[-1:]
        raise ModelError(f"{folder}: cannot be exported ({told[0] if told else f'exit code {done.returncode}'})",
                         hint=f"To see all of it: greffon export {folder} --out DIR")  # fmt: skip
