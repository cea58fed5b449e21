"""Out-of-distribution check of a classifier, by the image's features and its intensities.

The distance is Mahalanobis's from all training cases at once, with Ledoit and Wolf's shrinkage.
Directions in which training cases do not differ weigh most, and there an image of another kind
stands out, even in features that were trained to tell classes apart and collapsed onto them. A
trial chose it: chest radiographs, then breast ultrasound, as training cases (50 and 160), with
features of EfficientNet-Lite0 as ImageNet left them, and of two more layers trained on these cases;
5 % of like images to be refused. Of images of other kinds (ultrasound or radiographs, retina,
microscopy, MR, CT) it refused 97 to 100 %. The distance to the k nearest neighbours of normalised
features (Sun et al. 2022) refused all by the first features, but 1 to 48 % by the trained ones;
Mahalanobis's in the leading principal components only refused 10 to 100 % by either.

Features alone let blank images pass (8 to 80 % refused). So eleven statistics of the intensities
are held against the training cases' in the same way: with them all blank images were refused, and
95 to 100 % of the other kinds where 1 % was to be. Either distance has a limit of its own, from
held-out cases, for half of the share that may be refused.

What it is not: a judge of quality within a kind. Of radiographs upside down 9 to 59 % were refused,
of inverted ones 40 to 84 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from hilum.errors import DataError, UsageError, damaged_model
from hilum.plan.plan import Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float32] | NDArray[np.float64]

_FEWEST_TRAINING = 10
_FEWEST_HELD_OUT = 5
_DIRECTIONS = 256
"""Most principal directions that are kept; 2048 features are 2 MB then."""
_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
INTENSITY_STATISTICS = (
    "mean",
    "std",
    *(f"percentile {p}" for p in _PERCENTILES),
    "flat",
    "roughness",
)
"""Statistics of each channel that `intensity_features` gives."""
# of a statistic: network space has a unit scale, and what always is the same must not be judged by
# rounding
_SMALLEST_SPREAD = 0.01


@dataclass(frozen=True, eq=False)
class Gate:
    """A normal distribution of training cases, and the limit of the distance from it.

    Few samples give its leading directions, and one variance for the rest.

    Args:
        mean: (F,).
        unit: (F,), what each feature is divided by first.
        basis: (R, F), orthonormal rows.
        variances: (R,), along them.
        rest: along all others.
        held_out: (M,) distances of held-out cases, smallest first.
        share: of images like them that may lie beyond the limit.
    """

    mean: Floats
    unit: Floats
    basis: Floats
    variances: Floats
    rest: float
    held_out: Floats
    share: float

    @classmethod
    def fit(cls, train: ArrayLike, held_out: ArrayLike, share: float, *, standardise: bool) -> Self:
        """Fit (N, F) training and (M, F) held-out cases: covariance by Ledoit and Wolf (2004).

        `standardise` divides each feature by its own standard deviation.

        Raises:
            DataError: too few cases, features that are no numbers, or all cases are the same.
            UsageError: features of two sizes.
        """
        from sklearn.covariance import ledoit_wolf_shrinkage  # here: judging needs no scikit-learn

        cases, others = np.asarray(train, np.float64), np.asarray(held_out, np.float64)
        if cases.ndim != 2 or others.ndim != 2 or cases.shape[1] != others.shape[1]:
            raise UsageError(
                f"the features have shapes {cases.shape} and {others.shape}",
                needed="(N, F) and (M, F)",
                cure="compute both by one network, one row a case",
            )
        (count, features), fewest = cases.shape, (_FEWEST_TRAINING, _FEWEST_HELD_OUT)
        if count < fewest[0] or len(others) < fewest[1]:
            raise DataError(
                f"there are {count} training and {len(others)} held-out cases",
                needed=f"at least {fewest[0]} and {fewest[1]} to say what is unlike them",
                cure="add cases, or predict without the check of unlike images",
            )
        if not (np.isfinite(cases).all() and np.isfinite(others).all()):
            raise DataError(
                "some features are no numbers",
                needed="finite features of every case",
                cure="leave out the cases whose features are NaN or infinite, or train again",
            )
        mean = cases.mean(axis=0)
        unit = (
            np.maximum(cases.std(axis=0), _SMALLEST_SPREAD) if standardise else np.ones_like(mean)
        )
        centred = (cases - mean) / unit
        total = float((centred**2).sum()) / count
        if total <= 1e-12 * max(1.0, float((mean**2).sum())):
            raise DataError(
                f"all {count} training cases have the same features, by which unlike images would"
                " be recognised",
                needed="features that differ from case to case",
                cure="check that each case is another image; of a network that has collapsed, train"
                " again",
            )
        shrinkage = max(float(ledoit_wolf_shrinkage(centred, assume_centered=True)), 1e-6)
        # the same singular values and directions as of the cases, without their number
        matrix = np.linalg.qr(centred, mode="r") if count > features else centred
        _, singular, directions = np.linalg.svd(matrix, full_matrices=False)
        own = singular**2 / count
        kept = min(_DIRECTIONS, len(own))
        level, left = total / features, features - kept
        gate = cls(
            mean=mean.astype(np.float32),
            unit=unit.astype(np.float32),
            basis=directions[:kept].astype(np.float32),
            variances=(1 - shrinkage) * own[:kept] + shrinkage * level,
            rest=shrinkage * level
            + ((1 - shrinkage) * float(own[kept:].sum()) / left if left else 0.0),
            held_out=np.empty(0),
            share=share,
        )
        return replace(gate, held_out=np.sort(gate.distance(others)))

    def distance(self, cases: ArrayLike, name: str = "features") -> NDArray[np.float64]:
        """Compute the Mahalanobis distance of (B, F), (B,); infinite where a feature is no number.

        Raises:
            UsageError: features of another number.
        """
        rows = np.asarray(cases, np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.mean):
            raise UsageError(
                f"the {name} have shape {rows.shape}",
                needed=f"(B, {len(self.mean)}), as fitted",
                cure="compute them by the network that the check was fitted for, one row a case",
            )
        with np.errstate(invalid="ignore", over="ignore"):
            centred = (rows - self.mean.astype(np.float64)) / self.unit
            along = centred @ self.basis.astype(np.float64).T  # (B, R)
            beside = np.maximum((centred**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
            squared = (along**2 / self.variances).sum(axis=1) + beside / self.rest
        return np.where(np.isfinite(squared), np.sqrt(squared), np.inf)

    @property
    def limit(self) -> float:
        """The held-out distance of rank ceil((M + 1)(1 - share)).

        With fewer than 1/share - 1 of them there is none so rare.

        Then it is the upper prediction limit of a log-normal distribution through them, and never
        below the largest.
        """
        count = len(self.held_out)
        rank = math.ceil((count + 1) * (1 - self.share) - 1e-9)
        if rank <= count:
            return float(self.held_out[rank - 1])
        from scipy import stats

        largest = float(self.held_out[-1])
        logs = np.log(np.maximum(self.held_out, 1e-6 * largest + 1e-12))
        factor = stats.t.ppf(1 - self.share, count - 1) * math.sqrt(1 + 1 / count)
        return max(largest, math.exp(logs.mean() + factor * logs.std(ddof=1)))

    @property
    def guaranteed(self) -> float:
        """The expected share beyond the limit, for held-out sets of this size."""
        beyond = np.count_nonzero(self.held_out > self.limit)
        return (int(beyond) + 1) / (len(self.held_out) + 1)

    def is_sound(self) -> bool:
        """Return False where parts that were read from a file do not fit together."""
        arrays = (self.mean, self.unit, self.basis, self.variances, self.held_out)
        return (
            self.mean.shape == self.unit.shape
            and self.basis.shape == (len(self.variances), len(self.mean))
            and all(bool(np.isfinite(array).all()) for array in arrays)
            and min(self.rest, self.variances.min(), self.unit.min()) > 0
            and 0 < self.share < 1
            and len(self.held_out) >= 2
            and bool((np.diff(self.held_out) >= 0).all())
        )

    def p_value(self, distances: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute the conformal p-value of a distance among training-like images, (B,).

        Never below 1 / (M + 1).
        """
        count = len(self.held_out)
        as_far = count - np.searchsorted(self.held_out, distances, side="left")
        return (as_far + 1) / (count + 1)


