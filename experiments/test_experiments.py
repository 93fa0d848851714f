"""python3 -m unittest discover -s experiments. Fast; a script of a few lines stands in for the program."""

import io
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import types
import unittest
from pathlib import Path

import figure
import outcomes
import plan
import report
import results
import run
import sections
import stats
from plan import Run

TABLE = {
    "title": "A title",
    "question": "Is it?",
    "setting": "Here.",
    "seeds": [1, 2],
    "options": {"workers": 8, "nesterov": True, "cancel-late": False},
    "tune": {"option": "lr", "values": [0.1, 0.2], "seed": 9},
    "axis": {
        "data": {"there": {"data": "x", "target": 0.5}, "far": {"data-dir": "nowhere/at/all"}},
        "arm": {"sync": {"policy": "sync"}, "reuse": {"policy": "reuse", "seeds": [1]}},
    },
    "where": [{"match": {"data": "there", "arm": ["reuse"]}, "options": {"wait-for": 6}}],
    "quick": {"seeds": [1], "keep": {"arm": ["sync"]}, "options": {"updates": 3}, "tune": {"values": [0.1]}},
}


def expand(quick=False):
    return plan.expand("e9", TABLE, quick, Path("/"))


class Folder(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)


class Plan(unittest.TestCase):
    def test_cases_are_the_product_less_what_lacks_its_data(self):
        experiment = expand()
        self.assertEqual([case.labels for case in experiment.cases], [("there", "sync"), ("there", "reuse")])
        self.assertEqual(experiment.skipped, ["e9: there is no folder nowhere/at/all; what needs it is skipped"])
        sync, reuse = experiment.cases
        self.assertEqual((sync.target, sync.seeds, reuse.seeds), (0.5, (1, 2), (1,)))
        self.assertNotIn("wait-for", sync.options)
        self.assertEqual(reuse.options["wait-for"], 6)
        self.assertEqual(experiment.run_count(), (2 + 2) + (2 + 1))

    def test_quick_is_smaller(self):
        experiment = expand(quick=True)
        self.assertEqual([case.labels for case in experiment.cases], [("there", "sync")])
        self.assertEqual(experiment.cases[0].options["updates"], 3)
        self.assertEqual(experiment.run_count(), 2)

    def test_arguments_and_identity(self):
        one = Run.of("simulate", {"lr": 0.1, "nesterov": True, "cancel-late": False, "workers": 8})
        self.assertEqual(one.arguments(), ["simulate", "--lr", "0.1", "--nesterov", "--workers", "8"])
        self.assertEqual(one.key(), Run.of("simulate", {"workers": 8, "nesterov": True, "lr": 0.1}).key())
        self.assertNotEqual(one.key(), Run.of("simulate", {"workers": 8, "nesterov": True, "lr": 0.2}).key())
        self.assertEqual(Run.of("theory momentum", {}).arguments(), ["theory", "momentum"])

    def test_tuning_prefers_the_fastest_then_the_most_accurate(self):
        experiment = expand()
        case = experiment.cases[0]

        def choose(curves, **tune):
            experiment.tune = TABLE["tune"] | tune
            runs = experiment.tuning_runs(case)
            found = {run.key(): canned(accuracies=curve) for run, curve in zip(runs.values(), curves)}
            return experiment.choose(case, found)

        self.assertEqual(choose([[0.5, 0.6, 0.6, 0.6], [0.1, 0.2, 0.9, 0.9]]), 0.1)
        self.assertEqual(choose([[0.5, 0.6, 0.6, 0.6], [0.1, 0.2, 0.9, 0.9]], by="accuracy"), 0.2)
        self.assertEqual(choose([[0.1, 0.2, 0.3], [0.1, 0.2, 0.4]]), 0.2)
        self.assertEqual(choose([[0.1, 0.2, 0.3]]), 0.1)
        self.assertIsNone(choose([]))

    def test_reach_is_between_evaluations(self):
        # Means of three: 0.3 at 2 s, 0.5 at 3 s, 0.6 at 4 s.
        curve = {"seconds": [1.0, 2.0, 3.0, 4.0, 5.0], "accuracy": [0.0, 0.3, 0.6, 0.6, 0.6]}
        curve["version"] = [10, 20, 30, 40, 50]
        self.assertAlmostEqual(plan.first_reach(curve, 0.4), 2.5)
        self.assertAlmostEqual(plan.first_reach(curve, 0.4, "version"), 25)
        self.assertEqual(plan.first_reach(curve, 0.1), 2.0)
        self.assertIsNone(plan.first_reach(curve, 0.7))

    def test_the_experiments_expand(self):
        self.assertEqual(list(plan.files()), ["e1", "e2", "e3", "e4", "e5", "e6", "e7"])
        for path in plan.files().values():
            for quick in (False, True):
                experiment = plan.load(path, quick)
                self.assertTrue(experiment.cases)
                self.assertIn(experiment.name, report.SECTIONS)
                if not quick:  # what has no chance in it, and what is too large, has one seed
                    self.assertTrue(all(len(case.seeds) in (1, stats.SEEDS_MIN) for case in experiment.cases))
                if experiment.tune:
                    self.assertNotIn(experiment.tune["seed"], experiment.cases[0].seeds)

    def test_wrong_files(self):
        wrong = dict(TABLE, quick={"keep": {"arm": ["async"]}})
        with self.assertRaisesRegex(plan.PlanError, "quick.keep.arm names async"):
            plan.expand("e9", wrong, True, Path("/"))


