#!/usr/bin/env bash
# Package: torch 2.13.0 (torchrun), CPython 3.11.
#
# Expected: what follows the script on torchrun's command line is the script's own.
#
# Instead: an option of the script that is the beginning of two or more of torchrun's own options ends it before the
# script is started. Where it is the beginning of one only, it reaches the script. Output seen:
#   --start 3: exit 2, error: ambiguous option: --start could match --start-method, --start_method
#   --start=3: exit 2, error: ambiguous option: --start=3 could match --start-method, --start_method
#   -- --start 3: exit 0, the script got ['--start', '3']
#   --role 3: exit 0, the script got ['--role', '3']
#
# Why it matters: a command that trains or evaluates in one process works, and the same command under torchrun ends with a
# usage message. Every option of torchrun has two spellings, so that the beginning of any with a hyphen is ambiguous:
# --start, --log, --master, --node, --max. Way out: no option of one's own that begins one of torchrun's; or "--".

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6

echo 'import sys; print("the script got", sys.argv[1:])' >script.py
try() {
  code=0
  venv/bin/torchrun --nproc-per-node=1 script.py "$@" >output.txt 2>&1 || code=$?
  echo "$*: exit $code, $(grep -o 'error: .*\|the script got .*' output.txt)"
}

try --start 3 | tee first.txt
try --start=3
try -- --start 3 | tee third.txt
try --role 3 | tee fourth.txt
grep -q 'exit 2, error: ambiguous option: --start could match' first.txt
grep -q "exit 0, the script got \['--start', '3'\]" third.txt
grep -q "exit 0, the script got \['--role', '3'\]" fourth.txt
