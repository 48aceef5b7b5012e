"""Run the plan of an evaluation: a sweep per experiment, in one process or several, and their rows of metrics."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .. import networks
from ..data import Dataset, Frame
from ..io.files import make_folder
from ..networks.base import Network, device_of
from ..scoring.device import torch_device, use_threads
from ..scoring.scorer import Scorer
from ..synboost import methods
from ..synboost.scorer import SynBoostScorer
from .capacity import announce_passes, make_cache
from .config import ConfigError, EvaluationConfig, Maps
from .distributed import SINGLE_PROCESS, Processes, device_name, from_environment, launch, started
from .given_maps import GivenMaps
from .plan import Experiment, Plan, inspect_data, make_plan, map_rules
from .results import EvaluationResult, ResultRow
from .runner import Sweep, sweep, sweep_maps, without_and_with


def _no_progress(items: Iterable, title: str) -> Iterable:
    return items


def _ignore(*_: Any) -> None:
    pass


def run(
    config: EvaluationConfig,
    *,
    command: str = "",
    progress: Callable[[Iterable, str], Iterable] = _no_progress,
    on_image: Callable[[Path, str | None], object] = _ignore,
    on_result: Callable[[EvaluationResult], object] = _ignore,
    on_remark: Callable[[str], object] = _ignore,
) -> EvaluationResult:
    """Evaluate networks on data sets; see :class:`EvaluationConfig` for what can be evaluated, and an example.

    All that can be wrong with the config is raised before any work. The functions among the arguments must be picklable
    if the config starts processes.

    Args:
        config: what to evaluate and how; it is not changed.
        command: command line that repeats the evaluation, for the result.
        progress: wraps the frames of each data set, such as in a progress bar; gets them and the title of the
            experiment. Called in the first process only.
        on_image: called after each image with the path of its photo, and the reason if it failed or None.
        on_result: called with the result in every process while they still share it, such as to render a report; see
            :attr:`EvaluationResult.processes`.
        on_remark: called before the work with what one may not expect of the data, such as unused files, which
            is among the result's notes too; and with the temporary folder of score maps that memory does not hold.
            Called in the first process only.

    Returns:
        The result, the same in every process. Its score maps can be read if they are in a cache folder or in the memory
        of this process. An image that failed is in no metric, and does not stop the others.

    Raises:
        ConfigError: fields that do not go together, a value outside its range, or a device that cannot be used.
        ImageError: a data set that is not found, or lacks files or labels, or has no anomaly by its label values.
        TypeError: a setting of the walk of another type.
        ValueError: an unknown name, a setting of the walk outside its range, or weights that do not fit.
        OSError: no such weight file, or a cache that cannot be written or is damaged.
        ConnectionError: another process went away.
        ChildProcessError: a process of this machine was killed.
    """
    return run_plan(
        make_plan(config),
        command=command,
        progress=progress,
        on_image=on_image,
        on_result=on_result,
        on_remark=on_remark,
    )


def evaluate_scores(
    dataset: Dataset | Iterable[Frame], maps: Maps | Mapping[str, Maps], **settings: Any
) -> EvaluationResult:
    """Evaluate score maps of any method, or of several: metrics, curves, report and comparison without a network.

    Several methods are compared with the first one, photo by photo and in the pool of all, with intervals of a paired
    bootstrap over photos.

    Args:
        dataset: a data set, or frames with labels; photos are read for pictures only.
        maps: of one method: a folder of files, a mapping of frame ids to arrays [H, W] or files, or an iterable of
            arrays or tensors in the order of the frames, read once. Of several methods: a mapping of their names to
            such maps. Floating point, higher where more anomalous unless ``lower_is_anomalous`` says else.
        settings: further fields of :class:`EvaluationConfig`, such as ``lower_is_anomalous``, ``resize_scores``,
            ``fpr_rule``, ``components`` and ``limit``.

    Returns:
        The result: a row a method, called "scores" where it has no name.

    Raises:
        ConfigError: settings that do not go together.
        ScoreMapError: a frame without its map or with several, or maps of no frame.
        LookupError: an iterable of fewer or more maps than frames.

    Example:
        >>> result = evaluate_scores(folders("photos", "labels"), {"mine": "scores/mine", "theirs": arrays})
        >>> print(result.markdown())
        >>> result.paired(result.rows[1]).pooled_ap.holds_zero
    """
    if not isinstance(dataset, Dataset):
        dataset = Dataset("frames", Path(), "plain", "official", "all", tuple(dataset))
    ids = {frame.id for frame in dataset}
    methods = maps if isinstance(maps, Mapping) and not ids & maps.keys() else {"scores": maps}
    return run(EvaluationConfig(datasets=dataset, scores_from=methods, **settings))


def run_plan(
    plan: Plan,
    *,
    command: str = "",
    progress: Callable[[Iterable, str], Iterable] = _no_progress,
    on_image: Callable[[Path, str | None], object] = _ignore,
    on_result: Callable[[EvaluationResult], object] = _ignore,
    on_remark: Callable[[str], object] = _ignore,
    on_scorer: Callable[[Scorer], object] = _ignore,
) -> EvaluationResult:
    """Evaluate by a plan: the second half of :func:`run`, for callers that prepare something once the plan is made.

    Args:
        plan: made by :func:`make_plan`.
        command: see :func:`run`.
        progress: see :func:`run`.
        on_image: see :func:`run`.
        on_result: see :func:`run`.
        on_remark: see :func:`run`.
        on_scorer: called with every scorer that is made, before it scores a photo; by the first process only.

    Returns:
        The result, see :func:`run`.

    Raises:
        ConfigError: a device that cannot be used.
        ImageError: labels in any two folders without an anomaly.
        ValueError: weights that do not fit, or ``walk_values`` that the network does not have.
        OSError: the cache cannot be written, or a file there is damaged.
        ConnectionError: another process went away.
        ChildProcessError: a process of this machine was killed.
    """
    if plan.config.cache is not None:
        make_folder(Path(plan.config.cache), "cache")
    plan = inspect_data(plan)
    call = partial(_run_shared, plan, command, progress, on_image, on_result, on_remark, on_scorer)
    if plan.config.processes > 1 and not started():
        return launch(plan.config.processes, call)
    return call()


def _run_shared(
    plan: Plan,
    command: str,
    progress: Callable,
    on_image: Callable,
    on_result: Callable,
    on_remark: Callable,
    on_scorer: Callable,
) -> EvaluationResult:
    """Evaluate in this process, together with the processes that share the images."""
    with from_environment() as processes, use_threads(plan.config.threads):
        for remark in plan.remarks if processes.first else ():
            on_remark(remark)
        progress, on_scorer = (progress, on_scorer) if processes.first else (_no_progress, _ignore)
        result = _evaluate(plan, command, processes, progress, on_image, on_remark, on_scorer)
        on_result(result)
    unshared = {title: replace(swept, processes=SINGLE_PROCESS) for title, swept in result.sweeps.items()}
    return replace(result, sweeps=unshared)


def _evaluate(
    plan: Plan,
    command: str,
    processes: Processes,
    progress: Callable,
    on_image: Callable,
    on_remark: Callable,
    on_scorer: Callable,
) -> EvaluationResult:
    device = _device(plan.config)
    rows: list[ResultRow] = []
    sweeps: dict[str, Sweep] = {}
    loaded: dict[tuple[str | Network, Path | None, str | None], Scorer] = {}
    for experiment in plan.experiments:
        if experiment.network is None:
            swept = _sweep_maps(plan.config, experiment, processes, progress, on_image, on_remark)
            sweeps[experiment.title] = swept
            rows += _result_rows(experiment, swept)
            continue
        which = experiment.network, experiment.weights, experiment.method
        if which not in loaded:
            loaded.clear()  # one network at a time, since they may be large
            loaded[which] = _load(plan.config, experiment, device)
        swept = _sweep(plan.config, experiment, loaded[which], processes, progress, on_image, on_remark, on_scorer)
        sweeps[experiment.title] = swept
        rows += _result_rows(experiment, swept)
    return EvaluationResult(
        title=plan.title,
        heading=plan.heading,
        columns=plan.columns,
        command=command,
        settings=_settings(plan, processes, device),
        rows=rows,
        sweeps=sweeps,
        source=plan.source,
        notes=plan.notes,
        reference=plan.reference,
    )


def _device(config: EvaluationConfig) -> str:
    """Return the name of the device: that of a ready network, or the config's, with one GPU per process."""
    if isinstance(config.network, (Network, Scorer)):
        return str(device_of(config.network if isinstance(config.network, Network) else config.network.network))
    name = device_name(config.device or "cpu")
    try:
        torch_device(name)
    except ValueError as error:
        raise ConfigError("{device}: {reason}", {"reason": str(error).partition(": ")[2]}) from error
    return name


