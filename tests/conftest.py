"""Fixtures that every room's tests share."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real labeled pictures and published tables beside the checkout."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the folder of real labeled pictures and published tables is not beside the checkout")
    return SHARED
