"""A folder, a CSV or a Parquet file becomes a ``Dataset``. No image is opened here."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from greffon.datasets.value import Dataset
from greffon.errors import DataError

__all__ = ["read_columns", "read_dataset", "read_photos"]

_SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
                "test": "test", "testing": "test"}  # fmt: skip

#: Files that lie about in folders of photos and are no photos. They are counted, not opened.
_NOT_IMAGES = frozenset(
    (".txt", ".md", ".rst", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".toml", ".html", ".htm",
     ".css", ".js", ".py", ".ipynb", ".log", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".zip", ".gz", ".tar", ".7z",
     ".rar", ".db", ".ini", ".npy", ".npz", ".pkl", ".parquet", ".mat", ".h5", ".pt", ".pth", ".mp4", ".mov", ".avi",
     ".mp3", ".wav", ".exe", ".sh", ".bat", ".lnk", ".url", ".xmp", ".aae")
)  # fmt: skip
_HOW = "Give a folder with one folder of images a class, or a CSV or Parquet file with the columns path,label."


def read_dataset(data: Path | str, *, labelled: bool = True) -> Dataset:
    """Read what a data set says of itself.

    Understood are: a folder per class; ``train/``, ``val/``, ``test/`` with a folder per class in each; a folder
    per domain with a folder per class in each; a folder of images without classes; a CSV or Parquet file with
    ``path,label[,split][,domain]``, its paths relative to the file. Classes of folders are in alphabetical order,
    classes of a table in the order of their first appearance.

    Parameters
    ----------
    data
        A folder, or a ``.csv``, ``.tsv`` or ``.parquet`` file.
    labelled
        Whether labels are needed. If so, images without one are left out with a note, and none at all is an error.

    Raises
    ------
    DataError
        Nothing there, nothing readable, no class, wrong columns.
    """
    try:
        path = Path(data).expanduser()
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, RuntimeError) as error:  # RuntimeError: the ~name of nobody
        raise DataError(f"{data}: cannot be looked at ({getattr(error, 'strerror', '') or error})") from error
    if is_folder:
        dataset = _read_folder(path)
    elif is_file:
        dataset = _read_table(path)
    else:
        raise DataError(f"{path}: there is no such file or folder.", hint=_HOW)
    if labelled:
        known = dataset.labels >= 0
        if not known.any():
            found = f"found {len(dataset)} images but no class" if len(dataset) else "holds no image files."
            raise DataError(f"{path}: {found}", hint=_HOW)
        if not known.all():
            dropped = [dataset.paths[i] for i in np.flatnonzero(~known)]
            note = f"{len(dropped)} images have no label and are left out: {_some(dropped, path)}"
            dataset = _with_note(dataset.take(np.flatnonzero(known)), note)
    elif not len(dataset):
        raise DataError(f"{path}: holds no image files.", hint="Are the images somewhere below another folder?")
    return dataset


def read_photos(photos: Path | str, *, apart: Path | None = None) -> Dataset:
    """Every image file of a folder, however deep, or of a table: without labels, roles and domains.

    Parameters
    ----------
    photos
        A folder, or a table as ``read_dataset`` takes it; its other columns are not looked at.
    apart
        A folder whose files are left out, where it lies in the other one.

    Raises
    ------
    DataError
        Nothing there, or no image files.
    """
    try:
        path = Path(photos).expanduser()
        is_folder = path.is_dir()
    except (OSError, RuntimeError) as error:
        raise DataError(f"{photos}: cannot be looked at ({getattr(error, 'strerror', '') or error})") from error
    if not is_folder:
        table = read_dataset(path, labelled=False)
        blank = ("",) * len(table)
        return replace(table, labels=np.full(len(table), -1), classes=(), splits=blank, domains=blank)
    walk = _Walk()
    files = list(walk.below(path))
    notes = []
    if apart is not None:
        outer = Path(os.path.realpath(apart))
        lies = {folder: Path(os.path.realpath(folder)).is_relative_to(outer) for folder in {file.parent for file in files}}
        left = [file for file in files if not lies[file.parent]]
        if len(left) < len(files):
            notes.append(f"{len(files) - len(left)} files of {apart}, which lies in {path}, are left out")
        files = left
    below = len({file.parent for file in files} - {path})
    if below:
        notes.append(f"the names of {below} folders in {path} are not looked at: no label is taken from them")
    if walk.other:
        notes.append(f"{walk.other} files are no images by their names, and are passed over")
    if not files:
        fault = next((reason for folder, reason in walk.set_aside if folder == path), "")
        raise DataError(f"{path}: {fault or 'holds no image files'}", hint="Are the photos somewhere else?")
    return _dataset(path, [(file, "", "", "") for file in files], [], notes, walk.set_aside)


def _with_note(dataset: Dataset, note: str) -> Dataset:
    return Dataset(dataset.root, dataset.paths, dataset.labels, dataset.classes, dataset.splits, dataset.domains,
                   (*dataset.notes, note), dataset.set_aside)  # fmt: skip


def _some(paths: list[Path], root: Path, most: int = 3) -> str:
    base = root if root.is_dir() else root.parent
    names = [str(p.relative_to(base)) if p.is_relative_to(base) else str(p) for p in paths[:most]]
    return ", ".join(names) + (f" and {len(paths) - most} more" if len(paths) > most else "")


# --- folders ---------------------------------------------------------------------------------------------------


class _Walk:
    """One walk through a folder: the files that may be images, and what was passed over on the way."""

    def __init__(self) -> None:
        self.other: int = 0
        self.set_aside: list[tuple[Path, str]] = []
        self._seen: set[tuple[int, int]] = set()
        self._around: set[tuple[int, int]] = set()

    def entries(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """The folders and the files in one folder, each in the order of their names."""
        try:
            real = _identity(folder)
            if not self._seen:
                self._around = {_identity(outer) for outer in Path(os.path.realpath(folder)).parents}
        except OSError as error:
            self.set_aside.append((folder, f"the folder cannot be read ({error.strerror})"))
            return [], []
        if real in self._seen:
            self.set_aside.append((folder, "a link to a folder that was already read"))
            return [], []
        if real in self._around:
            self.set_aside.append((folder, "a link to a folder around this data set"))
            return [], []
        self._seen.add(real)
        try:
            with os.scandir(folder) as found:
                names = sorted(
                    (entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name
                )
        except OSError as error:
            self.set_aside.append((folder, f"the folder cannot be read ({error.strerror})"))
            return [], []
        folders = [Path(entry.path) for entry in names if _is_folder(entry)]
        files = [Path(entry.path) for entry in names if not _is_folder(entry)]
        images = [file for file in files if file.suffix.lower() not in _NOT_IMAGES and file.name != "Icon\r"]
        self.other += len(files) - len(images)
        return folders, images

    def below(self, folder: Path) -> Iterator[Path]:
        """Every image file in a folder and in the folders inside it, however deep."""
        waiting = [folder]
        while waiting:
            folders, files = self.entries(waiting.pop())
            yield from files
            waiting += reversed(folders)


def _identity(folder: Path) -> tuple[int, int]:
    """The same for every path to a folder. ``realpath`` would ask the disk about each folder on the way, every time."""
    about = folder.stat()
    return about.st_dev, about.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _name(folder: Path) -> str:
    """The name of a folder as text that can be printed. Bytes that are no UTF-8 become \\xNN: names stay apart."""
    return os.fsencode(folder.name).decode("utf-8", "backslashreplace")


def _read_folder(root: Path) -> Dataset:
    walk = _Walk()
    folders, files = walk.entries(root)
    if walk.set_aside:
        raise DataError(f"{root}: {walk.set_aside[0][1]}", hint=f"Is reading it permitted? Try: ls -ld {root}")
    rows: list[tuple[Path, str, str, str]] = []
    notes: list[str] = []
    roles = {folder: _SPLIT_NAMES[folder.name.lower()] for folder in folders if folder.name.lower() in _SPLIT_NAMES}
    if _are_splits(folders, roles):
        beside = [*(folder for folder in folders if folder not in roles), *files]
        if beside:
            notes.append(f"beside the folders of the splits, and passed over: {_some(beside, root)}")
        for folder, role in roles.items():
            classes, loose = walk.entries(folder)
            rows += [(path, "", role, "") for path in loose]
            rows += [(path, _name(name), role, "") for name in classes for path in walk.below(name)]
    elif not files and _are_domains([_Peek(folder) for folder in folders]):
        for domain in folders:
            rows += [
                (path, _name(name), "", _name(domain)) for name in walk.entries(domain)[0] for path in walk.below(name)
            ]
        notes.append(f"read as domains with the same classes in each: {', '.join(map(_name, folders))}")
    else:
        rows += [(path, "", "", "") for path in files]
        for folder in folders:
            refused = len(walk.set_aside)
            images = list(walk.below(folder))
            rows += [(path, _name(folder), "", "") for path in images]
            if not images and len(walk.set_aside) == refused:
                notes.append(f"the class folder {_name(folder)!r} is empty, and is passed over")
    if walk.other:
        notes.append(f"{walk.other} files are no images by their names, and are passed over")
    classes = sorted({label for _, label, _, _ in rows if label})
    return _dataset(root, rows, classes, notes, walk.set_aside)


def _are_splits(folders: list[Path], roles: dict[Path, str]) -> bool:
    """Whether the folders are train, val and test. One called "train" among others may be a class of vehicles."""
    return bool(roles) and (len(roles) == len(folders) or ("train" in roles.values() and len(set(roles.values())) > 1))


class _Peek:
    """The names of the folders in a folder, and whether files lie beside them."""

    def __init__(self, folder: Path) -> None:
        try:
            with os.scandir(folder) as found:
                entries = [entry for entry in found if not entry.name.startswith(".")]
        except OSError:
            entries = []
        self.folders = {entry.name for entry in entries if _is_folder(entry)}
        self.has_files = any(
            not _is_folder(entry) and Path(entry.name).suffix.lower() not in _NOT_IMAGES for entry in entries
        )


def _are_domains(inside: list[_Peek]) -> bool:
    """Two or more folders that hold nothing but folders, of which at least two names are in every one."""
    if len(inside) < 2 or any(peek.has_files or not peek.folders for peek in inside):
        return False
    return len(set.intersection(*(peek.folders for peek in inside))) >= 2


# --- tables ----------------------------------------------------------------------------------------------------


def _read_table(path: Path) -> Dataset:
    columns = read_columns(path)
    if "path" not in columns:
        raise DataError(f"{path}: expected a column 'path', got {list(columns)}", hint=_HOW)
    n = len(columns["path"])
    blank = [""] * n
    cells = {name: columns.get(name, blank) for name in ("path", "label", "split", "domain")}
    rows: list[tuple[Path, str, str, str]] = []
    set_aside: list[tuple[Path, str]] = []
    for number, (name, label, split, domain) in enumerate(zip(*cells.values(), strict=True), start=1):
        if not name:
            raise DataError(f"{path}: row {number} has no path")
        role = _SPLIT_NAMES.get(split.lower(), "") if split else ""
        if split and not role:
            raise DataError(f"{path}: row {number}: the split must be train, val or test, got {split!r}")
        file = path.parent / name
        if _is_there(file):
            rows.append((file, label, role, domain))
        else:
            set_aside.append((file, f"row {number}: there is no such file"))
    if n and not rows:
        raise DataError(f"{path}: none of its {n} files is there, {set_aside[0][0]} for one.",
                        hint="Paths in a table are relative to the folder that the table is in.")  # fmt: skip
    classes = list(dict.fromkeys(label for _, label, _, _ in rows if label))
    return _dataset(path, rows, classes, [], set_aside)


def read_columns(path: Path) -> dict[str, list[str]]:
    """The columns of a CSV or Parquet file as text, all of one length, their names in lower case. Raises DataError.

    Of a Parquet file only the columns of a data set (path, label, split, domain) are read; others are empty.
    """
    return _parquet_columns(path) if _is_parquet(path) else _csv_columns(path)


def _is_there(file: Path) -> bool:
    try:
        return file.is_file()
    except (OSError, ValueError):
        return False


def _is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


_COLUMNS = ("path", "label", "split", "domain")


def _refuse_twins(path: Path, names: list[str]) -> None:
    lower = [name.strip().lower() for name in names]
    for name in _COLUMNS:
        if lower.count(name) > 1:
            raise DataError(f"{path}: has {lower.count(name)} columns called {name!r}, and needs one")


def _parquet_columns(path: Path) -> dict[str, list[str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            _refuse_twins(path, names)
            wanted = [name for name in names if name.strip().lower() in _COLUMNS]
            table = file.read(columns=wanted)
        columns: dict[str, list[str]] = {name: [] for name in names if name not in wanted}
        for name in wanted:
            columns[name.strip().lower()] = [_cell(value) for value in table.column(name).to_pylist()]
    except DataError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        reason = (str(error) or type(error).__name__).strip().partition("\n")[0][:200]
        raise DataError(f"{path}: a damaged Parquet file ({reason})") from error
    return columns


def _cell(value: object) -> str:
    """A value of a Parquet file as a CSV would have it. Nothing, and not-a-number, are empty."""
    if value is None or value != value:
        return ""
    return (value.decode("utf-8") if isinstance(value, bytes) else str(value)).strip()


def _csv_columns(path: Path) -> dict[str, list[str]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: must be CSV in UTF-8 or Parquet; byte {error.start} is neither", hint=_HOW) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if not text.strip():
        raise DataError(f"{path}: the file is empty", hint=_HOW)
    delimiter = max(",;\t", key=text.lstrip().splitlines()[0].count)
    try:
        # Not str.splitlines, which would break rows at signs that may stand in a name, such as U+2028.
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(row)]
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV file ({error})", hint=_HOW) from error
    header = [name.strip().lower() for name in rows[0]] if rows else []
    _refuse_twins(path, header)
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(header):
            raise DataError(f"{path}: row {number} has {len(row)} fields, the header has {len(header)}")
    return {name: [row[i].strip() for row in rows[1:]] for i, name in enumerate(header)}


def _dataset(
    root: Path,
    rows: list[tuple[Path, str, str, str]],
    classes: list[str],
    notes: list[str],
    set_aside: list[tuple[Path, str]],
) -> Dataset:
    number = {name: i for i, name in enumerate(classes)}
    return Dataset(
        root=root,
        paths=tuple(row[0] for row in rows),
        labels=np.array([number.get(row[1], -1) for row in rows], np.int64),
        classes=tuple(classes),
        splits=tuple(row[2] for row in rows),
        domains=tuple(row[3] for row in rows),
        notes=tuple(notes),
        set_aside=tuple(set_aside),
    )
