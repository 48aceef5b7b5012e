#!/usr/bin/env bash
# Package: h5py 3.16.0 (wheel of PyPI, with HDF5 2.0.0), Linux.
#
# Expected: on a disk that is full, writing or closing a file raises OSError, and a program that catches it goes on.
#
# Instead: closing raises, the file still counts as open, and whatever lets go of it afterwards, be it close(), its
# deletion or the end of the interpreter, ends the process by a segmentation fault. A file-like object that raises
# does not help. Output seen:
#     a path: close raised OSError: [Errno 27] Write through metadata accumulator failed, status 139 (SIGSEGV)
#     a file-like object: close raised OSError: [Errno 27] File too large, status 139 (SIGSEGV)
#     a file-like object that hides the error: close raised nothing, status 0
#
# Why it matters: scores of a drive fill disks. A recorder that means to give up its HDF5 file and keep the rest of
# the run, the video beside it for instance, loses everything at the end. Way out: give h5py a file-like object that
# never fails (it keeps in memory what has no room, and notes the error), look at it after each frame, close, remove.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

"${PYTHON:-python3}" -m venv environment
environment/bin/pip install --quiet --disable-pip-version-check h5py==3.16.0 numpy==2.4.6

cat >full.py <<'PYTHON'
import io, resource, signal, sys

import h5py
import numpy as np

# A file of more than 5000 bytes is refused, as one is on a full disk.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))


class Hiding(io.BytesIO):
    """Takes everything; what the disk does not take is in memory."""


target = {"path": "a.h5", "file": None, "hiding": Hiding()}[sys.argv[1]]
if target is None:
    target = open("b.h5", "w+b", buffering=0)
file = h5py.File(target, "w")
data = file.create_dataset("scores", (3, 100, 100), np.float16, chunks=(1, 100, 100))
data[:] = np.random.default_rng(0).random((3, 100, 100))
try:
    file.close()
    print("close raised nothing", end="", flush=True)
except OSError as error:
    print(f"close raised OSError: {str(error).split(' (')[0]}", end="", flush=True)
PYTHON

run() {  # name, kind: prints what happened, returns the status of the process
  printf '%s: ' "$1"
  local status=0
  (ulimit -c 0; environment/bin/python full.py "$2"; exit $?) 2>/dev/null || status=$?
  printf ', status %s%s\n' "$status" "$([ "$status" -ne 139 ] || echo ' (SIGSEGV)')"
  return "$status"
}

path=0 file=0 hiding=0
run "a path" path || path=$?
run "a file-like object" file || file=$?
run "a file-like object that hides the error" hiding || hiding=$?
if [ "$path" -ne 139 ] || [ "$file" -ne 139 ] || [ "$hiding" -ne 0 ]; then
  echo "The behavior has changed." >&2
  exit 1
fi
