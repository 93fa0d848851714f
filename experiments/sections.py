"""What the report says of each experiment: figures, tables, and what is found.

Each function takes the experiment's data, the figures to add to, and the command that its figures state; it returns
lines of Markdown, and copes with results in part."""

from __future__ import annotations

import math
from collections.abc import Iterable

from figure import Panel, Series
from outcomes import (
    Data,
    Outcome,
    Verdict,
    accuracy,
    band,
    bytes_rate,
    few_seeds,
    interval,
    joined,
    judge,
    judge_paired,
    judge_times,
    late_bytes_rate,
    late_loss,
    late_share,
    link_busy,
    listed,
    percent,
    table,
    throughput,
    train_loss,
    update_rate,
    work_used,
)
from stats import SEEDS_MIN, Estimate, estimate, separated, slope

Arms = dict[str, Outcome]  # by label, in the file's order


# --- shared


def text(found: Estimate | None, digits: int) -> str:
    return "—" if found is None else found.text(digits)


def findings(sentences: list[str]) -> list[str]:
    sentences = [sentence for sentence in sentences if sentence]
    return ["**Found.**", "", *(f"- {sentence}" for sentence in sentences), ""] if sentences else []


def present(data: Data, *labels: str, axis: str = "arm") -> Arms:
    """The outcomes there are over the last axis."""
    outcomes = {label: data.outcome(*labels, label) for label in data.experiment.axes[axis]}
    return {label: outcome for label, outcome in outcomes.items() if outcome}


def target_of(arms: Arms) -> str:
    return percent(100 * next(iter(arms.values())).case.target)


def rate(outcome: Outcome) -> str:
    if outcome.chosen is None:
        return "—"
    return f"{outcome.chosen:g}" + edge(outcome)


def edge(outcome: Outcome) -> str:
    return "\\*" if outcome.at_edge else ""


def end_text(outcome: Outcome) -> str:
    """Accuracy at the end, in percent; a seed that diverged counts as 0 and is named."""
    diverged = f" ({outcome.diverged()} diverged)" if outcome.diverged() else ""
    return text(outcome.estimate(accuracy), 1) + diverged


def edge_note(outcomes: Iterable[Outcome]) -> list[str]:
    if not any(outcome.at_edge for outcome in outcomes):
        return []
    return ["\\* at the edge of the grid: a better rate may lie beyond.", ""]


def compare_times(arms: Arms, axis: str, what: str, tally: dict | None = None) -> list[str]:
    """Where the target is reached: all against `sync`, and what reuses late gradients against what drops them."""
    sentences = []
    for reference in [arm for arm in arms if not arm.startswith("reuse")]:
        others = [arm for arm in arms if arm != reference and reference in ("sync", counterpart(arm))]
        verdict = judge_times(arms[reference], {arm: arms[arm] for arm in others}, axis)
        sentences.append(verdict.against(what, reference, "fewer", "more"))
        if tally is not None:
            count(tally, reference, verdict)
    return sentences


def counterpart(arm: str) -> str:
    """The arm that drops what this one reuses: `backup k=6` of `reuse k=6 span`."""
    return " ".join(arm.replace("reuse", "backup").split()[:2])


def compare_accuracies(arms: Arms, reference: str) -> str:
    others = {arm: outcome.estimate(accuracy) for arm, outcome in arms.items() if arm != reference}
    verdict = judge(arms[reference].estimate(accuracy), others, False, points=True)
    return verdict.against("Accuracy at the end, in points", reference, "higher", "lower")


def count(tally: dict, reference: str, verdict: Verdict) -> None:
    """Adds to {(arm, reference): [better, worse, no different, not compared]}."""
    sooner, later = verdict.better + verdict.alone, verdict.worse + verdict.never
    columns = (sooner, later, verdict.close + verdict.open, verdict.without + verdict.few)
    for i, names in enumerate(columns):
        for name in names:
            tally.setdefault((name.split(" (")[0], reference), [0, 0, 0, 0])[i] += 1


def over_all(head: str, tally: dict) -> list[str]:
    if not tally:
        return []
    rows = [[arm, reference, *map(str, counts)] for (arm, reference), counts in sorted(tally.items())]
    columns = ["arm", "against", "sooner", "later, or never", "no different, or within 1 %", "not compared"]
    return [head, "", "Seconds to the target: how often the first is", "", *table(columns, rows)]


# --- E1