class Stats(unittest.TestCase):
    def test_quantiles_by_integrating_the_density(self):
        for freedom in (1, 2, 4, 5, 10, 30):
            scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
            steps, end = 20000, stats.T_975[freedom - 1]
            width = end / steps
            # Simpson's rule over [0, the quantile]; half of the mass is below 0.
            values = [scale * (1 + (i * width) ** 2 / freedom) ** (-(freedom + 1) / 2) for i in range(steps + 1)]
            mass = 0.5 + width / 3 * (values[0] + 4 * sum(values[1:-1:2]) + 2 * sum(values[2:-1:2]) + values[-1])
            self.assertAlmostEqual(mass, 0.975, places=4)

    def test_interval(self):
        found = stats.estimate([1, 2, 3, 4, 5])
        self.assertEqual(found.mean, 3)
        self.assertAlmostEqual(found.half, 2.776 * math.sqrt(2.5) / math.sqrt(5))
        self.assertEqual(found.text(2), "3.00 ± 1.96")
        self.assertEqual(stats.estimate([7]).text(1), "7.0")

    def test_coverage(self):
        stream = random.Random(1)
        covered = 0
        for _ in range(2000):
            found = stats.estimate([stream.gauss(0, 1) for _ in range(5)])
            covered += found.low <= 0 <= found.high
        self.assertAlmostEqual(covered / 2000, 0.95, delta=0.015)

    def test_separated(self):
        low, high = stats.estimate([1, 1.1, 0.9, 1, 1]), stats.estimate([2, 2.1, 1.9, 2, 2])
        self.assertTrue(stats.separated(low, high) and stats.separated(high, low))
        self.assertFalse(stats.separated(low, stats.estimate([0.9, 1.2, 1, 1.1, 1])))
        self.assertFalse(stats.separated(low, stats.estimate([2, 2.1, 2, 2])), "four seeds claim nothing")

    def test_slope(self):
        self.assertAlmostEqual(stats.slope([(0, 1), (1, 3), (2, 5)]), 2)


