"""The results of an experiment by case, and the sentences that compare them. Every claim of the report is made here,
from numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from plan import Case, Experiment, Run, final_accuracy, first_reach, reached_at_once
from stats import SEEDS_MIN, Estimate, estimate, separated


@dataclass
class Outcome:
    case: Case
    chosen: float | None  # the tuned option's value
    at_edge: bool  # of the grid: a better value may lie beyond
    results: list[dict]  # of the seeds that have one

    def estimate(self, of: Callable[[dict], float | None]) -> Estimate | None:
        """None where any seed has no such number."""
        values = [of(result) for result in self.results]
        if not values or any(value is None for value in values):
            return None
        return estimate(values)

    def reach(self, axis: str = "seconds") -> Estimate | None:
        """Of where the target is reached; None unless every seed reaches it, after its first evaluations."""
        if self.at_once():
            return None
        return self.estimate(lambda result: first_reach(result["curve"], self.case.target, axis))

    def reached(self) -> int:
        return sum(first_reach(result["curve"], self.case.target) is not None for result in self.results)

    def at_once(self) -> bool:
        """A seed is at the target by its first evaluations."""
        return any(reached_at_once(result["curve"], self.case.target) for result in self.results)

    def never(self) -> bool:
        """Of enough seeds, none reaches the target."""
        return len(self.results) >= SEEDS_MIN and self.reached() == 0

    def always(self) -> bool:
        return len(self.results) >= SEEDS_MIN and self.reached() == len(self.results)

    def reach_text(self, axis: str, digits: int) -> str:
        found = self.reach(axis)
        if found is not None:
            return found.text(digits)
        if self.at_once() and self.reached() == len(self.results):
            latest = max(first_reach(result["curve"], self.case.target, axis) for result in self.results)
            return f"≤ {latest:.{digits}f}"
        return f"{self.reached()} of {len(self.results)} seeds" if self.results else "—"

    def diverged(self) -> int:
        return sum(result["summary"]["outcome"] == "diverged" for result in self.results)


class Data:
    """An experiment's results, which may be in part."""

    def __init__(self, experiment: Experiment, results: dict[str, dict]):
        self.experiment = experiment
        self.results = results

    def seed_runs(self, case: Case) -> list[Run]:
        """At the tuned option's value; none while that is not known."""
        chosen = self.experiment.choose(case, self.results)
        if self.experiment.tune and chosen is None:
            return []
        return self.experiment.seed_runs(case, chosen)

    def outcome(self, *labels: str) -> Outcome | None:
        """None: there is no such case, or none of its seeds has a result."""
        case = self.experiment.case(*labels)
        if case is None:
            return None
        found = [self.results.get(run.key()) for run in self.seed_runs(case)]
        found = [result for result in found if result is not None]
        tune, chosen = self.experiment.tune, self.experiment.choose(case, self.results)
        edge = bool(tune) and chosen in (min(tune["values"]), max(tune["values"]))
        return Outcome(case, chosen, edge, found) if found else None

    def pairs(self, labels: tuple[str, ...], reference: tuple[str, ...]) -> list[tuple[dict, dict]]:
        """The results of two cases by seed, where both have one. REQUIRES: the same seeds."""
        runs = (self.seed_runs(self.experiment.case(*case)) for case in (labels, reference))
        found = [(self.results.get(one.key()), self.results.get(other.key())) for one, other in zip(*runs)]
        return [pair for pair in found if None not in pair]

    def once(self, name: str):
        run = self.experiment.once.get(name)
        result = self.results.get(run.key()) if run else None
        return result["output"] if result else None

    def missing(self) -> int:
        """Runs without a result."""
        count = sum(run.key() not in self.results for run in self.experiment.once.values())
        for case in self.experiment.cases:
            tuning, seeds = self.experiment.tuning_runs(case).values(), self.seed_runs(case)
            count += sum(run.key() not in self.results for run in [*tuning, *seeds]) + len(case.seeds) - len(seeds)
        return count