_ARRAYS = ("mean", "unit", "basis", "variances", "held_out")
"""The arrays of a `Gate`."""


class Verdict(Record):
    """Result of the out-of-distribution check, with its reason.

    Args:
        refuse: whether it lies beyond a limit.
        p_value: how rare that is among images like the training ones; small is unlike.
        features_distance: from the training cases in the network's features.
        features_limit: beyond it is refused.
        intensity_distance: from them in the statistics of the intensities; None where those were
            not fitted.
        intensity_limit: beyond it is refused.
        because: in words.
    """

    refuse: bool
    p_value: float
    features_distance: float
    features_limit: float
    intensity_distance: float | None = None
    intensity_limit: float | None = None
    because: str


@dataclass(frozen=True, eq=False)
class Refusal:
    """Summary of training cases: enough to judge whether images are like them, not to show one.

    Args:
        features: the gate of the network's features.
        intensities: the gate of `intensity_features`, where they were given.
        share: of images like the training ones that is refused at most.
    """

    features: Gate
    intensities: Gate | None
    share: float

    @property
    def guaranteed(self) -> float:
        """The share refused at most that the number of held-out cases proves.

        Larger than `share` where they are few.
        """
        return self.features.guaranteed + (self.intensities.guaranteed if self.intensities else 0.0)

    def distance(self, features: ArrayLike) -> NDArray[np.float64]:
        """Compute the Mahalanobis distance of (B, F), (B,); infinite where a feature is no number.

        Raises:
            UsageError: features of another number.
        """
        return self.features.distance(features)

    def judge(
        self, features: ArrayLike, intensities: ArrayLike | None = None
    ) -> tuple[Verdict, ...]:
        """Judge each of (B, F) features and, where they were fitted, (B, S) `intensity_features`.

        Raises:
            UsageError: features of another number, or intensities missing where they were fitted.
        """
        if self.intensities is not None and intensities is None:
            raise UsageError(
                "no intensities were given",
                needed="the intensity statistics of each image, which this check was fitted with",
                cure="judge(features, [intensity_features(image)])",
            )
        gates = self._gates()
        distances = {"features": self.features.distance(features)}
        if self.intensities is not None and intensities is not None:
            distances["intensities"] = self.intensities.distance(intensities, "intensities")
        rare = [gate.p_value(distances[name]) for name, gate in gates.items()]
        # Bonferroni: the smallest of two is small twice as often
        p_values = np.minimum(1.0, len(gates) * np.min(rare, axis=0))
        limits = {name: gate.limit for name, gate in gates.items()}
        verdicts = []
        for case, p_value in enumerate(p_values):
            own = {name: float(far[case]) for name, far in distances.items()}
            beyond = [
                f"{name} {far:.3g} away, limit {limits[name]:.3g}"
                for name, far in own.items()
                if far > limits[name]
            ]
            verdict = Verdict(
                refuse=bool(beyond),
                p_value=float(p_value),
                features_distance=own["features"],
                features_limit=limits["features"],
                intensity_distance=own.get("intensities"),
                intensity_limit=limits.get("intensities"),
                because=(
                    f"unlike the training cases: {'; '.join(beyond)}"
                    if beyond
                    else "like the training cases"
                ),
            )
            verdicts.append(verdict)
        return tuple(verdicts)

    def _gates(self) -> dict[str, Gate]:
        more = {} if self.intensities is None else {"intensities": self.intensities}
        return {"features": self.features, **more}

    def to_arrays(self) -> tuple[dict[str, Floats], dict[str, float]]:
        """Return the arrays for a safetensors file, and the numbers for JSON."""
        arrays: dict[str, Floats] = {}
        numbers = {"share": self.share}
        for name, gate in self._gates().items():
            arrays |= {f"{name}.{part}": getattr(gate, part) for part in _ARRAYS}
            numbers |= {f"{name}.rest": gate.rest, f"{name}.share": gate.share}
        return arrays, numbers

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Floats], numbers: Mapping[str, float]) -> Self:
        """Rebuild the object from the arrays of `to_arrays`.

        Raises:
            ModelError: parts are missing, or do not fit together.
        """
        gates = {}
        try:
            for name in ("features", "intensities"):
                if name == "features" or f"{name}.rest" in numbers:
                    rest, share = (numbers[f"{name}.{part}"] for part in ("rest", "share"))
                    own = {part: arrays[f"{name}.{part}"] for part in _ARRAYS}
                    gates[name] = Gate(**own, rest=rest, share=share)
            refusal = cls(gates["features"], gates.get("intensities"), numbers["share"])
        except KeyError as error:
            raise damaged_model(f"the check of unlike images lacks its part {error}") from error
        for name, gate in gates.items():
            if not gate.is_sound():
                raise damaged_model(f"the {name} of the check of unlike images do not fit together")
        return refusal


