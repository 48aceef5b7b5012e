"""The data sets of the field: published numbers of frames, splits, label values, and the layouts they come in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from .frames import LabelValues
from .layouts import Layout


def _every_frame(ids: Sequence[str]) -> list[str]:
    return list(ids)


@dataclass(frozen=True)
class Split:
    """Part of a data set.

    Attributes:
        count: published number of frames; None if none is published.
        select: picks the ids of the split from the sorted ids of all frames; raises ValueError if it cannot.
        folder: replaces ``{split}`` in a layout's patterns.
        labeled: whether its labels are public.
        sparse: whether only some frames of its sequences have labels, so that a photo without one lacks nothing.
        sequences: published number of sequences; None for single photos.
        smiyc_name: the SMIYC data set under whose name outputs for these frames are stored; None if there is none.
        listing: file in the data set's folder that lists the photos of the split, as the authors' script writes it;
            None if folders or names tell.
        anomalies: whether its labels have any.
    """

    count: int | None
    select: Callable[[Sequence[str]], list[str]] = _every_frame
    folder: str = ""
    labeled: bool = True
    sparse: bool = False
    sequences: int | None = None
    smiyc_name: str | None = None
    listing: str | None = None
    anomalies: bool = True


@dataclass(frozen=True)
class Protocol:
    """How frames are read.

    Attributes:
        values: meaning of the label values.
        size: height and width that frames are resized to; None to keep their own.
        ids: replaces ``{ids}`` in a layout's patterns.
        splits: splits that differ from the benchmark's.
        layouts: names of the layouts that this protocol can read; None for all.
    """

    values: LabelValues
    size: tuple[int, int] | None = None
    ids: str = ""
    splits: Mapping[str, Split] = field(default_factory=dict)
    layouts: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Benchmark:
    """A data set as it is published.

    Attributes:
        title: its name in words.
        layouts: the layouts that it comes in.
        splits: by name.
        protocols: "official"; "rwpm", as the released RWPM code reads it, of the data sets that it reads; "road", where
            labels tell the road from what is beside it: what is neither road nor anomaly is void; "raw", of labels that
            the authors' script has not renumbered yet.
        default_split: name of the split to use by default; None if it depends on the folder that is found.
        track: the component metric's track in ``rwpm_fast.metrics.TRACKS``; None without component metrics.
        preset: the benchmark in ``rwpm_fast.presets.BENCHMARKS`` whose walk to use; None if there is none. Nothing is
            published for Fishyscapes Static; it uses that of Fishyscapes Lost & Found.
        blank_is_hidden: whether every published label file holds two values at least, so that one of a single value
            stands for a label that is kept back.
    """

    title: str
    layouts: tuple[Layout, ...]
    splits: Mapping[str, Split]
    protocols: Mapping[str, Protocol]
    default_split: str | None = "validation"
    track: str | None = None
    preset: str | None = None
    blank_is_hidden: bool = False


_DEFAULT_VALUES = LabelValues.from_values()
_DEFAULT_PROTOCOLS = {"official": Protocol(_DEFAULT_VALUES), "rwpm": Protocol(_DEFAULT_VALUES)}


def _packs(pebal: tuple[str, ...], balanced_energy: tuple[str, ...], split: str) -> tuple[Layout, ...]:
    """Layouts of the archives that PEBAL and Balanced Energy read."""
    layout = Layout("pebal", "original/{id}.*", "labels/{id}.png", subfolders=("", *pebal), splits=(split,))
    return layout, replace(layout, name="balanced_energy", subfolders=balanced_energy)


def _mask2anomaly(folder: str, splits: tuple[str, ...]) -> Layout:
    """Layout of the archive that Mask2Anomaly and the course "Real-Time Anomaly Segmentation" read.

    The photos of one folder share a suffix, which differs from folder to folder: .png, .jpg and .webp.
    """
    subfolders = ("", folder, *(f"{around}/{folder}" for around in ("Validation_Dataset", "validation_dataset")))
    return Layout("mask2anomaly", "images/{id}.*", "labels_masks/{id}.png", subfolders=subfolders, splits=splits)


def _plain(name: str, splits: tuple[str, ...]) -> Layout:
    return Layout("plain", "images/{id}.*", "labels/{id}.png", subfolders=("", name), splits=splits)


_LOST_AND_FOUND_TREES = ("", "LostAndFound", "lost_and_found", "dataset_LostAndFound")
_LOST_AND_FOUND_PHOTOS = "leftImg8bit/*/*/{id}_leftImg8bit.*"

_FISHYSCAPES_LOST_AND_FOUND = Benchmark(
    title="Fishyscapes Lost & Found",
    layouts=(
        Layout(
            "official",
            _LOST_AND_FOUND_PHOTOS,
            "{number}_{id}_labels.png",
            subfolders=("", "fishyscapes_lostandfound"),
            sources=_LOST_AND_FOUND_TREES,
        ),
        Layout(
            "rwpm",
            "laf_images/{id}_leftImg8bit.*",
            "fishyscapes_lostandfound/{number}_{id}_labels.png",
            subfolders=("", "Fishyscapes"),
        ),
        *_packs(("LostAndFound", "fishyscapes/LostAndFound"), ("fs_lost_and_found",), "validation"),
        _mask2anomaly("FS_LostFound_full", ("validation",)),
        Layout(
            "smiyc",
            _LOST_AND_FOUND_PHOTOS,
            "labels/val/{id}_fishy-labels.png",
            subfolders=("", "dataset_FishyLAF"),
            sources=_LOST_AND_FOUND_TREES,
        ),
        _plain("fishyscapes_lost_and_found", ("validation",)),
    ),
    splits={"validation": Split(100, smiyc_name="FishyLAFAnomaly-val")},
    protocols=_DEFAULT_PROTOCOLS,
    preset="fishyscapes_lost_and_found",
    blank_is_hidden=True,
)

_FISHYSCAPES_STATIC = Benchmark(
    title="Fishyscapes Static",
    layouts=(
        Layout(
            "official",
            "leftImg8bit/val/*/{id}_leftImg8bit.*",
            "fs_val_{split}/{number}_{id}_labels.png",
            overlays="fs_val_{split}/{number}_*rgb.npz",
            sources=("", "cityscapes", "Cityscapes"),
            frame_id="{number}_{id}",
        ),
        Layout(
            "rwpm",
            "fs_static_images_{split}/{id}_rgb.*",
            "fs_val_{split}/{id}_labels.png",
            subfolders=("", "Fishyscapes"),
        ),
        *_packs(("Static", "fishyscapes/Static"), ("fs_static",), "validation"),
        _mask2anomaly("fs_static", ("validation",)),
        _plain("fishyscapes_static", ("validation",)),
    ),
    splits={"validation": Split(30), **{version: Split(30, folder=version) for version in ("v1", "v2", "v3")}},
    protocols=_DEFAULT_PROTOCOLS,
    default_split=None,
    preset="fishyscapes_lost_and_found",
)

_ROAD_ANOMALY_VALUES = LabelValues.from_values(anomaly=(1, 2))  # 2 as published, 1 in the methods' archives
_ROAD_ANOMALY_LAYOUT = Layout(
    "official",
    "frames/{id}.*",
    "frames/{id}.labels/labels_semantic.png",
    subfolders=("", "RoadAnomaly_jpg", "RoadAnomaly/RoadAnomaly_jpg"),
    listing="frame_list.json",
    instances="frames/{id}.labels/labels_instance.png",
)

_ROAD_ANOMALY = Benchmark(
    title="RoadAnomaly",
    layouts=(
        _ROAD_ANOMALY_LAYOUT,
        replace(_ROAD_ANOMALY_LAYOUT, name="rwpm", labels="frames/{id}/labels_semantic.png", instances=None),
        *_packs(("RoadAnomaly",), ("road_anomaly",), "all"),
        _mask2anomaly("RoadAnomaly", ("all",)),
        _plain("road_anomaly", ("all",)),
    ),
    splits={"all": Split(60)},
    protocols={name: Protocol(_ROAD_ANOMALY_VALUES) for name in ("official", "rwpm")},
    default_split="all",
    preset="road_anomaly",
    blank_is_hidden=True,
)


def _scenes(*scenes: str, exclude: tuple[str, ...] = ()) -> Callable[[Sequence[str]], list[str]]:
    """Select the ids of some scenes, the text before the first underscore, without those of excluded prefixes."""

    def select(ids: Sequence[str]) -> list[str]:
        chosen = [i for i in ids if i.split("_")[0] in scenes]
        return [i for i in chosen if not i.startswith(exclude)]  # startswith(()) is False

    return select


def _validation(ids: Sequence[str]) -> list[str]:
    return [i for i in ids if "validation" in i]


def _not_validation(ids: Sequence[str]) -> list[str]:
    return [i for i in ids if "validation" not in i]


def _track(
    title: str, folder: str, pack: str, splits: Mapping[str, Split], protocols: Mapping[str, Protocol], name: str
) -> Benchmark:
    subfolders = ("", folder)
    return Benchmark(
        title=title,
        layouts=(
            Layout("official", "images/{id}.*", "labels_masks/{id}_labels_semantic.png", subfolders=subfolders),
            Layout("rwpm", "images/{id}.*", "label_masks/{id}_labels_semantic.png", subfolders=subfolders),
            _mask2anomaly(pack, ("validation",)),
            _plain(name, ("validation",)),
        ),
        splits=splits,
        protocols=protocols,
        track=name,
        preset=name,
        blank_is_hidden=True,
    )


_ANOMALY_TRACK = _track(
    "Anomaly track (RoadAnomaly21)",
    "dataset_AnomalyTrack",
    "RoadAnomaly21",
    {
        "validation": Split(10, _validation, smiyc_name="AnomalyTrack-all"),
        "test": Split(100, _not_validation, labeled=False, smiyc_name="AnomalyTrack-all"),
        "all": Split(110, labeled=False, smiyc_name="AnomalyTrack-all"),
    },
    {"official": Protocol(_DEFAULT_VALUES), "rwpm": Protocol(_DEFAULT_VALUES, size=(720, 1280))},
    "anomaly_track",
)

_EXCLUDED = tuple(f"validation_{prefix}" for prefix in (19, *range(21, 30)))
_NIGHT, _SNOW = ("driveway",), ("snowstorm1", "snowstorm2")


def _test(*without: str) -> Callable[[Sequence[str]], list[str]]:
    """Select the ids of test frames, without those of some scenes."""
    return lambda ids: [i for i in _not_validation(ids) if i.split("_")[0] not in without]


def _obstacle_split(count: int | None, select: Callable[[Sequence[str]], list[str]], labeled: bool = False) -> Split:
    return Split(count, select, labeled=labeled, smiyc_name="ObstacleTrack-all")


_OBSTACLE_TRACK = _track(
    "Obstacle track (RoadObstacle21)",
    "dataset_ObstacleTrack",
    "RoadObsticle21",
    {
        "validation": _obstacle_split(30, _scenes("validation", exclude=_EXCLUDED), labeled=True),
        "test": _obstacle_split(327, _test(*_NIGHT, *_SNOW)),
        "no_night": _obstacle_split(382, _test(*_NIGHT)),
        "night": _obstacle_split(30, _scenes(*_NIGHT)),
        "snowstorm": _obstacle_split(55, _scenes(*_SNOW)),
        "all": _obstacle_split(None, _every_frame),
    },
    {
        "official": Protocol(_DEFAULT_VALUES),
        # The released loader takes every file with "validation" in its name, and all others for the test split.
        "rwpm": Protocol(
            _DEFAULT_VALUES,
            splits={
                "validation": _obstacle_split(None, _validation, labeled=True),
                "test": _obstacle_split(None, _not_validation),
            },
        ),
    },
    "obstacle_track",
)

_TEST_FRAMES = 1203
_EMPTY_LABELS = frozenset((17, 37, 55, 72, 91, 110, 129, 153, 174, 197, 218, 353, 490, 618, 686, 792, 793))
_KNOWN = (
    "15_Rechbergstr_Deckenpfronn",  # children
    "01_Hanns_Klemm_Str_45_000006",  # bicycles, also in the two below
    "01_Hanns_Klemm_Str_45_000007",
    "10_Schlossberg_9_000004",
)


def _no_known(ids: Sequence[str]) -> list[str]:
    """Select the test split of SMIYC: without frames of empty labels, given by position, and without known objects."""
    ids = sorted(ids)
    if len(ids) != _TEST_FRAMES:
        raise ValueError(
            f"split test_no_known: leaves out frames by their place among all {_TEST_FRAMES} of the test split, "
            f"of which {len(ids)} are here; complete them or use split test"
        )
    return [name for index, name in enumerate(ids) if index not in _EMPTY_LABELS and not name.startswith(_KNOWN)]


def _lost_and_found(title: str, official: LabelValues, rwpm: LabelValues) -> Benchmark:
    return Benchmark(
        title=title,
        layouts=(
            Layout(
                "official",
                "leftImg8bit/{split}/*/{id}_leftImg8bit.*",
                "gtCoarse/{split}/*/{id}_gtCoarse_{ids}.png",
                subfolders=_LOST_AND_FOUND_TREES,
                instances="gtCoarse/{split}/*/{id}_gtCoarse_instanceIds.png",
            ),
            _mask2anomaly("LostAndFound", ("train", "test")),
            _plain("lost_and_found", ("train", "test")),
        ),
        splits={
            "train": Split(1036, folder="train", smiyc_name="LostAndFound-train"),
            "test": Split(_TEST_FRAMES, folder="test", smiyc_name="LostAndFound-test"),
            "test_no_known": Split(1043, _no_known, folder="test", smiyc_name="LostAndFound-test"),
        },
        protocols={
            "official": Protocol(official, ids="labelIds"),
            "rwpm": Protocol(rwpm, ids="labelTrainIds", layouts=("official",)),
        },
        default_split="test",
    )


_OBSTACLES = range(2, 201)  # label ids


def _sequences(title: str, folders: tuple[str, ...], suffix: str, frames: int | None, sequences: int) -> Benchmark:
    """Sequences of the University of Wuppertal and the Ruhr University Bochum.

    Paths, suffixes and label values are those of the authors' loaders (kmaag/OOD-Tracking on GitHub) and of the
    evaluation code of the Obstacle Sequence Challenge, which leave out what is neither 0 nor 254, as is done here.
    """
    values = LabelValues.from_values(anomaly=(254,), void=None)
    protocol = Protocol(values)
    return Benchmark(
        title=title,
        layouts=(
            Layout(
                "official",
                f"raw_data/{{sequence}}/{{id}}_raw_data.{suffix}",
                "semantic_ood/{sequence}/{id}_semantic_ood.png",
                subfolders=("", *folders),
            ),
        ),
        splits={"test": Split(frames, sparse=True, sequences=sequences)},
        protocols={"official": protocol, "rwpm": protocol},
        default_split="test",
    )


# Files hold the classes plus one: 1 unlabeled, 2 building .. 7 road line, 8 road .. 13 traffic sign, 14 anomaly. The
# authors' evaluation takes unlabeled pixels for inliers.
_STREET_HAZARDS_ROAD, _STREET_HAZARDS_ANOMALY = (7, 8), (14,)


def _street_hazards_layout(split: str, photos: str, labels: str) -> Layout:
    subfolders = ("", "streethazards", "StreetHazards")
    return Layout("official", f"{photos}/{{path}}.*", f"{labels}/{{path}}.png", subfolders=subfolders, splits=(split,))


_STREET_HAZARDS = Benchmark(
    title="StreetHazards",
    layouts=(
        _street_hazards_layout("test", "test/images", "test/annotations"),
        _street_hazards_layout("validation", "train/images/validation", "train/annotations/validation"),
        _street_hazards_layout("train", "train/images/training", "train/annotations/training"),
    ),
    splits={
        "test": Split(None),
        "validation": Split(None, anomalies=False),
        "train": Split(None, anomalies=False),
    },
    protocols={
        "official": Protocol(
            LabelValues.from_values(anomaly=_STREET_HAZARDS_ANOMALY, inlier=range(1, 14), void=(0,)),
        ),
        "road": Protocol(
            LabelValues.from_values(
                anomaly=_STREET_HAZARDS_ANOMALY,
                inlier=_STREET_HAZARDS_ROAD,
                void={*range(14)} - {*_STREET_HAZARDS_ROAD},
            )
        ),
    },
    default_split="test",
)

# BDD100K's train ids plus one, once the authors' script has put bicycle before motorcycle and train: 0 other, 1 road ..
# 17 bicycle, 18 motorcycle, 19 train. Bicycles are no anomalies.
_NOT_RENUMBERED = (
    "255, which BDD100K's own masks have and renumbered ones have not, calls for protocol raw; 20 comes from the first "
    "version of the authors' script, where bicycles were anomalies too"
)

_BDD_ANOMALY = Benchmark(
    title="BDD-Anomaly",
    layouts=(
        Layout(
            "official",
            "seg/images/{split}/{id}.*",
            "seg/train_labels/{split}/{id}_train_id.png",
            subfolders=("", "data", "bdd100k"),
        ),
    ),
    splits={
        "test": Split(None, folder="*", listing="anom.odgt"),
        "val": Split(None, folder="val"),
        "train": Split(None, folder="train"),
    },
    protocols={
        "official": Protocol(
            LabelValues.from_values(anomaly=(18, 19), inlier=range(1, 18), void=(0,), hint=_NOT_RENUMBERED)
        ),
        "road": Protocol(
            LabelValues.from_values(anomaly=(18, 19), inlier=(1,), void=(0, *range(2, 18)), hint=_NOT_RENUMBERED)
        ),
        "raw": Protocol(
            LabelValues.from_values(
                anomaly=(16, 17),
                inlier=(*range(16), 18),
                void=(255,),
                hint="19, which only renumbered masks have, calls for protocol official",
            )
        ),
    },
    default_split="test",
)

_MUAD_ANOMALIES = (12, *range(16, 21))  # rider, train, motorcycle, bicycle, large animals, refuse and stands
_MUAD_VOID = (21, 255)
_MUAD_KNOWN = {*range(21)} - {*_MUAD_ANOMALIES}
_MUAD_SUBFOLDERS = ("", "MUAD")

_MUAD = Benchmark(
    title="MUAD",
    layouts=(
        Layout(
            "official",
            "{split}/leftImg8bit/{id}_leftImg8bit.*",
            "{split}/leftLabel/{id}_leftLabel.png",
            subfolders=_MUAD_SUBFOLDERS,
        ),
        # Of a test set, of which there are several, with anomalies in some.
        Layout("folder", "leftImg8bit/{id}_leftImg8bit.*", "leftLabel/{id}_leftLabel.png", splits=("test",)),
    ),
    splits={"test": Split(None), "train": Split(3420, folder="train"), "val": Split(492, folder="val")},
    protocols={
        "official": Protocol(LabelValues.from_values(anomaly=_MUAD_ANOMALIES, inlier=_MUAD_KNOWN, void=_MUAD_VOID)),
        "road": Protocol(
            LabelValues.from_values(anomaly=_MUAD_ANOMALIES, inlier=(0,), void={*_MUAD_KNOWN, *_MUAD_VOID} - {0})
        ),
    },
    default_split="test",
)


BENCHMARKS: dict[str, Benchmark] = {
    "fishyscapes_lost_and_found": _FISHYSCAPES_LOST_AND_FOUND,
    "fishyscapes_static": _FISHYSCAPES_STATIC,
    "road_anomaly": _ROAD_ANOMALY,
    "anomaly_track": _ANOMALY_TRACK,
    "obstacle_track": _OBSTACLE_TRACK,
    "lost_and_found": _lost_and_found(
        "Lost & Found, whole photos: what is no obstacle is an inlier",
        LabelValues.from_values(anomaly=_OBSTACLES, inlier=(0, 1), void=()),
        LabelValues.from_values(anomaly=(2,), inlier=(0, 1, 255), void=()),
    ),
    "lost_and_found_road": _lost_and_found(
        "Lost & Found, road only: what is neither road nor obstacle is void",
        LabelValues.from_values(anomaly=_OBSTACLES, inlier=(1,), void=(0,)),
        LabelValues.from_values(anomaly=(2,), inlier=(0, 1), void=(255,)),
    ),
    "street_obstacle_sequences": _sequences(
        "Street Obstacle Sequences (SOS)", ("street_obstacle_sequences",), "jpg", 1129, 20
    ),
    "wuppertal_obstacle_sequences": _sequences(
        "Wuppertal Obstacle Sequences (WOS)", ("wuppertal_obstacle_sequences", "wos"), "*", 938, 44
    ),
    "carla_wildlife": _sequences("CARLA-WildLife (CWL)", ("carla_wildlife_sequences",), "png", None, 26),
    "street_hazards": _STREET_HAZARDS,
    "bdd_anomaly": _BDD_ANOMALY,
    "muad": _MUAD,
}
