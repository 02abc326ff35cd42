"""A model as a file for production: it takes the raw photo, carries its labels, and agrees with the model it comes from."""

from greffon.exporting.card import SCHEMA
from greffon.exporting.files import FORMATS, Format
from greffon.exporting.making import EXPORT_FILE, RUNNER_FILE, Exported, export_model, format_of, ready_to_export
from greffon.exporting.parity import TOLERANCES, Parity, Undecided

__all__ = [
    "EXPORT_FILE",
    "FORMATS",
    "RUNNER_FILE",
    "SCHEMA",
    "TOLERANCES",
    "Exported",
    "Format",
    "Parity",
    "Undecided",
    "export_model",
    "format_of",
    "ready_to_export",
]
