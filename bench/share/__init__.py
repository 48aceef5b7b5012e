"""The walk's share of the frame time: ``python -m bench.share --help`` tells how to measure it."""
