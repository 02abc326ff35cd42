"""``Backbone``: a trained CNN as a chain of stages that can be cut between any two of them.

The networks are timm's. How the chain runs is not written down for each family but found out: the network is
run once on the meta device (shapes only, no memory), and every module tells what it took and what it gave. Where
each took just what the one before it gave, from the image to the last feature map, the network is a chain, and
calling the links one after another is the same arithmetic in the same order as ``forward_features``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from greffon.backbones.catalogue import Entry, stage_starts
from greffon.backbones.timm_library import create_model, create_on_meta, is_model, is_model_pretrained, without_compiler
from greffon.errors import BackboneError, WeightsError
from greffon.images import Preprocess

__all__ = ["Backbone", "Blueprint", "Span", "Stage", "blueprint", "check_tensors", "fingerprint", "stage_shapes"]


@dataclass(frozen=True, slots=True)
class Stage:
    """A named run of links: the dotted paths, in timm's network, of modules that follow each other."""

    name: str
    links: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Blueprint:
    """A network without weights.

    Parameters
    ----------
    entry
        Its row in the catalogue.
    model
        timm's network, in eval mode; its parameters are on the meta device and have no values.
    stages
        From the image upwards. The last one ends where timm's ``forward_features`` ends.
    """

    entry: Entry
    model: nn.Module
    stages: tuple[Stage, ...]

    def trunk_keys(self) -> tuple[str, ...]:
        """The names of the tensors of all stages, in timm's spelling, in the order of ``state_dict``."""
        links = tuple(f"{link}." for stage in self.stages for link in stage.links)
        return tuple(key for key in self.model.state_dict() if key.startswith(links))

    def classifier_keys(self) -> tuple[str, ...]:
        """The names of the remaining tensors: those of the classifier that the network was trained with."""
        trunk = set(self.trunk_keys())
        return tuple(key for key in self.model.state_dict() if key not in trunk)


@final
class Span(nn.Module):
    """Consecutive stages of a backbone.

    ``forward``: (n, c, h, w) to (n, c', h', w'). ``pooled``: the same way, giving the mean and the maximum over
    height and width of each stage's output instead: float32 (n, sum of 2 c over the stages), in the order
    mean of the first, maximum of the first, mean of the second, ...
    """

    def __init__(self, stages: list[tuple[str, list[nn.Module]]]) -> None:
        super().__init__()
        self.names = tuple(name for name, _ in stages)
        self.stages = nn.ModuleList(nn.ModuleList(links) for _, links in stages)

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            for link in stage:  # type: ignore[attr-defined]  # a ModuleList is iterable; nn.Module hides it
                x = link(x)
        return x

    def pooled(self, x: Tensor) -> Tensor:
        parts: list[Tensor] = []
        for stage in self.stages:
            for link in stage:  # type: ignore[attr-defined]  # as above
                x = link(x)
            # Pooled before the next stage runs: it may write into its input. Kept in x's precision up to here,
            # summed in float32.
            parts += [x.mean((2, 3), dtype=torch.float32), x.amax((2, 3)).float()]
        return torch.cat(parts, 1)


@final
class Backbone:
    """A network with its weights.

    Parameters
    ----------
    plan
        The network; its tensors are filled in place.
    tensors
        All tensors of the stages, in timm's names. Those of the classifier may stand beside them, all or none.

    Raises
    ------
    WeightsError
        A tensor is missing, has another shape, or does not belong to the network.
    """

    def __init__(self, plan: Blueprint, tensors: Mapping[str, Tensor]) -> None:
        check_tensors(plan, tensors)
        self.plan = plan
        classifier = plan.classifier_keys()
        self.has_classifier = bool(classifier) and all(key in tensors for key in classifier)
        self._widths = tuple(shape[0] for _, shape in stage_shapes(plan))
        wanted = {key: _plainly_laid_out(tensors[key]) for key in plan.model.state_dict() if key in tensors}
        plan.model.load_state_dict(wanted, strict=False, assign=True)
        plan.model.requires_grad_(False)
        plan.model.eval()
        self.fingerprint = fingerprint({key: tensors[key] for key in plan.trunk_keys()})

    @property
    def name(self) -> str:
        return self.plan.entry.name

    @property
    def preprocess(self) -> Preprocess:
        return self.plan.entry.preprocess

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages, from the image upwards."""
        return tuple(stage.name for stage in self.plan.stages)

    def position(self, cut: str) -> int:
        """How many stages lie below a cut.

        ``cut`` is the name of the first stage above it, as in ``--unfreeze``; ``"none"`` is the cut above the last
        stage, ``"all"`` the one below the first. Raises BackboneError for another name.
        """
        if cut == "none":
            return len(self.stages)
        if cut == "all":
            return 0
        if cut not in self.stages:
            raise BackboneError(f"{self.name} has no stage {cut!r}", hint=f"Its stages are: {', '.join(self.stages)}.")
        return self.stages.index(cut)

    def below(self, cut: str) -> Span:
        """The stages below the cut: normalised image (n, 3, h, w) to activations (n, c, h', w')."""
        return self._span(self.plan.stages[: self.position(cut)])

    def above(self, cut: str) -> Span:
        """The stages above the cut, up to the last feature map: ``above(cut)(below(cut)(x))`` is the network."""
        return self._span(self.plan.stages[self.position(cut) :])

    def classify(self, features: Tensor) -> Tensor:
        """Feature map (n, c, h, w) to the logits (n, classes) of the classifier that it was trained with.

        Raises BackboneError where the weights came without it.
        """
        if not self.has_classifier:
            raise BackboneError(f"the weights of {self.name} came without its ImageNet classifier")
        return self.plan.model.forward_head(features)  # type: ignore[operator]  # nn.Module hides it; timm's networks all have it

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of all stages, in timm's names."""
        state = self.plan.model.state_dict()
        return {key: state[key] for key in self.plan.trunk_keys()}

    def widths(self) -> tuple[int, ...]:
        """The number of channels that each stage gives."""
        return self._widths

    def _span(self, stages: tuple[Stage, ...]) -> Span:
        return Span([(s.name, [self.plan.model.get_submodule(link) for link in s.links]) for s in stages]).eval()


