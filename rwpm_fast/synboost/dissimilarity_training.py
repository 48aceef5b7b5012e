"""Train the dissimilarity network on prepared examples, alone or with the weights of a learned ensemble.

Source: SynBoost, section 3 and appendix A (Adam, 1e-4, halved where the validation loss has not fallen for ten epochs,
50 epochs, mirrored photos); batch, betas and factor are those of the released code. The learning rate follows the loss
of a validation split, where the code has that of the test set it read last.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import collective
from ..checks import check_integers, check_numbers
from ..data.frames import ANOMALY, INLIER, VOID
from ..io.files import atomic_write
from ..metrics import PixelMetrics
from ..networks.base import device_of
from .dissimilarity import DissimilarityNet, semantic_one_hot
from .ensemble import LearnedEnsemble, ensemble_loss, stack_maps
from .examples import Example
from .labels import class_weights
from .pipeline import imagenet_normalized

BETAS = (0.5, 0.999)
FACTOR = 0.5  # of the learning rate, where the validation loss no longer falls
MIRRORED_SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a dissimilarity network is trained; the defaults are the published settings.

    Attributes:
        epochs: passes over the training examples, 1 or more.
        batch: examples per step, of all processes together, 1 or more.
        learning_rate: of Adam, > 0.
        patience: epochs without a lower validation loss after which the learning rate is halved, 0 or more.
        class_weights: of inliers and anomalies in the loss, > 0; None for those of the training examples.
        seed: of order and mirroring, 0 or more.
        half_precision: convolve in bfloat16, under autocast; loss and weights stay float32. It takes half the time on
            CPUs with instructions for bfloat16.

    Raises:
        TypeError: a setting is no number.
        ValueError: a setting is out of its range.
    """

    epochs: int = 50
    batch: int = 4
    learning_rate: float = 1e-4
    patience: int = 10
    class_weights: tuple[float, float] | None = None
    seed: int = 0
    half_precision: bool = False

    def __post_init__(self) -> None:
        check_integers(epochs=self.epochs, batch=self.batch, patience=self.patience, seed=self.seed)
        check_numbers(learning_rate=self.learning_rate)
        for name, least in (("epochs", 1), ("batch", 1), ("patience", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected {least} or more, got {getattr(self, name)}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise ValueError(f"learning_rate: expected a finite number > 0, got {self.learning_rate}")
        if self.class_weights is not None:
            weights = tuple(self.class_weights)
            if len(weights) != 2 or not all(0 < weight < math.inf for weight in weights):
                raise ValueError(f"class_weights: expected two positive, finite numbers, got {weights}")


class Epoch(NamedTuple):
    """What an epoch of training came to.

    Attributes:
        number: of the epoch, from 1.
        learning_rate: of its steps.
        training_loss: mean over its steps, before each.
        validation_loss: over the validation examples, after it.
        validation_ap: average precision of the score over their pixels, in 0..1; NaN where no pixel is an anomaly.
    """

    number: int
    learning_rate: float
    training_loss: float
    validation_loss: float
    validation_ap: float


@dataclass
class _Progress:
    """Where a training is, besides the weights: plain data for ``torch.save``."""

    epoch: int = 0  # epochs done
    batches: int = 0  # of the epoch that runs
    loss: float = 0.0  # sum over these
    history: list[tuple] = field(default_factory=list)
    best_loss: float = math.inf
    best: dict[str, Any] | None = None  # state of the module with this loss


class Batch(NamedTuple):
    """Examples as the dissimilarity network reads them.

    Attributes:
        image: [B, 3, H, W], normalized.
        synthesis: the same.
        semantic: [B, 19, H, W], one-hot.
        maps: [B, 3, H, W] in 0..1: entropy, perceptual difference and softmax distance.
        labels: [B, H, W] int64: 0, 1 or 255.
    """

    image: Tensor
    synthesis: Tensor
    semantic: Tensor
    maps: Tensor
    labels: Tensor

    @classmethod
    def collate(cls, examples: Sequence[Example], mirrored: Sequence[bool], device: torch.device) -> Batch:
        """Stack examples, each mirrored as a whole or not at all."""

        def stack(name: str) -> Tensor:
            arrays = [torch.from_numpy(getattr(example, name)) for example in examples]
            turned = [array.flip(-1) if flip else array for array, flip in zip(arrays, mirrored, strict=True)]
            return torch.stack(turned).to(device)

        return cls(
            image=imagenet_normalized(stack("image") / 255),
            synthesis=imagenet_normalized(stack("synthesis") / 255),
            semantic=semantic_one_hot(stack("class_map")),
            maps=stack("maps") / 255,
            labels=stack("labels").long(),
        )

    def logits(self, network: DissimilarityNet) -> Tensor:
        """Run the network, which may read no dispersion maps: [B, 2, H, W]."""
        dispersion = self.maps if network.dispersion_encoder is not None else None
        return network(self.image, self.synthesis, self.semantic, dispersion)

    def ensemble_maps(self, logits: Tensor) -> Tensor:
        """Stack the maps of an ensemble, [B, 4, H, W]."""
        return stack_maps(logits, *self.maps.split(1, dim=1))


class _Module(nn.Module):
    """What is trained: the network, and the ensemble if it learns along."""

    def __init__(self, network: DissimilarityNet, ensemble: LearnedEnsemble | None) -> None:
        super().__init__()
        self.network, self.ensemble = network, ensemble

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Compute the score [B, 1, H, W] of a batch, and the logits [B, 2, H, W] behind it."""
        logits = batch.logits(self.network)
        if self.ensemble is None:
            return logits.softmax(1)[:, ANOMALY:], logits
        return self.ensemble(batch.ensemble_maps(logits)).unsqueeze(1), logits


def train_dissimilarity(
    network: DissimilarityNet,
    training: Sequence[Example],
    validation: Sequence[Example],
    settings: TrainingSettings | None = None,
    *,
    ensemble: LearnedEnsemble | None = None,
    checkpoint: str | PathLike[str] | None = None,
    save_seconds: float = 60.0,
    progress: Callable[[range], Iterable[int]] = iter,
    on_epoch: Callable[[list[Epoch]], object] = lambda history: None,
) -> list[Epoch]:
    """Train the network; at the end it has the weights of the epoch with the lowest validation loss.

    With a checkpoint, a training that was killed goes on from its last save when it is called again with the same
    arguments, and gives the same bits as one that was not. Under ``torchrun``, after
    ``torch.distributed.init_process_group``, the processes share each batch and call this with equal arguments.

    Args:
        network: trained in place, on its device; as constructed, or after
            :meth:`~rwpm_fast.synboost.dissimilarity.DissimilarityNet.load_vgg16`. It is left in evaluation mode.
        training: examples of one size, such as :class:`rwpm_fast.synboost.examples.ExampleFolder`.
        validation: others, for learning rate and choice of the weights.
        settings: None for the published ones.
        ensemble: learns its four weights along with the network, through the loss of its score, in place of the
            cross entropy of the logits (the end-to-end variant of appendix A); trained in place.
        checkpoint: file that the state is saved to and read from; its folder must exist. None for no file.
        save_seconds: time between two saves within an epoch; there is one after each epoch too.
        progress: wraps the numbers of the batches of an epoch, such as in a progress bar.
        on_epoch: called with all epochs so far after each, in the first process.

    Returns:
        The epochs.

    Raises:
        TypeError: a setting is no number.
        ValueError: no examples, or none with a pixel that is not void; a checkpoint that is damaged, of another network
            or settings, of other examples, or of more epochs.
        FloatingPointError: the loss is not finite, of a step or of the validation.
        OSError: the checkpoint cannot be written.

    Example:
        >>> history = train_dissimilarity(network, training, validation, checkpoint="training.pt")
        >>> network.state_dict()  # those of the best epoch
    """
    settings = settings or TrainingSettings()
    for name, examples in (("training", training), ("validation", validation)):
        if not len(examples):
            raise ValueError(f"{name}: expected one or more examples, got none")
        if not any((example.labels != VOID).any() for example in examples):
            raise ValueError(f"{name}: expected pixels labeled 0 or 1, got none in {len(examples)} examples")
    weights = settings.class_weights or _class_weights(training)
    path = None if checkpoint is None else Path(checkpoint)
    run = _Run(
        _Module(network, ensemble),
        settings,
        torch.tensor(weights, device=device_of(network)),
        path,
        {"class weights": list(weights), **_identity("training", training), **_identity("validation", validation)},
    )
    run.resume()
    batches = math.ceil(len(training) / settings.batch)
    while run.progress.epoch < settings.epochs:
        rng = np.random.default_rng([settings.seed, run.progress.epoch])
        order = rng.permutation(len(training))
        mirrored = rng.random(len(training)) < MIRRORED_SHARE
        saved = time.monotonic()
        run.module.train()
        for number in progress(range(run.progress.batches, batches)):
            whole = order[number * settings.batch : (number + 1) * settings.batch]
            chosen = whole[collective.rank() :: collective.count()]
            run.step([training[int(index)] for index in chosen], mirrored[chosen].tolist())
            if time.monotonic() - saved > save_seconds and number + 1 < batches:
                run.save()
                saved = time.monotonic()
        run.finish_epoch(batches, validation)
        run.save()
        if collective.rank() == 0:
            on_epoch(run.history)
    assert run.progress.best is not None
    run.module.load_state_dict(run.progress.best)
    run.module.eval()
    return run.history


class _Run:
    """A training under way.

    Args:
        module: what is trained.
        settings: of the training.
        class_weights: [2], on the module's device.
        checkpoint: file of the state; None for none.
        examples: what the training is of, plain data that a checkpoint must agree with.
    """

    def __init__(
        self,
        module: _Module,
        settings: TrainingSettings,
        class_weights: Tensor,
        checkpoint: Path | None = None,
        examples: Mapping[str, Any] | None = None,
    ) -> None:
        self.module, self.settings, self.class_weights, self.checkpoint = module, settings, class_weights, checkpoint
        self.examples = dict(examples or {})
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(self.parameters, lr=settings.learning_rate, betas=BETAS)
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimizer, factor=FACTOR, patience=settings.patience
        )
        self.progress = _Progress()

    @property
    def history(self) -> list[Epoch]:
        return [Epoch(*epoch) for epoch in self.progress.history]

    def step(self, examples: Sequence[Example], mirrored: Sequence[bool]) -> None:
        """Take one step on this process's share of a batch, which may be empty."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=self.class_weights.device)
        weight = torch.zeros_like(loss)
        if examples:
            batch = Batch.collate(examples, mirrored, self.class_weights.device)
            _, mean, weight = self._score(batch)
            loss = mean.to(weight.dtype) * weight
        total = collective.summed(weight.clone()).clamp(
            min=torch.finfo(weight.dtype).tiny
        )  # 0 where all pixels are void
        if examples:
            (loss / total).backward()
        self._share_gradients()
        self.optimizer.step()
        value = collective.summed(loss.detach() / total).item()
        self._check_finite("loss", value)
        self.progress.batches += 1
        self.progress.loss += value

    def finish_epoch(self, batches: int, validation: Sequence[Example]) -> None:
        """Validate, adapt the learning rate, keep the best weights."""
        progress = self.progress
        rate = self.optimizer.param_groups[0]["lr"]
        loss, ap = self._validate(validation)
        self._check_finite("validation loss", loss)
        self.scheduler.step(loss)
        if loss < progress.best_loss:
            progress.best_loss = loss
            progress.best = {name: tensor.clone() for name, tensor in self.module.state_dict().items()}
        progress.epoch += 1
        progress.history.append(tuple(Epoch(progress.epoch, rate, progress.loss / batches, loss, ap)))
        progress.batches, progress.loss = 0, 0.0

    def save(self) -> None:
        """Write the checkpoint, whole, in the first process."""
        if self.checkpoint is None or collective.rank():
            return
        content = {
            "settings": asdict(self.settings),
            "examples": self.examples,
            "progress": vars(self.progress),
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
        }
        atomic_write(self.checkpoint, lambda file: torch.save(content, file))

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one.

        Raises:
            ValueError: it is damaged, of another training, or further than this one is to go.
        """
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        way_out = "delete it to start anew"
        try:
            content = torch.load(self.checkpoint, map_location=self.class_weights.device, weights_only=True)
            settings, examples = content["settings"], dict(content["examples"])
            progress = _Progress(**content["progress"])
        except Exception as error:
            raise ValueError(f"checkpoint: {self.checkpoint} is damaged ({error}); {way_out}") from error
        if other := _differing(settings, asdict(self.settings)):
            raise ValueError(f"checkpoint: {self.checkpoint} is of a training with other settings ({other}); {way_out}")
        if other := ", ".join(name for name in self.examples if examples.get(name) != self.examples[name]):
            raise ValueError(f"checkpoint: {self.checkpoint} is of a training with other examples ({other}); {way_out}")
        if progress.epoch > self.settings.epochs:
            raise ValueError(
                f"epochs: expected the {progress.epoch} or more that {self.checkpoint} has, got "
                f"{self.settings.epochs}; {way_out}"
            )
        try:
            self.module.load_state_dict(content["module"])
            self.optimizer.load_state_dict(content["optimizer"])
            self.scheduler.load_state_dict(content["scheduler"])
        except (RuntimeError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"checkpoint: {self.checkpoint} is of another network ({reason}); {way_out}") from error
        self.progress = progress

    def _score(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Score [B, 1, H, W] of a batch, its mean loss, and the sum of the class weights of its pixels."""
        with torch.autocast(batch.image.device.type, torch.bfloat16, enabled=self.settings.half_precision):
            score, logits = self.module(batch)
        labels, classes = batch.labels, self.class_weights
        weight = (labels == INLIER).sum() * classes[INLIER] + (labels == ANOMALY).sum() * classes[ANOMALY]
        if self.module.ensemble is not None:
            return score, ensemble_loss(score[:, 0], labels, classes), weight
        # The sum, since the mean of no pixels would be NaN.
        loss = F.cross_entropy(logits, labels, classes.to(logits.dtype), ignore_index=VOID, reduction="sum")
        return score, loss / weight.clamp(min=torch.finfo(weight.dtype).tiny), weight

    @torch.no_grad()
    def _validate(self, examples: Sequence[Example]) -> tuple[float, float]:
        """Mean loss and average precision over the validation examples, shared among the processes."""
        self.module.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self.class_weights.device)
        scores: list[Tensor] = []
        labels: list[Tensor] = []
        for index in range(collective.rank(), len(examples), collective.count()):
            batch = Batch.collate([examples[index]], [False], sums.device)
            score, loss, weight = self._score(batch)
            sums += torch.stack([loss * weight, weight])
            scores.append(score[0, 0].float().cpu())
            labels.append(batch.labels[0].to(torch.uint8).cpu())
        loss, weight = collective.summed(sums).tolist()
        metrics = PixelMetrics()
        for score, label in collective.gathered(list(zip(scores, labels, strict=True))):
            metrics.update(score.numpy(), label.numpy())
        return loss / max(weight, torch.finfo(torch.float64).tiny), metrics.compute().ap

    def _check_finite(self, name: str, value: float) -> None:
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the {name} is {value} in epoch {self.progress.epoch + 1}; the learning rate "
                f"{self.settings.learning_rate:g} may be too high"
            )

    def _share_gradients(self) -> None:
        """Add up the gradients of all processes."""
        if collective.count() == 1:
            return
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        for parameter, gradient in zip(self.parameters, collective.summed_together(gradients), strict=True):
            parameter.grad = gradient


def _class_weights(training: Sequence[Example]) -> tuple[float, float]:
    """Weights of the examples, which a folder of examples knows."""
    known = getattr(training, "class_weights", None)
    return class_weights(example.labels for example in training) if known is None else known


def _identity(name: str, examples: Sequence[Example]) -> dict[str, Any]:
    """Describe a set of examples as far as it can be without reading them: their number and, of a folder, the rest."""
    names, made_with = (getattr(examples, attribute, None) for attribute in ("names", "made_with"))
    return {f"number for {name}": len(examples), f"names for {name}": names, f"making for {name}": made_with}


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Settings that differ, as text; more epochs than before are no other training."""
    names = [field.name for field in fields(TrainingSettings) if field.name != "epochs"]
    return ", ".join(f"{name} {old.get(name)!r}, not {new[name]!r}" for name in names if old.get(name) != new[name])