class Outcomes(unittest.TestCase):
    def test_judge(self):
        five = lambda value: stats.estimate([value + jitter for jitter in (-0.01, 0, 0.01, 0, 0)])  # noqa: E731
        others = {"a": five(1), "b": five(4), "c": five(2), "d": None, "e": stats.estimate([1, 1])}
        verdict = outcomes.judge(five(2), others, smaller_is_better=True)
        self.assertEqual(
            verdict.against("Seconds", "sync", "fewer", "more"),
            "Seconds, against sync: fewer for a (2.00×); more for b (2.00×); no difference seen for c; not compared for "
            "d, as some seed does not get there, or is there by its first evaluations.",
        )
        self.assertEqual(verdict.few, ["e"])
        self.assertEqual(outcomes.judge(five(2), {"b": five(4)}, False, points=True).better, ["b (+2.0)"])
        exact = lambda value: stats.Estimate(value, 0, 5)  # noqa: E731
        self.assertEqual(outcomes.judge(exact(2), {"f": exact(2.001)}, True).close, ["f"])

    def test_times(self):
        case = plan.Case(("x",), {}, (1, 2, 3, 4, 5), 0.5)
        outcome = lambda *curves: outcomes.Outcome(case, None, False, [canned(list(curve)) for curve in curves])  # noqa: E731
        slow, fast, never = (0, 0, 0, 0, 0.9, 0.9, 0.9, 0.9), (0, 0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9), (0.1,) * 8
        sync, quick, none = outcome(*5 * [slow]), outcome(*5 * [fast]), outcome(*5 * [never])
        early = outcome((0.9,) * 8, *4 * [slow])
        some = outcome(never, *4 * [slow])
        few = outcome(never, never)
        others = {"quick": quick, "none": none, "early": early, "some": some, "few": few}
        verdict = outcomes.judge_times(sync, others, "seconds")
        self.assertEqual([name.split()[0] for name in verdict.better], ["quick"])
        self.assertEqual((verdict.never, verdict.without), (["none"], ["early", "some", "few"]))
        self.assertEqual(outcomes.judge_times(none, {"quick": quick, "some": some}, "seconds").alone, ["quick"])
        self.assertEqual(early.reach_text("seconds", 1), "≤ 4.7")
        self.assertEqual(some.reach_text("seconds", 1), "4 of 5 seeds")
        self.assertEqual(
            outcomes.judge_times(none, {"quick": quick}, "seconds").against("Seconds", "none", "fewer", "more"),
            "Seconds, against none: always there, while none never is: quick.",
        )

    def test_band(self):
        a = canned(accuracies=[0.0, 1.0], seconds=[0.0, 2.0])
        b = canned(accuracies=[0.0, 1.0], seconds=[1.0, 3.0])
        points = outcomes.band([a, b], "seconds", "accuracy", points=3)
        self.assertEqual([point[0] for point in points], [1.0, 1.5, 2.0])
        self.assertAlmostEqual(points[1][1], (0.75 + 0.25) / 2)

    def test_late_loss(self):
        result = canned(accuracies=[0, 0, 0, 0])
        result["curve"]["train_loss"] = [9.0, 9.0, 1.0, 3.0]
        self.assertEqual(outcomes.late_loss(result), 2.0)
        result["summary"]["outcome"] = "diverged"
        self.assertEqual(outcomes.late_loss(result), math.inf)


def canned(accuracies, seconds=None, arguments=()):
    """A result as it is kept, with what the report reads."""
    count = len(accuracies)
    return {
        "arguments": list(arguments),
        "version": "lategrad 0",
        "cpu_seconds": 1.0,
        "summary": {
            "outcome": "updates",
            "updates": 10 * count,
            "seconds": 10.0,
            "examples_applied": 1000,
            "accuracy": accuracies[-1] if accuracies else None,
            "pushed": 100,
            "applied": 90,
            "late_applied": 20,
            "dropped": 5,
            "work_used": 0.95,
            "staleness_mean": 0.3,
            "staleness_max": 3,
            "staleness_histogram": [70, 15, 5],
            "bytes_received": 8000 * count,
            "bytes_sent": 4000 * count,
            "server_receiving": 0.5,
            "server_sending": 0.4,
            "server_updating": 0.1,
        },
        "curve": {
            "version": [10 * (i + 1) for i in range(count)],
            "seconds": seconds or [float(i + 1) for i in range(count)],
            "examples": [100 * (i + 1) for i in range(count)],
            "accuracy": accuracies,
            "loss": [1.0] * count,
            "train_loss": [1.0 / (i + 1) for i in range(count)],
            "bytes_received": [8000 * (i + 1) for i in range(count)],
            "bytes_sent": [4000 * (i + 1) for i in range(count)],
        },
    }


