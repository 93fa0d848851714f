#!/usr/bin/env python3
"""Runs the experiments and writes their report. See ./dev experiments --help."""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

import plan
import report
from plan import Case, Experiment, PlanError, Run
from results import Store, read_simulation

ROOT = plan.FOLDER.parent
RESULTS = plan.FOLDER / "results"


class RunFailed(Exception):
    """The program did not do what its arguments ask; says what it said."""


class Program:
    """Starts `lategrad`, one process per run, and ends all that are still there when asked to."""

    def __init__(self, path: str, scratch: Path):
        self.scratch = scratch
        self.children: set[subprocess.Popen] = set()
        self.ending = False
        shutil.rmtree(scratch, ignore_errors=True)  # half runs of a process that was killed
        scratch.mkdir(parents=True)
        try:
            # A copy: what is built meanwhile changes nothing.
            self.path = shutil.copy(path, scratch / "lategrad")
            done = subprocess.run([self.path, "--version"], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise PlanError(
                f"{path} does not run ({error}); build it with ./dev build, or name it by LATEGRAD=PATH"
            ) from None
        build = hashlib.sha256(Path(self.path).read_bytes()).hexdigest()[:12]
        self.version = f"{done.stdout.strip()}, build {build}"

    def run(self, run: Run) -> dict:
        """Called from several threads. Its folder is gone afterwards, whatever happens."""
        folder = Path(tempfile.mkdtemp(dir=self.scratch))
        try:
            simulation = run.command == ("simulate",)
            arguments = [self.path, *run.arguments(), "--json"]
            if simulation:
                arguments += ["--jobs", "1", "--threads", "1", "--quiet", "--out", str(folder / "run")]
            output, errors, code, seconds = self._execute(arguments, folder)
            # A run that diverged is a result; it ends with 1.
            parsed = _json(output)
            diverged = isinstance(parsed, dict) and parsed.get("outcome") == "diverged"
            if parsed is None or (code != 0 and not diverged):
                raise RunFailed(f"exit status {code}: {errors.strip() or 'it said nothing'}")
            content = read_simulation(folder / "run", parsed) if simulation else {"output": parsed}
            return {"arguments": run.arguments(), "version": self.version, "cpu_seconds": round(seconds, 2)} | content
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _execute(self, arguments: list[str], folder: Path) -> tuple[str, str, int, float]:
        with open(folder / "stdout", "w+") as output, open(folder / "stderr", "w+") as errors:
            # A session of its own: Ctrl-C reaches this process alone, which then ends its children.
            child = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                cwd=ROOT,
                start_new_session=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            self.children.add(child)
            if self.ending:
                os.kill(child.pid, signal.SIGKILL)
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            self.children.discard(child)
            output.seek(0)
            errors.seek(0)
            return output.read(), errors.read(), child.returncode, usage.ru_utime + usage.ru_stime

    def end(self) -> None:
        """What runs is ended and comes back as failed."""
        self.ending = True
        for child in list(self.children):
            try:
                os.kill(child.pid, signal.SIGKILL)  # not child.kill(), which would take the status from wait4
            except ProcessLookupError:
                pass


def _json(text: str):
    try:
        return json.loads(text)
    except ValueError:
        return None


class Progress:
    """One line that is redrawn in a terminal; elsewhere a line now and then."""

    EVERY = 30.0  # seconds, where it is no terminal

    def __init__(self, stream, jobs: int):
        self.stream, self.jobs = stream, jobs
        self.begin = self.last = time.monotonic()
        self.live = stream.isatty()
        self.shown = False

    def show(self, done: int, total: int, failed: int, cpu_left: float | None, last: bool = False) -> None:
        now = time.monotonic()
        if not last and now - self.last < (0.2 if self.live else self.EVERY):
            return
        self.last = now
        text = f"{done}/{total} runs  {_clock(now - self.begin)} elapsed"
        if cpu_left is not None and not last:
            text += f"  about {_clock(cpu_left / self.jobs)} left"
        if failed:
            text += f"  {failed} failed"
        self.stream.write(f"\r\033[K{text}" if self.live else text + "\n")
        self.stream.flush()
        self.shown = self.live

    def say(self, text: str) -> None:
        """A line of its own, above the one that is redrawn."""
        self.stream.write(("\r\033[K" if self.shown else "") + text + "\n")
        self.stream.flush()
        self.shown = False

    def end(self) -> None:
        if self.shown:
            self.stream.write("\n")
            self.stream.flush()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    return f"{minutes}:{rest:02d}"


@dataclass
class Campaign:
    """What is to be run for some experiments. The runs of a case at its tuned option are queued once the last of its
    tuning runs has ended."""

    experiments: list[Experiment]
    store: Store
    results: dict[str, dict] = field(default_factory=dict)  # by key
    failures: dict[str, tuple[Run, str]] = field(default_factory=dict)
    queue: deque[Run] = field(default_factory=deque)
    cpu: dict[str, list[float]] = field(default_factory=dict)  # seconds that runs took, by experiment
    _wanted: dict[str, str] = field(default_factory=dict)  # key → experiment
    _tuning: dict[str, list[tuple[Experiment, Case]]] = field(default_factory=dict)  # by key of a tuning run
    # The tuning runs that a case waits for.
    _open: dict[tuple[str, tuple[str, ...]], set[str]] = field(default_factory=dict)

    def begin(self) -> None:
        for experiment in self.experiments:
            for run in experiment.once.values():
                self._want(experiment, run)
            for case in experiment.cases:
                tuning = experiment.tuning_runs(case)
                waits = self._open.setdefault((experiment.name, case.labels), set())
                for run in tuning.values():
                    if self._want(experiment, run):
                        waits.add(run.key())
                        self._tuning.setdefault(run.key(), []).append((experiment, case))
                if not waits:
                    self._tuned(experiment, case)

    def _want(self, experiment: Experiment, run: Run) -> bool:
        """Whether it is still to come."""
        key = run.key()
        if key not in self._wanted:
            self._wanted[key] = experiment.name
            result = self.store.load(run)
            if result is None:
                self.queue.append(run)
            else:
                self._keep(run, result)
        return key not in self.results and key not in self.failures

    def _keep(self, run: Run, result: dict) -> None:
        self.results[run.key()] = result
        self.cpu.setdefault(self._wanted[run.key()], []).append(result["cpu_seconds"])

    def _tuned(self, experiment: Experiment, case: Case) -> None:
        chosen = experiment.choose(case, self.results)
        if experiment.tune is None or chosen is not None:
            for run in experiment.seed_runs(case, chosen):
                self._want(experiment, run)

    def ended(self, run: Run, result: dict | None, why: str = "") -> None:
        key = run.key()
        if result is None:
            self.failures[key] = (run, why)
        else:
            self._keep(run, result)
        for experiment, case in self._tuning.pop(key, []):
            waits = self._open[(experiment.name, case.labels)]
            waits.discard(key)
            if not waits:
                self._tuned(experiment, case)

    def done(self) -> int:
        return len(self.results) + len(self.failures)

    def total(self) -> int:
        return max(self.done() + len(self.queue), sum(experiment.run_count() for experiment in self.experiments))

    def cpu_left(self) -> float | None:
        """Seconds of one core: runs to come at the mean of their experiment's, else at that of all. None: no idea."""
        every = [seconds for taken in self.cpu.values() for seconds in taken]
        if not every:
            return None
        left = 0.0
        for experiment in self.experiments:
            taken = self.cpu.get(experiment.name, [])
            mean = sum(taken) / len(taken) if taken else sum(every) / len(every)
            left += mean * max(0, experiment.run_count() - len(taken))
        return left


def carry_out(campaign: Campaign, program: Program, jobs: int, progress: Progress) -> None:
    """Runs what is queued and what follows from it. After Ctrl-C what was running is ended, its folders are gone, and
    KeyboardInterrupt goes on; what had ended is kept."""
    campaign.begin()
    running: dict[Future, Run] = {}
    with ThreadPoolExecutor(jobs) as pool:
        try:
            while campaign.queue or running:
                while campaign.queue and len(running) < jobs:
                    run = campaign.queue.popleft()
                    running[pool.submit(program.run, run)] = run
                ended, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in ended:
                    run = running.pop(future)
                    try:
                        result = future.result()
                    except (RunFailed, OSError, ValueError, KeyError) as error:
                        progress.say(f"failed: {shlex.join(['lategrad', *run.arguments()])}\n    {error}")
                        campaign.ended(run, None, str(error))
                    else:
                        campaign.store.save(run, result)
                        campaign.ended(run, result)
                progress.show(campaign.done(), campaign.total(), len(campaign.failures), campaign.cpu_left())
        except BaseException:
            program.end()
            raise
    progress.show(campaign.done(), campaign.total(), len(campaign.failures), None, last=True)


def interrupt(_signal, _frame):
    raise KeyboardInterrupt


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./dev experiments",
        description="Runs the experiments and writes tables, figures and the report. Runs that have a result are not "
        "run again: interrupt it and start it again at will, and delete experiments/results/ to begin anew.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(plan.files())}; default all")
    parser.add_argument("--quick", action="store_true", help="everything small: a smoke test, not a result")
    cores = os.cpu_count() or 1
    parser.add_argument("--jobs", type=int, default=cores, metavar="N", help="runs at a time; default one per core")
    parser.add_argument("--report-only", action="store_true", help="run nothing; the report from the results there are")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where experiments.md and figures/ go; default docs/ from a full set that is complete, else a folder of "
        "experiments/results/",
    )
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error("--jobs: at least 1")
    return options


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    signal.signal(signal.SIGTERM, interrupt)
    RESULTS.mkdir(exist_ok=True)
    lock = open(RESULTS / "lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print("./dev experiments: it is running already", file=sys.stderr)
        return 2
    try:
        known = {name: plan.load(path, options.quick) for name, path in plan.files().items()}
        if shutil.which("gnuplot") is None:  # said now, not after the runs
            raise PlanError("gnuplot is not installed; apt-get install gnuplot-nox")
        for name in options.names:
            if name not in known:
                raise PlanError(f"there is no experiment {name}; there are {', '.join(known)}")
        asked = [known[name] for name in dict.fromkeys(options.names or known)]
        store = Store(RESULTS / "runs")
        progress = Progress(sys.stderr, options.jobs)
        for experiment in asked:
            for message in experiment.skipped:
                progress.say(message)
        campaign = Campaign(asked, store)
        if not options.report_only:
            path = os.path.abspath(os.environ.get("LATEGRAD", ROOT / "build/release/lategrad"))
            program = Program(path, RESULTS / "scratch")
            try:
                carry_out(campaign, program, options.jobs, progress)
            finally:
                progress.end()
        for name, taken in campaign.cpu.items():
            print(f"{name}: {len(taken)} runs, {sum(taken):.0f} core-seconds")
        written = report.write(list(known.values()), store, RESULTS, ROOT / "docs", options.out, options.quick)
        print(f"report: {os.path.relpath(written)}")
        return 1 if campaign.failures else 0
    except PlanError as error:
        print(f"./dev experiments: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what had ended is kept, the same command goes on from there", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
