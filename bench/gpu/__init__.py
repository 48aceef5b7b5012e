"""One command for a GPU that is lent for minutes: ``python -m bench.gpu --out DIR``, from a checkout.

``parts`` lists what is done, in order of importance: ``correctness``, ``timings`` (rounds of
:mod:`rwpm_fast.benchmark`) and ``kernels`` (each launch by itself, and other tiles for it). ``worker`` does part
after part and writes each at once; the command watches it, restarts it where a kernel hung or broke the device,
and packs what there is into few files. ``targets`` says which figures must hold.
"""