def convergence(data: Data, figures, command: str) -> list[str]:
    lines, tally = [], {}
    for i, problem in enumerate(data.experiment.axes["problem"]):
        arms = present(data, problem)
        if not arms:
            continue
        target = target_of(arms)
        lines += [f"### {problem}", ""]
        lines += figures.add(f"e1-{i + 1}", learning_panels(problem, arms), 2, command, (960, 760))
        columns = ["arm", "rate", f"updates to {target}", f"seconds to {target}", "accuracy at the end, %"]
        columns += ["training loss at the end", "late share", "work used"]
        rows = []
        for arm, outcome in arms.items():
            row = [arm, rate(outcome), outcome.reach_text("version", 0), outcome.reach_text("seconds", 2)]
            row += [end_text(outcome), text(outcome.estimate(train_loss), 3)]
            row += [text(outcome.estimate(late_share), 2), text(outcome.estimate(work_used), 3)]
            rows.append(row)
        lines += table(columns, rows) + edge_note(arms.values())
        says = [few_seeds(list(arms.values()))]
        says += compare_times(arms, "seconds", f"Seconds to {target}", tally)
        says += compare_times(arms, "version", f"Updates to {target}")
        if "sync" in arms:
            says.append(compare_accuracies(arms, "sync"))
        lines += findings(says)
    return lines + over_all("### Over the problems", tally)


def learning_panels(title: str, arms: Arms) -> list[Panel]:
    panels = []
    for y_axis, y_label, key in (
        ("accuracy", "test accuracy", "bottom right"),
        ("train_loss", "training loss", "top right"),
    ):
        for x_axis, x_label in (("version", "updates"), ("seconds", "seconds")):
            curves = [(arm, band(outcome.results, x_axis, y_axis)) for arm, outcome in arms.items()]
            series = [Series(arm, points, i) for i, (arm, points) in enumerate(curves)]
            panels.append(Panel(title, x_label, y_label, series, key=key))
    return panels


# --- E2


def stragglers(data: Data, figures, command: str) -> list[str]:
    axes = data.experiment.axes
    panels, lines, tally = [], [], {}
    for i, kind in enumerate(axes["stragglers"]):
        for partition in axes["partition"]:
            arms = present(data, kind, partition)
            curves = [(arm, band(outcome.results, "seconds", "accuracy")) for arm, outcome in arms.items()]
            series = [Series(arm, points, axes["arm"].index(arm)) for arm, points in curves]
            key = "bottom right" if i == 0 else ""
            panels.append(Panel(f"{kind}, {partition}", "seconds", "test accuracy", series, key=key))
    size = (960, 300 * len(axes["stragglers"]) + 40)
    lines += figures.add("e2", panels, len(axes["partition"]), command, size)

    for partition in axes["partition"]:
        seconds, accuracies, says, outcomes = [], [], [], []
        target = ""
        for kind in axes["stragglers"]:
            arms = present(data, kind, partition)
            if not arms:
                continue
            target = target_of(arms)
            outcomes += arms.values()
            every = [arms.get(arm) for arm in axes["arm"]]
            seconds.append([kind] + [o.reach_text("seconds", 1) + edge(o) if o else "—" for o in every])
            accuracies.append([kind] + [end_text(o) if o else "—" for o in every])
            says += compare_times(arms, "seconds", f"{kind}: seconds to {target}", tally)
        if not outcomes:
            continue
        lines += [f"### {partition}", "", f"Seconds to {target}, or how many seeds get there:", ""]
        lines += table(["stragglers", *axes["arm"]], seconds) + edge_note(outcomes)
        lines += ["Accuracy at the end, in percent:", ""]
        lines += table(["stragglers", *axes["arm"]], accuracies)
        lines += findings([few_seeds(outcomes), *says])
    return lines + over_all("### Over all of them", tally) + deciding_case(present(data, "2 of 8 slow", "label"))


def deciding_case(arms: Arms) -> list[str]:
    if not arms:
        return []
    target = target_of(arms)
    rows = []
    for arm, outcome in arms.items():
        row = [arm, rate(outcome), outcome.reach_text("seconds", 1), end_text(outcome)]
        rows.append(row + [text(outcome.estimate(late_share), 3), text(outcome.estimate(work_used), 3)])
    columns = ["arm", "rate", f"seconds to {target}", "accuracy at the end, %", "late share", "work used"]
    lines = ["### The case that decides: slow workers hold data nobody else has", ""]
    lines += table(columns, rows) + edge_note(arms.values())
    says = [few_seeds(list(arms.values()))]
    says += [compare_accuracies(arms, arm) for arm in arms if not arm.startswith("reuse")]
    says += compare_times(arms, "seconds", f"Seconds to {target}")
    return lines + findings(says)


