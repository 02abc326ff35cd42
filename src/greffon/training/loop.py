"""THE gradient loop: epochs, steps, validation, the best state, exact resume."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from greffon.activations import steady_kernels
from greffon.errors import ModelError
from greffon.heads import fit_temperature, softmax
from greffon.losses import classification_loss, l2_sp
from greffon.metrics import log_loss
from greffon.progress import Progress
from greffon.training.adapting import Adaptation, TargetStream
from greffon.training.checkpoint import Checkpoint, flat_optimizer, load_checkpoint, load_optimizer, save_checkpoint
from greffon.training.fabric import make_fabric, scores_of, without_dust
from greffon.training.groups import keep_statistics, make_optimizer, parameter_groups, train_top
from greffon.training.grown import FeaturesAndScores, Grown
from greffon.training.judging import FeatureRow, TargetRow, is_better
from greffon.training.mixing import mixed
from greffon.training.ranks import Ranks
from greffon.training.recipe import Recipe
from greffon.training.schedule import rate_factor, trained_stages
from greffon.training.source import Source, read_ahead
from greffon.training.values import EpochListener, EpochRow, Samples, Trained, class_weights
from greffon.training.winograd import winograd_convolutions

__all__ = ["fit"]

_ALONE = Ranks()


def fit(
    grown: Grown,
    source: Source,
    train: Samples,
    val: Samples | None,
    recipe: Recipe,
    *,
    progress: Progress,
    configuration: Mapping[str, Any] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    watch: Callable[[EpochRow], bool] | None = None,
    adaptation: Adaptation | None = None,
    listener: EpochListener | None = None,
    ranks: Ranks = _ALONE,
) -> Trained:
    """Train the stages above a cut and the head. The module ends in its best state, on the CPU.

    Every random number of an epoch comes from the seed and the number of the epoch, so a run that goes on from a
    checkpoint draws what the uninterrupted one would have drawn.

    Parameters
    ----------
    grown
        Trained in place.
    source
        Where the activations are.
    train, val
        The images. ``val`` alone decides which epoch is the best; where there is none, the last one is. With an
        adaptation, ``train`` may be empty, and ``val`` is told of and decides nothing.
    recipe
        What to do.
    configuration
        Everything that the run depends on, as JSON values: kept with the checkpoint, and compared on resuming.
    checkpoint
        A file that is written after every epoch, or None.
    resume
        Go on from the checkpoint, if there is one.
    watch
        Told of every epoch; training stops where it answers True.
    adaptation
        Images without labels, and what is to be made small with them: the target of an adaptation, or all there is. In every
        step as many of them come as labelled ones; where there are none of these, an epoch is each of them once. They are not mixed.
    listener
        Told of what has happened, and is in the checkpoint.
    ranks
        The processes that call this together, with the same of all else; the first one writes the checkpoint, which all read.

    Raises
    ------
    DataError, OptionError
        The adaptation cannot be done with these images, or this recipe.
    ModelError
        The checkpoint is damaged, or of another configuration; or the pretrained stages give no finite numbers.
    StoreError
        The checkpoint cannot be written, or activations have gone. The last checkpoint stays.
    """
    if adaptation is not None:
        adaptation.check(len(train), recipe)
    ranks.check(recipe, len(train))
    run = _Run(grown, source, train, val, recipe, progress, {} if configuration is None else configuration, adaptation, ranks)
    seeds = torch.random.fork_rng(devices=range(torch.cuda.device_count()))
    with seeds, steady_kernels(recipe.precision):
        known = load_checkpoint(checkpoint, run.configuration) if checkpoint is not None and resume else None
        if known is not None:
            try:
                run.restore(known)
            except (RuntimeError, KeyError, TypeError, ValueError, IndexError) as error:  # what torch says of other tensors
                reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
                raise ModelError(f"{checkpoint}: the checkpoint does not fit the run ({reason})",
                                 hint="Start again without --resume.") from error  # fmt: skip
            progress.say(f"going on after epoch {len(run.history) - 1} of {recipe.epochs}")
        else:
            run.begin()
        ranks.agree("checkpoint", len(run.history))
        if listener is not None:
            listener.follow(run.history)
        left = recipe.epochs - len(run.history) + 1
        progress.begin("Training", max(1, left) * run.images)
        try:
            while len(run.history) <= recipe.epochs and not run.stopped:
                row = run.epoch(len(run.history) - 1)
                if row is not None and watch is not None and watch(row):
                    run.stopped = "the search gave it up"
                if checkpoint is not None and ranks.rank == 0:
                    save_checkpoint(checkpoint, run.checkpoint())
                if listener is not None:
                    listener.follow(run.history)
        finally:
            progress.end()
    grown.load_state_dict(run.best)
    grown.cpu().requires_grad_(False)
    grown.eval()
    return Trained(run.best, tuple(run.history), run.best_epoch, run.stopped)


def _apart(seen: TargetRow | FeatureRow | None) -> tuple[TargetRow | None, FeatureRow | None]:
    """The last two fields of an ``EpochRow``."""
    return (None, seen) if isinstance(seen, FeatureRow) else (seen, None)


@final
class _Run:
    """The changing state of one training run."""

    def __init__(
        self,
        grown: Grown,
        source: Source,
        train: Samples,
        val: Samples | None,
        recipe: Recipe,
        progress: Progress,
        about: Mapping[str, Any],
        adaptation: Adaptation | None,
        ranks: Ranks,
    ) -> None:
        self.configuration = about
        self.history: list[EpochRow] = []
        self.best: dict[str, Tensor] = {}
        self.best_epoch = 0
        self.stopped = ""
        self._grown, self._source, self._train, self._val = grown, source, train, val
        self._recipe, self._progress, self._ranks = recipe, progress, ranks
        self._classes = grown.head.out_features
        grown.to(memory_format=torch.channels_last)
        if recipe.winograd:
            winograd_convolutions(grown.span)
        grown.requires_grad_(True)
        self._groups = parameter_groups(grown, recipe)
        self._fabric = make_fabric(recipe.precision)
        self._target = None if adaptation is None else TargetStream(adaptation, grown, source, recipe, self._fabric)
        if self._target is not None:
            self._groups += self._target.groups(len(grown.span.stages))
        optimizer = make_optimizer(self._groups, recipe)
        self._module, self._optimizer = self._fabric.setup(grown, optimizer)
        self._both = self._fabric.setup_module(FeaturesAndScores(grown)) if adaptation is not None else None
        self._positions = np.zeros(0, np.int64) if adaptation is None else adaptation.target
        self.images = len(train) or len(self._positions)
        balanced = recipe.balanced and len(train) > 0
        self._weights = class_weights(train.labels, self._classes).to(self._fabric.device) if balanced else None
        ranks.spread(list(grown.state_dict().values()))
        self._pretrained = list(grown.span.parameters())
        self._start = [p.detach().clone() for p in self._pretrained] if recipe.l2_sp else []
        self._average = copy.deepcopy(grown).requires_grad_(False).eval() if recipe.ema else None

    def begin(self) -> None:
        """Look at the validation images before the first step: whatever goes wrong later, this much is in hand."""
        began = time.perf_counter()
        (accuracy, loss), seen = self._validate(), self._judge_target()
        if not self._is_sound(loss, seen):
            raise ModelError("the pretrained stages above the cut give numbers that are not finite",
                             hint="Choose other weights, another cut (--unfreeze), or --keep float32.")  # fmt: skip
        self.history.append(EpochRow(0, None, accuracy, loss, 0.0, 0, time.perf_counter() - began, *_apart(seen)))
        self._keep_best(0)

    def epoch(self, number: int) -> EpochRow | None:
        """Train for one epoch, from 0, and validate. None, and a word in ``stopped``, where the loss is no number."""
        recipe, began = self._recipe, time.perf_counter()
        rng = np.random.default_rng([recipe.seed, number])
        torch.manual_seed(int(rng.integers(2**62)) + self._ranks.rank)
        stages = trained_stages(number, len(self._grown.span.stages), recipe.gradual)
        train_top(self._grown, stages)
        if self._target is not None and self._both is not None:
            self._grown.head.requires_grad_(self._target.adaptation.objective.trains_head)
            self._target.begin_epoch(self._both)
            self._forget_fresh(self._target)
        self._module.train()
        keep_statistics(self._grown, 0 if recipe.batch_norm == "frozen" else stages)
        order = rng.permutation(len(self._train))
        views = rng.integers(0, self._source.views, len(self._train))
        # Parts of nearly one size: no last batch of one image.
        parts = np.array_split(np.arange(self.images), math.ceil(self.images / recipe.batch))
        steps, drawn = recipe.epochs * len(parts), [] if self._target is None else self._target.draw(number, [len(p) for p in parts])
        # Images that are mixed may be anybody's.
        read = parts if recipe.mix != "none" else [p[self._ranks.share(len(p))] for p in parts]
        wanted = [[(self._train.positions[order[p]], views[p])] if len(order) else [] for p in read]
        for some, (which, looks) in zip(wanted, drawn, strict=False):
            some.append((self._positions[which], looks))
        total, ahead_by = 0.0, 4 if self._fabric.device.type == "cuda" else 1
        for step, (part, given) in enumerate(zip(parts, read_ahead(self._source, wanted, ahead_by), strict=True)):
            at = number * len(parts) + step
            labels = self._train.labels[order[part]] if len(order) else np.zeros(0, np.int64)
            which = drawn[step][0] if drawn else None
            loss = self._step(given, labels, which, at / steps, rate_factor(at, steps, recipe.warmup), rng)
            if not math.isfinite(loss):
                return self._give_up(f"the loss was {loss} in epoch {number + 1}")
            total += loss * len(part)
            self._progress.advance(len(part))
        (accuracy, log_loss_now), seen = self._validate(), self._judge_target()
        if not self._is_sound(log_loss_now, seen):
            return self._give_up(f"the scores were no numbers after epoch {number + 1}")
        factor, seconds = rate_factor(number * len(parts), steps, recipe.warmup), time.perf_counter() - began
        row = EpochRow(number + 1, total / self.images, accuracy, log_loss_now, recipe.learning_rate * factor, stages, seconds,
                       *_apart(seen), head_learning_rate=recipe.head_learning_rate * factor)  # fmt: skip
        self.history.append(row)
        self._judge(row)
        told = "" if accuracy is None else f", validation: {100 * accuracy:.1f} %, log-loss {log_loss_now:.3f}"
        if row.features is not None:
            told = f", score {row.features.score:+.3f}, rank {row.features.rank:.1f}, found again {100 * row.features.found:.1f} %"
        self._progress.say(f"epoch {row.epoch}: loss {row.loss:.3f}{told}  ({seconds:.1f} s)")
        return row

    def _forget_fresh(self, target: TargetStream) -> None:
        """What was drawn anew has no past: what the optimiser remembers of it goes."""
        if target.adaptation.objective.fresh:
            state = self._optimizer.optimizer.state
            for parameter in target.own.parameters():
                state.pop(parameter, None)

    def _is_sound(self, validated: float | None, seen: TargetRow | FeatureRow | None) -> bool:
        """Whether the scores are numbers: the last step of an epoch can ruin weights, and no loss tells of it."""
        if self._target is not None and seen is None:
            return False
        if validated is not None or seen is not None:
            return validated is None or math.isfinite(validated)
        scores = scores_of(self._judged, self._source, self._train.positions[:32], self._fabric.device)
        return bool(np.isfinite(scores).all())

    def _give_up(self, why: str) -> None:
        self.stopped = (
            f"{why}: a lower --learning-rate (it was {self._recipe.learning_rate:g}) or --clip helps;"
            f" the best state before, of epoch {self.best_epoch}, is kept"
        )
        self._progress.warn(self.stopped)

    @property
    def _judged(self) -> nn.Module:
        """What is validated and kept."""
        return self._module if self._average is None else self._average

    def _step(
        self, given: list[Tensor], labels: np.ndarray, which: np.ndarray | None, done: float, factor: float, rng: np.random.Generator
    ) -> float:
        """One step with the labelled images, and with those of the target after them if ``which`` names any; its loss."""
        recipe, device = self._recipe, self._fabric.device
        targets = functional.one_hot(torch.from_numpy(labels), self._classes).float().to(device)
        given = [x.to(device) for x in given]
        mine = self._ranks.share(len(labels))
        if recipe.mix != "none" and len(labels):
            given[0], targets = mixed(given[0], targets, recipe.mix, recipe.mix_alpha, rng)
            given[0] = given[0][mine]
        for told, group in zip(self._optimizer.param_groups, self._groups, strict=True):
            told["lr"] = group.learning_rate * factor
        self._optimizer.zero_grad(set_to_none=True)
        if self._target is None or self._both is None or which is None:
            logits = self._module(given[0])
            each = targets.sum(1) if self._weights is None else targets @ self._weights
            loss = self._classified(logits, targets[mine]) * self._ranks.weight(each)
            value = self._ranks.total(loss.item())
        else:
            features, logits = self._both(torch.cat(given))
            loss = self._target.loss(features, logits, which, done)
            value = loss.item()
            if len(labels):
                classified = self._classified(logits[: len(labels)], targets)
                # What is told is how well the labelled images are learned; the other part stands in the target's row.
                loss, value = loss + classified, classified.item() if math.isfinite(value) else value
        if not math.isfinite(value):
            return value
        logits.register_hook(without_dust)
        if recipe.l2_sp:
            loss = loss + l2_sp(self._pretrained, self._start, recipe.l2_sp) / self._ranks.count
        self._fabric.backward(loss)
        self._ranks.add_gradients([p for group in self._groups for p in group.parameters])
        if recipe.clip:
            self._fabric.clip_gradients(self._module, self._optimizer, max_norm=recipe.clip, error_if_nonfinite=False)
        self._optimizer.step()
        self._follow()
        return value

    def _classified(self, logits: Tensor, targets: Tensor) -> Tensor:
        return classification_loss(logits, targets, class_weights=self._weights, label_smoothing=self._recipe.label_smoothing)

    def _follow(self) -> None:
        """The moving average goes one step after the weights; what is counted and not learned is taken over."""
        if self._average is None:
            return
        with torch.no_grad():
            for mean, now in zip(self._average.state_dict().values(), self._grown.state_dict().values(), strict=True):
                mean.lerp_(now, 1 - self._recipe.ema) if mean.is_floating_point() else mean.copy_(now)

    def _validate(self) -> tuple[float | None, float | None]:
        if self._val is None or not len(self._val):
            return None, None
        mine = self._val.positions[self._ranks.share(len(self._val))]
        scores = self._ranks.gathered(scores_of(self._judged, self._source, mine, self._fabric.device, classes=self._classes))
        if not np.isfinite(scores).all():
            return 0.0, math.inf
        probabilities = softmax(scores / fit_temperature(scores, self._val.labels))
        right = probabilities.argmax(1) == self._val.labels
        return float(right.mean()), log_loss(self._val.labels, probabilities)

    def _judge_target(self) -> TargetRow | FeatureRow | None:
        if self._target is None or self._both is None:
            return None
        judge, network = self._target.adaptation.objective.judge, self._network_to_judge(self._both)
        if judge is not None:
            return self._target.judge_features(network, judge, [row.features for row in self.history if row.features is not None])
        return self._target.judge(network, [row.target for row in self.history if row.target is not None])

    def _network_to_judge(self, both: nn.Module) -> nn.Module:
        return both if self._average is None or not self.history else FeaturesAndScores(self._average)

    def _judge(self, row: EpochRow) -> None:
        if row.target is not None and self._target is not None:
            best = self.history[self.best_epoch].target
            if best is None or is_better(row.target, best, self._target.adaptation.keep):
                self._keep_best(row.epoch)
            if row.target.collapsed:
                kept = f"epoch {self.best_epoch} is kept"
                self._progress.warn(f"epoch {row.epoch}: classes have vanished from the answers for the target; {kept}")
            return
        if row.features is not None and self._target is not None:
            best_row = self.history[self.best_epoch].features
            if best_row is None or is_better(row.features, best_row, self._target.adaptation.keep):
                self._keep_best(row.epoch)
            elif self._recipe.patience and row.epoch - self.best_epoch >= self._recipe.patience:
                self.stopped = f"no better score in {self._recipe.patience} epochs"
            return
        best_loss = self.history[self.best_epoch].log_loss
        if best_loss is None or row.log_loss is None or row.log_loss < best_loss:
            self._keep_best(row.epoch)
        elif self._recipe.patience and row.epoch - self.best_epoch >= self._recipe.patience:
            self.stopped = f"no better validation in {self._recipe.patience} epochs"

    def _keep_best(self, epoch: int) -> None:
        module = self._grown if self._average is None or epoch == 0 else self._average
        self.best = {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
        self.best_epoch = epoch

    # --- the checkpoint -------------------------------------------------------------------------------------------

    def checkpoint(self) -> Checkpoint:
        """The whole state as it is after an epoch."""
        tensors = {f"now.{name}": tensor for name, tensor in self._grown.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in flat_optimizer(self._optimizer).items()}
        if self._average is not None:
            tensors |= {f"average.{name}": tensor for name, tensor in self._average.state_dict().items()}
        if self._target is not None:
            tensors |= {f"own.{name}": tensor for name, tensor in self._target.own.state_dict().items()}
        progress = {"history": [asdict(row) for row in self.history], "best_epoch": self.best_epoch, "stopped": self.stopped}
        return Checkpoint(self.configuration, progress, tensors)

    def restore(self, known: Checkpoint) -> None:
        """Stand where a checkpoint was written."""
        self._grown.load_state_dict(known.part("now"))
        self.best = known.part("best")
        load_optimizer(self._optimizer, known.part("optimizer"))
        if self._average is not None:
            self._average.load_state_dict(known.part("average"))
        if self._target is not None:
            self._target.own.load_state_dict(known.part("own"))
        self.history = [EpochRow.from_dict(row) for row in known.progress["history"]]
        self.best_epoch, self.stopped = int(known.progress["best_epoch"]), str(known.progress["stopped"])
        if self._target is not None and self._both is not None:
            self._target.stand_at(self._network_to_judge(self._both))