def _load(config: EvaluationConfig, experiment: Experiment, device: str) -> Scorer:
    """Return a scorer of the experiment's network and method; rows differ in its walk."""
    if isinstance(config.network, Scorer):
        return config.network
    network = experiment.network
    if not isinstance(network, Network):
        name, settings = experiment.network_name, config.network_settings
        network = networks.load(name, experiment.weights, weights_key=config.weights_key, **settings).to(device)
    scorer = Scorer(network)
    if experiment.method is None:
        return scorer
    return SynBoostScorer(methods.load(experiment.method, scorer, **experiment.files))


def _sweep(
    config: EvaluationConfig,
    experiment: Experiment,
    scorer: Scorer,
    processes: Processes,
    progress: Callable,
    on_image: Callable,
    on_remark: Callable,
    on_scorer: Callable,
) -> Sweep:
    if scorer is config.network:
        scorers = without_and_with(scorer)
    else:
        settings = {"walk_values": config.walk_values, "walk_padding": config.walk_padding}
        scorers = {row.label: row.scorer(scorer, **settings) for row in experiment.rows}
    for each in scorers.values():
        on_scorer(each)
    return sweep(
        scorers,
        experiment.frames,
        scores=experiment.scores or config.scores or _usual_scores(config, scorer),
        cache=None if config.cache is None else Path(config.cache),
        fpr_rule=config.fpr_rule,
        track=experiment.track,
        processes=processes,
        progress=lambda frames: progress(frames, experiment.title),
        on_image=on_image,
        on_remark=on_remark,
    )


