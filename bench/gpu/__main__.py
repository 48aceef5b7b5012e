"""The command ``python -m bench.gpu``.

    python -m bench.gpu --out DIR [--only correctness timings tune] [--minutes 9]

Tasks that are done already with the same sources, in --work, are not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from . import targets
from .files import ROOT, atomic_write, read_result, write_result
from .tasks import KINDS, TASKS, select

GRACE = 40.0  # seconds after the deadline in which a task may end

SUMMARY = "Run correctness checks, timings and tuning on a GPU, in one command and into a few files."


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=SUMMARY)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the packed results")
    parser.add_argument("--only", nargs="+", choices=KINDS, help="kinds of tasks (default: all)")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, metavar="NAME", help="these tasks, in this order")
    parser.add_argument("--minutes", type=float, default=9, help="after these no task begins (default: 9)")
    parser.add_argument("--embeddings", type=Path, nargs="+", default=[], metavar="NPZ", help="real embeddings")
    parser.add_argument("--conformance", type=Path, metavar="DIR", help="folder of golden files, with walk/*.npz in it")
    parser.add_argument("--work", type=Path, metavar="DIR", help="folder of the tasks' results (default: build/gpu)")
    parser.add_argument("--build", action="store_true", help="compile csrc/ first, in a minute")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, by Triton's interpreter without a GPU")
    parser.add_argument("--list", action="store_true", help="print the tasks' names and do nothing")
    options = parser.parse_args(arguments)
    names = options.tasks or select(options.only)
    if options.list:
        print("\n".join(f"{name:<20} {TASKS[name].kind}" for name in names))
        return 0
    for path in [*options.embeddings, *filter(None, [options.conformance])]:
        if not path.exists():
            parser.error(f"{path}: there is no such file or folder")
    work = options.work or ROOT / "build" / ("gpu-dry" if options.dry_run else "gpu")
    work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    begun = time.time()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    if options.build:
        subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=ROOT, check=False)

    deadline = begun + 60 * options.minutes
    command = [sys.executable, "-m", "bench.gpu.worker", "--work", str(work), "--deadline", str(deadline)]
    command += ["--dry-run"] if options.dry_run else []
    command += ["--embeddings", *map(str, options.embeddings)] if options.embeddings else []
    command += ["--conformance", str(options.conformance)] if options.conformance else []
    for name in names:
        if (result := read_result(work, name)) is not None and "failed" in result:
            (work / f"{name}.json").unlink()  # to be tried again
    while time.time() < deadline and any(read_result(work, name) is None for name in names):
        if not run_worker([*command, "--tasks", *names], environment, work, deadline):
            break
        pack(options.out, work, names, options.dry_run)
    pack(options.out, work, names, options.dry_run)
    print(summary(work, names, options.dry_run), end="")
    return 0 if all_passed(work, names) else 1


def run_worker(command: list[str], environment: dict[str, str], work: Path, deadline: float) -> bool:
    """Run a worker until it ends, a task of it takes too long, or time is up; return whether another should go on."""
    (work / "current").unlink(missing_ok=True)
    worker = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
    name, since = None, time.time()
    while worker.poll() is None:
        time.sleep(0.2)
        try:
            current = (work / "current").read_text()
        except OSError:
            current = None
        if current != name:
            name, since = current, time.time()
        limit = TASKS[name].limit if name else 120
        if time.time() > deadline + GRACE or time.time() - since > limit:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
            if name is None:
                print("== the worker did not begin", flush=True)
                return False
            if read_result(work, name) is None:
                late = f"given up after {time.time() - since:.0f} s"
                print(f"== {name}: {late}", flush=True)
                write_result(work, name, {"failed": late})
            return True
    if worker.returncode != 0 and (name is None or read_result(work, name) is None):
        if name is None:
            return False
        write_result(work, name, {"failed": f"the process ended with {worker.returncode}"})
    return worker.returncode != 0


def pack(out: Path, work: Path, names: list[str], dry: bool) -> None:
    """Write the results so far as one file for each kind, the tables of the timings, and the summary."""
    for kind in dict.fromkeys(TASKS[name].kind for name in names):
        content = {n: r for n in names if TASKS[n].kind == kind and (r := read_result(work, n)) is not None}
        atomic_write(out / f"{kind}.json", json.dumps(content, indent=1) + "\n")
    results = [result for name in names if (result := read_result(work, name)) is not None]
    tables = [result["tables"] for result in results if "tables" in result]
    if tables:
        atomic_write(out / "tables.md", "\n".join(tables))
    atomic_write(out / "summary.md", summary(work, names, dry))


def all_passed(work: Path, names: list[str]) -> bool:
    """Whether some task ran, none that ran failed, and every check held."""
    results = [result for name in names if (result := read_result(work, name)) is not None]
    return bool(results) and not any("failed" in r or [c for c in r.get("checks", []) if not c["ok"]] for r in results)


def summary(work: Path, names: list[str], dry: bool) -> str:
    """Say which tasks ran and failed, which checks did not hold, which figures do; those of a dry run mean nothing."""
    results: dict[str, dict[str, Any]] = {}
    lines = [""]
    for name in names:
        result = read_result(work, name)
        if result is None:
            lines.append(f"- {name}: not run")
            continue
        results[name] = result
        outcome = result.get("failed") or result.get("skipped") or "done"
        checks = result.get("checks", [])
        broken = [c for c in checks if not c["ok"]]
        if checks:
            outcome = f"{len(checks) - len(broken)} of {len(checks)} checks hold"
        lines.append(f"- {name}: {outcome} ({result.get('seconds', 0):.0f} s)")
        lines += [f"    - FAIL {c['name']}: {c['detail']}" for c in broken[:20]]
        for compared in result.get("record", {}).get("cases", []):
            for row in compared["rows"]:
                if "failed" in row or ("skipped" not in row and not row["matched"]):
                    why = row.get("failed") or f"error {row['error']:.1e} above {row['bound']:.0e}"
                    lines.append(f"    - {compared['case']['title']}: {row['label']}: {why}")
    if not dry and any(TASKS[name].kind == "timings" for name in names):
        lines += ["", targets.markdown(results)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