def blueprint(entry: Entry) -> Blueprint:
    """Build a network on the meta device and find its stages.

    Raises
    ------
    BackboneError
        The network is not a CNN whose ``forward_features`` gives (n, c, h, w), or not a chain of modules, or it cannot
        take images of the entry's size.
    """
    model = _build(entry)
    chain = _chain(entry, model)
    stages = _stages(entry, model, chain)
    _protect_inputs(entry, model, stages)
    return Blueprint(entry, model, stages)


def stage_shapes(plan: Blueprint, height: int = 0, width: int = 0) -> list[tuple[str, tuple[int, int, int]]]:
    """The output shape (c, h, w) of every stage for one input size (the catalogue's, if 0); nothing is computed."""
    model = plan.model if _on_meta(plan.model) else _build(plan.entry)
    x = torch.empty(1, 3, height or plan.entry.preprocess.height, width or plan.entry.preprocess.width, device="meta")
    shapes = []
    model = model.to("meta")
    with torch.no_grad(), without_compiler():
        for stage in plan.stages:
            for link in stage.links:
                x = model.get_submodule(link)(x)
            shapes.append((stage.name, (int(x.shape[1]), int(x.shape[2]), int(x.shape[3]))))
    return shapes


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, shapes and float32 values (counters as int64), whichever file and dtype they came in."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu()
        tensor = tensor.float() if tensor.is_floating_point() else tensor.long()
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_tensors(plan: Blueprint, tensors: Mapping[str, Tensor]) -> None:
    """Equal key sets, shapes and kinds of numbers, or a WeightsError that lists the differences."""
    state = plan.model.state_dict()
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    fractions = {key: value.is_floating_point() for key, value in state.items()}
    trunk, classifier = set(plan.trunk_keys()), set(plan.classifier_keys())
    needed = trunk | classifier if classifier & set(tensors) else trunk
    missing = sorted(needed - set(tensors))
    unexpected = sorted(set(tensors) - set(shapes))
    both = sorted(needed & set(tensors))
    other = [f"{key} {tuple(tensors[key].shape)} instead of {shapes[key]}"
             for key in both if tuple(tensors[key].shape) != shapes[key]]  # fmt: skip
    # Whole numbers where the network has fractions: a quantised file, whose scales stand elsewhere.
    kinds = [f"{key} {tensors[key].dtype}" for key in both if tensors[key].is_floating_point() != fractions[key]]
    if missing or unexpected or other or kinds:
        parts = [f"{word}: {_few(names)}" for word, names in
                 (("missing", missing), ("unexpected", unexpected), ("of another shape", other),
                  ("of another kind", kinds)) if names]  # fmt: skip
        raise WeightsError(f"these are not the weights of {plan.entry.name}. Tensors {'; '.join(parts)}",
                           hint="Is it the right file for this network?")  # fmt: skip


def _plainly_laid_out(tensor: Tensor) -> Tensor:
    """The same values in the usual order in memory.

    Files can hold transposed tensors, and torch would choose other kernels for them, which differ in the last bits: the
    same weights would then depend on the file that they came from.
    """
    usual = torch.empty(tensor.shape, device="meta").stride()
    return tensor if tensor.stride() == usual else tensor.clone(memory_format=torch.contiguous_format)