class Results(Folder):
    def test_a_run_folder_becomes_a_curve(self):
        (self.folder / "evaluations.jsonl").write_text(
            '{"version":2,"seconds":1.5,"examples":8,"accuracy":0.5,"loss":2.0}\n'
            '{"version":3,"seconds":2.5,"examples":12,"accuracy":0.6,"loss":1.0}\n'
        )
        (self.folder / "events.jsonl").write_text(
            '{"type":"update","version":0,"loss":4.0,"bytes_received":10,"bytes_sent":5}\n'
            '{"type":"assign","worker":1}\n'
            '{"type":"update","version":1,"loss":2.0,"bytes_received":20,"bytes_sent":15}\n'
            '{"type":"update","version":2,"loss":null,"bytes_received":30,"bytes_sent":25}\n'
        )
        found = results.read_simulation(self.folder, {"updates": 3})
        self.assertEqual(found["summary"], {"updates": 3})
        self.assertEqual(found["curve"]["train_loss"], [3.0, None])
        self.assertEqual(found["curve"]["accuracy"], [0.5, 0.6])
        self.assertEqual(found["curve"]["bytes_received"], [20, 30])
        self.assertEqual(found["curve"]["bytes_sent"], [15, 25])

    def test_a_store_trusts_only_its_own(self):
        store = results.Store(self.folder)
        asked = Run.of("simulate", {"seed": 1})
        self.assertIsNone(store.load(asked))
        store.save(asked, {"arguments": asked.arguments(), "x": 1})
        self.assertEqual(store.load(asked)["x"], 1)
        for content in ('{"arguments": ["simu', '{"arguments": ["simulate", "--seed", "2"]}', "[]"):
            store.path(asked).write_text(content)
            self.assertIsNone(store.load(asked), content)


FAKE = """
    import json, os, pathlib, sys, time
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        print("fake 1")
        sys.exit(0)
    options = dict(zip(arguments[1::2], arguments[2::2])) if arguments[0] == "simulate" else {}
    arguments.remove("--json")
    with open(os.environ["FAKE_LOG"], "a") as log:
        log.write(" ".join(arguments) + "\\n")
    if arguments[0] == "theory":
        print("[1, 2]")
        sys.exit(0)
    folder = pathlib.Path(arguments[arguments.index("--out") + 1])
    folder.mkdir()
    (folder / "events.jsonl").write_text(
        '{"type":"update","version":0,"loss":1.5,"bytes_received":8,"bytes_sent":4}\\n')
    seed, rate = (arguments[arguments.index(name) + 1] for name in ("--seed", "--lr"))
    if "slow" in os.environ.get("FAKE_DO", "") and seed == "2":
        pathlib.Path(os.environ["FAKE_LOG"] + ".slow").touch()
        time.sleep(60)
    if "fail" in os.environ.get("FAKE_DO", "") and seed == "2":
        print("it broke", file=sys.stderr)
        sys.exit(1)
    diverged = rate == "0.2"
    (folder / "evaluations.jsonl").write_text(
        '{"version":1,"seconds":1,"examples":1,"accuracy":%s,"loss":1}\\n' % (0.1 if diverged else 0.9))
    print(json.dumps({"outcome": "diverged" if diverged else "updates", "accuracy": 0.9}))
    sys.exit(1 if diverged else 0)
"""


