#!/usr/bin/env python3
"""Renders a trace of `ringer run --trace sched=FILE` as SVG: a row for each vCPU, time from left to right.

    trace-svg.py TRACE [--from SECONDS] [--to SECONDS] [--title TEXT] >PICTURE.svg
"""
import argparse
import json
import sys
from xml.sax.saxutils import escape

COLOURS = {"user": "#4a90d9", "kernel": "#d9534a", "device": "#9b59b6", "halted": "#e8e8e8", "slot": "#f5c542",
           "host": "#8a8a8a"}
MEANING = {"user": "user mode", "kernel": "kernel", "device": "device", "halted": "halted", "slot": "waits for a slot",
           "host": "off its host CPU"}
WIDTH, LEFT, TOP, ROW, BAR = 960, 64, 34, 22, 18


def load(path):
    """(row's name by number, [(row, name, begin, end)]), in seconds."""
    with open(path, encoding="utf-8") as file:
        events = json.load(file)["traceEvents"]
    rows = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
    slices = [(e["tid"], e["name"], e["ts"] / 1e6, (e["ts"] + e["dur"]) / 1e6) for e in events if e["ph"] == "X"]
    return rows, slices


def clip(slices, begin, end):
    for row, name, first, last in slices:
        first, last = max(first, begin), min(last, end)
        if last > first:
            yield row, name, first - begin, last - begin


def text(x, y, words, anchor="start"):
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>'


def bars(slices, rows, scale):
    """One path for each colour: much smaller than a rectangle for each slice."""
    order = {row: i for i, row in enumerate(sorted(rows))}
    paths = {}
    for row, name, first, last in slices:
        x, w, y = LEFT + first * scale, (last - first) * scale, TOP + order[row] * ROW
        paths.setdefault(name, []).append(f"M{x:.1f} {y}h{w:.1f}v{BAR}h-{w:.1f}z")
    for name, parts in paths.items():
        yield f'<path fill="{COLOURS.get(name, "#000")}" d="{"".join(parts)}"/>'


def axis(seconds, scale, y):
    step = next(s for s in (.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 1e9) if seconds / s <= 12)
    for i in range(int(seconds / step) + 1):
        x = LEFT + i * step * scale
        yield f'<path stroke="#888" d="M{x:.1f} {TOP - 4}V{y}"/>'
        yield text(x, y + 14, f"{i * step * 1000:g} ms", "middle")


def legend(used, y):
    x = LEFT
    for name in (n for n in COLOURS if n in used):
        yield f'<rect x="{x}" y="{y}" width="12" height="12" fill="{COLOURS[name]}"/>'
        yield text(x + 16, y + 10, MEANING[name])
        x += 30 + 7 * len(MEANING[name])


def render(rows, slices, seconds, title):
    scale = (WIDTH - LEFT - 24) / seconds
    bottom = TOP + len(rows) * ROW
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{bottom + 48}" '
           'font-family="sans-serif" font-size="11">', '<rect width="100%" height="100%" fill="#fff"/>',
           text(LEFT, 18, title)]
    out += axis(seconds, scale, bottom)
    out += bars(slices, rows, scale)
    out += [text(4, TOP + i * ROW + 13, rows[row]) for i, row in enumerate(sorted(rows))]
    out += legend({s[1] for s in slices}, bottom + 26)
    return "\n".join(out + ["</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description="Renders a trace of vCPUs as SVG.")
    parser.add_argument("trace")
    parser.add_argument("--from", dest="begin", type=float, default=0, help="seconds since the machine's start")
    parser.add_argument("--to", dest="end", type=float, help="default: the trace's end")
    parser.add_argument("--title", default="")
    args = parser.parse_args()
    rows, slices = load(args.trace)
    end = args.end if args.end is not None else max((s[3] for s in slices), default=0)
    if not rows or end <= args.begin:
        sys.exit(f"{args.trace}: nothing between {args.begin} and {end} s")
    sys.stdout.write(render(rows, list(clip(slices, args.begin, end)), end - args.begin, args.title))


if __name__ == "__main__":
    main()
