"""Search for cases below the paths that the user named, with an account of every file there."""

from __future__ import annotations

import itertools
import logging
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.dataset import LAYOUTS, Case, arrange_channels, describing_files, open_cases
from hilum.dataset.annotation import annotation_files
from hilum.dataset.channels import named_kind, plain_name
from hilum.dataset.layouts import class_folders
from hilum.dataset.layouts.listing import by_words, image_files, is_mask_word
from hilum.dataset.layouts.naming import stated_channels
from hilum.dataset.layouts.paired_folders import ANNOTATION_FOLDERS, sub_folder
from hilum.dataset.layouts.study_folders import choice_by_names, choose_series
from hilum.dicom.series import series_in
from hilum.errors import UsageError, readable
from hilum.files import header_of, image_stem, image_suffix, is_output, nearest
from hilum.files.names import PICTURE_SUFFIXES
from hilum.files.output import LEDGER
from hilum.inference.studies import FoundSeries, study_cases
from hilum.io.inventory import ANNOTATION, OUTPUT, is_hidden, is_text, take_inventory

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hilum.dicom.choose import Choice, SeriesChoice
    from hilum.dicom.series import Series
    from hilum.io.inventory import Inventory

_log = logging.getLogger("hilum")
_CHANNEL = re.compile(r"_(\d{4})$")  # nnU-Net's <case>_0000, <case>_0001, ...
_UNSAFE = re.compile(r'[\\/:*?"<>|\x00-\x1f]+')
_JOINT = "__"
_STUDIES = "dicom-studies"
_TABLES = (".csv", ".tsv", ".npz")
_NO_IMAGES = (*ANNOTATION_FOLDERS, "labelstr", "labelsts", "labelsval", "derivatives")
"""Folders that hold annotations, or what was made of images."""
PREVIEW = "a picture beside a DICOM series"
ANNOTATED = "an image that is annotated, where the data set has others to predict"
OTHER_CHANNEL = "an image of a channel that the model does not use"


@dataclass(frozen=True)
class Found:
    """The cases in what the user named, by id, and the account of every file there.

    Args:
        cases: by id.
        files: every file.
        choices: of the DICOM series of a study, by case, where it holds several.
        rule: of the user for the series; "" where there is none.
    """

    cases: tuple[Case, ...]
    files: Inventory
    choices: Mapping[str, tuple[Choice, ...]] = field(default_factory=dict)
    rule: str = ""


@dataclass(frozen=True)
class _Place:
    """A case whose id may be that of another one too.

    Args:
        case: with the id that it has in its folder.
        parts: folders below the source, and that id.
        source: what the user named.
        series: whether it is a DICOM series, which its folders name.
        choices: of the series of a study.
    """

    case: Case
    parts: tuple[str, ...]
    source: Path
    series: bool = False
    choices: tuple[Choice, ...] = ()

    @property
    def path(self) -> tuple[str, ...]:
        """Every folder from the root, and the name."""
        return (*self.source.absolute().parts, *self.parts)


def find_cases(
    sources: Sequence[Path | str], channels: Sequence[str], *, annotated: bool = False
) -> tuple[Case, ...]:
    """Find every case in what the user named, without the account of files, see `find`."""
    return find(sources, channels, annotated=annotated).cases


