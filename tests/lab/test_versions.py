"""Versions of what a result was measured with."""

from __future__ import annotations

import numpy as np

from earshot.lab.versions import versions


def test_versions_name_what_is_installed() -> None:
    found = versions(["numpy", "no-such-package-as-this"])
    assert found["numpy"] == np.__version__
    assert set(found) == {"python", "numpy"}
