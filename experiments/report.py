"""Writes experiments.md and its figures from the results that there are."""

from __future__ import annotations

import shlex
from pathlib import Path

from figure import FigureError, Panel, draw
from outcomes import Data
from plan import Experiment, PlanError
from results import Store
from sections import SECTIONS
from stats import SEEDS_MIN


class Figures:
    def __init__(self, folder: Path):
        self.folder = folder

    def add(self, name: str, panels: list[Panel], columns: int, command: str, size: tuple[int, int]) -> list[str]:
        """Draws it and returns the lines that show it."""
        try:
            draw(self.folder / f"{name}.svg", panels, columns, command, size)
        except FigureError as error:
            raise PlanError(str(error)) from None
        shown = "; ".join(dict.fromkeys(panel.title for panel in panels))
        return [f"![{shown}](figures/{name}.svg)", "", f"*Figure {name}, made by `{command}`.*", ""]


def read(experiment: Experiment, store: Store) -> Data:
    data = Data(experiment, {})

    def take(runs) -> None:
        for run in runs:
            result = store.load(run)
            if result is not None:
                data.results[run.key()] = result

    take(experiment.once.values())
    for case in experiment.cases:
        take(experiment.tuning_runs(case).values())
        take(data.seed_runs(case))
    return data


def write(
    experiments: list[Experiment], store: Store, results: Path, docs: Path, out: Path | None, quick: bool
) -> Path:
    """The path of the report. `docs` is written only from a full set that is complete; what is committed there is not
    lost to a smaller one."""
    data = [read(experiment, store) for experiment in experiments]
    if out is None:
        if quick:
            out = results / "quick"
        else:
            complete = all(each.missing() == 0 and not each.experiment.skipped for each in data)
            out = docs if complete else results / "partial"
    out.mkdir(parents=True, exist_ok=True)
    path = out / "experiments.md"
    lines = header(data, quick)
    for each in data:
        lines += section(each, Figures(out / "figures"))
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text("\n".join(lines).rstrip() + "\n")
    unfinished.replace(path)
    return path


def header(data: list[Data], quick: bool) -> list[str]:
    versions = sorted({result["version"] for each in data for result in each.results.values()})
    runs = sum(len(each.results) for each in data)
    seconds = sum(result["cpu_seconds"] for each in data for result in each.results.values())
    command = "./dev experiments --quick" if quick else "./dev experiments"
    lines = [
        "# Experiments",
        "",
        f"Made by `{command}` from {runs} runs of {', '.join(versions) or 'no program'}, {seconds:.0f} core-seconds. "
        "What is run is said in `experiments/*.toml`; this file and its figures are overwritten.",
        "",
    ]
    if quick:
        lines += ["**The quick set: everything small, a test of the machinery. Its numbers are no results.**", ""]
    lines += [
        "All runs are simulations: real gradients of real models, or none where only the timing counts, on a modelled "
        "cluster in virtual time ([simulator.md](simulator.md)). Times are the cluster's; they depend on the options "
        "and the seed, not on the machine that computes them.",
        "",
        "Numbers are means over seeds with 95 % confidence intervals by Student's t. A difference is claimed only "
        f"where two intervals, each over at least {SEEDS_MIN} seeds, have no point in common; where they have one, it "
        "says that no difference is seen. Learning rates are tuned per case over the same grid on a seed that is not "
        "reported: the fastest to the target, or where none reaches it the most accurate at the end. An accuracy is "
        "reached when the mean of three evaluations in a row reaches it, at the middle one; where a seed has it by the "
        "first three, the time has a ≤ and is not compared. Accuracy at the end is the mean of the last three; where "
        "rates are tuned for time it is of those rates. The sentences under *Found* are made from the numbers by a "
        "program.",
        "",
    ]
    return lines


def section(data: Data, figures: Figures) -> list[str]:
    experiment = data.experiment
    command = f"./dev experiments {experiment.name}" + (" --quick" if experiment.quick else "")
    lines = [f"## {experiment.name.upper()} {experiment.title}", "", f"**Question.** {experiment.question}", ""]
    lines += [f"**Setting.** {experiment.setting.strip()}{tuning(experiment)}", ""]
    lines += [f"**Command.** `{command}`"]
    shown = next((run for case in reversed(experiment.cases) for run in data.seed_runs(case)), None)
    if shown:
        lines[-1] += f"; one of its runs is `{shlex.join(['lategrad', *shown.arguments()])}`"
    lines += ["", *(f"*Left out: {message}.*\n" for message in experiment.skipped)]
    missing = data.missing()
    if not data.results:
        return lines + ["*Not run yet.*", ""]
    if missing:
        lines += [f"*{missing} of {experiment.run_count()} runs have no result; what follows is in part.*", ""]
    return lines + SECTIONS[experiment.name](data, figures, command)


def tuning(experiment: Experiment) -> str:
    if experiment.tune is None:
        return ""
    values = ", ".join(f"{value:g}" for value in experiment.tune["values"])
    return f" `--{experiment.tune['option']}` per case from {values} on seed {experiment.tune['seed']}."
