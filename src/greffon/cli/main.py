"""The program: all commands, and what goes for each of them. Each command's docstring is its page, with an example."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings

import typer

from greffon.cli.auditing import audit
from greffon.cli.clustering import cluster
from greffon.cli.distributing import with_addresses
from greffon.cli.explaining import explain
from greffon.cli.exporting import export
from greffon.cli.growing import curve
from greffon.cli.inductive import compare, probe, train
from greffon.cli.knowing import backbones, cache, describe, views
from greffon.cli.pretraining import pretrain
from greffon.cli.reading import with_shares
from greffon.cli.reporting import report
from greffon.cli.searching import duplicates, index, map_photos, outliers, search
from greffon.cli.serving import serve
from greffon.cli.suggesting import suggest
from greffon.cli.transductive import adapt, label
from greffon.cli.using import classify, embed, evaluate, predict
from greffon.cli.weights import weights as weights_app
from greffon.errors import GreffonError
from greffon.settings import cache_root

__all__ = [
    "adapt",
    "app",
    "audit",
    "backbones",
    "cache",
    "classify",
    "cluster",
    "compare",
    "curve",
    "describe",
    "duplicates",
    "embed",
    "evaluate",
    "explain",
    "export",
    "index",
    "label",
    "main",
    "map_photos",
    "outliers",
    "predict",
    "pretrain",
    "probe",
    "report",
    "search",
    "serve",
    "suggest",
    "train",
    "views",
]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Transfer learning for image classification: a trained CNN is kept, and a small new part is grown on it.",
)

app.add_typer(weights_app, name="weights")


app.command()(train)
app.command()(adapt)
app.command()(label)
app.command()(suggest)
app.command()(audit)
app.command()(index)
app.command()(search)
app.command()(duplicates)
app.command()(outliers)
app.command("map")(map_photos)
app.command()(cluster)
app.command()(pretrain)
app.command()(predict)
app.command()(classify)
app.command()(evaluate)
app.command()(report)
app.command()(explain)
app.command()(embed)
app.command()(probe)
app.command()(compare)
app.command()(curve)
app.command()(export)
app.command()(serve)
app.command()(describe)
app.command()(backbones)
app.command()(cache)
app.command()(views)


def main() -> None:
    """Run the command line. Exit codes: 0, done; 2, something that the user gave is not right; 130, interrupted."""
    # The process is ours: Pillow's remarks on odd files are not for the user, who is told what matters of them;
    # nor is anything sent anywhere.
    warnings.filterwarnings("ignore", module="PIL")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Matplotlib keeps its list of fonts beside our things, not in a folder of its own in the user's home, and builds it
    # without a word.
    os.environ.setdefault("MPLCONFIGDIR", str(cache_root() / "matplotlib"))
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    # A file name that is not UTF-8 is printed with escapes, which JSON reads back as the same name.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        app(with_shares(with_addresses(sys.argv[1:])))
    except GreffonError as error:
        print(f"error: {error.what}", file=sys.stderr)
        if error.hint:
            print(error.hint, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; what was computed is kept", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of a pipe has gone (head, less): no fault, and nothing more to say.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
