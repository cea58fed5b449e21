"""The verbs on data sets: check, plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.dataset.open import Labelling
from hilum.errors import counted
from hilum.files import OutputFolder
from hilum.plan.planner.overrides import NetworkOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from hilum.dataset.doctor import Finding, FixLog
    from hilum.plan import Overrides, Plan
    from hilum.training import Listener

    CaseProgress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class CheckResult:
    """Findings of the doctor, and the changes that were made.

    Args:
        findings: errors first.
        fixes: the log of the corrected copy, where one was asked for.
        summary: how the data set was read, in one sentence.
    """

    findings: tuple[Finding, ...]
    fixes: FixLog | None = None
    summary: str = ""

    @property
    def errors(self) -> int:
        """Count the findings with which training would fail or could not be trusted."""
        return sum(finding.severity == "error" for finding in self.findings)


def check(
    data: Path | str,
    *,
    fix: Path | str | None = None,
    patients: str | None = None,
    labelling: Labelling | None = None,
    progress: CaseProgress | None = None,
) -> CheckResult:
    """Find what is wrong with a data set; on request write a corrected copy.

    Args:
        data: what `hilum.open_dataset` opens.
        fix: folder for the corrected copy and its log; the source is never changed.
        patients: a regular expression for the patient in a case's id, where no table names
            patients.
        labelling: what is learnt from the data set, where that is not clear.
        progress: called as progress(done, total, case id).

    Raises:
        UsageError: no such data set, or the folder for the copy is in use.
        DataError: the data set cannot be opened at all.
    """
    from hilum.dataset import doctor

    dataset = (labelling or Labelling()).open(data, patients=patients)
    if fix is not None:
        doctor.refuse_target(dataset, Path(fix))
    findings = doctor.check(dataset, progress=progress)
    fixes = None if fix is None else doctor.fix(dataset, findings, fix, progress=progress)
    return CheckResult(findings, fixes, dataset.summary)


def plan(  # noqa: PLR0913  (the verb's options, keyword-only)
    data: Path | str,
    *,
    minutes: float | None = None,
    device: str = "auto",
    memory_gb: float | None = None,
    labelling: Labelling | None = None,
    network: NetworkOptions | None = None,
    overrides: Overrides | None = None,
    out: Path | str | None = None,
    listener: Listener | None = None,
) -> Plan:
    """Make the plan of a training without training, on the cases that it trains on by default.

    Args:
        data: what `hilum.open_dataset` opens.
        minutes: wall-clock time of one fold; a few training steps are then measured to size the
            network.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        memory_gb: what may be used; by default what the machine has.
        labelling: what is learnt from the data set, where that is not clear.
        network: what is asked of a classifier's network.
        overrides: what is not for the planner to decide, beside that.
        out: file for the plan as JSON, to be edited and given to `train`.
        listener: is told what happens.

    Raises:
        HilumError: the data cannot be opened, divided into folds, or planned for.
    """
    from hilum.pipelines.training import task_of
    from hilum.plan import save_plan
    from hilum.training import Listener, TrainOptions, choose_folds, make_plan_for

    if out is not None:
        with OutputFolder(Path(out).parent, "plan") as folder:
            folder.refuse_foreign([Path(out)])
    options = TrainOptions(minutes=minutes, device=device, memory_gb=memory_gb)
    fixed = (network or NetworkOptions()).overrides(overrides)
    dataset = (labelling or Labelling()).open(data)
    listener = listener or Listener()
    ((number, fold),) = choose_folds(dataset, options, listener)
    listener.say(
        f"The plan is made on the {counted(len(fold.train), 'training case')} of fold {number}, as"
        " `hilum train` makes it by default; near-duplicates, which that keeps in one fold, were"
        " not looked for."
    )
    made, _ = make_plan_for(
        dataset,
        task_of(dataset),
        options,
        listener=listener,
        cases=fold.train,
        overrides=fixed,
    )
    plan: Plan = made
    if out is not None:
        save_plan(plan, out)
    return plan
