"""What an installed wheel must be able to do: run in an environment that has torch and the wheel with its cli extra.

No test of pytest: ``make wheel-smoke`` runs it where the checkout is not on the path.
"""

import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import rwpm_fast
from rwpm_fast import ops, reference
from rwpm_fast.ops import library

ROOT = Path(rwpm_fast.__file__).parent
assert "site-packages" in str(ROOT), f"expected the installed package, got {ROOT}"
warnings.simplefilter("error", ops.FallbackWarning)

assert library.unsupported_reason() is None, library.unsupported_reason()
torch.manual_seed(0)
e, v = torch.randn(600, 16), torch.randn(600, 3).requires_grad_()
expected = reference.walk(e.double(), v.double())
for tolerance in (0.0, 1e-6):
    torch.testing.assert_close(
        rwpm_fast.walk(e, v, tolerance=tolerance, backend="cpu").double(), expected, atol=1e-4, rtol=0
    )
rwpm_fast.walk(e, v).sum().backward()
assert v.grad is not None and v.grad.isfinite().all()
walked = rwpm_fast.numpy.walk(e.numpy(), v.detach().numpy())
np.testing.assert_allclose(walked, expected.detach().numpy(), atol=1e-4)
compiled = torch.compile(lambda x: rwpm_fast.walk(e, x), backend="aot_eager", fullgraph=True)
torch.testing.assert_close(compiled(v), rwpm_fast.walk(e, v))

with tempfile.TemporaryDirectory() as folder:
    image = Path(folder) / "road.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 160, 3), np.uint8)).save(image)
    for words in (["info"], ["score", image, "--out", Path(folder) / "results"]):
        subprocess.run([sys.executable, "-m", "rwpm_fast", *map(str, words)], check=True, stdout=subprocess.DEVNULL)
    written = sorted(path.name for path in (Path(folder) / "results").iterdir())
    assert written, "score wrote nothing"
versions = f"torch {torch.__version__}, Python {sys.version.split()[0]}"
print(f"rwpm_fast {rwpm_fast.__version__} works with {versions}; score wrote {', '.join(written)}")