def fit_refusal(
    train_features: ArrayLike,
    held_out_features: ArrayLike,
    *,
    share: float = 0.01,
    train_intensities: ArrayLike | None = None,
    held_out_intensities: ArrayLike | None = None,
) -> Refusal:
    """Learn what training cases look like, and from held-out ones how far others like them lie.

    Args:
        train_features: (N, F), `features` of one network, of the cases it was trained on.
        held_out_features: (M, F), of the same network, of cases of other patients: a network's own
            training cases lie closer.
        share: of images like the held-out ones that may be refused: a quantile of theirs with the
            correction for their number (Vovk et al. 2005), whatever the distribution. From fewer
            than 1/share - 1 of them (2/share - 1 with intensities) it is estimated, see
            `Gate.limit`, and `Refusal.guaranteed` says what is proven.
        train_intensities: (N, S), `intensity_features` of the same cases, where they shall be
            judged as well.
        held_out_intensities: (M, S).

    Raises:
        DataError: fewer than 10 training or 5 held-out cases, features that are no numbers, or that
            never differ.
        UsageError: arrays that do not fit each other, or a share outside 0 to 0.5.
    """
    if not 0 < share < 0.5:
        raise UsageError(
            f"share={share:g} of refused cases is out of range",
            needed="more than 0, less than 0.5",
            cure="share=0.01",
        )
    if (train_intensities is None) != (held_out_intensities is None):
        raise UsageError(
            "intensities were given of training or of held-out cases only",
            needed="both or none",
            cure="give train_intensities and held_out_intensities, or leave both out",
        )
    if train_intensities is None or held_out_intensities is None:
        gate = Gate.fit(train_features, held_out_features, share, standardise=False)
        return Refusal(gate, None, share)
    return Refusal(
        Gate.fit(train_features, held_out_features, share / 2, standardise=False),
        Gate.fit(train_intensities, held_out_intensities, share / 2, standardise=True),
        share,
    )


