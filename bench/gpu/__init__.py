"""Correctness, timings and tuning on a GPU by one command: ``python -m bench.gpu --out DIR``, from a checkout.

``tasks`` lists what is done, in order of importance: ``correctness``, ``timings`` (rounds of
:mod:`rwpm_fast.benchmark`) and ``kernels`` (each launch timed separately, and with other tiles). ``worker`` does
task after task and writes each result at once, so that an interrupted run resumes; the command watches it, restarts it
where a kernel hung or broke the device, and packs the results into few files. ``targets`` says which figures must hold.
"""
