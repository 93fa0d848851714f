"""Figures as SVG, by gnuplot. The same numbers give the same bytes."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

# Told apart by most colour-blind readers: Okabe and Ito 2008, "Color Universal Design"; black first, without
# the pale yellow.
COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#808080")
POINTS = (7, 5, 9, 11, 13, 6, 4, 8)  # gnuplot's: filled circle, square, triangles, diamond; then open ones
OPEN = (4, 6, 8)


class FigureError(Exception):
    pass


@dataclass
class Series:
    title: str  # empty: not in the key
    points: list[tuple[float, ...]]  # (x, y), or (x, y, low, high) of an interval
    colour: int = 0
    dash: int = 0  # 0: the colour's own, so that of two lines on each other both are seen
    style: str = "line"  # line: a band where there is an interval; points: bars; linespoints; across: bars along x


@dataclass
class Panel:
    title: str
    x_label: str
    y_label: str
    series: list[Series]
    log_x: int = 0  # base; 0: linear
    log_y: int = 0
    y_range: tuple[float | None, float | None] = (None, None)
    x_range: tuple[float | None, float | None] = (None, None)
    x_ticks: list[float] = field(default_factory=list)
    x_names: list[str] = field(default_factory=list)  # of 0, 1, …: a scale of names
    y_names: list[str] = field(default_factory=list)
    key: str = "bottom right"  # empty: none


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _range(limits: tuple[float | None, float | None]) -> str:
    return "[" + ":".join("*" if limit is None else repr(limit) for limit in limits) + "]"


def script(panels: list[Panel], columns: int, caption: str, size: tuple[int, int]) -> str:
    """`caption` says by which command the figure is made."""
    rows = -(-len(panels) // columns)
    out = [
        f"set terminal svg size {size[0]},{size[1]} noenhanced font 'sans-serif,12' background rgb 'white'",
        f"set multiplot layout {rows},{columns} title {quoted(caption)} font 'monospace,11'",
    ]
    for p, panel in enumerate(panels):
        x_range = panel.x_range
        if panel.log_x and x_range == (None, None) and panel.x_ticks:
            x_range = (0.9 * min(panel.x_ticks), 1.1 * max(panel.x_ticks))  # the outermost ticks are within it
        out += ["reset", "set grid lc rgb '#dddddd'", "set style fill transparent solid 0.15 noborder"]
        out.append(f"set title {quoted(panel.title)} offset 0,-0.5")
        out.append(f"set xlabel {quoted(panel.x_label)} offset 0,0.3\nset ylabel {quoted(panel.y_label)} offset 1,0")
        out.append(f"set xrange {_range(x_range)}\nset yrange {_range(panel.y_range)}")
        if panel.log_x:
            out.append(f"set logscale x {panel.log_x}")
        if panel.log_y:
            out.append(f"set logscale y {panel.log_y}")
            out.append("set format y '%g'")
        if panel.x_ticks:
            out.append("set xtics (" + ", ".join(f"{quoted(f'{x:g}')} {x!r}" for x in panel.x_ticks) + ")")
        for axis, entries in (("x", panel.x_names), ("y", panel.y_names)):
            if entries:
                out.append(f"set {axis}tics (" + ", ".join(f"{quoted(n)} {i}" for i, n in enumerate(entries)) + ")")
        out.append(f"set key {panel.key} Left reverse samplen 3 spacing 0.9 font ',10'" if panel.key else "unset key")
        bands, lines = [], []
        for s, series in enumerate(panel.series):
            if not series.points:
                continue
            name = f"$p{p}s{s}"
            out.append(f"{name} << END")
            out += [" ".join(f"{number:.6g}" for number in point) for point in series.points]
            out.append("END")
            title = f"title {quoted(series.title)}" if series.title else "notitle"
            colour = f"lc rgb '{COLOURS[series.colour % len(COLOURS)]}'"
            interval = len(series.points[0]) == 4
            dash = series.dash or series.colour % 5 + 1
            point = POINTS[series.colour % len(POINTS)]
            if series.style == "line":
                if interval:
                    bands.append(f"{name} using 1:3:4 with filledcurves {colour} notitle")
                lines.append(f"{name} using 1:2 with lines lw 1.8 dt {dash} {colour} {title}")
            elif series.style == "across":  # the interval is along x; columns: x y low high
                lines.append(f"{name} using 1:2:3:4 with xerrorbars lw 1.4 pt {point} ps 0.5 {colour} {title}")
            else:
                if series.style == "linespoints":
                    lines.append(f"{name} using 1:2 with lines lw 1.4 dt {dash} {colour} notitle")
                what = "using 1:2:3:4 with yerrorbars" if interval else "using 1:2 with points"
                size = 1.1 if point in OPEN else 0.6
                lines.append(f"{name} {what} lw 1.4 pt {point} ps {size} {colour} {title}")
        # gnuplot refuses to plot nothing.
        out.append("plot " + ", ".join(bands + lines) if lines else "plot [0:1][0:1] -1 notitle")
    out.append("unset multiplot")
    return "\n".join(out) + "\n"


def draw(path: Path, panels: list[Panel], columns: int, caption: str, size: tuple[int, int]) -> None:
    try:
        done = subprocess.run(
            ["gnuplot", "--default-settings"],
            input=script(panels, columns, caption, size),
            capture_output=True,
            text=True,
            env=os.environ | {"LC_ALL": "C.UTF-8"},
        )
    except FileNotFoundError:
        raise FigureError("gnuplot is not installed; apt-get install gnuplot-nox") from None
    if done.returncode != 0 or not done.stdout.rstrip().endswith("</svg>"):
        said = next((line for line in done.stderr.splitlines() if line.strip()), "it said nothing")
        raise FigureError(f"{path.name}: gnuplot failed: {said}")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(done.stdout)
    os.replace(unfinished, path)
