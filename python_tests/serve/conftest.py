import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")

from .serving import MANY, serving


@pytest.fixture(scope="package")
def client():
    """A client of a server with the compact network and rates that no test exceeds."""
    with serving(MANY) as client:
        yield client
