"""Steps of the compact network's training, and all that must be kept to go on after an interruption."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import collective
from ..networks.base import device_of
from ..networks.compact import CompactNet, Conv
from ..ops.maps import walk_map
from ..ops.settings import WalkSettings
from .augment import Crop
from .losses import LOSSES, compute_losses
from .settings import TrainingSettings

WEIGHT_DECAY = 0.02
DEAD_VARIANCE = 1e-8  # of a filter's outputs: below it they are all the same
MAX_GRADIENT = 5.0  # norm to which gradients are clipped
REPORT_STEPS = 50
MAX_FAILURES = 20  # in a row: beyond chance, and the average may no longer be finite either


@dataclass
class Progress:
    """Where a training is, besides weights and optimizer: plain data for ``torch.save``.

    Attributes:
        step: steps done.
        failures: steps whose gradient was not finite.
        failures_in_a_row: the last of them.
        losses: of each step since the last report, without those that failed.
        history: reports, one for every 50 steps and for the last ones. Each is a mapping with ``step``, the number of
            steps done, ``learning_rate`` and, where the logits walk, ``walk_steps`` and ``walk_temperature`` of the
            last step, ``failures`` so far, and ``losses``: name to mean, NaN where all steps failed.
    """

    step: int = 0
    failures: int = 0
    failures_in_a_row: int = 0
    losses: list[list[float]] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)


class Trainer:
    """A training under way.

    The weights that count are an exponential moving average. Where the gradient of a step is not finite, the network
    restarts from the average, which stays finite.

    With a walk, the losses are computed twice, of the logits and of the walked logits, and both are minimized; see
    :class:`~rwpm_fast.training.settings.WalkSchedule`.

    Under ``torchrun`` every process takes its share of each batch, of equal size: gradients and the statistics of the
    batch norms are averaged, so that all have the same network.

    Args:
        network: as constructed, or as loaded; changed in place, on its device.
        settings: of the training.
        energy_margin: see :func:`~rwpm_fast.training.losses.compute_losses`.

    Attributes:
        network: with batch norms, in training mode.
        average: moving average of the network, with batch norms, in evaluation mode.
        progress: where the training is.
    """

    def __init__(self, network: CompactNet, settings: TrainingSettings, energy_margin: float) -> None:
        device = device_of(network)
        network.to(device)
        self._limits = _limit_filters(network)
        network.normalize().train().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        self.network, self.settings, self.energy_margin = network, settings, energy_margin
        self.average = copy.deepcopy(network).eval()
        decayed = [p for p in network.parameters() if p.dim() > 1]
        others = [p for p in network.parameters() if p.dim() <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0}]
        )
        self.progress = Progress()
        weights = torch.tensor(list(LOSSES.values()), device=device)
        if settings.walk is None:
            self._names, self._weights = list(LOSSES), weights
        else:
            share = settings.walk.weight
            self._names = [*LOSSES, *(f"walked {name}" for name in LOSSES)]
            self._weights = torch.cat([(1 - share) * weights, share * weights])

    @torch.no_grad()
    def keep_function(self, crop: Crop) -> None:
        """Set the batch norms so that the network computes on these crops what it did before it had any.

        Without it a training from given weights would have to learn again what they know.

        Args:
            crop: batch of crops, the same in all processes.
        """
        handles = []
        for module, limit in self._limits.items():
            assert module.norm is not None

            def fit(norm: Any, inputs: tuple[Tensor], limit: Tensor = limit) -> None:
                variance, mean = torch.var_mean(inputs[0].float(), (0, 2, 3), correction=0)
                norm.running_mean.copy_(mean)
                norm.running_var.copy_(variance)
                # A filter that sees nothing but zeros has no deviation to be scaled by.
                seen = variance * limit**2 > DEAD_VARIANCE
                deviation = torch.where(seen, (variance + norm.eps).sqrt(), 1 / limit)
                norm.weight.copy_(deviation * limit)
                norm.bias.copy_(mean * limit)

            handles.append(module.norm.register_forward_pre_hook(fit))
        self.network.eval()
        self.network(self._images(crop))
        self.network.train()
        for handle in handles:
            handle.remove()
        self.average.load_state_dict(self.network.state_dict())

    def step(self, crop: Crop) -> dict[str, Any] | None:
        """Take one step.

        Args:
            crop: this process's crops of the step, on any device.

        Returns:
            The report that was added to the history; None where none was due.

        Raises:
            FloatingPointError: the gradients of twenty steps in a row were not finite.
        """
        progress, settings = self.progress, self.settings
        rate = settings.learning_rate_at(progress.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        walk = None if settings.walk is None else settings.walk.at(progress.step / settings.steps)
        losses = self._losses(Crop(*(part.to(self._weights.device) for part in vars(crop).values())), walk)
        self.optimizer.zero_grad(set_to_none=True)
        (losses @ self._weights / collective.count()).backward()
        self._share_gradients()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT)
        progress.step += 1
        if norm.isfinite():
            self.optimizer.step()
            self._share_statistics()
            ema_update(self.average, self.network, min(0.998, progress.step / (progress.step + 9)))
            progress.losses.append((collective.summed(losses.detach()) / collective.count()).tolist())
            progress.failures_in_a_row = 0
        else:
            self.network.load_state_dict(self.average.state_dict())
            self._count_failure()
        if progress.step % REPORT_STEPS == 0 or progress.step == settings.steps:
            return self._report(rate, walk)
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return all that a training needs to go on, for ``torch.save``."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": vars(self.progress),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned in a training of the same settings.

        Args:
            state: on any device.

        Raises:
            ValueError, TypeError, KeyError, RuntimeError: it is the state of another network, or none at all.
        """
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**state["progress"])

    def _images(self, crop: Crop) -> Tensor:
        image = crop.image.to(self._weights.device)
        return self.network.preprocess(image).contiguous(memory_format=torch.channels_last)

    def _losses(self, crop: Crop, walk: WalkSettings | None) -> Tensor:
        """Compute the unweighted losses: [3], with a walk [6], those of the walked logits last."""
        images = self._images(crop)
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            embedding_map = self.network.embed(images)
            logits = self.network.head(embedding_map)
        logits = logits.float()
        losses = compute_losses(logits, crop, self.energy_margin)
        if walk is None:
            return losses
        if walk.steps == 0:
            return torch.cat([losses, losses])
        walked = walk_map(embedding_map.float(), logits, **walk.operator_kwargs())
        return torch.cat([losses, compute_losses(walked, crop, self.energy_margin)])

    def _share_gradients(self) -> None:
        """Add up the gradients of all processes, whose losses were divided by their number."""
        if collective.count() == 1:
            return
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        for gradient, total in zip(gradients, collective.summed_together(gradients), strict=True):
            gradient.copy_(total)

    def _share_statistics(self) -> None:
        """Average the batch norms' statistics over all processes."""
        if collective.count() == 1:
            return
        statistics = [buffer for buffer in self.network.buffers() if buffer.is_floating_point()]
        for buffer, total in zip(statistics, collective.summed_together(statistics), strict=True):
            buffer.copy_(total / collective.count())

    def _count_failure(self) -> None:
        progress = self.progress
        progress.failures += 1
        progress.failures_in_a_row += 1
        if progress.failures_in_a_row == MAX_FAILURES:
            raise FloatingPointError(
                f"the gradients of {MAX_FAILURES} steps in a row are not finite, up to step {progress.step}; the "
                f"learning rate {self.settings.learning_rate:g} may be too high"
            )

    def _report(self, rate: float, walk: WalkSettings | None) -> dict[str, Any]:
        """Add a report on the last steps to the history."""
        progress = self.progress
        means = np.mean(progress.losses, axis=0).tolist() if progress.losses else [float("nan")] * len(self._names)
        losses = dict(zip(self._names, means, strict=True))
        report = {"step": progress.step, "learning_rate": rate, "failures": progress.failures, "losses": losses}
        if walk is not None:
            report |= {"walk_steps": walk.steps, "walk_temperature": walk.temperature}
        progress.history.append(report)
        progress.losses = []
        return report


@torch.no_grad()
def _limit_filters(network: CompactNet) -> dict[Conv, Tensor]:
    """Scale filters with a norm above 1 down to it, which the batch norms make up for; random ones have less.

    In weights from a file the norms are folded: those of filters that never see anything but zeros are divided by the
    smallest deviation that a batch norm knows. After a second training float16 could not hold them.

    Returns:
        Of every convolution the factors by which its filters were larger, [outputs].
    """
    limits = {}
    for module in network.modules():
        if isinstance(module, Conv):
            assert module.bias is not None
            limits[module] = module.weight.flatten(1).norm(dim=1).clamp_min(1.0)
            module.weight /= limits[module][:, None, None, None]
            module.bias /= limits[module]
    return limits


@torch.no_grad()
def ema_update(average: CompactNet, network: CompactNet, decay: float) -> None:
    """Move an exponential moving average of the weights towards a network; counters are copied.

    Args:
        average: changed in place.
        network: of the same architecture.
        decay: share of the average that is kept, in [0, 1].
    """
    for mean, now in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(now, 1 - decay)
        else:
            mean.copy_(now)
