import pytest

from rwpm_fast.benchmark import machine


@pytest.fixture(autouse=True, scope="session")
def clean_commit():
    """Records of a clean tree, whatever the state of this one: those of a changed tree are not rendered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "commit", lambda: "0" * 40)
        yield
