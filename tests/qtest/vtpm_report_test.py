#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""usage: vtpm_report_test.py BUILD

What the host can ask of the vTPM over QMP while the machine stands still: instances, their states and counters, the
windows, the trace points. The report is what its schema says and has no member beside, so nothing secret is in it.
"""

import json
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest

BUILD = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build").resolve()
QEMU = BUILD / "bin/qemu-system-x86_64"
SCHEMA = pathlib.Path(__file__).resolve().parents[2] / "docs/schema/vtpm.schema.json"
TRACE_POINTS = ("banyan_vtpm_command", "banyan_vtpm_locality", "banyan_vtpm_bql", "banyan_vtpm_event")
KINDS = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}


def violations(value, schema, path="report"):
    """Of the keywords that the schema uses; an unknown one would be no check."""
    unknown = set(schema) - {"$schema", "title", "description", "type", "required", "additionalProperties", "properties",
                             "items", "const", "enum", "minimum", "maximum", "pattern"}
    if unknown:
        yield f"{path}: this test does not know {unknown}"
    kind = schema.get("type")
    if kind and (not isinstance(value, KINDS[kind]) or (kind == "integer" and isinstance(value, bool))):
        yield f"{path}: {value!r} is no {kind}"
        return
    if "const" in schema and value != schema["const"]:
        yield f"{path}: {value!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r}"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{path}: {value!r}"
    if value is not None and ("minimum" in schema and value < schema["minimum"] or
                              "maximum" in schema and value > schema["maximum"]):
        yield f"{path}: {value!r}"
    if kind == "object":
        for name in schema["required"]:
            if name not in value:
                yield f"{path}: no {name}"
        for name, member in value.items():
            if name in schema["properties"]:
                yield from violations(member, schema["properties"][name], f"{path}.{name}")
            else:
                yield f"{path}: {name} is not in the schema"
    if kind == "array":
        for i, item in enumerate(value):
            yield from violations(item, schema["items"], f"{path}[{i}]")


class Report(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="banyan-qtest-"))
        self.addCleanup(shutil.rmtree, self.dir)
        firmware = [a for folder in (BUILD / "qemu/firmware-dirs").read_text().split() for a in ("-L", folder)]
        self.qemu = subprocess.Popen(
            [QEMU, *firmware, "-M", "q35", "-accel", "tcg", "-cpu", "EPYC", "-m", "64M", "-S", "-nodefaults",
             "-display", "none", "-qmp", f"unix:{self.dir}/qmp,server=on,wait=off",
             "-device", f"banyan-vtpm,id=vtpm,engine={BUILD}/bin/banyan-vtpm-engine,instances=3",
             "-device", "banyan-vtpm-window,instance=2"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(self.end)
        while True:
            with socket.socket(socket.AF_UNIX) as s:
                try:
                    s.connect(str(self.dir / "qmp"))
                    s.settimeout(60)
                    self.qmp = s.makefile("rwb") # the file keeps the connection
                    break
                except (FileNotFoundError, ConnectionRefusedError):
                    self.assertIsNone(self.qemu.poll(), "QEMU has ended")
                    time.sleep(0.02)
        self.addCleanup(self.qmp.close)
        self.qmp.readline()
        self.ask("qmp_capabilities")

    def end(self):
        self.qemu.terminate()
        self.qemu.wait()

    def ask(self, command, **arguments):
        self.qmp.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self.qmp.flush()
        while True:
            answer = json.loads(self.qmp.readline())
            if "return" in answer or "error" in answer:
                self.assertIn("return", answer, command)
                return answer["return"]

    def report(self):
        return json.loads(self.ask("qom-get", path="/machine/peripheral/vtpm", property="report"))

    def test_it_is_what_its_schema_says(self):
        with open(SCHEMA, encoding="utf-8") as file:
            schema = json.load(file)
        report = self.report()
        self.assertEqual(list(violations(report, schema)), [])
        for part, described in ((report, schema), (report["instances"][0], schema["properties"]["instances"]["items"]),
                                (report["windows"][0], schema["properties"]["windows"]["items"])):
            self.assertEqual(set(part), set(described["properties"])) # and each member that is described is there
            self.assertEqual(set(part), set(described["required"]))

    def test_it_lists_instances_and_windows(self):
        while any(one["state"] == "starting" for one in self.report()["instances"]):
            time.sleep(0.02)
        report = self.report()
        # What stands behind a window was powered on with the machine; the third waits for somebody to bind it.
        self.assertEqual([one["state"] for one in report["instances"]], ["ready", "off", "ready"])
        self.assertEqual([one["power_ons"] for one in report["instances"]], [1, 0, 1])
        self.assertEqual(report["windows"], [{"domain": 0, "window": 0, "address": 0xFED40000, "instance": 0},
                                             {"domain": 0, "window": 1, "address": 0xFED60000, "instance": 2}])
        self.assertEqual(report["engine"], "running")

    def test_a_reset_is_a_power_cycle_of_what_stands_behind_a_window(self):
        self.ask("system_reset")
        self.ask("query-status") # the reset is carried out before this is answered, or soon after
        until = time.monotonic() + 60
        while [one["power_ons"] for one in self.report()["instances"]] != [2, 0, 2]:
            self.assertLess(time.monotonic(), until, self.report())
            time.sleep(0.02)

    def test_trace_points_are_there(self):
        for name in TRACE_POINTS:
            self.assertEqual(self.ask("trace-event-get-state", name=name), [{"name": name, "state": "disabled"}])


if __name__ == "__main__":
    if not QEMU.exists():
        print(f"SKIP: there is no {QEMU}")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1], verbosity=2)
