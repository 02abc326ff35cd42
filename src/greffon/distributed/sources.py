"""From what the user names to blocks of images: the unit that one worker does at a time, and that one file is written of."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import pyarrow as pa

from greffon.activations import Encoded, Photo
from greffon.datasets import read_dataset
from greffon.distributed.places import Found, is_address, listed, opened, read_object
from greffon.errors import DataError

__all__ = ["Block", "Item", "Source", "find_source", "items"]

#: An image: its name for the output, its label or None, and the image.
Item = tuple[str, str | None, Photo]

_ARCHIVES = (".tar", ".tar.gz", ".tgz")
_IMAGES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".avif", ".jp2", ".mpo")
_SPLITS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")


@final
@dataclass(frozen=True, slots=True)
class Block:
    """Images that are done in one go.

    Parameters
    ----------
    kind
        ``"files"``: paths or addresses of image files. ``"rows"``: rows of a Parquet file. ``"archive"``: a WebDataset shard.
    name
        For people: the archive, the table, or the first of the files.
    images
        How many; 0: not known before it is opened.
    content
        JSON: where its images lie, and what changes when they do.
    """

    kind: str
    name: str
    images: int
    content: str


@final
@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What was found.

    Parameters
    ----------
    blocks
        In the order of the rows that are written.
    notes
        For the user.
    set_aside
        What cannot be read, and why.
    local
        Whether it lies on disks, which all machines must see.
    """

    root: str
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]
    set_aside: tuple[tuple[str, str], ...]
    local: bool


def find_source(data: Path | str, size: int = 256) -> Source:
    """Find the images of a run. None of them is opened.

    Understood are all that ``read_dataset`` reads; a Parquet file whose column holds the images' bytes; WebDataset shards
    (``.tar``), one, or a pattern (``shards/*.tar``, ``shards/{000..099}.tar``); a folder of such tables or shards; and each of
    them at an address (``s3://bucket/photos``).

    Parameters
    ----------
    size
        Images in a block. A shard is one block, whatever it holds, and so is a row group that holds images.

    Raises
    ------
    DataError, OptionError
        Nothing there, or it cannot be reached.
    """
    name = str(data)
    many = _matches(name)
    if many is None and is_address(name):
        files = listed(name)
    elif many is None and _is_of_shards(Path(name).expanduser()):
        files = listed(str(Path(name).expanduser()))
    elif many is None:
        return _of_dataset(read_dataset(data, labelled=False), size)
    else:
        files = [one for place in many for one in listed(place)]
    archives = [one for one in files if one.place.lower().endswith(_ARCHIVES)]
    tables = [one for one in files if one.place.lower().endswith(".parquet")]
    local = not is_address(name)
    if archives:
        left = [one.place for one in files if one not in archives and not one.place.endswith(".json")]
        notes = (f"{len(left)} files beside the shards are passed over, {left[0]} for one",) if left else ()
        return Source(name, tuple(_archive(one) for one in archives), notes, (), local)
    if tables:
        found = [_of_table(one, size) for one in tables]
        bad = tuple((place, reason) for _, place, reason in found if reason)
        if len(bad) == len(tables):
            raise DataError(f"{bad[0][0]}: {bad[0][1]}")
        return Source(name, tuple(block for blocks, _, _ in found for block in blocks), (), bad, local)
    images = [one for one in files if one.place.lower().endswith(_IMAGES)]
    if not images:
        raise DataError(f"{name}: holds no image files, no shards (.tar) and no tables (.parquet)")
    return Source(name, tuple(_of_objects(images, name, size)), (), (), local)


def _matches(name: str) -> list[str] | None:
    """The places that a pattern means; None where it is none."""
    parts = [name]
    while any(re.search(r"\{[^{}]*\}", part) for part in parts):
        parts = [whole for part in parts for whole in _opened_brace(part)]
    if len(parts) == 1 and not re.search(r"[*?]", name):
        return None
    if is_address(name):
        if re.search(r"[*?]", name):
            raise DataError(f"{name}: a pattern of stars does not work at an address", hint="Name the folder, or {000..099}.")
        return parts
    found = [match for part in parts for match in (sorted(glob.glob(part)) if re.search(r"[*?]", part) else [part])]  # noqa: PTH207  # may be absolute
    if not found:
        raise DataError(f"{name}: nothing matches this pattern")
    return found


