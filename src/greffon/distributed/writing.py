"""The Parquet files of a run and their manifest. A file is there whole or not at all, and says itself what it is of."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import pyarrow as pa
import pyarrow.parquet as pq

from greffon.distributed.places import is_address, system_of
from greffon.distributed.sources import Block
from greffon.errors import OptionError

__all__ = [
    "MANIFEST",
    "SCHEMA",
    "Part",
    "block_digest",
    "part_name",
    "read_part",
    "remove_leavings",
    "write_manifest",
    "write_part",
    "written",
]

#: The name of the manifest in the folder.
MANIFEST = "_manifest.json"
#: Of every file.
SCHEMA = pa.schema([("path", pa.string()), ("label", pa.string()), ("features", pa.list_(pa.float32()))])

_KEY = b"greffon"
_PART = re.compile(r"part-(\d+)-[0-9a-f]{12}\.parquet")


@final
@dataclass(frozen=True, slots=True)
class Part:
    """One file of a run.

    Parameters
    ----------
    block
        The digest of what it is of: the images, and how they were looked at.
    set_aside
        Images that could not be read, and why.
    fault
        Why there is no file: the shard is damaged.
    """

    block: str
    file: str
    rows: int
    features: int
    set_aside: tuple[tuple[str, str], ...] = ()
    fault: str = ""

    def to_json(self) -> str:
        """As JSON."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def from_json(cls, text: str | bytes) -> Part:
        """The inverse of ``to_json``."""
        values = json.loads(text)
        values["set_aside"] = tuple((place, reason) for place, reason in values["set_aside"])
        return cls(**values)


def block_digest(block: Block, fingerprint: str) -> str:
    """What a file must be of to be taken for that of a block."""
    return hashlib.sha256(f"{fingerprint}\n{block.kind}\n{block.content}".encode()).hexdigest()


def part_name(number: int, digest: str) -> str:
    """In the order of the blocks."""
    return f"part-{number:06d}-{digest[:12]}.parquet"


def write_part(folder: str, part: Part, columns: Sequence[pa.Array | pa.ChunkedArray]) -> None:
    """Write a file under its name once it is whole. Raises OptionError."""
    table = pa.table(list(columns), schema=SCHEMA.with_metadata({_KEY: part.to_json()}))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    _put(folder, part.file, sink.getvalue())


def read_part(folder: str, name: str) -> Part | None:
    """What a file in the folder says of itself; None where it is none of ours, or damaged."""
    try:
        system, path = system_of(folder)
        with system.open_input_file(f"{path}/{name}") as file:
            about = pq.ParquetFile(file)
            part = Part.from_json(about.schema_arrow.metadata[_KEY])
            return part if about.metadata.num_rows == part.rows and part.file == name else None
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError):
        return None


def written(folder: str) -> list[str]:
    """The names of the files that runs have left in a folder, which is made where it is missing. Raises OptionError."""
    from pyarrow import fs

    try:
        system, path = system_of(folder)
        about = system.get_file_info(path)
        if about.type == fs.FileType.File:
            raise OptionError(f"--out {folder}: is a file, expected a folder", hint="With --ray, embed writes a folder of Parquet files.")
        system.create_dir(path, recursive=True)
        names = [one.base_name for one in system.get_file_info(fs.FileSelector(path))]
    except OptionError:
        raise
    except Exception as error:  # each store's own kinds
        raise OptionError(f"--out {folder}: cannot be written ({_first(error)})") from error
    return sorted(name for name in names if _PART.fullmatch(name))


def write_manifest(folder: str, values: Mapping[str, Any]) -> None:
    """Write ``_manifest.json``, last of all. Raises OptionError."""
    _put(folder, MANIFEST, (json.dumps(values, indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode())


def remove_leavings(folder: str) -> None:
    """Half-written files of workers that were killed, and the manifest of an earlier run: until the end there is none."""
    from pyarrow import fs

    with contextlib.suppress(OSError):
        system, path = system_of(folder)
        for one in system.get_file_info(fs.FileSelector(path)):
            if one.base_name == MANIFEST or one.base_name.startswith((".part-", f".{MANIFEST}")):
                system.delete_file(one.path)


def _put(folder: str, name: str, data: Any) -> None:
    """Under another name first, on disks; an object of a bucket is there at once or not at all."""
    try:
        system, path = system_of(folder)
        if is_address(folder):
            with system.open_output_stream(f"{path}/{name}") as file:
                file.write(data)
            return
        part = f"{path}/.{name}-{os.uname().nodename}-{os.getpid()}"
        try:
            with open(part, "wb") as file:  # noqa: PTH123  # a path that Arrow gave
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, f"{path}/{name}")  # noqa: PTH105  # as above
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(part)  # noqa: PTH108  # as above
            raise
    except (pa.ArrowException, OSError) as error:
        raise OptionError(f"--out {folder}: cannot be written ({_first(error)})") from error


def _first(error: BaseException) -> str:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return reason.strip().splitlines()[0][:200]
