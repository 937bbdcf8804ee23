"""Fixtures of the predictor's tests."""

import pytest
from predict_world import make_table


@pytest.fixture
def world():
    return make_table(600)