def _opened_brace(text: str) -> list[str]:
    match = re.search(r"\{([^{}]*)\}", text)
    if match is None:
        return [text]
    first, dots, last = match[1].partition("..")
    if dots and first.isdigit() and last.isdigit():
        choices = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    else:
        choices = match[1].split(",")
    return [text[: match.start()] + one + text[match.end() :] for one in choices]


def _is_of_shards(path: Path) -> bool:
    """Whether a path is a shard, a table that holds images, or a folder of such files and no others."""
    if path.is_file():
        name = path.name.lower()
        return name.endswith(_ARCHIVES) or (name.endswith(".parquet") and _image_column(_schema(str(path))) is not None)
    try:
        names = [entry.name.lower() for entry in os.scandir(path) if not entry.name.startswith((".", "_")) and entry.is_file()]
    except OSError:
        return False
    shards = [name for name in names if name.endswith((*_ARCHIVES, ".parquet"))]
    return bool(shards) and not any(name.endswith(_IMAGES) for name in names)


def _of_dataset(dataset: Any, size: int) -> Source:
    blocks = []
    for start in range(0, len(dataset), size):
        paths = dataset.paths[start : start + size]
        labels = [dataset.classes[i] if i >= 0 else None for i in dataset.labels[start : start + size].tolist()]
        stamps = [_stamp(path) for path in paths]
        blocks.append(_files([os.fspath(path) for path in paths], labels, stamps))
    aside = tuple((str(path), reason) for path, reason in dataset.set_aside)
    return Source(str(dataset.root), tuple(blocks), dataset.notes, aside, True)


def _files(places: Sequence[str], labels: Sequence[str | None], stamps: Sequence[str]) -> Block:
    content = {"places": list(places), "labels": list(labels), "stamps": list(stamps)}
    return Block("files", places[0], len(places), json.dumps(content))


def _stamp(path: Path) -> str:
    try:
        about = path.stat()
    except OSError:
        return ""
    return f"{about.st_size} {about.st_mtime_ns}"


def _of_objects(images: Sequence[Found], root: str, size: int) -> Iterator[Block]:
    """A folder per class at an address; train, val and test above them are seen through."""
    below = [one.place.removeprefix(root.rstrip("/") + "/").split("/") for one in images]
    roles = all(len(parts) > 2 and parts[0].lower() in _SPLITS for parts in below)
    labels = [parts[1] if roles else parts[0] if len(parts) > 1 else None for parts in below]
    for start in range(0, len(images), size):
        some = images[start : start + size]
        yield _files([one.place for one in some], labels[start : start + size], [f"{one.size} {one.changed}" for one in some])


def _archive(one: Found) -> Block:
    return Block("archive", one.place, 0, json.dumps({"place": one.place, "stamp": f"{one.size} {one.changed}"}))


# --- tables ----------------------------------------------------------------------------------------------------


def _schema(place: str) -> pa.Schema:
    import pyarrow.parquet as pq

    try:
        with opened(place) as file:
            return pq.ParquetFile(file).schema_arrow
    except (pa.ArrowException, OSError, ValueError) as error:
        return pa.schema([("damaged", pa.null())], {"reason": str(error).splitlines()[0][:200]})


def _image_column(schema: pa.Schema) -> str | None:
    """The column that holds images as files: bytes, or Hugging Face's struct of bytes and path."""
    for field in schema:
        kind = field.type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            return field.name
    named = [field.name for field in schema if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)]
    return named[0] if named else None


def _of_table(one: Found, size: int) -> tuple[list[Block], str, str]:
    """The blocks of a Parquet file, its place, and why it cannot be read, or ""."""
    import pyarrow.parquet as pq

    blocks: list[Block] = []
    try:
        with opened(one.place) as file:
            about = pq.ParquetFile(file)
            schema = about.schema_arrow
            column = _image_column(schema)
            if column is None and "path" not in schema.names:
                return [], one.place, f"a table needs a column of bytes or the column 'path', got {schema.names}"
            for group in range(about.num_row_groups):
                count = about.metadata.row_group(group).num_rows
                step = count if column is not None else size
                for start in range(0, count, max(1, step)):
                    rows = min(step, count - start)
                    content = {"place": one.place, "stamp": f"{one.size} {one.changed}", "group": group, "start": start,
                               "rows": rows, "column": column}  # fmt: skip
                    blocks.append(Block("rows", one.place, rows, json.dumps(content)))
    except (pa.ArrowException, OSError, ValueError) as error:
        return [], one.place, f"a damaged Parquet file ({str(error).splitlines()[0][:200]})"
    return blocks, one.place, ""