def find(
    sources: Sequence[Path | str],
    channels: Sequence[str],
    *,
    annotated: bool = False,
    choice: SeriesChoice | None = None,
) -> Found:
    """Find every case in what the user named, and account for every file there.

    A source is an image file (`<case>_0000.nii.gz`, `<case>_0001.nii.gz` are the channels of one
    case, named by a dataset.json beside them; where there is no 0000, as in `amos_0019.nii.gz`, the
    number is a part of the case's name); a table (.csv) or archive (.npz); or a folder, which is
    looked through to any depth: each DICOM study is a case, each image file, and each data set as
    for training (its cases without annotation where it has any, else all). Of a study with several
    series the model takes one a channel (`hilum.inference.studies`). Annotations, pictures beside a
    DICOM series and what hilum wrote are no cases. A DICOMDIR stands for its folder.

    A case is named after its file; a DICOM study after the folders that tell it from the others
    (patient, study, series). Where names repeat, the folders that differ come before them:
    `site1__scan`, `site2__scan`; or stand for them, where the file is named after the model's
    channel (`s0001/ct.nii.gz`). Class folders and a patient's folder give the ids of a training.

    Args:
        sources: files and folders.
        channels: the model's channel names, in order. A case with too few or too many images is
            found all the same: reading it says what is wrong, and the others go on.
        annotated: take all cases of a data set, also where some have no annotation: a mask is no
            label of a classifier.
        choice: how the series of a study are chosen; None: by the names of the channels.

    Raises:
        UsageError: a source does not exist or holds no image.
        DataError: a data set cannot be opened.
    """
    choice = choice or choice_by_names(channels)
    finder, files = _Finder(channels, choice, annotated=annotated), list[Path]()
    named = [
        path.parent if path.name.upper() == "DICOMDIR" and path.is_file() else path
        for path in map(Path, sources)
    ]  # a DICOMDIR lists the files of its folder
    for source in named:
        if not source.exists() and not source.is_symlink():
            raise UsageError(
                f"{source}: no such file or folder", cure=nearest(source) or "check the path"
            )
        if source.is_dir():
            finder.folder(source)
        elif source.suffix.lower() in _TABLES:
            finder.data_set(source, source.parent)
        else:
            files.append(source)
    finder.files(files)
    cases = finder.named()
    rule = "" if choice.rule is None else choice.rule.text
    return Found(cases, finder.account(named), finder.choices(cases), rule)


