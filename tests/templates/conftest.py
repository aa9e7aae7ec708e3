"""Every test tries skeletons: one row of a kind is enough for one here."""

import pytest

from zhiling.templates import skeletons


@pytest.fixture(autouse=True, scope="session")
def skeletons_for_single_rows() -> None:
    """A few rows would be rendered one by one otherwise, and skeletons not be tried."""
    skeletons.FEWEST_ROWS = 1
