# SPDX-License-Identifier: GPL-2.0-or-later
"""Pairs, ratios, intervals: what every bench has in common."""

import csv
import hashlib
import json
import random
import shutil
import statistics
import subprocess


class Missing(Exception):
    """Something that a bench needs is not there."""


def bootstrap_interval(ratios, rounds=4000):
    """95 % of the median of the pair ratios, by resampling. Seeded: the same samples give the same interval."""
    rng = random.Random(1)
    medians = sorted(statistics.median(rng.choices(ratios, k=len(ratios))) for _ in range(rounds))
    return [medians[int(0.025 * rounds)], medians[int(0.975 * rounds) - 1]]


def peer_of(path):
    """Who was measured against: path, version line, digest."""
    with open(path, "rb") as f:
        digest = hashlib.file_digest(f, "sha256").hexdigest()
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    version = ((done.stdout or done.stderr).splitlines() or ["?"])[0]
    return {"path": str(path), "version": version, "digest": digest}


class Figure:
    """One row: samples of ours and of the peer, taken in turn."""

    def __init__(self, name, unit, peer, bar, at_least=False):
        self.name, self.unit, self.peer, self.bar, self.at_least = name, unit, peer, bar, at_least
        self.ours, self.theirs = [], []
        self.exact = False  # counted, not measured: one sample says all

    def add(self, ours, theirs):
        self.ours.append(ours)
        self.theirs.append(theirs)

    def row(self):
        ratios = [a / b for a, b in zip(self.ours, self.theirs)]
        ratio = statistics.median(ratios)
        interval = bootstrap_interval(ratios)
        return {
            "figure": self.name,
            "unit": self.unit,
            "samples_ours": self.ours,
            "samples_peer": self.theirs,
            "ratio": ratio,
            "interval": interval,
            "bar": self.bar,
            "bar_is": "at least" if self.at_least else "at most",
            "verdict": self.verdict(ratio, interval),
            "peer": self.peer,
        }

    def verdict(self, ratio, interval):
        met = ratio >= self.bar if self.at_least else ratio <= self.bar
        if not met:
            return "missed"
        if self.exact:
            return "met"
        # The margin is the ratio's distance from the bar: an interval that reaches over the bar decides nothing.
        surely = interval[0] >= self.bar if self.at_least else interval[1] <= self.bar
        return "met" if surely and len(self.ours) > 1 else "inconclusive"


def show(rows):
    head = ["figure", "unit", "ours", "peer", "ratio", "interval", "bar", "verdict"]
    table = [head]
    for r in rows:
        table.append([
            r["figure"], r["unit"],
            f"{statistics.median(r['samples_ours']):.6g}", f"{statistics.median(r['samples_peer']):.6g}",
            f"{r['ratio']:.4f}", "{:.4f}..{:.4f}".format(*r["interval"]),
            ("≥ " if r["bar_is"] == "at least" else "≤ ") + str(r["bar"]), r["verdict"],
        ])
    widths = [max(len(line[i]) for line in table) for i in range(len(head))]
    for line in table:
        print("  ".join(cell.ljust(w) for cell, w in zip(line, widths)).rstrip())


def write_csv(path, rows):
    with open(path, "w", encoding="utf-8", newline="") as f:
        out = csv.writer(f)
        out.writerow(["figure", "unit", "pair", "ours", "peer"])
        for r in rows:
            for i, (ours, peer) in enumerate(zip(r["samples_ours"], r["samples_peer"])):
                out.writerow([r["figure"], r["unit"], i, ours, peer])


def can_plot():
    return shutil.which("gnuplot") is not None


def plot(path, rows):
    """How far each figure is from its bar: 1 is the bar, more is better, whichever way the bar goes."""
    def margin(row, ratio):
        return ratio / row["bar"] if row["bar_is"] == "at least" else row["bar"] / ratio

    lines = []
    for i, r in enumerate(rows):
        low, high = sorted(margin(r, ratio) for ratio in r["interval"])
        lines.append(f'{i} {margin(r, r["ratio"]):.6g} {low:.6g} {high:.6g} "{r["figure"]}"')
    script = "\n".join([
        f"set terminal svg size {160 + 90 * len(rows)},420 font 'sans,11'",
        f"set output '{path}'",
        "set logscale y", "set ylabel 'times its bar (1: just met)'", "set grid y", "unset key",
        f"set xrange [-0.6:{len(rows) - 0.4}]", "set xtics rotate by -30", "set style fill solid 0.4",
        "set boxwidth 0.6", "$rows << END", *lines, "END",
        "plot 1 with lines lc rgb 'red', $rows using 1:2:xtic(5) with boxes lc rgb 'blue', "
        "'' using 1:2:3:4 with yerrorbars lc rgb 'black' pt 7 ps 0.4",
        ""])
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


def write_json(path, rows):
    with open(path, "w", encoding="utf-8") as f:
        json.dump({"schema": 1, "rows": rows}, f, indent=2)
        f.write("\n")
