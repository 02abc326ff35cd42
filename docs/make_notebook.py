"""Write the notebook of the lesson, in English and French, and run it.

    python docs/make_notebook.py [--data FOLDER] [--check]

The cells stand below. They are run once, and both notebooks get what came out. ``--data`` names a folder of photos, one
folder a class: their pictures are in what comes out, so it lies in ``build/``. Without it scikit-learn's digits are taken,
and the notebooks of the documentation are written. ``--check`` runs nothing: it asks whether these have these cells.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
NOTEBOOKS = {"en": DOCS / "lesson" / "cars-to-trucks.ipynb", "fr": DOCS / "fr" / "lesson" / "cars-to-trucks.ipynb"}


@dataclass(frozen=True, slots=True)
class Cell:
    """Words in both languages, or code; code that draws has a description of its picture for those who cannot see it."""

    english: str = ""
    french: str = ""
    code: str = ""
    picture: tuple[str, str] = ("", "")

    def node(self, language: str, number: int) -> Any:
        from nbformat.v4 import new_code_cell, new_markdown_cell

        if not self.code:
            return new_markdown_cell((self.english if language == "en" else self.french).strip(), id=f"cell-{number}")
        alt = self.picture[0 if language == "en" else 1]
        return new_code_cell(self.code.strip(), id=f"cell-{number}", metadata={"alt": alt} if alt else {})


CELLS = (
    Cell(
        english="""
# From cars to trucks: the notebook

Written by `docs/make_notebook.py`; what is said about it: [the page](cars-to-trucks.md).
""",
        french="""
# Des voitures aux camions : le carnet

Écrit par `docs/make_notebook.py` ; ce qu'il faut en dire : [la page](cars-to-trucks.md).
""",
    ),
    Cell(
        english="""
## The photos

`GREFFON_LESSON_DATA` names a folder with one folder of photos a class, `GREFFON_LESSON_NEW` the classes that are new.
Without a folder, scikit-learn's handwritten digits are taken: 0 to 4 are known, 5 to 9 are new.
""",
        french="""
## Les photos

`GREFFON_LESSON_DATA` désigne un dossier contenant un dossier de photos par classe,
`GREFFON_LESSON_NEW` les classes nouvelles. Sans dossier, on prend les chiffres manuscrits de scikit-learn :
0 à 4 sont connus, 5 à 9 sont nouveaux.
""",
    ),
    Cell(
        code="""
import copy
import os

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from greffon import ImageFeatures
from greffon.datasets import read_dataset
from greffon.images import decode, enlarge
from greffon.metrics import paired_difference, wilson_interval

folder = os.environ.get("GREFFON_LESSON_DATA", "")
if folder:
    dataset = read_dataset(folder)
    classes, labels = list(dataset.classes), np.asarray(dataset.labels)
    pixels = np.stack([enlarge(decode(path.read_bytes()), 32, 32) for path in dataset.paths])
    new = os.environ.get("GREFFON_LESSON_NEW", "truck,ship").split(",")
else:
    digits = load_digits()
    classes, labels = [str(digit) for digit in range(10)], digits.target
    grey = (255 - digits.images * (255 / 16)).astype(np.uint8)
    pixels = np.repeat(grey[..., None], 3, axis=3)                                         # uint8 (n, h, w, 3)
    new = ["5", "6", "7", "8", "9"]
known = [name for name in classes if name not in new]
images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1                  # float32 (n, 3, h, w)
print(f"{len(images)} images of {pixels.shape[1]} x {pixels.shape[2]} pixels")
print("known:", ", ".join(known), "| new:", ", ".join(new))
"""
    ),
    Cell(
        code="""