def intensity_features(image: ArrayLike) -> NDArray[np.float64]:
    """Describe a preprocessed image (C, Z, Y, X): `INTENSITY_STATISTICS` of each channel.

    "flat" is the share of voxels that are as their neighbour along X (air, padding, a blank image),
    "roughness" the mean difference of neighbours along Y and X in standard deviations (noise has
    much, blur little).

    Raises:
        UsageError: the image is not (C, Z, Y, X).
    """
    array = np.asarray(image, np.float64)
    if array.ndim != 4 or not array.size:
        raise UsageError(
            f"the image has shape {array.shape}",
            needed="one preprocessed image (C, Z, Y, X)",
            cure="image[None] adds an axis of channels; a 2D picture has Z = 1",
        )
    statistics: list[float] = []
    with np.errstate(invalid="ignore"):
        for channel in array:
            spread = float(channel.std())
            along_x, along_y = np.abs(np.diff(channel, axis=2)), np.abs(np.diff(channel, axis=1))
            steps = np.concatenate([along_x.ravel(), along_y.ravel()])
            flat = float((along_x <= 1e-3 * spread).mean()) if along_x.size else 1.0
            rough = float(steps.mean()) / spread if steps.size and spread != 0 else 0.0
            percentiles = np.percentile(channel, _PERCENTILES)
            statistics += [float(channel.mean()), spread, *percentiles.tolist(), flat, rough]
    return np.array(statistics)


def combine(verdicts: Sequence[Verdict]) -> Verdict:
    """Combine the verdicts of the networks of an ensemble: that of half of them.

    At most twice the members' share is refused, however they depend on each other (Markov's
    inequality), and so is the p-value twice their mean (Vovk and Wang 2020). Distances and limits
    are those of the member whose verdict is in the middle.

    Raises:
        UsageError: no verdict.
    """
    if not verdicts:
        raise UsageError(
            "the ensemble has no verdict",
            needed="at least one",
            cure="combine the verdicts of `judge` of at least one network",
        )
    if len(verdicts) == 1:
        return verdicts[0]
    ordered = sorted(verdicts, key=lambda verdict: (not verdict.refuse, verdict.p_value))
    middle = ordered[(len(ordered) - 1) // 2]
    refusing = sum(verdict.refuse for verdict in verdicts)
    twice = min(1.0, 2 * sum(verdict.p_value for verdict in verdicts) / len(verdicts))
    words = f"{middle.because} ({refusing} of {len(verdicts)} members refuse)"
    return middle.model_copy(update={"p_value": twice, "because": words})