# --- what is taken from a result


def accuracy(result: dict) -> float:
    """Of the test part at the end, in percent."""
    return 100 * final_accuracy(result)


def train_loss(result: dict) -> float | None:
    """Mean over the updates since the last evaluation but one."""
    return result["curve"]["train_loss"][-1]


def late_share(result: dict) -> float | None:
    summary = result["summary"]
    return summary["late_applied"] / summary["applied"] if summary["applied"] else None


def work_used(result: dict) -> float:
    return result["summary"]["work_used"]


def throughput(result: dict) -> float:
    """Applied examples per second."""
    return result["summary"]["examples_applied"] / result["summary"]["seconds"]


def update_rate(result: dict) -> float:
    return result["summary"]["updates"] / result["summary"]["seconds"]


def link_busy(result: dict) -> float:
    """Of the servers' links, in the two directions together; between 0 and 2."""
    return result["summary"]["server_receiving"] + result["summary"]["server_sending"]


def bytes_rate(result: dict, direction: str) -> float | None:
    """Per update. `direction`: bytes_received or bytes_sent, by the server."""
    summary = result["summary"]
    return summary[direction] / summary["updates"] if summary["updates"] else None


def late_bytes_rate(result: dict, direction: str) -> float | None:
    """Per update, over the second half of the updates."""
    versions, counts = result["curve"]["version"], result["curve"][direction]
    begin = next((i for i, version in enumerate(versions) if version >= versions[-1] / 2), 0)
    if begin + 1 >= len(versions):
        return None
    return (counts[-1] - counts[begin]) / (versions[-1] - versions[begin])


def late_loss(result: dict) -> float:
    """Mean training loss over the second half of the updates; infinite where the run diverged."""
    curve = result["curve"]
    if result["summary"]["outcome"] == "diverged":
        return math.inf
    begin, total, weight = 0, 0.0, 0
    for version, loss in zip(curve["version"], curve["train_loss"]):
        if version > curve["version"][-1] / 2:
            if loss is None:
                return math.inf
            total += (version - begin) * loss
            weight += version - begin
        begin = version
    return total / weight


# --- sentences


def percent(value: float) -> str:
    return f"{value:g} %"


def listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


@dataclass
class Verdict:
    """Each of several against one reference; what is better, worse or close is so by intervals that separate."""

    better: list[str] = field(default_factory=list)
    worse: list[str] = field(default_factory=list)
    close: list[str] = field(default_factory=list)  # separated, and within 1 %
    open: list[str] = field(default_factory=list)  # the intervals meet
    without: list[str] = field(default_factory=list)  # no number from every seed
    few: list[str] = field(default_factory=list)  # too few seeds for a claim
    never: list[str] = field(default_factory=list)  # no seed gets there, where all of the reference do
    alone: list[str] = field(default_factory=list)  # all seeds get there, where none of the reference does

    def against(self, what: str, reference: str, better: str, worse: str) -> str:
        """`better`, `worse`: as in "fewer", "more". Empty where there is nothing to say."""
        parts = []
        for names, how in (
            (self.better, f"{better} for"),
            (self.worse, f"{worse} for"),
            (self.close, "within 1 % for"),
            (self.open, "no difference seen for"),
        ):
            if names:
                parts.append(f"{how} {listed(names)}")
        if self.never:
            parts.append(f"never there, with any seed: {listed(self.never)}")
        if self.alone:
            parts.append(f"always there, while {reference} never is: {listed(self.alone)}")
        if self.without:
            why = "some seed does not get there, or is there by its first evaluations"
            parts.append(f"not compared for {listed(self.without)}, as {why}")
        return f"{what}, against {reference}: {'; '.join(parts)}." if parts else ""


