"""What a server says when nobody is left to decode entropy-coded packets."""

from __future__ import annotations

from typing import Any, cast

import pytest

from codec.coded_link import LinkDecoder
from codec.entropy import CodesLm
from codec.errors import CloseCode, EngineFull, ProtocolError
from codec.packet import CodedPacket
from server.entropy import Entropy
from server.settings import Settings
from server.worker_pool import WorkerPool


class NoWorkers:
    async def do(self, work: object, limit_us: float = 0.0) -> Any:
        raise EngineFull("a codec worker has ended")


async def test_a_worker_that_has_ended_is_an_overload_to_who_sends() -> None:
    entropy = Entropy(None, cast(WorkerPool, NoWorkers()), Settings(), 13_333.0)
    with pytest.raises(ProtocolError, match="has ended") as raised:
        await entropy.decode(LinkDecoder(cast(CodesLm, None)), CodedPacket(2, 1, 0, 0, b"x", True))
    assert raised.value.code == CloseCode.OVERLOADED
    assert entropy.packets == 0