# --- E3


def speedup(data: Data, figures, command: str) -> list[str]:
    counts = [int(label) for label in data.experiment.axes["workers"]]
    panels, tables, says = [], [], []
    for name, published in data.experiment.notes["published"].items():
        for part, more in zip((panels, tables, says), against_published(data, name, published, counts)):
            part += more
    for workload in data.experiment.axes["workload"]:
        for part, more in zip((panels, tables, says), what_changes(data, workload, counts)):
            part += more
    lines = ["Published points: the poster *Benefits of staleness and asynchrony in machine learning algorithms*.", ""]
    lines += figures.add("e3", panels, 2, command, (1040, 400 * -(-len(panels) // 2)))
    return lines + tables + findings(says)


def speedups(data: Data, workload: str, variant: str) -> dict[int, Estimate]:
    """By the number of workers, against one worker of `sync` with one server and the variant's stragglers."""
    alone = data.outcome(workload, "1", "stragglers, sync" if variant.startswith("stragglers") else "1 server")
    if alone is None:
        return {}
    reference = alone.estimate(throughput).mean
    out = {}
    for label in data.experiment.axes["workers"]:
        outcome = data.outcome(workload, label, variant)
        if outcome:
            out[int(label)] = estimate([throughput(result) / reference for result in outcome.results])
    return out


def against_published(data: Data, name: str, published: dict, counts: list[int]):
    """Panels, lines and sentences."""
    points = dict(zip(published["workers"], published["speedup"]))
    simulated = {workload: speedups(data, workload, "1 server") for workload in published["workloads"]}
    simulated = {workload: values for workload, values in simulated.items() if values}
    if not simulated:
        return [], [], []

    series = [Series("published", list(points.items()), 0, style="points")]
    if "fastest" in published:
        fastest = list(zip(published["workers"], published["fastest"]))
        series.append(Series("published, by each step's fastest worker", fastest, 4, style="points"))
    for i, (workload, values) in enumerate(simulated.items()):
        curve = [(n, found.mean) for n, found in values.items()]
        series.append(Series(f"simulated: {workload}", curve, i + 1))
    series.append(Series("n", [(n, n) for n in counts], 7, dash=3))
    title = f"{name}, 1 server at 1 Gbit/s"
    panel = Panel(title, "workers", "speed-up", series, log_x=2, log_y=2, x_ticks=counts, key="top left")

    rows = []
    for n in counts:
        fitted = " (fitted)" if n in published["fitted"] else ""
        row = [str(n), f"{points[n]:.2f}" if n in points else "—"]
        for workload, values in simulated.items():
            row.append(f"{values[n].mean:.2f}{fitted}" if n in values else "—")
            row.append(server_load(data, workload, n))
        rows.append(row)
    columns = ["workers", "published"]
    for workload in simulated:
        columns += [f"simulated: {workload}", "server's link: receiving, sending"]
    lines = [f"{name}, one server at 1 Gbit/s, with the share of the time that its link was busy:", ""]
    lines += table(columns, rows)

    says = []
    for workload, values in simulated.items():
        says.append(agreement(workload, values, points, published["fitted"]))
        says.append(shape(data, workload, values))
        says.append(same_fall(workload, values, points))
    if len(simulated) > 1:
        says.append(enclosed(name, list(simulated.values()), points))
    return [panel], lines, says


def server_load(data: Data, workload: str, n: int) -> str:
    outcome = data.outcome(workload, str(n), "1 server")
    if outcome is None:
        return "—"
    summary = outcome.results[0]["summary"]
    return f"{summary['server_receiving']:.2f}, {summary['server_sending']:.2f}"


def some(counts: list[int]) -> str:
    return f"n = {listed([str(n) for n in counts])}" if counts else "no n"


def agreement(workload: str, values: dict[int, Estimate], points: dict[int, float], fitted: list[int]) -> str:
    predicted = [n for n in points if n in values and n not in fitted]
    if not predicted:
        return ""
    off = {n: values[n].mean / points[n] - 1 for n in predicted}
    near = [n for n in predicted if abs(off[n]) <= 0.15]
    worst = max(off, key=lambda n: abs(off[n]))
    return (
        f"{workload}: predicted within 15 % of what was published at {some(near)}, of "
        f"{listed([str(n) for n in predicted])}; furthest off at n = {worst}, with {values[worst].mean:.2f} against "
        f"{points[worst]:.2f}."
    )


def shape(data: Data, workload: str, values: dict[int, Estimate]) -> str:
    peak, last = max(values, key=lambda n: values[n].mean), max(values)
    if peak == last:
        how = f"still rises at {last} workers, to {values[last].mean:.1f}"
    else:
        how = f"peaks at {values[peak].mean:.1f} with {peak} workers and falls to {values[last].mean:.1f} with {last}"
    summary = data.outcome(workload, str(last), "1 server").results[0]["summary"]
    return (
        f"{workload}, one server: the speed-up {how}; with {last} the server's link receives for "
        f"{100 * summary['server_receiving']:.0f} % of the time and sends for {100 * summary['server_sending']:.0f} %."
    )


def same_fall(workload: str, values: dict[int, Estimate], points: dict[int, float]) -> str:
    """Whether the published fall from the best n to the last one is seen."""
    best, last = max(points, key=points.get), max(points)
    if best == last or best not in values or last not in values:
        return ""
    ratio = values[last].mean / values[best].mean
    seen = f"seen, to {ratio:.2f}" if ratio < 1 else f"not seen: it rises to {ratio:.2f} of it"
    published = points[last] / points[best]
    return f"{workload}: the published fall from n = {best} to {last}, to {published:.2f} of it, is {seen}."


def enclosed(name: str, simulated: list[dict[int, Estimate]], points: dict[int, float]) -> str:
    within, outside = [], []
    for n, published in points.items():
        means = [values[n].mean for values in simulated if n in values]
        if len(means) == len(simulated):
            (within if min(means) <= published <= max(means) else outside).append(n)
    end = f", and not at {some(outside)}" if outside else ""
    return f"{name}: the published speed-up lies between those of the sizes assumed at {some(within)}{end}."


def what_changes(data: Data, workload: str, counts: list[int]):
    """Panels, lines and sentences."""
    values = {variant: speedups(data, workload, variant) for variant in data.experiment.axes["variant"]}
    values = {variant: found for variant, found in values.items() if found}
    if not values:
        return [], [], []
    series = []
    for i, (variant, found) in enumerate(values.items()):
        curve = [(n, entry.mean) for n, entry in found.items()]
        # Half the bytes is worth as much as twice the servers: of two lines on each other both are to be seen.
        dash = 3 if variant.startswith("stragglers") else 2 if "fp16" in variant else 1
        series.append(Series(variant, curve, i, dash))
    title = f"{workload}: what changes it"
    scale = (1, counts[-1])  # of all workloads, to compare them by eye
    panel = Panel(
        title, "workers", "speed-up", series, log_x=2, log_y=2, y_range=scale, x_ticks=counts, key="top left"
    )
    rows = [[str(n)] + [text(found.get(n), 2) for found in values.values()] for n in counts]
    lines = [f"{workload}, speed-up (a number without ± has no chance in it):", "", *table(["workers", *values], rows)]

    says = []
    last = counts[-1]
    if last in values.get("1 server", {}):
        base = values["1 server"][last].mean
        changes = [variant for variant in values if variant != "1 server" and not variant.startswith("stragglers")]
        words = [
            f"{variant} {values[variant][last].mean / base:.2f}×" for variant in changes if last in values[variant]
        ]
        if words:
            says.append(f"{workload}, {last} workers, against one server: {', '.join(words)}.")
    if "stragglers, sync" in values:
        others = [variant for variant in values if variant.startswith("stragglers") and variant != "stragglers, sync"]
        for variant in others:
            found, base = values[variant], values["stragglers, sync"]
            shared = [n for n in counts[1:] if n in found and n in base]
            verdict = joined([judge(base[n], {f"n = {n}": found[n]}, False) for n in shared])
            says.append(verdict.against(f"{workload}: speed-up with {variant}", "sync", "higher", "lower"))
    return [panel], lines, says


# --- E4


def momentum(data: Data, figures, command: str) -> list[str]:
    panels, says = [], []
    measured = data.once("momentum")
    if measured:
        panels.append(ridge_panel(measured))
        says.append(ridge_agreement(measured))

    axes = data.experiment.axes
    grid = [float(label) for label in axes["momentum"]]
    losses, rows, best = [], [], []
    by_seed: dict[int, list[tuple[float, float]]] = {}  # (late share, best momentum)
    for i, share in enumerate(axes["share"]):
        outcomes = list(present(data, share, axis="momentum").values())
        if len(outcomes) < len(grid) or any(len(o.results) < len(o.case.seeds) for o in outcomes):
            continue
        late = outcomes[0].estimate(late_share)
        found = [[late_loss(result) for result in outcome.results] for outcome in outcomes]  # [momentum][seed]
        chosen = []
        for s in range(len(outcomes[0].case.seeds)):
            chosen.append(min(zip([of_seed[s] for of_seed in found], grid))[1])
            by_seed.setdefault(s, []).append((late.mean, chosen[-1]))
        means = [estimate(values) if all(map(math.isfinite, values)) else None for values in found]
        points = [(m, *interval(mean)) for m, mean in zip(grid, means) if mean]
        losses.append(Series(f"{share} ({late.mean:.2f} late)", points, i, style="linespoints"))
        best.append((late.mean, *interval(estimate(chosen))))
        rows.append([share, text(late, 3), text(estimate(chosen), 2)])
        rows[-1] += [text(mean, 3) if mean else "diverged" for mean in means]
    panels.append(Panel("Training loss, second half", "momentum", "loss", losses, key="top left"))
    series = [Series("mean over seeds", sorted(best), 1, style="linespoints")]
    panels.append(Panel("Best momentum of the grid", "late share", "momentum", series, y_range=(0, 1), key="top right"))

    if len({share for share, *_ in best}) > 1:
        says.append(trend_sentence(estimate([slope(points) for points in by_seed.values()])))
        says.append(f"The grid is coarse ({', '.join(axes['momentum'])}), and the intervals know nothing of that.")
    lines = figures.add("e4", panels, len(panels), command, (440 * len(panels), 440))
    lines += table(["setting", "late share", "best momentum", *(f"loss at {m:g}" for m in grid)], rows)
    return lines + findings(says)


def ridge_panel(measured: list[dict]) -> Panel:
    series = []
    for i, curvature in enumerate(sorted({row["curvature"] for row in measured})):
        rows = [row for row in measured if row["curvature"] == curvature]
        points = []
        for row in rows:
            half = 1.96 * row["standard_error"]
            points.append((row["late_share"], row["measured"], row["measured"] - half, row["measured"] + half))
        series.append(Series(f"measured, eigenvalue {curvature:.1f}", points, i + 1, style="points"))
        series.append(Series("", [(row["late_share"], row["predicted"]) for row in rows], i + 1))
    return Panel("Ridge regression (lines: predicted)", "late share", "momentum", series, key="top left")


def ridge_agreement(measured: list[dict]) -> str:
    off = [abs(row["measured"] - row["predicted"]) / row["standard_error"] for row in measured]
    inside = sum(value <= 1.96 for value in off)
    return (
        f"Ridge regression: the predicted momentum α·p·λ lies in the 95 % interval of the measured one in {inside} of "
        f"{len(off)} cases (19 in 20 are expected where it is right); the furthest is {max(off):.1f} standard errors "
        "off."
    )


def trend_sentence(trend: Estimate) -> str:
    if trend.count < SEEDS_MIN:
        return f"Best momentum against the late share: {trend.count} seeds; below {SEEDS_MIN} nothing is claimed."
    number = f"slope {trend.text(2)} per unit of late share"
    if trend.high < 0:
        return f"The best momentum falls as more gradients come late: {number}."
    if trend.low > 0:
        return f"The best momentum rises as more gradients come late, against what was expected: {number}."
    return f"That the best momentum falls as more gradients come late is not seen: {number}, not separated from 0."


# --- E5


def scale(data: Data, figures, command: str) -> list[str]:
    axes = data.experiment.axes
    counts = [int(label) for label in axes["workers"]]
    panels = []

    def by_policy(title: str, link: str, of, **options) -> None:
        series = []
        for p, policy in enumerate(axes["policy"]):
            outcomes = [(n, data.outcome(link, str(n), policy)) for n in counts]
            points = [(n, *interval(outcome.estimate(of))) for n, outcome in outcomes if outcome]
            # The two that may lie on each other: a filled mark within an open one.
            series.append(Series(policy, points, 5 if policy == "backup" else p, style="linespoints"))
        name = f"{title}; links: {link}"
        panels.append(Panel(name, "workers", title, series, log_x=10, x_ticks=counts, key="bottom left", **options))

    unlimited, limited = axes["link"][0], axes["link"][-1]
    for link in axes["link"]:
        by_policy("updates per second", link, update_rate, log_y=10)
    by_policy("share of the work that is used", unlimited, work_used, y_range=(0, 1.1))
    by_policy("server's link busy, receiving + sending", limited, link_busy, y_range=(0, None))
    panels += staleness_panels(data, counts)
    lines = figures.add("e5", panels, 2, command, (1040, 1200))

    says = []
    columns = ["workers", "policy", "updates per second", "work used", "late share", "staleness, mean", "max"]
    columns += ["server: receiving, sending, updating"]
    for link in axes["link"]:
        rows, rates = [], {}
        for n in counts:
            arms = present(data, link, str(n), axis="policy")
            rows += [[str(n), policy, *scale_cells(outcome)] for policy, outcome in arms.items()]
            rates[n] = {policy: outcome.estimate(update_rate) for policy, outcome in arms.items()}
        lines += [f"Links: {link}.", "", *table(columns, rows)]
        for policy in [policy for policy in axes["policy"] if policy != "sync"]:
            both = {n: found for n, found in rates.items() if policy in found and "sync" in found}
            verdict = joined([judge(found["sync"], {f"n = {n}": found[policy]}, False) for n, found in both.items()])
            says.append(verdict.against(f"Links: {link}; updates per second of {policy}", "sync", "more", "fewer"))
    for policy in axes["policy"]:
        outcomes = [(n, data.outcome(limited, str(n), policy)) for n in counts]
        full = [n for n, outcome in outcomes if outcome and outcome.estimate(link_busy).mean > 0.9]
        what = f"Links: {limited}, {policy}: receiving and sending, each by itself, add up to more than 90 % of the time"
        says.append(f"{what} at {some(full)}.")
    return lines + findings(says)


def scale_cells(outcome: Outcome) -> list[str]:
    summaries = [result["summary"] for result in outcome.results]
    loads = [
        estimate([summary[f"server_{what}"] for summary in summaries]).mean
        for what in ("receiving", "sending", "updating")
    ]
    return [
        text(outcome.estimate(update_rate), 3),
        text(outcome.estimate(work_used), 3),
        text(outcome.estimate(late_share), 3),
        text(estimate([summary["staleness_mean"] for summary in summaries]), 3),
        str(max(summary["staleness_max"] for summary in summaries)),
        ", ".join(f"{load:.2f}" for load in loads),
    ]


def staleness_panels(data: Data, counts: list[int]) -> list[Panel]:
    panels, longest = [], 2
    for link in data.experiment.axes["link"]:
        series = []
        for i, n in enumerate(counts):
            outcome = data.outcome(link, str(n), "reuse")
            if outcome:
                shares = staleness_shares(outcome)
                longest = max(longest, len(shares))
                series.append(
                    Series(f"n = {n}", [(b, s) for b, s in enumerate(shares) if s > 0], i, style="linespoints")
                )
        title = f"staleness under reuse; links: {link}"
        panels.append(Panel(title, "updates late", "share of gradients", series, log_y=10, key="top right"))
    names = ["0", "1"] + [f"{2**i}–{2 ** (i + 1) - 1}" for i in range(1, longest - 1)]
    for panel in panels:
        panel.x_names, panel.x_range = names, (-0.2, len(names) - 0.5)
    return panels


def staleness_shares(outcome: Outcome) -> list[float]:
    """By the bins of the summary's histogram: fresh, 1, 2–3, 4–7, …"""
    histograms = [result["summary"]["staleness_histogram"] for result in outcome.results]
    totals = [0] * max(map(len, histograms))
    for histogram in histograms:
        for i, entry in enumerate(histogram):
            totals[i] += entry
    return [total / sum(totals) for total in totals]


# --- E6


def weights(data: Data, figures, command: str) -> list[str]:
    axes = data.experiment.axes
    arms = [(w, d, m) for w in axes["late-weight"] for d in axes["normalize"] for m in axes["staleness-max"]]
    default = tuple(data.experiment.notes["default"])
    panels, lines, says = [], [], []
    best_of: dict[str, set] = {}  # by case: the arms that are not separated from the most accurate
    for case in axes["case"]:
        outcomes = {arm: data.outcome(case, *arm) for arm in arms}
        outcomes = {arm: outcome for arm, outcome in outcomes.items() if outcome}
        if not outcomes:
            continue
        ends = {arm: outcome.estimate(accuracy) for arm, outcome in outcomes.items()}
        best = max(ends, key=lambda arm: ends[arm].mean)
        panels.append(weights_panel(case, arms, ends, axes["normalize"]))
        lines += [f"### {case}", "", *weights_table(outcomes, best), *edge_note(outcomes.values())]
        few = few_seeds(list(outcomes.values()))
        if few:
            says.append(f"{case}: {few}")
            continue
        best_of[case] = {arm for arm, end in ends.items() if arm == best or not separated(end, ends[best])}
        says.append(
            f"{case}: the most accurate is {arm_name(best)}, {ends[best].text(1)} %; {len(best_of[case]) - 1} of the "
            f"other {len(ends) - 1} are not separated from it."
        )
        if default == best:
            says.append(f"{case}: that is the default.")
        elif default in ends:
            how = "not separated from it" if default in best_of[case] else "less accurate"
            says.append(f"{case}: the default, {arm_name(default)}, is {how}: {ends[default].text(1)} %.")
    if len(best_of) > 1:
        says.append(recommendation([arm for arm in arms if all(arm in near for near in best_of.values())], default))
    if panels:
        lines = figures.add("e6", panels, len(panels), command, (1200, 120 + 24 * len(arms))) + lines
    return lines + findings(says)


def arm_name(arm: tuple[str, str, str]) -> str:
    return f"{arm[0]}, {arm[1]}" + (f", at most {arm[2]} late" if arm[2] != "any" else "")


def weights_panel(case: str, arms: list, ends: dict, normalizations: list[str]) -> Panel:
    series = []
    for i, normalize in enumerate(normalizations):
        mine = [arm for arm in ends if arm[1] == normalize]
        points = [(ends[arm].mean, len(arms) - 1 - arms.index(arm), *interval(ends[arm])[1:]) for arm in mine]
        series.append(Series(normalize, points, i + 1, style="across"))
    names = [arm_name(arm) for arm in reversed(arms)]
    limits = (-0.5, len(arms) - 0.5)
    return Panel(case, "accuracy at the end, %", "", series, y_names=names, y_range=limits, key="")


def weights_table(outcomes: dict, best: tuple) -> list[str]:
    columns = ["late weight", "normalised by", "staleness at most", "rate", f"seconds to {target_of(outcomes)}"]
    columns += ["accuracy at the end, %", "staleness, mean", "dropped, share"]
    rows = []
    for arm, outcome in outcomes.items():
        summaries = [result["summary"] for result in outcome.results]
        row = [*arm, rate(outcome), outcome.reach_text("seconds", 2)]
        row.append(end_text(outcome) + (" (best)" if arm == best else ""))
        row.append(text(estimate([summary["staleness_mean"] for summary in summaries]), 2))
        row.append(text(estimate([summary["dropped"] / summary["pushed"] for summary in summaries]), 3))
        rows.append(row)
    return table(columns, rows)


def recommendation(everywhere: list, default: tuple) -> str:
    """`everywhere`: the arms that are not separated from the best in any case."""
    if default in everywhere:
        return (
            f"Recommended: the default, {arm_name(default)}, one of {len(everywhere)} that are not separated from the "
            "most accurate in any case."
        )
    if everywhere:
        return (
            f"Recommended: {arm_name(everywhere[0])}, one of {len(everywhere)} that are not separated from the most "
            "accurate in any case. The default is not among them."
        )
    return "No choice is among the most accurate in every case: which to take depends on the case."


# --- E7

Pairs = list[tuple[dict, dict]]  # by seed: the result of a codec, and that of float32
RECEIVED, SENT = "bytes_received", "bytes_sent"


def codecs(data: Data, figures, command: str) -> list[str]:
    axes, notes = data.experiment.axes, data.experiment.notes
    reference = notes["reference"]
    panels, lines, says = [], [], []
    for problem in axes["problem"]:
        outcomes = present(data, problem, axis="codec")
        pairs = {codec: data.pairs((problem, codec), (problem, reference)) for codec in outcomes if codec != reference}
        pairs = {codec: found for codec, found in pairs.items() if found}
        if not pairs:
            continue
        differences = {
            codec: estimate([accuracy(one) - accuracy(other) for one, other in found])
            for codec, found in pairs.items()
        }
        panels += codec_panels(problem, pairs, differences)
        lines += [f"### {problem}", "", *codec_table(outcomes, pairs, differences)]
        says.append(few_seeds(list(outcomes.values())))
        what = f"{problem}: accuracy at the end, in points, by seed"
        says.append(judge_paired(differences).against(what, reference, "higher", "lower"))
        says.append(loss_goals(problem, reference, differences, notes["points"]))
        says.append(bytes_goals(problem, pairs, notes["fewer"], notes["warm_up"]))
    if panels:
        size = (1100, len(panels) // 2 * (100 + 24 * len(axes["codec"])))
        lines = figures.add("e7", panels, 2, command, size) + lines
    return lines + findings(says)


def codec_table(outcomes: Arms, pairs: dict[str, Pairs], differences: dict[str, Estimate]) -> list[str]:
    columns = ["codec", "accuracy at the end, %", "difference, points", "gradient bytes, times fewer"]
    columns += ["in the second half", "parameter bytes, times fewer"]
    rows = []
    for codec, outcome in outcomes.items():
        row = [codec, end_text(outcome), text(differences.get(codec), 2)]
        for of, direction in ((bytes_rate, RECEIVED), (late_bytes_rate, RECEIVED), (bytes_rate, SENT)):
            row.append(times(mean(fewer(pairs.get(codec, []), of, direction))))
        rows.append(row)
    return table(columns, rows)


def fewer(pairs: Pairs, of, direction: str) -> list[float]:
    """By what float32's bytes per update exceed the codec's, by seed; none where a run has no such number."""
    rates = [(of(one, direction), of(other, direction)) for one, other in pairs]
    return [] if any(None in both for both in rates) else [other / one for one, other in rates]


def mean(values: list[float]) -> float | None:
    return estimate(values).mean if values else None


def times(ratio: float | None) -> str:
    """Three digits: between seeds it hardly differs."""
    return "—" if ratio is None else f"{ratio:.0f}" if ratio >= 100 else f"{ratio:.3g}"


def codec_panels(problem: str, pairs: dict[str, Pairs], differences: dict[str, Estimate]) -> list[Panel]:
    names = list(reversed(pairs))
    scale = {"y_names": names, "y_range": (-0.5, len(names) - 0.5)}
    points = [(differences[codec].mean, i, *interval(differences[codec])[1:]) for i, codec in enumerate(names)]
    zero = Series("", [(0, y) for y in scale["y_range"]], 7)
    series = [zero, Series("", points, 1, style="across")]
    losses = Panel(problem, "difference of accuracy, points", "", series, key="", **scale)

    series = []
    for title, of, direction, colour in (
        ("gradients, second half", late_bytes_rate, RECEIVED, 1),
        ("parameters", bytes_rate, SENT, 2),
    ):
        means = [(mean(fewer(pairs[codec], of, direction)), i) for i, codec in enumerate(names)]
        series.append(Series(title, [point for point in means if point[0] is not None], colour, style="points"))
    ticks = [1, 3, 10, 30, 100, 300, 1000]
    ratios = Panel(problem, "times fewer bytes", "", series, log_x=10, x_ticks=ticks, key="top right", **scale)
    return [losses, ratios]


def loss_goals(problem: str, reference: str, differences: dict[str, Estimate], points: dict[str, float]) -> str:
    """Whether each loses no more than `points` grants it, or grants all others."""
    surely, on_average, missed = [], [], []
    for codec, found in differences.items():
        least = -points.get(codec, points["other"])
        if found.count < SEEDS_MIN:
            continue
        if found.low >= least:
            surely.append(codec)
        else:
            (on_average if found.mean >= least else missed).append(f"{codec} ({found.text(2)})")
    parts = [
        f"{how} {listed(names)}"
        for names, how in (
            (surely, "with the whole interval for"),
            (on_average, "on average, while the interval reaches further down, for"),
            (missed, "not for"),
        )
        if names
    ]
    own = [f"{codec}: {value:g}" for codec, value in points.items() if codec != "other"]
    goal = f"no more than {points['other']:g} points ({', '.join(own)}) below {reference}"
    return f"{problem}: {goal}: {'; '.join(parts)}." if parts else ""


def bytes_goals(problem: str, pairs: dict[str, Pairs], goals: dict[str, float], warm_up: list[str]) -> str:
    """`warm_up`: what is judged by the second half."""
    reached, on_average, missed = [], [], []
    for codec, goal in goals.items():
        ratios = fewer(pairs.get(codec, []), late_bytes_rate if codec in warm_up else bytes_rate, RECEIVED)
        if ratios:
            after = ", in the second half" if codec in warm_up else ""
            words = f"{codec} ({times(mean(ratios))}, goal {goal:g}{after})"
            how = reached if min(ratios) >= goal else on_average if mean(ratios) >= goal else missed
            how.append(words)
    verdicts = (
        (reached, "reached by"),
        (on_average, "reached on average, but not with every seed, by"),
        (missed, "missed by"),
    )
    parts = [f"{how} {listed(words)}" for words, how in verdicts if words]
    return f"{problem}: times fewer gradient bytes: the goal is {'; '.join(parts)}." if parts else ""


SECTIONS = {
    "e1": convergence,
    "e2": stragglers,
    "e3": speedup,
    "e4": momentum,
    "e5": scale,
    "e6": weights,
    "e7": codecs,
}
