"""Does task after task in one process, and writes each result at once: ``python -m bench.gpu.worker``, started by
``python -m bench.gpu``."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
import traceback
from pathlib import Path

from .files import atomic_write, read_result, write_result
from .tasks import TASKS

BROKEN = 3  # exit status: the device must be opened again


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--deadline", type=float, required=True, help="time.time() after which no task begins")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--embeddings", type=Path, nargs="*", default=[])
    parser.add_argument("--conformance", type=Path)
    parser.add_argument("--tasks", nargs="+", required=True)
    options = parser.parse_args(arguments)

    import torch

    if not torch.cuda.is_available():  # Triton reads it when a kernel is defined
        os.environ.setdefault("TRITON_INTERPRET", "1")

    from .context import Context, Skipped

    context = Context(options.dry_run, tuple(options.embeddings), options.conformance, options.work, options.deadline)
    for name in options.tasks:
        if read_result(options.work, name) is not None:
            continue
        if time.time() > options.deadline:
            print(f"== {name}: no time left", flush=True)
            return 0
        print(f"== {name}", flush=True)
        atomic_write(options.work / "current", name)
        begun = time.monotonic()
        try:
            content = TASKS[name].run(context)
        except Skipped as reason:
            content = {"skipped": str(reason)}
        except Exception as error:  # the next task runs
            traceback.print_exc()
            content = {"failed": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()[-4000:]}
        write_result(options.work, name, {"seconds": time.monotonic() - begun, **content})
        gc.collect()
        if torch.cuda.is_available() and _broken(torch):
            print(f"== {name} broke the device", flush=True)
            return BROKEN
    return 0


def _broken(torch) -> bool:
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        return torch.ones(2, device="cuda").sum().item() != 2
    except Exception:
        return True


if __name__ == "__main__":
    sys.exit(main())
