"""Devices by name, and the number of threads for a block of code."""

import pytest
import torch

from rwpm_fast.scoring.device import set_threads, torch_device, use_threads


def test_a_device_by_its_name():
    assert torch_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match=r"^device: 'cuda:99' cannot be used: .+"):
        torch_device("cuda:99")
    with pytest.raises(ValueError, match=r"^--device: 'abacus' cannot be used"):
        torch_device("abacus", "--device")


def test_threads_are_set_and_restored():
    before = torch.get_num_threads()
    with use_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with pytest.raises(RuntimeError), use_threads(before + 1):
        raise RuntimeError
    with use_threads(None):
        assert torch.get_num_threads() == before
    set_threads(None)
    assert torch.get_num_threads() == before


def test_fewer_threads_than_one():
    with pytest.raises(ValueError, match=r"^threads: expected 1 or more, got 0"), use_threads(0):
        pass
    with pytest.raises(ValueError, match=r"^--threads: expected 1 or more, got -1"):
        set_threads(-1, "--threads")