def judge(
    reference: Estimate | None, others: dict[str, Estimate | None], smaller_is_better: bool, points: bool = False
) -> Verdict:
    """Differences are given as ratios, or, with `points`, as they are."""
    verdict = Verdict()
    for name, other in others.items():
        if reference is None or other is None:
            verdict.without.append(name)
        elif min(reference.count, other.count) < SEEDS_MIN:
            verdict.few.append(name)
        elif not separated(reference, other):
            verdict.open.append(name)
        else:
            low, high = sorted((reference.mean, other.mean))
            if not points and high < 1.01 * low:
                verdict.close.append(name)
                continue
            size = f"{other.mean - reference.mean:+.1f}" if points else f"{high / low:.2f}×"
            better = (other.mean < reference.mean) == smaller_is_better
            (verdict.better if better else verdict.worse).append(f"{name} ({size})")
    return verdict


def judge_paired(differences: dict[str, Estimate]) -> Verdict:
    """Of means of differences by seed; above 0 is better."""
    verdict = Verdict()
    for name, found in differences.items():
        if found.count < SEEDS_MIN:
            verdict.few.append(name)
        elif found.low <= 0 <= found.high:
            verdict.open.append(name)
        else:
            (verdict.better if found.mean > 0 else verdict.worse).append(f"{name} ({found.mean:+.2f})")
    return verdict


def joined(verdicts: list[Verdict]) -> Verdict:
    out = Verdict()
    for verdict in verdicts:
        for name, names in vars(verdict).items():
            getattr(out, name).extend(names)
    return out


def judge_times(reference: Outcome, others: dict[str, Outcome], axis: str) -> Verdict:
    """Of where the target is reached."""
    never = [name for name, other in others.items() if reference.always() and other.never()]
    alone = [name for name, other in others.items() if reference.never() and other.always()]
    rest = {name: other.reach(axis) for name, other in others.items() if name not in never + alone}
    verdict = judge(reference.reach(axis), rest, True)
    verdict.never, verdict.alone = never, alone
    return verdict


def few_seeds(outcomes: list[Outcome]) -> str:
    """A warning where no difference can be claimed."""
    count = min((len(outcome.results) for outcome in outcomes), default=0)
    if count >= SEEDS_MIN:
        return ""
    return f"Only {count} seeds: between numbers over fewer than {SEEDS_MIN} no difference is claimed."


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]


# --- curves


def at(xs: list[float], ys: list[float], x: float) -> float:
    """By straight lines. REQUIRES: xs rise, and x lies within them."""
    for i in range(1, len(xs)):
        if x <= xs[i]:
            share = (x - xs[i - 1]) / (xs[i] - xs[i - 1])
            return ys[i - 1] + share * (ys[i] - ys[i - 1])
    return ys[-1]


def band(results: list[dict], x_axis: str, y_axis: str, points: int = 30) -> list[tuple[float, float, float, float]]:
    """Mean and interval over seeds, where all of them have a value: (x, y, low, high)."""
    curves = []
    for result in results:
        curve = result["curve"]
        pairs = [(x, y) for x, y in zip(curve[x_axis], curve[y_axis]) if y is not None]
        pairs = [pair for i, pair in enumerate(pairs) if i == 0 or pair[0] > pairs[i - 1][0]]
        if len(pairs) < 2:
            return []
        curves.append(tuple(zip(*pairs)))
    begin, end = max(xs[0] for xs, _ in curves), min(xs[-1] for xs, _ in curves)
    if end <= begin:
        return []
    out = []
    for i in range(points):
        x = begin + (end - begin) * i / (points - 1)
        found = estimate([at(xs, ys, min(x, xs[-1])) for xs, ys in curves])
        out.append((x, *interval(found)))
    return out


def interval(found: Estimate) -> tuple[float, float, float]:
    """Mean, low and high as drawn: over too few seeds for a claim, the mean alone."""
    if found.count < SEEDS_MIN:
        return found.mean, found.mean, found.mean
    return found.mean, found.low, found.high
