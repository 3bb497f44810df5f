"""What tests of the core share: no draw depends on which tests ran before."""

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded_torch() -> None:
    torch.manual_seed(0)
