"""``README.md`` beside a model: a model card in the format of the Hugging Face hub, made of what the model knows of itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from greffon.errors import ModelError
from greffon.model import Model
from greffon.report.labels import printable
from greffon.whole import whole_file

__all__ = ["CARD_FILE", "card_text", "write_card"]

#: Its name in the model folder, which the hub looks for.
CARD_FILE = "README.md"

#: Licences of weights as people write them → the hub's identifiers (hf.co/docs/hub/repositories-licenses).
_LICENCES = {
    "cc by 4.0": "cc-by-4.0",
    "cc-by-4.0": "cc-by-4.0",
    "cc-by-nc-4.0": "cc-by-nc-4.0",
    "apache-2.0": "apache-2.0",
    "apache 2.0": "apache-2.0",
    "mit": "mit",
    "bsd-3-clause": "bsd-3-clause",
    "not stated": "unknown",
    "": "unknown",
}
#: The figures of ``metrics.json`` that the front matter has → what people call them.
_METRICS = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "top5_accuracy": "Top-5 accuracy",
    "log_loss": "Log-loss (nats)",
    "expected_calibration_error": "Expected calibration error",
}
_SPLITS = {"train": "to learn from", "val": "to choose by", "test": "to test on"}


def write_card(folder: Path, model: Model) -> None:
    """Write the card into a model folder, whole or not at all. Raises ModelError where it cannot be written."""
    file = folder / CARD_FILE
    try:
        with whole_file(file) as part:
            part.write_text(card_text(model), "utf-8")
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be written ({getattr(error, 'strerror', None) or error})") from error


def card_text(model: Model) -> str:
    """The card: front matter in YAML, and Markdown. No path of the machine that the model was made on, and no photo's name.

    Nothing is asked of the hub. What it would refuse (a front matter that does not read back as it was meant) raises ValueError.
    """
    from huggingface_hub import ModelCard

    about = _front_matter(model)
    body = "\n\n".join(part for part in _parts(model) if part)
    card = ModelCard(f"---\n{about.to_yaml()}\n---\n\n{body}\n")
    if card.data.to_dict() != about.to_dict():
        raise ValueError("the model card's front matter does not read back as it was written")
    return str(card)


def _front_matter(model: Model) -> Any:
    from huggingface_hub import EvalResult, ModelCardData

    entry, figures = model.backbone.plan.entry, model.figures
    licence = _LICENCES.get(entry.licence.strip().lower(), "other")
    results = [
        EvalResult(
            task_type="image-classification",
            task_name="Image classification",
            dataset_type="imagefolder",
            dataset_name="the photos it was made for, test split",
            dataset_split="test",
            metric_type=key,
            metric_name=_with_interval(name, key, figures),
            metric_value=round(float(figures[key]), 6),
        )
        for key, name in _METRICS.items()
        if figures.get(key) is not None
    ]
    return ModelCardData(
        license=licence,
        license_name=_plain(entry.licence) if licence == "other" else None,
        library_name="greffon",
        pipeline_tag="image-classification",
        tags=["image-classification", "transfer-learning", _slug(str(model.training.get("strategy", ""))) or "greffon", "vision"],
        base_model=entry.hub or None,
        metrics=[key for key in _METRICS if figures.get(key) is not None] or None,
        model_name=f"{_slug(entry.name) or 'model'}-greffon" if results else None,
        eval_results=results or None,
    )


def _with_interval(name: str, key: str, figures: Mapping[str, Any]) -> str:
    told = figures.get("accuracy_interval")
    if key != "accuracy" or not told:
        return name
    return f"{name} (95 % interval {told[0]:.4f} to {told[1]:.4f}, {figures.get('n')} images)"


def _parts(model: Model) -> Iterator[str]:
    entry, training = model.backbone.plan.entry, model.training
    strategy = str(training.get("strategy", "transfer learning"))
    yield f"# {len(model.classes)} classes of photos, told apart by {_said(entry.name)}"
    how = f"the stages from {_said(model.cut)} upwards and a new head were trained" if model.cut != "none" else "a new head was trained"
    yield (
        f"An image classifier made by transfer learning ({_said(strategy)}) with greffon {version('greffon')}: of the pretrained network"
        f" {_said(entry.name)}, {how}."
        f" Photos are seen at {entry.preprocess.height} × {entry.preprocess.width} pixels; the frozen part runs in {model.precision}."
    )
    yield _trained_on(model)
    yield _figures(model)
    yield _calibration(model)
    yield _limits(model)
    yield _use()
    whose, licence = (_said(text or "not stated") for text in (entry.weights_of, entry.licence))
    yield (
        f"## Whose weights\n\nThe pretrained weights are those of: {whose}. Their licence: {licence}."
        " Whoever passes the model on passes these weights on, and names their authors. Rights in the photos it was trained on are not"
        " known to greffon."
    )


def _trained_on(model: Model) -> str:
    data, lines = model.data, ["## What it was trained on", ""]
    if isinstance(data.get("images"), int):
        lines.append(f"{data['images']:,} photos of the person who made it, which do not come with it.")
    if isinstance(data.get("splits"), Mapping):
        lines.append(", ".join(f"{data['splits'].get(name, 0):,} {what}" for name, what in _SPLITS.items()) + ".")
    if isinstance(data.get("target_images"), int):
        lines.append(f"Adapted to {data['target_images']:,} photos of another domain, without their labels.")
    if data.get("fingerprint"):
        lines.append(f"Fingerprint of the data: `{str(data['fingerprint'])[:16]}`.")
    counts = data.get("images_by_class")
    known = isinstance(counts, Mapping)
    lines += ["", *(("| class | photos |", "|---|---:|") if known else ("| class |", "|---|"))]
    for name in model.classes[:100]:
        lines.append(f"| {_said(name)} | {counts.get(name, 0):,} |" if known else f"| {_said(name)} |")
    if len(model.classes) > 100:
        lines += ["", f"… and {len(model.classes) - 100} more: all stand in `model.json`."]
    return "\n".join(lines)


def _figures(model: Model) -> str:
    figures = model.figures
    if not figures.get("n"):
        return "## How good it is\n\nNot known: it was not tested on labelled photos."
    low, high = figures["accuracy_interval"]
    lines = [
        "## How good it is",
        "",
        f"On {figures['n']:,} test photos, which had no part in training or in any choice: **{_percent(figures['accuracy'])} named"
        f" rightly** (95 % interval, Wilson: {_percent(low)} to {_percent(high)}).",
        "",
        "| figure | value |",
        "|---|---:|",
    ]
    lines += [f"| {name} | {figures[key]:.4f} |" for key, name in _METRICS.items() if figures.get(key) is not None]
    rows = figures.get("classes") or []
    if rows:
        lines += ["", "| class | test photos | found (recall) | right when named (precision) |", "|---|---:|---:|---:|"]
        lines += [
            f"| {_said(row['name'])} | {row['count']:,} | {_percent(row['recall'])} | {_percent(row['precision'])} |" for row in rows[:100]
        ]
    return "\n".join(lines)


def _calibration(model: Model) -> str:
    error, before = model.figures.get("expected_calibration_error"), model.figures.get("expected_calibration_error_uncalibrated")
    temperature = getattr(model.head, "temperature", 1.0)
    told = f"Scores are divided by the temperature {temperature:.3f} before they become probabilities."
    if error is not None:
        told += f" On the test photos, confidence is off by {100 * error:.1f} points on average (expected calibration error, 15 bins"
        told += f"; {100 * before:.1f} without the temperature)." if before is not None else ")."
    if model.conformal is not None:
        told += f" {len(model.conformal):,} photos were held out for prediction sets: `greffon predict MODEL photo.jpg --sets 0.9`."
    return f"## Calibration\n\n{told}"


def _limits(model: Model) -> str:
    figures, points = model.figures, [
        f"It knows its {len(model.classes)} classes alone, and gives one of them to every photo, also to one of something else.",
        "The figures hold for photos like those it was tested on. Another camera, another place or another season may give others: "
        "test it there (`greffon evaluate MODEL DATA`).",
        "Faults of the pretrained network, and of the photos it was trained on, are in it.",
    ]  # fmt: skip
    if figures.get("n"):
        low, high = figures["accuracy_interval"]
        if high - low > 0.1:
            points.append(f"{figures['n']:,} test photos are few: the interval of the accuracy is {100 * (high - low):.0f} points wide.")
        rows = [row for row in figures.get("classes") or [] if row["recall"] is not None]
        worst = min(rows, key=lambda row: row["recall"], default=None)
        if worst is not None and worst["recall"] < figures["accuracy"] - 0.05:
            points.append(f"It finds {_said(worst['name'])} worst: {_percent(worst['recall'])} of {worst['count']:,} test photos.")
    counts = model.data.get("images_by_class")
    if isinstance(counts, Mapping) and counts and min(counts.values()) < 20:
        rare = min(counts, key=lambda name: counts[name])
        points.append(f"{_said(str(rare))} had {counts[rare]:,} photos in all, which is few to learn from and to test on.")
    if model.data.get("target_images") is not None:
        points.append("The photos that it was adapted to have no labels, so how good it is on them is not known.")
    return "## Limits\n\n" + "\n".join(f"- {point}" for point in points)


def _use() -> str:
    return """## How to use it

```bash
pip install greffon
greffon predict MODEL photo.jpg --json      # MODEL: the folder of this file
greffon evaluate MODEL DATA                 # on your own labelled photos
greffon export MODEL --to onnx --out DIR    # to run it without greffon
```

```python
from greffon import load_model
from pathlib import Path

found = load_model("MODEL").predict([Path("photo.jpg")])
print(found.classes, found.probabilities)
```"""


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _plain(text: str) -> str:
    """One line without control signs, of signs that UTF-8 has."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in printable(text)).split())


def _said(text: str) -> str:
    """Somebody's word within a line of Markdown: nothing in it is markup (CommonMark 0.31, section 2.4), a link or a column."""
    return re.sub(r"([\\`*_{}\[\]<>#+!|~&$:@])", r"\\\1", _plain(text))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")