def _few(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


# --- how the chain is found ------------------------------------------------------------------------------------


_ANOTHER = "Choose another backbone: greffon backbones"


def _build(entry: Entry) -> nn.Module:
    # An architecture can come from a model folder, and timm would take "hf-hub:..." as an order to fetch something.
    if not is_model(entry.architecture) or "." in entry.architecture or ":" in entry.architecture:
        raise BackboneError(f"there is no network {entry.architecture!r} in this version of timm")
    # By its full name: the tag decides how many classes the classifier has, and for some networks the image size.
    tagged = entry.name.partition(".")[0] == entry.architecture and is_model_pretrained(entry.name)
    name = entry.name if tagged else entry.architecture
    model = create_on_meta(name)
    saved = model.state_dict().keys()
    if any(key not in saved for key, _ in model.named_buffers()):
        # Buffers that are not saved are computed at construction, so there they need a real device.
        model = create_model(name, pretrained=False)
    return model.eval()


def _on_meta(model: nn.Module) -> bool:
    return all(tensor.is_meta for tensor in model.parameters())


def _links(model: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """The children of a network; those that are plain Sequentials are opened."""
    found = []
    for name, child in model.named_children():
        path = f"{prefix}{name}"
        if isinstance(child, nn.Sequential) and type(child).forward is nn.Sequential.forward and len(child):
            found += _links(child, f"{path}.")
        else:
            found.append((path, child))
    return found


@dataclass(frozen=True, slots=True)
class _Call:
    """One run of a module: the tensor it took and the one it gave, each with its number of in-place changes so far."""

    path: str
    taken: object
    taken_version: int
    given: object
    given_version: int


def _version(value: object) -> int:
    return value._version if isinstance(value, Tensor) else 0


def _image(entry: Entry, model: nn.Module) -> Tensor:
    device = next(iter(model.parameters())).device
    return torch.zeros(2, 3, entry.preprocess.height, entry.preprocess.width, device=device)


def _watch(entry: Entry, model: nn.Module, image: Tensor) -> tuple[list[_Call], object]:
    """Run ``forward_features`` on an image: what every module took and gave, in the order of their ends; the result."""
    calls: list[_Call] = []
    versions: dict[str, int] = {}
    hooks = []
    for path, module in _links(model):

        def before(_: nn.Module, inputs: tuple[object, ...], path: str = path) -> None:
            versions[path] = _version(inputs[0]) if inputs else 0

        def after(_: nn.Module, inputs: tuple[object, ...], output: object, path: str = path) -> None:
            taken = inputs[0] if len(inputs) == 1 else None
            calls.append(_Call(path, taken, versions[path], output, _version(output)))

        hooks += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    try:
        with torch.no_grad(), without_compiler():
            return calls, model.forward_features(image)  # type: ignore[operator]  # nn.Module hides it; timm's networks all have it
    except (AssertionError, RuntimeError, ValueError) as error:  # torch, timm: smaller than a kernel, or a fixed size
        size = f"{entry.preprocess.height} × {entry.preprocess.width}"
        hint = "Leave the size away: it is then the one that the weights were trained with."
        raise BackboneError(f"{entry.name} cannot take images of {size} pixels", hint=hint) from error
    finally:
        for hook in hooks:
            hook.remove()


def _chain(entry: Entry, model: nn.Module) -> list[str]:
    image = _image(entry, model)
    calls, end = _watch(entry, model, image)
    if not isinstance(end, Tensor) or end.ndim != 4 or end.shape[1] != model.num_features:
        shape = tuple(end.shape) if isinstance(end, Tensor) else type(end).__name__
        what = f"its features are {shape}, expected (n, c, h, w)"
        raise BackboneError(f"{entry.name} is not a CNN in greffon's sense: {what}", hint=_ANOTHER)
    # The same tensor is not enough: between two modules the network may have changed it in place, which no module
    # of the chain would repeat. Its version tells.
    at, version = image, image._version
    chain: list[str] = []
    for call in calls:
        if call.taken is not at or call.taken_version != version:
            break
        chain.append(call.path)
        at, version = call.given, call.given_version
    if at is not end or version != end._version or len(set(chain)) != len(chain):
        reached = chain[-1] if chain else "the image"
        what = f"is not a chain of modules (it ends at {reached}), and cannot be cut"
        raise BackboneError(f"{entry.name} {what}", hint=_ANOTHER)
    return chain


def _protect_inputs(entry: Entry, model: nn.Module, stages: tuple[Stage, ...]) -> None:
    """No stage may overwrite what it is given, for that may be a stored activation.

    A stage's second link can do so as well, where the first one hands its input on (Identity, or dropout in eval mode).
    """
    x = _image(entry, model)
    with torch.no_grad(), without_compiler():
        for stage in stages:
            given = x
            for link in stage.links:
                module = model.get_submodule(link)
                taken, version = x, given._version
                x = module(taken)
                if given._version == version:
                    continue
                for part in module.modules():
                    if getattr(part, "inplace", False):
                        part.inplace = False  # type: ignore[assignment]  # a plain bool, which nn.Module does not know
                version = given._version
                x = module(taken)
                if given._version != version:
                    raise BackboneError(
                        f"{entry.name}: its module {link} overwrites its input, so that it cannot be cut there"
                    )


def _stages(entry: Entry, model: nn.Module, chain: list[str]) -> tuple[Stage, ...]:
    starts = stage_starts(entry.architecture, chain, model)
    groups: list[tuple[str, list[str]]] = []
    for link in chain:
        if link in starts or not groups:
            groups.append((starts.get(link, "stem"), []))
        groups[-1][1].append(link)
    return tuple(Stage(name, tuple(links)) for name, links in groups)