class Running(Folder):
    def setUp(self):
        super().setUp()
        self.program = self.folder / "fake"
        self.program.write_text(f"#!{sys.executable}\n" + textwrap.dedent(FAKE))
        self.program.chmod(0o755)
        os.environ["FAKE_LOG"] = str(self.folder / "log")
        self.addCleanup(os.environ.pop, "FAKE_LOG")
        self.addCleanup(os.environ.pop, "FAKE_DO", None)
        self.said = io.StringIO()
        self.experiment = expand()
        self.experiment.once["momentum"] = Run.of("theory momentum", {})

    def carry_out(self, do=""):
        os.environ["FAKE_DO"] = do
        campaign = run.Campaign([self.experiment], results.Store(self.folder / "runs"))
        program = run.Program(str(self.program), self.folder / "scratch")
        run.carry_out(campaign, program, 2, run.Progress(self.said, 2))
        return campaign

    def started(self):
        log = self.folder / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines

    def test_tunes_runs_and_does_not_run_again(self):
        campaign = self.carry_out()
        self.assertEqual(campaign.failures, {})
        # Once; two cases at two rates; three seeds, at the rate that did not diverge.
        started = self.started()
        self.assertEqual(len(started), 1 + 4 + 3)
        seeds = [line for line in started if "--seed 9" not in line and "theory" not in line]
        self.assertTrue(all("--lr 0.1 " in line for line in seeds), seeds)
        self.assertTrue(all("--jobs 1 --threads 1 --quiet" in line for line in seeds), seeds)
        left = [path.name for path in (self.folder / "scratch").iterdir()]
        self.assertEqual(left, ["lategrad"], "run folders are gone, and the copy of the program is there")
        self.assertIn("8/8 runs", self.said.getvalue())

        again = self.carry_out()
        self.assertEqual(self.started(), [])
        self.assertEqual(again.results, campaign.results)
        one = self.experiment.seed_runs(self.experiment.cases[0], 0.1)[0]
        self.assertEqual(again.results[one.key()]["curve"]["train_loss"], [1.5])
        self.assertEqual(again.results[self.experiment.once["momentum"].key()]["output"], [1, 2])

    def test_a_half_written_result_is_made_again(self):
        self.carry_out()
        self.started()
        one = self.experiment.seed_runs(self.experiment.cases[0], 0.1)[0]
        path = results.Store(self.folder / "runs").path(one)
        path.write_text(path.read_text()[:40])
        self.carry_out()
        self.assertEqual(len(self.started()), 1)

    def test_a_failed_run_is_named_and_loses_no_other(self):
        campaign = self.carry_out("fail")
        self.assertEqual(len(campaign.failures), 1)
        self.assertEqual(len(campaign.results), 7)
        said = self.said.getvalue()
        self.assertRegex(said, r"failed: lategrad simulate .*--seed 2 .*\n    exit status 1: it broke")
        self.assertIn("1 failed", said)
        self.started()
        self.assertEqual(self.carry_out().failures, {})
        self.assertEqual(len(self.started()), 1, "only what failed is run again")

    def test_a_program_that_is_not_there(self):
        self.program.unlink()
        with self.assertRaisesRegex(plan.PlanError, "does not run"):
            self.carry_out()

    def test_an_interrupt_ends_the_children_and_keeps_what_is_done(self):
        script = textwrap.dedent(
            """
            import signal, sys
            sys.path.insert(0, sys.argv[1])
            signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
            from pathlib import Path
            from test_experiments import Running
            case = Running()
            case.setUp()
            case.doCleanups = lambda: None
            folder = Path(sys.argv[2])
            case.folder, case.program = folder, folder / "fake"
            import os
            os.environ["FAKE_LOG"] = str(folder / "log")
            case.carry_out("slow")
            """
        )
        where = str(Path(__file__).resolve().parent)
        child = subprocess.Popen(
            [sys.executable, "-c", script, where, str(self.folder)], stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 30
        while not (self.folder / "log.slow").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=30)  # the slow run would last a minute
        self.assertIn("KeyboardInterrupt", errors)
        self.assertEqual([path.name for path in (self.folder / "scratch").iterdir()], ["lategrad"])
        kept = len(list((self.folder / "runs").glob("*.json")))
        self.assertGreaterEqual(kept, 2)
        self.started()
        self.carry_out()
        self.assertEqual(len(self.started()), 8 - kept)


