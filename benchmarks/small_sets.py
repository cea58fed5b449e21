"""One patient fold of further public sets with no option but --minutes.

PET/CT in 3D, colour and grey pictures in 2D.

    scripts/bench small_sets --minutes 10 [--sets sarcoma_petct retina_vessels nuclei]

Beside each figure stands the published or human one, from the set's SOURCE.txt; on other cases, so
for orientation only.
"""

from __future__ import annotations

import argparse
from typing import Any

from _common import DATA, HEADER, OUT, dice_rows, hilum, trained_already, write_result

from hilum.dataset import make_folds, open_dataset
from hilum.evaluation import evaluate_folder

BESIDE = {
    "sarcoma_petct": "no published figure for this crop",
    "retina_vessels": (
        "second human observer .777 to .798; U-Net .778 to R2U-Net .778, IterNet .807 (F1, other"
        " split)"
    ),
    "nuclei": "no published Dice for this subset",
}


def main() -> None:
    """Train what is missing, score the validation fold, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--sets", nargs="+", default=list(BESIDE), choices=list(BESIDE))
    asked = parser.parse_args()
    for name in asked.sets:
        data, model = DATA / name, OUT / "small_sets" / name
        if not trained_already(model, asked.minutes):
            hilum("train", data, "-o", model, "--minutes", asked.minutes)
        dataset = open_dataset(data)
        validation = make_folds(dataset, 5)[0].validation
        predictions = model / "predictions"
        inputs = sorted(
            {str(path) for case in validation for path in dataset[case].images.values()}
        )
        hilum("predict", model, *inputs, "-o", predictions, "--pictures", "--skip-existing")
        evaluation = evaluate_folder(predictions, dataset, model / "scores", allow_missing=True)
        result: dict[str, Any] = {
            "minutes": asked.minutes,
            "summary": evaluation.summary.model_dump(mode="json"),
        }
        print(
            f"\n{name}, {asked.minutes:g} minutes, {len(validation)} validation cases. Beside it:"
            f" {BESIDE[name]}\n\n{HEADER}"
        )
        print("\n".join(dice_rows(evaluation.summary)))
        write_result(f"small_sets_{name}", result)


if __name__ == "__main__":
    main()