def _sweep_maps(
    config: EvaluationConfig,
    experiment: Experiment,
    processes: Processes,
    progress: Callable,
    on_image: Callable,
    on_remark: Callable,
) -> Sweep:
    """Evaluate score maps that are there already."""
    once = sum(not source.again for source in experiment.maps.values())
    if once and processes.count > 1:
        raise ConfigError("{scores_from}: maps that come one by one cannot be shared by several processes")
    cache = make_cache(experiment.frames, once, processes, on_remark) if once else None
    if processes.first and len(experiment.maps) > once:
        announce_passes(experiment.frames, len(experiment.maps) - once, on_remark)
    return sweep_maps(
        GivenMaps(experiment.maps, map_rules(config), cache),
        experiment.frames,
        fpr_rule=config.fpr_rule,
        track=experiment.track,
        processes=processes,
        progress=lambda frames: progress(frames, experiment.title),
        on_image=on_image,
    )


def _usual_scores(config: EvaluationConfig, scorer: Scorer) -> list[str]:
    if config.method in methods.METHODS:
        return [scorer.score, "entropy"]
    if isinstance(config.network, Scorer) or config.method is not None or config.table is not None:
        return [scorer.score]
    return list(dict.fromkeys([scorer.score, "energy", "max_logit"]))


def _result_rows(experiment: Experiment, swept: Sweep) -> list[ResultRow]:
    rows = {row.label: row for row in experiment.rows}
    scores = list(dict.fromkeys(score for _, score in swept.results))  # one table after the other
    return [
        ResultRow(
            dataset=experiment.title,
            label=label,
            score=score,
            settings=rows[label].settings,
            result=result,
            components=swept.components.get((label, score)),
            binned=swept.binned.get((label, score)),
            instances=swept.instances.get((label, score)),
            network_seconds=swept.network_seconds(label),
            walk_seconds=swept.walk_seconds(label),
            fps=swept.fps(label),
            published=rows[label].published,
        )
        for (label, score), result in sorted(swept.results.items(), key=lambda item: scores.index(item[0][1]))
    ]


def _settings(plan: Plan, processes: Processes, device: str) -> dict[str, Any]:
    runs = []
    for experiment in plan.experiments:
        dataset = experiment.dataset
        names = ("root", "layout", "protocol", "split") if dataset.benchmark is not None else ("root",)
        place = {"data": dataset.name, **{name: str(getattr(dataset, name)) for name in names}}
        scored_by = {"network" if experiment.network else "methods": experiment.network_name}
        runs.append({"title": experiment.title, **scored_by, **place, "photos": len(experiment.frames)})
    config = plan.config
    shared = {"threads": torch.get_num_threads(), "processes": processes.count}
    if config.scores_from is not None:
        folders = {name: str(maps) for name, maps in config.scores_from.items() if isinstance(maps, (str, os.PathLike))}
        rules = map_rules(config)
        return {
            "runs": runs,
            "scores_from": folders,
            "lower_is_anomalous": sorted(rules.lower_is_anomalous),
            "resize_scores": rules.resize,
            "png_range": rules.png_range,
            **shared,
        }
    how = config.network if isinstance(config.network, Scorer) else config
    return {
        "runs": runs,
        **({"network_settings": dict(config.network_settings)} if config.network_settings else {}),
        "preset": config.preset,
        "method": config.method,
        **{name: str(file) for name, file in config.chain_files().items()},
        "walk_values": how.walk_values,
        "walk_padding": how.walk_padding,
        "device": device,
        **shared,
    }