class Reports(Folder):
    """From results that are made up: every section copes, says what the numbers say, and says the same again."""

    def fill(self, store, experiment, accuracy_of):
        for name, once in experiment.once.items():
            row = {"curvature": 1.0, "measured": 0.1, "predicted": 0.1, "standard_error": 0.01}
            output = [row | {"late_share": share} for share in (0, 0.5)]
            store.save(once, {"arguments": once.arguments(), "version": "v", "cpu_seconds": 1.0, "output": output})
        for case in experiment.cases:
            tuning = experiment.tuning_runs(case)
            for value, one in tuning.items():
                store.save(one, canned([0.1, 0.2, 0.3, 0.4 + value / 10], arguments=one.arguments()))
            chosen = max(tuning) if tuning else None
            for seed, one in zip(case.seeds, experiment.seed_runs(case, chosen)):
                end = accuracy_of(case.labels) + seed / 1000
                store.save(one, canned([end / 2, end, end, end], arguments=one.arguments()))

    def write(self, experiments, quick=False, out=None):
        places = self.folder / "runs", self.folder / "results", self.folder / "docs"
        return report.write(experiments, results.Store(places[0]), places[1], places[2], out, quick)

    def experiments(self, quick=False):
        loaded = [plan.load(path, quick) for path in plan.files().values()]
        for experiment in loaded:
            experiment.skipped = []  # with or without the folder of digits
        return loaded

    def bend(self, store, experiment, best):
        """E4: of setting i, i in 20 gradients late, and least loss at the momentum best(i)."""
        for case in experiment.cases:
            i = experiment.axes["share"].index(case.labels[0])
            for one in experiment.seed_runs(case, None):
                result = store.load(one)
                result["summary"] |= {"applied": 20, "late_applied": i}
                result["curve"]["train_loss"] = [1 + abs(float(case.labels[1]) - best(i))] * 4
                store.save(one, result)

    @unittest.skipUnless(shutil.which("gnuplot"), "no gnuplot")
    def test_full(self):
        experiments = self.experiments()
        store = results.Store(self.folder / "runs")
        worse = lambda labels: 0.6 if any("backup" in label for label in labels) else 0.9  # noqa: E731
        for experiment in experiments:
            self.fill(store, experiment, worse)
        self.bend(store, experiments[3], lambda i: 0.8 - i / 10)
        path = self.write(experiments)
        self.assertEqual(path, self.folder / "docs/experiments.md")
        text = path.read_text()
        self.assertIn("lower for backup k=6 (-30.0)", text)
        self.assertIn("higher for sync (+30.0), reuse k=6 (+30.0), reuse k=6 span (+30.0) and reuse k=4 (+30.0)", text)
        self.assertIn("The best momentum falls as more gradients come late", text)
        self.assertIn("Recommended: the default", text)
        self.assertNotIn("no result", text)
        for line in text.splitlines():
            if line.startswith("!["):
                svg = path.parent / line.split("(")[-1].rstrip(")")
                self.assertIn("./dev experiments e", svg.read_text())
        before = {p: p.read_bytes() for p in path.parent.rglob("*") if p.is_file()}
        self.write(experiments)
        self.assertEqual(before, {p: p.read_bytes() for p in path.parent.rglob("*") if p.is_file()})
        for best, said in (
            (lambda i: 0.5, "is not seen"),
            (lambda i: 0.3 + i / 10, "rises as more gradients come late"),
        ):
            self.bend(store, experiments[3], best)
            undrawn = types.SimpleNamespace(add=lambda *_: [])
            self.assertIn(said, "\n".join(sections.momentum(report.read(experiments[3], store), undrawn, "")))

        # One result less: what is in docs/ stays as it is.
        next((self.folder / "runs").glob("*.json")).unlink()
        self.assertEqual(self.write(experiments), self.folder / "results/partial/experiments.md")
        self.assertEqual(before, {p: p.read_bytes() for p in (self.folder / "docs").rglob("*") if p.is_file()})

    def said(self, experiment, section, result_of):
        """What a section says of results that `result_of(case, seed, result)` has changed."""
        store = results.Store(self.folder / "runs")
        self.fill(store, experiment, lambda labels: 0.9)
        for case in experiment.cases:
            chosen = max(experiment.tune["values"]) if experiment.tune else None
            for seed, one in zip(case.seeds, experiment.seed_runs(case, chosen)):
                result = store.load(one)
                result_of(case.labels, seed, result)
                store.save(one, result)
        undrawn = types.SimpleNamespace(add=lambda *_: [])
        return "\n".join(section(report.read(experiment, store), undrawn, ""))

    def test_speedup_says_what_the_numbers_say(self):
        def made_up(labels, seed, result):
            workload, n, variant = labels
            rate = {"1": 1, "2": 1.9, "4": 3.6, "8": 5.3, "16": 9, "32": 3, "64": 2}[n]
            if variant == "2 servers" and n == "64":
                rate = 3
            if variant == "stragglers, reuse 3n/4" and n == "8":
                rate *= 2
            if workload == "LeNet, 431,080 parameters":
                rate = 1 + 0.9 * (rate - 1)
            result["summary"] |= {"examples_applied": 1000 * rate * (1 + seed / 1000), "server_receiving": 0.25}

        text = self.said(self.experiments()[2], sections.speedup, made_up)
        lenet, resnet = "LeNet, 61,706 parameters", "ResNet-18"
        self.assertIn(f"{lenet}: predicted within 15 % of what was published at n = 2, 4, 8 and 16, of 2, 4, 8, 16", text)
        self.assertIn("furthest off at n = 32, with 3.00 against 5.50", text)
        self.assertIn(f"{lenet}, one server: the speed-up peaks at 9.0 with 16 workers and falls to 2.0 with 64", text)
        self.assertIn("receives for 25 % of the time and sends for 40 %", text)
        self.assertIn(f"{lenet}: the published fall from n = 16 to 32, to 0.56 of it, is seen, to 0.33.", text)
        self.assertIn("LeNet: the published speed-up lies between those of the sizes assumed at n = 4, and not at n = 2, 8, 16 and 32.", text)
        self.assertIn(f"{lenet}, 64 workers, against one server: 2 servers 1.50×, 4 servers 1.00×", text)
        self.assertIn(
            f"{resnet}: speed-up with stragglers, reuse 3n/4, against sync: higher for n = 8 (2.00×); no difference seen "
            "for n = 2, n = 4, n = 16, n = 32 and n = 64.",
            text,
        )

    def test_scale_says_what_the_numbers_say(self):
        def made_up(labels, seed, result):
            link, n, policy = labels
            updates = 100 if policy == "sync" else 50 if policy == "backup" else 200
            busy = 0.5 if policy == "reuse" and n != "100" else 0.4
            result["summary"] |= {"updates": updates + seed / 100, "server_receiving": busy, "server_sending": busy}

        text = self.said(self.experiments()[4], sections.scale, made_up)
        self.assertIn("updates per second of reuse, against sync: more for n = 100 (2.00×)", text)
        self.assertIn("updates per second of backup, against sync: fewer for n = 100 (2.00×)", text)
        self.assertIn("reuse: receiving and sending, each by itself, add up to more than 90 % of the time at n = 1000", text)
        self.assertIn("sync: receiving and sending, each by itself, add up to more than 90 % of the time at no n.", text)

    def test_weights_recommends_what_no_case_speaks_against(self):
        def recommended(accuracy_of):
            def made_up(labels, seed, result):
                end = accuracy_of(labels[0], labels[1:]) + seed / 1000
                result["curve"]["accuracy"] = [end / 2, end, end, end]

            return self.said(self.experiments()[5], sections.weights, made_up)

        iid, label = self.experiments()[5].axes["case"]
        one, inverse = ("one", "workers", "any"), ("inverse", "quorum", "any")
        text = recommended(lambda case, arm: 0.8 if arm in (one, inverse) else 0.6)
        self.assertIn(f"{iid}: the most accurate is one, workers, 80.3 ± 0.2 %; 1 of the other 23 are not separated", text)
        self.assertIn(f"{iid}: that is the default.", text)
        self.assertIn("Recommended: the default, one, workers, one of 2 that are not separated", text)
        text = recommended(lambda case, arm: 0.8 if arm == inverse else 0.7 if arm == one else 0.6)
        self.assertIn(f"{label}: the default, one, workers, is less accurate: 70.3 ± 0.2 %.", text)
        self.assertIn("Recommended: inverse, quorum, one of 1 that are not separated", text)
        text = recommended(lambda case, arm: 0.8 if arm == (one if case == iid else inverse) else 0.6)
        self.assertIn("No choice is among the most accurate in every case", text)

    def test_codecs_are_judged_by_pairs_of_seeds(self):
        def made_up(labels, seed, result):
            codec = labels[1]
            loss = {"bf16+zstd": -0.1, "topk:0.01": 0.2, "dgc:0.001": 0.4, "signsgd": 1}.get(codec, 0)
            jitter = (0.9 if codec == "terngrad" else 0.01) * (seed % 2 - 0.5)
            end = (80 + 3 * seed - loss + jitter) / 100  # seeds differ by more than codecs do
            share = {"bf16+zstd": 2.9 if seed == 1 else 4, "topk:0.01": 60, "dgc:0.001": 100}.get(codec, 1)
            late = 8000 / (3 if codec == "dgc:0.001" else 1)
            received = [count / share for count in (8000, 16000, 16000 + late, 16000 + 2 * late)]
            result["curve"] |= {"accuracy": [end / 2, end, end, end], "bytes_received": received}
            result["summary"]["bytes_received"] = received[-1]

        experiment = self.experiments()[6]
        text = self.said(experiment, sections.codecs, made_up)
        for problem in experiment.axes["problem"]:
            self.assertIn(
                f"{problem}: accuracy at the end, in points, by seed, against float32: higher for bf16+zstd (+0.10); "
                "lower for topk:0.01 (-0.20), dgc:0.001 (-0.40) and signsgd (-1.00); no difference seen for ",
                text,
            )
            self.assertIn(
                f"{problem}: no more than 0.3 points (dgc:0.001: 0.5) below float32: with the whole interval for ", text
            )
            self.assertIn(
                f"{problem}: times fewer gradient bytes: the goal is reached by topk:0.01 (60, goal 50) and dgc:0.001 "
                "(300, goal 250, in the second half); reached on average, but not with every seed, by bf16+zstd "
                "(3.78, goal 3); missed by signsgd (1, goal 30).",
                text,
            )
        self.assertIn("while the interval reaches further down, for terngrad (0.09 ± 0.61); not for signsgd (-1.00", text)
        self.assertIn("| dgc:0.001 | 88.6 ± 5.9 | -0.40 ± 0.00 | 150 | 300 | 1 |", text)

    def test_codecs_in_part(self):
        experiment = self.experiments()[6]
        problem = experiment.axes["problem"][0]
        store = results.Store(self.folder / "runs")
        for codec, missing in (("float32", 4), ("signsgd", 0)):
            for i, one in enumerate(experiment.seed_runs(experiment.case(problem, codec), None)):
                if i != missing:
                    store.save(one, canned([0.5, 0.6, 0.7, 0.8 + i / 100], arguments=one.arguments()))
        found = report.read(experiment, store)
        pairs = found.pairs((problem, "signsgd"), (problem, "float32"))
        self.assertEqual(len(pairs), 3)
        self.assertTrue(all(one["curve"] == other["curve"] for one, other in pairs), "the same seeds")
        undrawn = types.SimpleNamespace(add=lambda *_: [])
        text = "\n".join(sections.codecs(found, undrawn, ""))
        self.assertIn("Only 4 seeds", text)
        self.assertNotIn("no difference seen", text)
        self.assertIsNone(outcomes.late_bytes_rate(canned([0.5]), "bytes_sent"), "a run that diverged at once")

    @unittest.skipUnless(shutil.which("gnuplot"), "no gnuplot")
    def test_quick_goes_elsewhere_and_copes_with_nothing(self):
        path = self.write(self.experiments(quick=True), quick=True)
        self.assertEqual(path, self.folder / "results/quick/experiments.md")
        text = path.read_text()
        self.assertEqual(text.count("*Not run yet.*"), 7)
        self.assertIn("Its numbers are no results", text)

    @unittest.skipUnless(shutil.which("gnuplot"), "no gnuplot")
    def test_in_part(self):
        experiments = self.experiments()
        store = results.Store(self.folder / "runs")
        for experiment in experiments:
            self.fill(store, experiment, lambda labels: 0.9)
        stream = random.Random(2)
        for kept in sorted((self.folder / "runs").glob("*.json")):
            if stream.random() < 0.4:
                kept.unlink()
        self.assertIn("have no result; what follows is in part", self.write(experiments).read_text())

    @unittest.skipUnless(shutil.which("gnuplot"), "no gnuplot")
    def test_gnuplot_says_what_is_wrong(self):
        panel = figure.Panel("t", "x", "y", [figure.Series("s", [(0, 0, 0)])])
        with self.assertRaisesRegex(figure.FigureError, "f.svg: gnuplot failed"):
            figure.draw(self.folder / "f.svg", [panel], 1, "c", (300, -1))


if __name__ == "__main__":
    unittest.main()
