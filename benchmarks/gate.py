"""Rates of the out-of-distribution gate: a hippocampus MR model on images of other kinds.

    scripts/bench gate [--minutes 6] [--most 20]

Of real images of every other set, and of the model's own test images turned, cut or spoilt: how
many the rules on the file mark, and of those that they let pass how many the network's own output
does. The first row is the rate of false alarms.
"""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING

import numpy as np
from _common import DATA, write_result
from _confidence_model import parts, trained

from hilum.dataset import open_dataset
from hilum.errors import HilumError
from hilum.inference import Predictor, TrainedModel, read_source
from hilum.volume import Geometry, Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Source = Path | Volume


def main() -> None:
    """Print a row a kind of image."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=6.0, help="of the training")
    parser.add_argument("--most", type=int, default=20, help="images of each kind")
    options = parser.parse_args()
    model = TrainedModel.load(trained(options.minutes))
    logging.getLogger("hilum").setLevel(logging.ERROR)
    predictor = Predictor(model)
    own = [next(iter(case.images.values())) for case in parts()[1]][: 2 * options.most]
    print("| images | n | by the file | by the output | by neither | not read |")
    print("|---|---|---|---|---|---|")
    result: dict[str, list[int]] = {}
    for kind, sources in (
        ("own test patients", own),
        *others(options.most),
        *spoilt(own[: options.most]),
    ):
        rates = gate(predictor, sources)
        print(f"| {kind} | {' | '.join(map(str, rates))} |", flush=True)
        result[kind] = rates
    write_result("gate", {"rates": result})


def gate(predictor: Predictor, sources: list[Source]) -> list[int]:
    """Count the images, those marked by the file, by the output, by neither, and not read."""
    file = output = failed = 0
    for source in sources:
        try:
            prepared = predictor.prepare(source)
            if prepared.unlike:  # the network is not asked: the image may be huge on its grid
                file += 1
            else:
                output += bool(predictor.predict_prepared(prepared).unlike)
        except HilumError:
            failed += 1
    return [len(sources), file, output, len(sources) - file - output - failed, failed]


def others(most: int) -> Iterator[tuple[str, list[Source]]]:
    """Give images of other kinds, at most so many of each."""
    sarcoma = open_dataset(DATA / "sarcoma_petct").cases
    for channel in ("PET", "CT"):
        volumes = [read_source(case.images[channel]) for case in sarcoma[:most]]
        index = list(sarcoma[0].images).index(channel)
        yield f"{channel} of thighs", [pick(one, index) for one in volumes]
    torso = DATA / "torso_ct"
    yield "CT of a torso", sorted(torso.glob("imagesTr/*.nii.gz"))
    yield "MR of a torso", sorted((torso / "mr" / "images").glob("*.nii.gz"))
    yield "CT of an abdomen", sorted((DATA / "liver_ct" / "imagesTr").glob("*.nii.gz"))
    for name, words in (
        ("lung_nodules", "CT around a lung nodule"),
        ("liver_mr_slices", "MR slice of a liver"),
        ("chest_xray", "chest X-ray"),
        ("breast_ultrasound", "breast ultrasound"),
        ("retina_vessels", "photograph of a retina"),
        ("nuclei", "fluorescence microscopy"),
    ):
        cases = open_dataset(DATA / name).cases
        chosen = cases[:: max(1, len(cases) // most)][:most]
        yield words, [next(iter(case.images.values())) for case in chosen]


def pick(volume: Volume, channel: int) -> Volume:
    """Keep one channel."""
    if volume.channels == 1:
        return volume
    return Volume(volume.array[channel : channel + 1], volume.geometry)


def spoilt(own: list[Path]) -> Iterator[tuple[str, list[Source]]]:
    """Give the model's own test images, spoilt in one way each."""
    volumes = [read_source(path) for path in own]
    rng = np.random.default_rng(0)

    def changed(change: Callable[[np.ndarray], np.ndarray]) -> list[Source]:
        return [
            Volume(np.ascontiguousarray(change(one.array.astype(np.float32))), one.geometry)
            for one in volumes
        ]

    def header(spacing_factor: float) -> list[Source]:
        return [
            Volume(
                one.array,
                Geometry(one.geometry.shape, one.geometry.affine * spacing_of(spacing_factor)),
            )
            for one in volumes
        ]

    yield "own, header says upside down (Z)", changed(lambda a: a[:, ::-1])
    yield "own, front and back exchanged (Y)", changed(lambda a: a[:, :, ::-1])
    yield "own, left and right exchanged (X)", changed(lambda a: a[..., ::-1])
    yield "own, header with spacing x 10", header(10.0)
    yield "own, header with spacing x 2", header(2.0)
    yield "own, empty", changed(np.zeros_like)
    yield (
        "own, noise in place of the image",
        changed(lambda a: rng.permutation(a.ravel()).reshape(a.shape)),
    )
    yield "own, grey values inverted", changed(lambda a: a.max() - a)
    yield (
        "own, noise of its own spread added",
        changed(lambda a: a + rng.normal(0, a.std(), a.shape)),
    )
    yield "own, half of the slices empty", changed(half)


def spacing_of(factor: float) -> np.ndarray:
    """Return what an affine is multiplied by for a larger spacing at the same origin."""
    return np.array([[factor] * 3 + [1.0]] * 4)


def half(array: np.ndarray) -> np.ndarray:
    """Set half of the slices to 0."""
    out = array.copy()
    out[:, : array.shape[1] // 2] = 0
    return out


if __name__ == "__main__":
    main()
