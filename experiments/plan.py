"""From an experiment's TOML file to the runs it asks for. Pure: no program is started, nothing is written.

An experiment is a product of axes. Each value of an axis has a label and options of `lategrad`; a case is one label per
axis. Where there is a [tune] table, a case is first run with every value of one option on a seed of its own; the best
one then runs with all seeds, so that no seed is both chosen by and reported.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).resolve().parent

# Keys beside the options of lategrad in an axis value.
RESERVED = {"target", "seeds"}


class PlanError(Exception):
    """An experiment's file asks for what cannot be; one line for the user."""


@dataclass(frozen=True)
class Run:
    """One start of the program. Two runs with the same arguments are the same run."""

    command: tuple[str, ...]
    options: tuple[tuple[str, str | bool], ...]  # sorted by name

    @staticmethod
    def of(command: str, options: dict) -> Run:
        return Run(tuple(command.split()), tuple(sorted((name, _text(value)) for name, value in options.items())))

    def arguments(self) -> list[str]:
        out = list(self.command)
        for name, value in self.options:
            if value is True:
                out.append(f"--{name}")
            elif value is not False:
                out += [f"--{name}", value]
        return out

    def key(self) -> str:
        """Names its result. Only what decides the result goes in: neither folders nor the program's version."""
        return hashlib.sha256(json.dumps(self.arguments()).encode()).hexdigest()[:20]


def _text(value) -> str | bool:
    return value if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class Case:
    labels: tuple[str, ...]  # one per axis, in the file's order
    options: dict = field(hash=False, compare=False)
    seeds: tuple[int, ...] = ()
    target: float | None = None  # test accuracy


@dataclass
class Experiment:
    name: str  # e1
    title: str
    question: str
    setting: str
    quick: bool
    axes: dict[str, list[str]]  # labels by axis
    cases: list[Case]
    tune: dict | None  # option, values, seed
    once: dict[str, Run]  # single runs of other commands
    notes: dict  # for the report: what was published elsewhere, what is the default
    skipped: list[str]  # why cases are left out, for the user

    def tuning_runs(self, case: Case) -> dict[float, Run]:
        """By the tuned option's value; empty where nothing is tuned."""
        if self.tune is None:
            return {}
        return {
            value: Run.of("simulate", case.options | {self.tune["option"]: value, "seed": self.tune["seed"]})
            for value in self.tune["values"]
        }

    def seed_runs(self, case: Case, chosen: float | None) -> list[Run]:
        options = case.options | ({self.tune["option"]: chosen} if self.tune else {})
        return [Run.of("simulate", options | {"seed": seed}) for seed in case.seeds]

    def choose(self, case: Case, results: dict[str, dict]) -> float | None:
        """The tuned option's value: the fastest to the target, and where none reaches it, or the [tune] table says
        `by = "accuracy"`, the most accurate at the end. None: nothing is tuned, or no tuning run has a result."""
        if self.tune is None:
            return None
        ranked = []
        for value, run in self.tuning_runs(case).items():
            result = results.get(run.key())
            if result is None:
                continue
            reached = first_reach(result["curve"], case.target) if self.tune.get("by", "time") == "time" else None
            accuracy = final_accuracy(result)
            ranked.append((math.inf if reached is None else reached, -accuracy, value))
        return min(ranked)[2] if ranked else None

    def case(self, *labels: str) -> Case | None:
        return next((case for case in self.cases if case.labels == labels), None)

    def run_count(self) -> int:
        """Runs in all, once what is tuned is known; those that two cases share are counted twice."""
        tuned = len(self.tune["values"]) if self.tune else 0
        return sum(tuned + len(case.seeds) for case in self.cases) + len(self.once)


def final_accuracy(result: dict) -> float:
    """Of the test part: mean over the last three evaluations, as one by itself jumps. What it had learned is nothing
    where the run diverged."""
    last = result["curve"]["accuracy"][-3:]
    if result["summary"]["outcome"] == "diverged" or not last or None in last:
        return 0.0
    return sum(last) / len(last)


def first_reach(curve: dict, target: float, axis: str = "seconds") -> float | None:
    """Where on the axis the test accuracy first reaches the target. One evaluation by itself jumps: the mean of three
    in a row counts, at the middle one, and between two of these a straight line. None: never."""
    before = None
    for i in range(1, len(curve["accuracy"]) - 1):
        three = curve["accuracy"][i - 1 : i + 2]
        x, accuracy = curve[axis][i], sum(a for a in three if a is not None) / 3
        if accuracy >= target:
            if before is None:
                return x
            share = (target - before[1]) / (accuracy - before[1])
            return before[0] + share * (x - before[0])
        before = (x, accuracy)
    return None


def reached_at_once(curve: dict, target: float) -> bool:
    """By the first three evaluations: when, within them, is not known."""
    reached = first_reach(curve, target)
    return reached is not None and reached == curve["seconds"][1]


def files(folder: Path = FOLDER) -> dict[str, Path]:
    """By name: e1_convergence.toml is e1."""
    return {path.stem.split("_")[0]: path for path in sorted(folder.glob("e*.toml"))}


def load(path: Path, quick: bool, root: Path | None = None) -> Experiment:
    """`root` is where relative folders of data are looked for; default the source tree."""
    try:
        table = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"{path.name}: {error}") from None
    try:
        return expand(path.stem.split("_")[0], table, quick, root or path.parent.parent)
    except KeyError as error:
        raise PlanError(f"{path.name}: {error} is missing") from None


def expand(name: str, table: dict, quick: bool, root: Path) -> Experiment:
    table = copy.deepcopy(table)
    smaller = table.pop("quick", {})
    if quick:
        keep = smaller.pop("keep", {})
        _merge(table, smaller)
        for axis, labels in keep.items():
            missing = set(labels) - set(table["axis"][axis])
            if missing:
                raise PlanError(f"{name}: quick.keep.{axis} names {', '.join(sorted(missing))}, which is no value")
            table["axis"][axis] = {label: table["axis"][axis][label] for label in labels}

    axes = {axis: list(values) for axis, values in table["axis"].items()}
    cases, skipped = [], []
    for labels in itertools.product(*axes.values()):
        options, target, seeds = dict(table.get("options", {})), table.get("target"), table["seeds"]
        for axis, label in zip(axes, labels):
            value = table["axis"][axis][label]
            options |= {key: entry for key, entry in value.items() if key not in RESERVED}
            target, seeds = value.get("target", target), value.get("seeds", seeds)
        for rule in table.get("where", []):  # what no single axis decides
            if _matches(rule["match"], dict(zip(axes, labels))):
                options |= rule["options"]
        folder = options.get("data-dir")
        if folder is not None and not (root / folder).is_dir():
            message = f"{name}: there is no folder {folder}; what needs it is skipped"
            if message not in skipped:
                skipped.append(message)
            continue
        cases.append(Case(labels, options, tuple(seeds), target))
    once = {key: Run.of(entry["command"], entry.get("options", {})) for key, entry in table.get("once", {}).items()}
    return Experiment(
        name,
        table["title"],
        table["question"],
        table["setting"],
        quick,
        axes,
        cases,
        table.get("tune"),
        once,
        table.get("notes", {}),
        skipped,
    )


def _matches(rule: dict, labels: dict[str, str]) -> bool:
    """Every axis that the rule names has one of the labels it names there."""
    return all(labels[axis] in ([wanted] if isinstance(wanted, str) else wanted) for axis, wanted in rule.items())


def _merge(into: dict, other: dict) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
