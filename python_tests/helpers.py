"""What many tests share: made embeddings, errors, the dense matrix, lowered precision, parsed pages."""

import re
from contextlib import contextmanager
from html.parser import HTMLParser

import pytest
import torch

from rwpm_fast import reference


def manifold(*shape, directions=5, noise=0.3, seed=0, dtype=torch.float32):
    """Embeddings [..., N, D] on a few directions with noise, so that rows have near and far pixels."""
    *pixels, channels = shape
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(directions, channels, generator=generator, dtype=torch.float64)
    belongs = torch.randint(directions, pixels, generator=generator)
    scatter = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return (centers[belongs] + noise * scatter).to(dtype)


def relative_error(got, expected):
    """Norm-wise relative error; absolute where nothing but zeros is expected."""
    got, expected = (torch.as_tensor(x).double() for x in (got, expected))
    assert got.shape == expected.shape
    size = expected.norm().item()
    return (got - expected).norm().item() / (size if size > 0 else 1)


def error_of_largest(got, expected, values):
    """Largest error relative to the largest value: what certificates bound."""
    return ((got.double() - expected).abs().max() / values.abs().max()).item()


def gaps(e):
    """Embeddings [N, D] of which some are broken, and a mask with a hole."""
    e = e.clone()
    e[3, 0], e[7, 5] = torch.nan, torch.inf
    mask = torch.ones(len(e), dtype=torch.bool)
    mask[500:600] = False
    return e, mask


def dense(e, mask=None, temperature=0.01):
    """S [N, N] in float64 of embeddings and mask; pixels that are no part of the graph have rows of the identity."""
    valid = reference.valid_pixels(e, None, mask).nonzero().squeeze(-1)
    S = torch.eye(len(e), dtype=torch.float64)
    S[valid] = 0
    S[valid[:, None], valid] = reference.transition(e[valid].double(), temperature=temperature)
    return S


# What lowers the precision of float32 products in a process, on processors that can.
LOWERED_PRODUCTS = (
    "torch.set_float32_matmul_precision('medium')",
    "torch.backends.fp32_precision = 'bf16'",
    "torch.backends.mkldnn.fp32_precision = 'bf16'",  # of products and convolutions
    "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'",
    "torch.backends.mkldnn.matmul.fp32_precision = 'tf32'",
)


@contextmanager
def products_lowered(setting):
    """Run one of LOWERED_PRODUCTS, and put back torch's defaults afterwards. Skips where products have the same bits.

    They differ too where the processor cannot round but torch takes another library for them.
    """
    e = manifold(300, 64)
    exact = e @ e.T @ e
    try:
        exec(setting)
        if torch.equal(e @ e.T @ e, exact):
            pytest.skip("this processor multiplies float32 as ever at this setting")
        yield
    finally:
        torch.backends.fp32_precision = torch.backends.mkldnn.fp32_precision = "none"
        torch.set_float32_matmul_precision("highest")
        torch.backends.mkldnn.matmul.fp32_precision = "none"


class Page(HTMLParser):
    """A parsed page: what it shows, loads and names. Fails where it is not well-formed or needs any other file."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"
        assert html.startswith("<!DOCTYPE html>")
        assert not re.search(r"https?://|@import|url\(", html)
        assert not {"script", "link", "iframe"} & set(self.tags)
        assert all(source.startswith(("data:image/", "#")) for source in self.sources)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.sources += [value for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in {"meta", "img", "br", "hr", "link", "input"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open[-1:] == [tag], f"</{tag}> closes {self.open}"
        self.open.pop()

    def handle_data(self, data):
        self.text += data


def road(pixels, channels, run=16, noise=0.15, **facts):
    """Embeddings [N, D] of which runs of pixels are alike, as along the rows of a map."""
    centers = manifold(-(-pixels // run), channels, directions=pixels, noise=0, **facts)
    return centers.repeat_interleave(run, 0)[:pixels] + noise * manifold(pixels, channels, seed=5)
