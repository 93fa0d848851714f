#!/usr/bin/env python3
"""Behaves as lategrad keys, serve and work do for the chaos harness, and computes nothing: a test of the harness alone.

CHAOS_STUB_WRONG names what it does wrong: twice (applies a gradient twice), forgets (an assignment has no end), stalls
(makes no update after a while), lingers (does not end when asked), dies (the server ends by itself), stays (workers do
not end with the run), half (a file is left half written), back (a resume that is not from its checkpoint).
"""
import json
import os
import select
import signal
import socket
import struct
import sys
import time

WRONG = os.environ.get("CHAOS_STUB_WRONG", "")
TICK = 0.05


def option(name, default=None):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


def keys():
    folder = sys.argv[3]
    os.makedirs(folder)
    # Of another program; nobody is let in with them. The harness reads the form alone.
    for name in ("server.key", "worker.key", "admitted"):
        with open(os.path.join(folder, name), "w") as file:
            file.write("# none\n")


def work():
    host, port = option("--connect")[len("tcp://"):].split(":")
    while True:
        time.sleep(0.05)
        try:
            with socket.create_connection((host, int(port))) as link:
                said = link.recv(100)
                if said.startswith(b"worker"):
                    link.send(f"hello stub:{os.getpid()}".encode())
                while said and said != b"stop":
                    said = link.recv(100)
                if said == b"stop":
                    if WRONG == "stays":
                        time.sleep(600)
                    return
        except OSError:
            pass


