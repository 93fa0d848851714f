"""What is kept of a run: one small file, named by its arguments. The run folder itself goes."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

from plan import Run

KEPT_FROM_EVALUATION = ("version", "seconds", "examples", "accuracy", "loss")
KEPT_FROM_UPDATE = ("bytes_received", "bytes_sent")


class Store:
    """A folder of results. A file is whole or not there."""

    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, run: Run) -> Path:
        return self.folder / f"{run.key()}.json"

    def load(self, run: Run) -> dict | None:
        """None: not run yet, or the file is not what this program wrote for that run."""
        try:
            result = json.loads(self.path(run).read_text())
        except (OSError, ValueError):
            return None
        if not isinstance(result, dict) or result.get("arguments") != run.arguments():
            return None
        return result

    def save(self, run: Run, result: dict) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished = self.path(run).with_suffix(".tmp")
        unfinished.write_text(json.dumps(result) + "\n")
        os.replace(unfinished, self.path(run))


def read_simulation(folder: Path, summary: dict) -> dict:
    """The summary of a run and its curve: the columns of its evaluations, the mean training loss over the updates since
    the evaluation before, and the bytes that the server had received and sent by the last of these."""
    evaluations = [json.loads(line) for line in _lines(folder / "evaluations.jsonl")]
    updates = [json.loads(line) for line in _lines(folder / "events.jsonl") if line.startswith('{"type":"update"')]
    curve = {name: [evaluation[name] for evaluation in evaluations] for name in KEPT_FROM_EVALUATION}
    curve |= {name: [] for name in ("train_loss", *KEPT_FROM_UPDATE)}
    at = 0
    for evaluation in evaluations:
        window = []
        # The update of version v makes v + 1.
        while at < len(updates) and updates[at]["version"] < evaluation["version"]:
            window.append(updates[at]["loss"])
            at += 1
        finite = [loss for loss in window if loss is not None and math.isfinite(loss)]
        curve["train_loss"].append(sum(finite) / len(finite) if window and len(finite) == len(window) else None)
        for name in KEPT_FROM_UPDATE:
            curve[name].append(updates[at - 1][name] if at > 0 else 0)
    return {"summary": summary, "curve": curve}


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
