"""What to evaluate and how, as one value: the papers' tables and single evaluations alike."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data import Dataset
from ..networks import Network
from ..scoring.scorer import Scorer
from ..synboost import methods

StrPath = str | os.PathLike[str]
Maps = StrPath | Mapping[str, Any] | Iterable[Any]  # score maps of a method


class ConfigError(ValueError):
    """Fields of an :class:`EvaluationConfig` that cannot be used, or not together.

    Args:
        template: message with the names of fields, and of ``facts``, in braces.
        facts: values for the message.
    """

    def __init__(self, template: str, facts: Mapping[str, Any] | None = None) -> None:
        super().__init__(template, facts or {})  # args, by which it is pickled

    def __str__(self) -> str:
        return self.text({})

    def text(self, names: Mapping[str, str]) -> str:
        """Return the message with other names for fields, such as the options of a command line.

        Args:
            names: field to name; other fields keep theirs.
        """
        template, facts = self.args
        return template.format_map(_WithDefault({**names, **facts}))


class _WithDefault(dict):
    def __missing__(self, key: str) -> str:
        return key


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Everything that :func:`rwpm_fast.evaluate.run` needs to know; a field that is left out has its usual value.

    There are three kinds of evaluation of networks. Without ``table`` and ``preset`` the scores are compared without
    and with one walk. With ``preset`` that walk is the published one of ``method`` on each data set. With ``table`` the
    walks are the rows of a table of the RWPM paper or its supplement. Published figures are added if there are some.
    With ``scores_from`` there is no network: score maps of any methods are there already, and a row each.

    Several processes can share the images: those of ``processes``, or those that ``torchrun`` started, which all call
    ``run`` with the same config. The metrics do not depend on their number.

    Attributes:
        network: name in ``rwpm_fast.networks.NETWORKS``, or ``my.module:build`` or ``file.py:build`` of your own; or a
            network; or a :class:`rwpm_fast.Scorer`, which is compared without and with its walk. None for the network
            of ``method``, or for "compact" without one.
        weights: file with the weights of a named network; None for those in the package.
        weights_key: place of the tensors in that file, or in each of ``checkpoints``, where several sets of them fit;
            see :func:`rwpm_fast.networks.load`.
        network_settings: settings of a named network, such as ``size`` and ``leave_out``; see
            :func:`rwpm_fast.networks.load`.
        method: one of ``rwpm_fast.presets.METHODS``, for its network, its score, and its settings under ``preset``; or
            one of ``rwpm_fast.synboost.METHODS``, the chain around any network whose classes are Cityscapes'. That one
            has three rows: "without" a walk, as published; "with" the segmentation walked; and its "score walked".
        trained: for those: folder of ``rwpm-fast train``; see :func:`rwpm_fast.synboost.load`. None, with the next
            four, for the package's own small set.
        dissimilarity: file of the dissimilarity network, in place of ``trained``.
        generator: file of CC-FPSE's generator.
        image_encoder: file of CC-FPSE's image encoder.
        vgg19: file of VGG19, which "resynthesis" does not read.
        checkpoints: for ``table="S1"``: the methods to run, each with the file of its network's weights; for
            ``table="4"`` with that of its dissimilarity network.
        scores_from: score maps of methods in place of a network: name to a folder of files, see
            :func:`rwpm_fast.data.find_score_files` and :func:`rwpm_fast.io.score_maps.read_score_map`; to a mapping of
            frame ids to arrays [H, W] or files; or to an iterable of arrays in the order of the frames. The others are
            compared with the first one.
        lower_is_anomalous: of ``scores_from``: anomalies have the lower scores; True for all methods, or their names.
        resize_scores: of ``scores_from``: "nearest" or "bilinear" for maps that have not the labels' size; None to
            refuse them.
        png_range: of ``scores_from``: the scores that 0 and 65535 of PNGs stand for; None to take no PNGs for maps.
        extra_scores: of ``scores_from``: let there be maps of no frame.
        device: torch device of a named network; None for the CPU. With several processes "cuda" is one GPU per process.
        threads: torch threads of every process while it runs; None to leave torch's number.
        datasets: one or several: names in ``rwpm_fast.data.BENCHMARKS``, found below ``root``, or data sets, such as
            :func:`rwpm_fast.data.folders` makes them. Tables S1, S2 and 4 run on all of their published benchmarks that
            are found if none is given.
        root: the folder around all named data sets, or one folder for each.
        protocol: how named data sets are read; see :func:`rwpm_fast.data.open_dataset`.
        split: split of named data sets; None for their defaults.
        layout: layout of named data sets; None to detect it.
        source: root of Lost & Found or Cityscapes, for Fishyscapes' own archives; None to search below ``root``.
        orientation: how labels of named data sets belong to photos with an EXIF orientation; see
            :class:`rwpm_fast.data.Frame`.
        limit: use the first ``limit`` images of each data set only; None for all.
        table: "S1": the methods, each with its network; "S2": the walks of all methods on one network; "S3": k-NN
            graphs; "S4": temperatures; "n": sub-maps; "4", of SynBoost: softmax entropy, Image Resynthesis++ and
            SynBoost without a walk, or ``method`` alone. None for no table.
        preset: "paper", or "released" for the T + 1 transitions of the released code; None to walk by ``walk``.
            Tables S1 and S2 use "paper" if it is None.
        walk: settings of the walk by name in :class:`rwpm_fast.ops.settings.WalkSettings`. They replace those of the
            preset or table, or those of ``rwpm_fast.ops.settings.DEFAULTS``.
        calibrate: calibrate scores across the sub-maps of every walk. Without it, presets and tables calibrate as
            published.
        walk_values: what walks; see :class:`rwpm_fast.Scorer`.
        walk_padding: whether padding belongs to the graph; see :class:`rwpm_fast.Scorer`.
        scores: names in ``rwpm_fast.scores``, and those of ``method``; see
            :class:`rwpm_fast.synboost.SynBoostScorer`. None for the network's own, and without ``method`` and ``table``
            also energy and max_logit; for a method of ``rwpm_fast.synboost`` its own and entropy; for a Scorer its own.
        fpr_rule: how FPR95 is read off the curve; see :class:`rwpm_fast.metrics.PixelMetrics`.
        components: component metrics too: True with the size limits of the data set's track, or one of
            ``rwpm_fast.metrics.TRACKS``.
        per_image: deprecated, since pixel metrics of every image are always computed.
        cache: folder for the score maps of every image, made if missing, from which an interrupted evaluation resumes.
            None to hold them in memory, or in a temporary folder if they would take more than half of what is free.
        processes: number of processes to start on this machine, which share the images and, unless ``threads`` is
            given, the threads. A network or scorer must then be picklable.

    Example:
        Table S.1 for the compact network, on every published benchmark below the folder ``datasets``:

        >>> from rwpm_fast.evaluate import EvaluationConfig, run
        >>> config = EvaluationConfig(table="S1", network="compact", root="datasets", cache="rwpm-tables")
        >>> result = run(config)
        >>> print(result.markdown())

        A scorer of your own on photos and labels of your own:

        >>> photos = rwpm_fast.data.folders("photos", "labels", positive=[2])
        >>> result = run(EvaluationConfig(network=scorer, datasets=photos))
        >>> [(row.label, row.result.ap) for row in result.rows]
    """

    network: str | Network | Scorer | None = None
    weights: StrPath | None = None
    weights_key: str | None = None
    network_settings: Mapping[str, Any] = field(default_factory=dict)
    method: str | None = None
    trained: StrPath | None = None
    dissimilarity: StrPath | None = None
    generator: StrPath | None = None
    image_encoder: StrPath | None = None
    vgg19: StrPath | None = None
    checkpoints: Mapping[str, StrPath] | None = None
    scores_from: Mapping[str, Maps] | None = None
    lower_is_anomalous: bool | Sequence[str] = False
    resize_scores: str | None = None
    png_range: tuple[float, float] | None = None
    extra_scores: bool = False
    device: str | None = None
    threads: int | None = None

    datasets: str | Dataset | Sequence[str | Dataset] = ()
    root: StrPath | Sequence[StrPath] | None = None
    protocol: str = "official"
    split: str | None = None
    layout: str | None = None
    source: StrPath | None = None
    orientation: str | None = None
    limit: int | None = None

    table: str | None = None
    preset: str | None = None
    walk: Mapping[str, Any] = field(default_factory=dict)
    calibrate: bool = False
    walk_values: str = "auto"
    walk_padding: bool = True

    scores: Sequence[str] | None = None
    fpr_rule: str = "fishyscapes"
    components: bool | str = False
    per_image: bool | None = None

    cache: StrPath | None = None
    processes: int = 1

    def __post_init__(self) -> None:
        if self.per_image is not None:
            warnings.warn("per_image: metrics of every image are always computed", DeprecationWarning, stacklevel=3)

    def chain_files(self) -> dict[str, StrPath]:
        """Return the files of a chain that are given, by field."""
        return {name: file for name in methods.FILES if (file := getattr(self, name)) is not None}

    def dataset_list(self) -> list[str | Dataset]:
        """Return the data sets, also where there is only one."""
        return [self.datasets] if isinstance(self.datasets, (str, Dataset)) else list(self.datasets)

    def root_list(self) -> list[Path]:
        """Return the folders of the data sets, also where there is only one; empty without any."""
        if self.root is None:
            return []
        return [Path(self.root)] if isinstance(self.root, (str, os.PathLike)) else [Path(root) for root in self.root]