class _Finder:
    """State of a search: cases with their places, and reasons for files that are left out."""

    def __init__(self, channels: Sequence[str], choice: SeriesChoice, *, annotated: bool) -> None:
        self._channels, self._choice, self._annotated = channels, choice, annotated
        self._places: list[_Place] = []
        self._found_series: list[FoundSeries] = []
        self._taken: list[Path] = []
        self._named: list[Path] = []
        self._study_ids: dict[Path, str] = {}
        self._regions: list[Path] = []
        self._described: list[Path] = []
        self._entered: set[tuple[int, int]] = set()
        self._reasons: dict[Path, str] = {}
        self._ids: dict[Path, str] = {}

    def folder(self, source: Path) -> None:
        """Look through a folder that the user named."""
        before = len(self._places)
        if class_folders.recognises(source):
            self._ids |= {
                file: case.id
                for case in class_folders.read(source).cases
                for file in case.images.values()
            }
        self._below(source, source)
        self._take_studies()
        if len(self._places) == before:
            raise UsageError(
                f"{source}: no image in it; {self.account([source])}",
                needed="images, DICOM series, or data sets, at any depth",
                cure=(
                    "name the folder that holds the images themselves, or the files, which are then"
                    " taken whatever their name"
                ),
            )

    def data_set(self, root: Path, source: Path) -> None:
        """Take the cases of a data set, and know what else it holds."""
        every = open_cases(root)
        self._described += describing_files(root)
        wanted = [case for case in every if self._annotated or case.annotation is None] or every
        for case in every:
            self._reasons |= dict.fromkeys(case.images.values(), ANNOTATED)
            self._reasons |= dict.fromkeys(annotation_files(case.region), ANNOTATION)
        folders = root.relative_to(source).parts if root.is_dir() else ()
        for named in wanted:
            chosen = choose_series(named, self._choice)
            self._taken += chosen.taken
            self._reasons |= chosen.aside
            case = chosen.case
            kept = self._keep_channels(case.images)
            if (
                root == source and case.fault is None
            ):  # of a data set that the user named, one error says it of all cases
                arrange_channels(replace(case, images=kept), self._channels, where=str(root))
            self._regions += annotation_files(case.region) if self._annotated else ()
            case = replace(case, images=kept)
            place = _Place(case, (*folders, case.id), source, choices=chosen.choices)
            self._places.append(place)

    def _keep_channels(self, images: Mapping[str, Path]) -> Mapping[str, Path]:
        """Keep the images of the model's channels where all of these are among them, else all.

        In the order of the case.
        """
        wanted = _of_model(images, self._channels) or images
        kept = {name: file for name, file in images.items() if name in wanted}
        self._reasons |= dict.fromkeys(set(images.values()) - set(kept.values()), OTHER_CHANNEL)
        return kept

    def files(self, files: Iterable[Path]) -> None:
        """Take image files that the user named.

        Those that are a whole DICOM series are one case.
        """
        images: dict[Path, list[Path]] = {}
        for file in dict.fromkeys(map(header_of, files)):  # both files of a pair are one image
            images.setdefault(file.parent, []).append(file)
        for folder, named in images.items():
            slices = [file for file in named if _may_be_dicom(file)]
            everything = (
                [file for file in sorted(folder.iterdir()) if _may_be_dicom(file)]
                if len(slices) > 1
                else []
            )
            found, reasons = series_in(folder, everything)
            self._reasons |= {file: reason for file, reason in reasons.items() if file in named}
            whole = [one for one in found if len(one.files) > 1 and {*one.files} <= {*slices}]
            self._series(folder, whole, folder)
            self._take_studies()
            taken = {file for one in whole for file in one.files} | reasons.keys()
            self._group([file for file in named if file not in taken], folder)

    def _below(self, folder: Path, source: Path) -> None:
        """Look through a folder at any depth."""
        state = folder.stat()
        if (state.st_dev, state.st_ino) in self._entered:  # by a link
            return
        self._entered.add((state.st_dev, state.st_ino))
        others = {"class-folders", *(() if self._annotated else (_STUDIES,))}
        if any(known.recognises(folder) for name, known in LAYOUTS.items() if name not in others):
            self.data_set(folder, source)
            return
        self._name_as_data_set(folder)
        entries = [entry for entry in sorted(folder.iterdir()) if not is_hidden(entry.name)]
        if (folder / LEDGER).exists():
            self._reasons |= {entry: OUTPUT for entry in entries if is_output(entry)}
        entries = [entry for entry in entries if entry not in self._reasons]
        files = [entry for entry in entries if not entry.is_dir()]
        series, reasons = series_in(folder, [file for file in files if _may_be_dicom(file)])
        self._reasons |= reasons
        self._series(folder, series, source)
        images = [file for file in image_files(folder) if file not in self._reasons]
        if series:
            self._reasons |= {
                file: PREVIEW for file in images if image_suffix(file) in PICTURE_SUFFIXES
            }
            images = [file for file in images if file not in self._reasons]
        self._images(images, source)
        for below in (entry for entry in entries if entry.is_dir()):
            if below.name.lower() in _NO_IMAGES:
                self._reasons[below] = ANNOTATION
            else:
                self._below(below, source)

    def _name_as_data_set(self, folder: Path) -> None:
        """Name series that are annotated as a data set of studies names them.

        Its predictions then have the names of its annotations. Which series is predicted is the
        model's choice, and not that of who annotated one.
        """
        if self._annotated or any(folder.is_relative_to(one) for one in self._named):
            return
        if LAYOUTS[_STUDIES].recognises(folder):
            self._named.append(folder)
            for case in LAYOUTS[_STUDIES].read(folder, values=False).every:
                self._study_ids |= dict.fromkeys(case.images.values(), case.id)

    def _series(self, folder: Path, series: Iterable[Series], source: Path) -> None:
        """Note the series of a folder."""
        ids, annotated = self._ids, self._study_ids
        self._found_series += [
            FoundSeries(one, folder, source, ids.get(one.source, ""), annotated.get(one.source, ""))
            for one in series
        ]

    def _take_studies(self) -> None:
        """Make a case of each study of the series that were noted."""
        named = {*self._ids.values(), *self._study_ids.values()}
        for one in study_cases(self._found_series, self._channels, self._choice):
            self._taken += one.taken
            self._reasons |= one.aside
            self._places.append(
                _Place(
                    one.case,
                    one.parts,
                    one.source,
                    series=one.case.id not in named,
                    choices=one.choices,
                )
            )
        self._found_series.clear()

    def _images(self, images: Sequence[Path], source: Path) -> None:
        """Take the image files of a folder; files that differ by a channel's name are one case."""
        if not images:
            return
        words = by_words(images)
        masks = {file for word, file in words.files.items() if is_mask_word(word)}
        self._reasons |= dict.fromkeys(masks, ANNOTATION)
        if len(masks) == len(images):
            return
        folder = images[0].parent
        foreign = masks | self._set_aside_others(images)
        others = [file for file in images if file not in foreign]
        kept = (
            _of_model(words.files, self._channels)
            if len(self._channels) > 1 or words.shared == folder.absolute().name
            else {}
        )
        if kept:
            self._keep_channels(
                {word: file for word, file in words.files.items() if file not in masks}
            )
            self._take(words.shared or folder.absolute().name, kept, folder, source)
        elif len(others) == 1 and _has_masks_of_labels(folder, image_stem(others[0])):
            self._take(
                folder.absolute().name, dict.fromkeys(self._channels, others[0]), folder, source
            )
        else:
            self._group(others, source)

    def _set_aside_others(self, images: Sequence[Path]) -> set[Path]:
        """Set aside images of other modalities than the only channel: P1_PET at P1_CT.

        Their last words tell; none is set aside where no image names that channel.

        Returns:
            The images set aside.
        """
        words = {file: re.split(r"[\s_.-]+", image_stem(file))[-1] for file in images}
        ours = {
            file
            for file, word in words.items()
            if plain_name(word) in map(plain_name, self._channels)
        }
        others = {file for file, word in words.items() if named_kind(word) is not None} - ours
        if len(self._channels) > 1 or not ours:
            return set()
        self._reasons |= dict.fromkeys(others, OTHER_CHANNEL)
        return others

    def _group(self, files: Iterable[Path], source: Path) -> None:
        """Take image files by name, numbered channels of one case together."""
        numbered: dict[tuple[Path, str, str], dict[int, Path]] = {}
        for file in files:
            stem = image_stem(file)
            number = _CHANNEL.search(stem)
            if number is None:
                self._take(stem, self._whole(file), file.parent, source)
            else:
                images = numbered.setdefault((file.parent, stem[: number.start()], ""), {})
                if int(number[1]) in images:  # of another format
                    images = numbered.setdefault(
                        (file.parent, stem[: number.start()], image_suffix(file)), {}
                    )
                images[int(number[1])] = file
        for (folder, stem, _), images in numbered.items():
            if 0 not in images:  # numbered cases, no channels
                for image in images.values():
                    self._take(image_stem(image), self._whole(image), folder, source)
                continue
            names = _names_beside(folder) or self._channels
            if sorted(images) != list(range(len(names))):  # there is no name for each
                names = [f"channel {n}" for n in sorted(images)]
            files_of = dict(zip(names, (images[n] for n in sorted(images)), strict=True))
            self._take(stem, self._keep_channels(files_of), folder, source)

    def _whole(self, file: Path) -> Mapping[str, Path]:
        """Return the channels of a file that holds all those of a case."""
        return dict.fromkeys(_names_beside(file.parent) or self._channels, file)

    def _take(self, name: str, images: Mapping[str, Path], folder: Path, source: Path) -> None:
        name = self._ids.get(next(iter(images.values())), name)
        self._places.append(
            _Place(Case(name, None, images), (*folder.relative_to(source).parts, name), source)
        )

    def named(self) -> tuple[Case, ...]:
        """Return every case with its id, by id.

        Where two have the same, the suffix of their files, or else a number, is added.
        """
        alike: dict[str, list[Case]] = {}
        for place, name in zip(self._places, _names(self._places, self._channels), strict=True):
            held = alike.setdefault(replace(place.case, id=name).id, [])
            held += [place.case] if all(place.case.images != one.images for one in held) else []
        known = {
            name: replace(cases[0], id=name) for name, cases in alike.items() if len(cases) == 1
        }
        for name, cases in alike.items():
            for case in cases if len(cases) > 1 else ():
                file = next(iter(case.images.values()))
                own = "_".join((name, *image_suffix(file).split(".")[1:]))
                numbered = (f"{own}_{count}" for count in itertools.count(2))
                own = next(one for one in itertools.chain([own], numbered) if one not in known)
                known[own] = replace(case, id=own)
                _log.warning(
                    "%s is named like another image: its output is named %s", readable(file), own
                )
        return tuple(known[name] for name in sorted(known))

    def choices(self, cases: Iterable[Case]) -> dict[str, tuple[Choice, ...]]:
        """Return the choices of series by the case that they were made for."""
        made = {
            tuple(place.case.images.values()): place.choices
            for place in self._places
            if place.choices
        }
        by_case = ((case.id, made.get(tuple(case.images.values()), ())) for case in cases)
        return {case: choices for case, choices in by_case if choices}

    def account(self, sources: Iterable[Path]) -> Inventory:
        """Account for every file below the sources."""
        images = [file for place in self._places for file in place.case.images.values()]
        return take_inventory(
            sources,
            [*images, *self._taken, *self._regions, *self._described],
            reasons=self._reasons,
        )


