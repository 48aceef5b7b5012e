"""Who walks in the FPS benchmark: this package's backends, and what one would write with torch or take from a library.

Problems are of sub-maps: embeddings [B, P, D] and values [B, P, C] in the frame's dtype, on its device. Ours gets the
whole map and cuts it within the time; the others get the sub-maps cut, pixel by pixel.
"""

from __future__ import annotations

from functools import partial

from ..libraries import cuvs_search, faiss_search, keops_walk
from ..reference import RELEASED
from .dense import chunked, flex, in_float32, released_walk, tuned
from .estimates import matrix, once, released_matrices, released_work, slab, states, streamed
from .frames import Frame
from .nearest import nearest_walker
from .own import backends, ours
from .walker import PEERS, Walker


def peers() -> list[Walker]:
    """All but ours."""
    released = partial(in_float32, walk=released_walk)
    keops = partial(in_float32, walk=keops_walk)
    tuned_flex = partial(flex, mode="max-autotune-no-cudagraphs")
    return [
        Walker(
            "dense-released",
            "dense torch as released: float32, T + 1",
            released,
            released_work,
            released_matrices,
            operator=RELEASED,
            share=PEERS,
        ),
        Walker("dense-tuned", "dense torch tuned: S kept, addmm", tuned, once, matrix, share=PEERS),
        Walker("chunked", "chunked torch", chunked, streamed, slab, share=PEERS),
        Walker("flex", "FlexAttention, q_idx != kv_idx", flex, streamed, slab, share=PEERS),
        Walker("flex-autotuned", "FlexAttention, autotuned", tuned_flex, streamed, slab, share=PEERS, asked=True),
        nearest_walker("knn-torch", "torch top-k", None),
        nearest_walker("knn-faiss", "faiss", faiss_search),
        nearest_walker("knn-cuvs", "cuVS", cuvs_search),
        Walker("keops", "KeOps, float32", keops, streamed, states, share=PEERS, asked=True),
    ]


def walkers(frame: Frame, tolerances: list[float]) -> list[Walker]:
    """All that can be asked for on such a frame: ours by every backend that serves, and :func:`peers`."""
    made = []
    for backend in backends(frame):
        for tolerance in (0.0, *tolerances):
            made.append(ours(backend, tolerance))
            if backend != "cpu":
                made.append(ours(backend, tolerance, captured=True))
    return made + peers()
