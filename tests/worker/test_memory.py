"""Errors of allocators are told from others."""

import pytest
import torch

from worker.memory import ran_out


def test_allocators_are_understood() -> None:
    with pytest.raises(RuntimeError) as told:
        torch.empty(2**60)
    assert ran_out(told.value)
    assert ran_out(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"))
    with pytest.raises(MemoryError) as plain:
        bytearray(2**62)
    assert ran_out(plain.value)


def test_other_errors_are_not_about_memory() -> None:
    assert not ran_out(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not ran_out(ValueError("the word 'out of memory' is no name"))