# --- on a worker -----------------------------------------------------------------------------------------------


def items(block: Block) -> Iterator[Item]:
    """The images of a block. Raises OSError or DataError where its shard or table is damaged."""
    content = json.loads(block.content)
    if block.kind == "files":
        for place, label in zip(content["places"], content["labels"], strict=True):
            yield place, label, _photo(place)
    elif block.kind == "rows":
        yield from _rows(content)
    else:
        yield from _members(content["place"])


def _photo(place: str) -> Photo:
    return Encoded(place, lambda: read_object(place)) if is_address(place) else Path(place)


def _rows(content: dict[str, Any]) -> Iterator[Item]:
    import pyarrow.parquet as pq

    place, column = content["place"], content["column"]
    try:
        with opened(place) as file:
            about = pq.ParquetFile(file)
            names = [name for name in ("path", "label", column) if name is not None and name in about.schema_arrow.names]
            part = about.read_row_group(content["group"], columns=names).slice(content["start"], content["rows"])
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{place}: a damaged Parquet file ({str(error).splitlines()[0][:200]})") from error
    folder = place.rpartition("/")[0]
    for number, row in enumerate(part.to_pylist(), start=content["start"]):
        label = None if row.get("label") in (None, "") else str(row["label"])
        if column is None:
            name = str(row["path"] or "")
            where = name if is_address(name) or name.startswith("/") else f"{folder}/{name}"
            yield where, label, _photo(where)
            continue
        cell = row[column]
        inner = cell if isinstance(cell, dict) else {"bytes": cell}
        name = str(row.get("path") or inner.get("path") or f"{place}#{content['group']}.{number}")
        yield name, label, Encoded(name, _Bytes(inner.get("bytes") or b""))


@final
@dataclass(frozen=True, slots=True)
class _Bytes:
    """Gives what it holds."""

    data: bytes

    def __call__(self) -> bytes:
        return self.data


def _members(place: str) -> Iterator[Item]:
    """The samples of a WebDataset shard: members that follow each other and have one name up to the first dot."""
    import tarfile

    key, image, label = "", None, None
    try:
        with opened(place) as file, tarfile.open(fileobj=file, mode="r|*") as archive:
            for member in archive:
                if not member.isfile() or Path(member.name).name.startswith("."):
                    continue
                folder, _, base = member.name.rpartition("/")
                stem, _, kind = base.partition(".")
                this = f"{folder}/{stem}" if folder else stem
                if this != key:
                    if image is not None:
                        yield image[0], label, image[1]
                    key, image, label = this, None, None
                part = archive.extractfile(member)
                data = part.read() if part is not None else b""
                if f".{kind.lower().rpartition('.')[2]}" in _IMAGES and image is None:
                    name = f"{place}/{member.name}"
                    image = name, Encoded(name, _Bytes(data))
                elif kind in ("cls", "cls.txt", "txt", "json", "label"):
                    label = _label(kind, data) if label is None else label
            _must_end(file, archive.offset, place)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise DataError(f"{place}: a damaged shard ({(str(error) or type(error).__name__).splitlines()[0][:200]})") from error
    if image is not None:
        yield image[0], label, image[1]


def _must_end(file: Any, offset: int, place: str) -> None:
    """A plain archive ends with a block of zeros; tarfile takes anything else in its place for the end, without a word."""
    if place.lower().endswith(".tar"):
        file.seek(offset)
        mark = file.read(512)
        if len(mark) < 512 or any(mark):
            raise ValueError(f"it breaks off after {offset:,} bytes")


def _label(kind: str, data: bytes) -> str | None:
    """What .cls and .label say, or the label of a .json; a .txt is a caption, and none."""
    text = data.decode("utf-8", "replace").strip()
    if kind == "txt":
        return None
    if kind != "json":
        return text or None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    value = found.get("label") if isinstance(found, dict) else None
    return None if value is None else str(value)
