"""What the application refuses to serve."""

from __future__ import annotations

from dataclasses import replace

import pytest

from codec.errors import UsageError
from codec.model import Model
from codec.network import Encodec
from server.app import create_app
from tests.peers import TINY


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"codebook_size": 512}, "codes of 10 bits; tiny has codebooks of 512"),
        ({"codebook_size": 2048}, "codes of 10 bits; tiny has codebooks of 2048"),
        ({"n_codebooks": 33}, "at most 32 codebooks; tiny has 33"),
    ],
)
def test_a_model_whose_codes_do_not_fit_into_packets_is_refused(change: dict[str, int], said: str) -> None:
    model = Model(Encodec(replace(TINY, **change)))
    with pytest.raises(UsageError, match=said):
        create_app(model)