def _has_masks_of_labels(folder: Path, stem: str) -> bool:
    """Return True if masks of labels lie beside the image: s0000/ct, s0000/segmentations/liver."""
    masks = sub_folder(folder, ANNOTATION_FOLDERS)
    stems = {image_stem(file) for file in image_files(masks)} if masks is not None else set()
    return bool(stems) and not any(name.startswith(stem) for name in stems)


def _may_be_dicom(file: Path) -> bool:
    return image_suffix(file) in {"", ".dcm"} and not is_text(file)


def _of_model(images: Mapping[str, Path], channels: Sequence[str]) -> dict[str, Path]:
    """Choose the images of a model's channels by their names; {} where one is missing."""
    names = {plain_name(name): name for name in images}
    found = [names.get(plain_name(channel)) for channel in channels]
    return {name: images[name] for name in found if name is not None} if None not in found else {}


def _names_beside(folder: Path) -> tuple[str, ...]:
    """Read the channel names of a dataset.json among the images, or one folder up."""
    return stated_channels(folder) or stated_channels(folder.absolute().parent)


def _names(places: Sequence[_Place], channels: Sequence[str]) -> list[str]:
    """Name each case: by its own id, and where ids repeat with the folders that differ."""
    names = [place.case.id for place in places]
    sources = {place.source for place in places if place.series}
    for source in sources:
        here = [index for index, place in enumerate(places) if place.source == source]
        series = [index for index in here if places[index].series]
        for index, levels in zip(
            series, _differing([places[index].parts for index in series]), strict=True
        ):
            only = len(here) == 1 or not places[index].parts
            folders = levels or ((source.absolute().name,) if only else places[index].parts[:1])
            names[index] = _JOINT.join(
                (source.absolute().name, *folders) if len(sources) > 1 and levels else folders
            )
    repeated = {name for name, count in Counter(names).items() if count > 1}
    alike = [index for index, name in enumerate(names) if name in repeated]
    for index, levels in zip(
        alike, _differing([places[index].path for index in alike]), strict=True
    ):
        own = names[index] if _JOINT in names[index] else places[index].path[-1]
        named = (
            levels and own != levels[-1] and plain_name(own) in map(plain_name, channels)
        )  # s0000/ct, s0001/ct
        names[index] = _JOINT.join(levels if named else dict.fromkeys((*levels, own)))
    return [_UNSAFE.sub("_", name) for name in names]


def _differing(paths: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Keep the folders at the depths where not all paths of one folder are the same."""
    # where two paths that are next to each other in their order differ first
    kept = {
        next(n for n, parts in enumerate(itertools.zip_longest(*pair)) if len({*parts}) > 1)
        for pair in itertools.pairwise(sorted({*paths}))
    }
    return [tuple(part for depth, part in enumerate(path) if depth in kept) for path in paths]
