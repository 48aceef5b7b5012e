"""The walk's share of the frame time: ``python -m bench.frame_share --help`` tells how to measure it."""
