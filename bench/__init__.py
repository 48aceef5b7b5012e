"""The benchmark room: the walk beside what one would pick instead. ``python -m bench --help`` tells how to run it.

What is timed and how is in the package, :mod:`rwpm_fast.benchmark`; here are the peers that need more than torch, the
charts, and an entry for pytest-benchmark.
"""
