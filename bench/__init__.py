"""What is measured with :mod:`rwpm_fast.benchmark`, in a checkout; ``python -m bench --help`` says how to run it.

``suites`` has peers that need more than torch, ``frame_share`` the walk's share of a frame, ``gpu`` all that needs a
GPU, ``anchor_share`` the choice of the share of pixels to anchor, ``synboost_precision`` SynBoost's network by
precision, memory format and compiler, ``stream_rate`` streams of frames, ``temporal`` walks and blurs along drives,
``report`` tables and charts, ``results`` records; test_walk.py times single contenders under pytest-benchmark.
"""