def part(names, seed=0):
    \"\"\"Of these classes: indices to learn from and indices to test on (a third), and the label of each image.\"\"\"
    own = np.array([names.index(classes[label]) if classes[label] in names else -1 for label in labels])
    order = np.random.default_rng(seed).permutation(np.flatnonzero(own >= 0))
    test = np.concatenate([order[own[order] == c][: (own == c).sum() // 3] for c in range(len(names))])
    return np.setdiff1d(order, test), test, own


learn_known, test_known, y_known = part(known)
learn_new, test_new, y_new = part(new)

figure, axes = plt.subplots(1, len(classes), figsize=(9, 1.6))
for axis, name in zip(axes, known + new, strict=True):
    axis.imshow(pixels[np.flatnonzero(labels == classes.index(name))[0]])
    axis.set_title(name + (" (new)" if name in new else ""), fontsize=8)
    axis.axis("off")
""",
        picture=("One image of each class; the new ones are marked", "Une image de chaque classe ; les nouvelles sont marquées"),
    ),
    Cell(
        english="""
## The network

VGG's idea in small: three blocks of two 3 × 3 convolutions, each of which halves height and width. Below the last layer everything
is the **trunk**.
""",
        french="""
## Le réseau

L'idée de VGG en petit : trois blocs de deux convolutions 3 × 3, dont chacun divise par deux hauteur et largeur. Tout ce qui est
sous la dernière couche est le **tronc**.
""",
    ),
    Cell(
        code="""
def block(before, after):
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(),
        nn.Conv2d(after, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(),
        nn.MaxPool2d(2),
    )


class Small(nn.Module):
    def __init__(self, outputs, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.trunk = nn.Sequential(block(3, 16), block(16, 32), block(32, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(64, outputs)

    def forward(self, x):
        return self.head(self.trunk(x))


def varied(batch, draws):
    \"\"\"Photos: mirrored or not, and moved a little. Digits are moved alone: a mirrored 3 is no 3.\"\"\"
    if folder:
        flip = torch.rand(len(batch), generator=draws) < 0.5
        batch = torch.where(flip[:, None, None, None], batch.flip(3), batch)
    reach = batch.shape[2] // 8
    down, right = torch.randint(-reach, reach + 1, (2,), generator=draws).tolist()
    return batch.roll((down, right), (2, 3))


def train(net, chosen, y, steps, trunk_rate, head_rate, seed=0):
    \"\"\"AdamW with a rate that rises and falls, batches of 32; a trunk rate of 0 leaves the trunk as it is.\"\"\"
    draws = torch.Generator().manual_seed(seed)
    target = torch.from_numpy(y[chosen]).long()
    learning = [{"params": net.head.parameters(), "lr": head_rate}]
    if trunk_rate:
        learning.append({"params": net.trunk.parameters(), "lr": trunk_rate})
    optimizer = torch.optim.AdamW(learning, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [group["lr"] for group in learning], total_steps=steps)
    net.train()
    for _ in range(steps):
        at = torch.randint(len(chosen), (32,), generator=draws)
        loss = nn.functional.cross_entropy(net(varied(images[chosen[at.numpy()]], draws)), target[at])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


@torch.no_grad()
def right(net, chosen, y):
    return net(images[chosen]).argmax(1).numpy() == y[chosen]


small = Small(len(known), seed=0)
print(sum(tensor.numel() for tensor in small.trunk.parameters()), "weights in the trunk,",
      sum(tensor.numel() for tensor in small.head.parameters()), "in the last layer")
"""
    ),
    Cell(
        english="## It is taught the known classes",
        french="## On lui apprend les classes connues",
    ),
    Cell(
        code="""
taught = train(small, learn_known, y_known, steps=1000 if folder else 150, trunk_rate=3e-3, head_rate=3e-3)
known_right = right(taught, test_known, y_known)
low, high = wilson_interval(int(known_right.sum()), len(known_right))
print(f"{len(learn_known)} images to learn from; {known_right.mean():.1%} of {len(known_right)} others right",
      f"(95 %: {low:.1%} to {high:.1%})")
"""
    ),
    Cell(
        english="""
## The new classes, in four ways

With a few images of each new class, and with more:

1. **From nothing**: the same network, with random weights.
2. **Feature extraction**: the taught network without its last layer, frozen; a logistic regression on the mean
   of each block's output.
3. **Fine-tuning**: the taught network with a new last layer; the trunk learns on, at a third of the rate.
4. **VGG16**: feature extraction with a large network that ImageNet taught, by greffon.

Each is done with several draws of the images and tested on the same others, which none of them has seen.
""",
        french="""
## Les classes nouvelles, de quatre façons

Avec quelques images de chaque classe nouvelle, puis avec plus :

1. **À partir de rien** (*from nothing*) : le même réseau, avec des poids aléatoires.
2. **Extraction de caractéristiques** (*feature extraction*) : le réseau instruit, sans sa dernière couche, gelé ; une
   régression logistique sur la moyenne de la sortie de chaque bloc.
3. **Réglage fin** (*fine-tuning*) : le réseau instruit avec une nouvelle dernière couche ; le tronc continue d'apprendre,
   trois fois moins vite.
4. **VGG16** : extraction de caractéristiques avec un grand réseau instruit par ImageNet, par greffon.

Chacune est faite avec plusieurs tirages des images, et mesurée sur les mêmes autres images, qu'aucune n'a vues.
""",
    ),
    Cell(
        code="""
vgg16 = ImageFeatures("vgg16", size=64 if folder else 32, precision="float32")
of_new = np.concatenate([learn_new, test_new])
vgg16_features = np.zeros((len(images), 512), np.float32)
vgg16_features[of_new] = vgg16.fit_transform(list(pixels[of_new]))
with torch.no_grad():
    outputs = [images]
    for stage in taught.trunk[:3]:
        outputs.append(stage(outputs[-1]))
    taught_features = torch.cat([output.mean((2, 3)) for output in outputs[1:]], 1).numpy()  # float32 (n, 16 + 32 + 64)


def on_features(features, chosen, y):
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return model.fit(features[chosen], y[chosen]).predict(features[test_new]) == y[test_new]


def finely_tuned(chosen, y, seed):
    net = copy.deepcopy(taught)
    torch.manual_seed(seed)
    net.head = nn.Linear(64, len(new))
    return right(train(net, chosen, y, steps, trunk_rate=1e-3, head_rate=3e-3, seed=seed), test_new, y)


counts = [5, 20, 50, 200] if folder else [2, 5, 10, 20, 50]
draws = 3
steps = 150 if folder else 60
ways = ("from nothing", "feature extraction", "fine-tuning", "VGG16")
found = {way: np.zeros((len(counts), draws, len(test_new)), bool) for way in ways}
for i, count in enumerate(counts):
    for d in range(draws):
        order = np.random.default_rng(d).permutation(learn_new)
        chosen = np.concatenate([order[y_new[order] == c][:count] for c in range(len(new))])
        net = train(Small(len(new), seed=d), chosen, y_new, steps, trunk_rate=3e-3, head_rate=3e-3, seed=d)
        found["from nothing"][i, d] = right(net, test_new, y_new)
        found["feature extraction"][i, d] = on_features(taught_features, chosen, y_new)
        found["fine-tuning"][i, d] = finely_tuned(chosen, y_new, seed=d)
        found["VGG16"][i, d] = on_features(vgg16_features, chosen, y_new)
print(f"tested on {len(test_new)} images; mean of {draws} draws, in per cent")
print("images a class".ljust(20), *(str(count).rjust(6) for count in counts))
for way in ways:
    print(way.ljust(20), *(f"{100 * accuracy:6.1f}" for accuracy in found[way].mean((1, 2))))
"""
    ),
    Cell(
        code="""
figure, axis = plt.subplots(figsize=(7, 4))
for way, mark in zip(ways, "os^D", strict=True):
    each = 100 * found[way].mean(2)                                                        # (counts, draws)
    axis.plot(counts, each.mean(1), marker=mark, label=way)
    axis.fill_between(counts, each.min(1), each.max(1), alpha=0.15)
axis.set_xscale("log")
axis.set_xticks(counts, [str(count) for count in counts])
axis.minorticks_off()
axis.set_xlabel("images of each new class (logarithmic)")
axis.set_ylabel("accuracy in per cent")
axis.set_title(f"{', '.join(new)}: {len(test_new)} test images, {draws} draws (band: lowest to highest)", fontsize=10)
axis.legend()
axis.grid(alpha=0.3);
""",
        picture=(
            "Four curves of accuracy against the number of images of each new class",
            "Quatre courbes de l'exactitude selon le nombre d'images de chaque classe nouvelle",
        ),
    ),
    Cell(
        english="""
## Is the difference real?

Two ways, the same test images: the difference with its 95 % interval (Tango 1998), for the first draw. Where 0 lies inside, these
images do not show a difference.
""",
        french="""
## La différence est-elle réelle ?

Deux façons, les mêmes images de test : la différence avec son intervalle à 95 % (Tango 1998), pour le premier tirage.
Si 0 est dedans, ces images ne montrent pas de différence.
""",
    ),
    Cell(
        code="""
for count in (counts[1], counts[-1]):
    for way in ways[1:]:
        first, second = found[way][counts.index(count), 0], found["from nothing"][counts.index(count), 0]
        difference, (low, high) = paired_difference(first, second)
        print(f"{count:3} images a class, {way} less from nothing: {100 * difference:+.1f} points",
              f"(95 %: {100 * low:+.1f} to {100 * high:+.1f})")
"""
    ),
)


def notebooks() -> dict[str, Any]:
    """The notebooks as they should be, without outputs."""
    from nbformat.v4 import new_notebook

    about = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}, "language_info": {"name": "python"}}
    return {
        language: new_notebook(cells=[cell.node(language, i) for i, cell in enumerate(CELLS)], metadata=about) for language in NOTEBOOKS
    }


def run(notebook: Any, data: str = "", seconds: int = 600) -> Any:
    """Run a notebook in a fresh kernel, in an empty folder; an error in a cell is an error here."""
    import tempfile

    from nbclient import NotebookClient

    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "GREFFON_LESSON_DATA": str(Path(data).resolve()) if data else ""}
    with tempfile.TemporaryDirectory() as folder:
        where = {"metadata": {"path": folder}}
        client = NotebookClient(notebook, timeout=seconds, startup_timeout=300, kernel_name="python3", resources=where)
        client.execute(env=environment)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day
    return notebook


def pairs(wanted: Any, there: Any) -> Iterator[tuple[str, str]]:
    """The sources of the cells of two notebooks side by side; what one lacks is empty."""
    for i in range(max(len(wanted.cells), len(there.cells))):
        mine, theirs = ("".join(book.cells[i].source) if i < len(book.cells) else "" for book in (wanted, there))
        yield mine, theirs


def places(data: str) -> dict[str, Path]:
    """Where the notebooks go, by language: those of somebody's photos not into the project."""
    return {language: DOCS.parent / "build" / path.relative_to(DOCS) for language, path in NOTEBOOKS.items()} if data else NOTEBOOKS


def main() -> None:
    import nbformat

    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--data", default="", help="photos, a folder for each class")
    words.add_argument("--check", action="store_true", help="run nothing; fail if the notebooks have other cells")
    chosen = words.parse_args()
    wanted = notebooks()
    if chosen.check:
        for language, path in NOTEBOOKS.items():
            if any(one != other for one, other in pairs(wanted[language], nbformat.read(path, as_version=4))):
                sys.exit(f"{path.relative_to(DOCS.parent)} is not up to date: python docs/make_notebook.py")
        return
    run(wanted["en"], chosen.data, seconds=7200)
    for ours, theirs in zip(wanted["en"].cells, wanted["fr"].cells, strict=True):
        if ours.cell_type == "code":
            theirs.outputs, theirs.execution_count = ours.outputs, ours.execution_count
    for language, path in places(chosen.data).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(wanted[language], path)
        print(path)


if __name__ == "__main__":
    main()