class Server:
    def __init__(self):
        self.resumes = "--resume" in sys.argv
        self.run = option("--resume") if self.resumes else option("--out")
        os.makedirs(self.run, exist_ok=True)
        self.path = os.path.join(self.run, "events.jsonl")
        self.version = self.updates = 0
        self.counts = {"pushed": 0, "applied": 0, "dropped": 0, "held": 0, "lost": 0}
        self.steps, self.open, self.links, self.guests = {}, {}, {}, {}
        self.start = time.monotonic()
        self.checkpoint_at = 0
        if self.resumes:
            self.restore()
        self.events = open(self.path, "a")
        host, port = option("--listen")[len("tcp://"):].split(":")
        self.door = socket.socket()
        self.door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.door.bind((host, int(port)))
        self.door.listen()
        self.ends = False
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "ends", True))

    def restore(self):
        with open(self.path) as file:
            lines = file.read().split("\n")
        last = max(i for i, line in enumerate(lines) if line.startswith('{"type":"checkpoint"'))
        with open(os.path.join(self.run, f"rolled-back-{time.time_ns()}.jsonl"), "w") as file:
            file.write("\n".join(lines[last + 1:]))
        with open(self.path + ".new", "w") as file:
            file.write("\n".join(lines[:last + 1]) + "\n")
        os.replace(self.path + ".new", self.path)
        state = json.loads(lines[last])["state"]
        self.version, self.updates, self.counts = state["version"], state["updates"], state["counts"]
        self.steps = {int(worker): step for worker, step in state["steps"].items()}
        self.start = time.monotonic() - state["seconds"]
        self.events = open(self.path, "a")
        self.tell("resume", version=self.version + (1 if WRONG == "back" else 0))
        for worker, step, _ in state["open"]:
            self.counts["lost"] += 1
            self.tell("lost", worker=worker, step=step, reason="rolled back")
        self.checkpoint_at = time.monotonic()

    def tell(self, kind, **fields):
        line = {"type": kind, "seconds": round(time.monotonic() - self.start, 6), **fields}
        self.events.write(json.dumps(line, separators=(",", ":")) + "\n")

    def assign(self, worker):
        self.steps[worker] = self.steps.get(worker, -1) + 1
        self.open[worker] = (self.steps[worker], self.version)
        self.counts["pushed"] += 1
        self.tell("assign", worker=worker, step=self.steps[worker], version=self.version)

    def lose(self, worker, reason):
        if worker in self.open and WRONG != "forgets":
            self.counts["lost"] += 1
            self.tell("lost", worker=worker, step=self.open[worker][0], reason=reason)
        self.open.pop(worker, None)

    def admit(self):
        while select.select([self.door], [], [], 0)[0]:
            link, _ = self.door.accept()
            worker = min(set(range(1000)) - set(self.links) - set(self.guests))
            self.guests[worker] = link
            link.setblocking(False)
            link.send(f"worker {worker}\n".encode())
        for worker, link in list(self.guests.items()):
            try:
                said = link.recv(100)
            except BlockingIOError:
                continue
            except OSError:
                said = b""
            self.guests.pop(worker)
            if said.startswith(b"hello "):
                self.links[worker] = link
                self.tell("join", worker=worker, examples=1, **{"from": said[len("hello "):].decode()})
                self.assign(worker)

    def dismiss(self):
        for worker, link in list(self.links.items()):
            try:
                if link.recv(1000) != b"":
                    continue  # noise
            except BlockingIOError:
                continue
            except OSError:
                pass
            self.lose(worker, "worker gone")
            self.tell("leave", worker=worker)
            self.links.pop(worker).close()

    def update(self):
        if len(self.links) < int(option("--min-workers", "1")) and not self.resumes:
            return
        if WRONG == "stalls" and self.updates > 30:
            return
        applied = []
        for worker in sorted(self.links):
            step, base = self.open.pop(worker)
            self.tell("arrive", worker=worker, step=step, base_version=base, fate="hold", reason="fresh", loss=1.0,
                      compute_seconds=0.01)
            applied.append({"worker": worker, "step": step, "base_version": base, "weight": 1, "examples": 1})
        if not applied:
            return
        self.counts["applied"] += len(applied)
        if WRONG == "twice" and self.updates == 40:
            applied.append(dict(applied[-1], step=applied[-1]["step"] - 1))
        self.tell("update", version=self.version, applied=applied, denominator=1, learning_rate=0.1, loss=1.0,
                  examples_applied=0, bytes_received=0, bytes_sent=0, dropped=[])
        self.version += 1
        self.updates += 1
        if self.version % 10 == 0:
            self.tell("evaluate", version=self.version, published=round(time.monotonic() - self.start, 6),
                      examples_applied=0, accuracy=self.version / (self.version + 100), loss=1.0)
        for worker in sorted(self.links):
            self.assign(worker)
        if WRONG == "dies" and self.updates == 40:
            os.abort()

    def checkpoint(self):
        if "--checkpoint-every" not in sys.argv and not self.resumes or time.monotonic() < self.checkpoint_at:
            return
        self.checkpoint_at = time.monotonic() + 0.5
        state = {"version": self.version, "updates": self.updates, "counts": self.counts, "steps": self.steps,
                 "seconds": time.monotonic() - self.start,
                 "open": [(worker, step, base) for worker, (step, base) in self.open.items()]}
        self.tell("checkpoint", version=self.version, state=state)

    def serve(self):
        while not self.ends or WRONG == "lingers":
            time.sleep(TICK)
            self.admit()
            self.dismiss()
            self.update()
            self.checkpoint()
            self.events.flush()
        for worker in list(self.open):
            self.lose(worker, "run ended")
        self.tell("end", outcome="interrupted")
        self.events.close()
        for link in self.links.values():
            link.send(b"stop")
        zero = {"policy": "stub", "workers": 0, "wait_for": 0, "updates": self.updates, "seconds": 0, "accuracy": 0.5,
                "loss": 1.0, **self.counts, "staleness_mean": 0, "staleness_max": 0, "bytes_received": 0,
                "bytes_sent": 0, "outcome": "interrupted", "best_accuracy": 0.5, "examples_applied": 0,
                "late_applied": 0, "staleness_histogram": [], "work_used": 1, "stray": 0, "model": "stub",
                "data": "stub", "transport": "TCP", "codec": "none", "publish_codec": "none"}
        with open(os.path.join(self.run, "summary.json"), "w") as file:
            json.dump(zero, file)
        header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
        with open(os.path.join(self.run, "weights.safetensors"), "wb") as file:
            file.write(struct.pack("<Q", len(header)) + header + struct.pack("<2f", 1, 2))
        if WRONG == "half":
            open(os.path.join(self.run, "weights.safetensors.tmp"), "w").close()
        sys.exit(1)


if __name__ == "__main__":
    {"keys": keys, "work": work, "serve": lambda: Server().serve()}[sys.argv[1]]()
