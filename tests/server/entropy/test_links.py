"""What a server says when nobody is left to decode entropy-coded packets."""

from __future__ import annotations

from typing import Any, cast

import pytest
from earshot.codec.errors import EngineFull
from earshot.codec.lm.entropy import CodesLm
from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.entropy_link import LinkDecoder
from earshot.protocol.packet import CodedPacket
from earshot.server.encoding.pool import WorkerPool
from earshot.server.entropy.links import Entropy
from earshot.server.settings import Settings


class NoWorkers:
    async def do(self, work: object, limit_us: float = 0.0) -> Any:
        raise EngineFull("a codec worker has ended")


async def test_a_worker_that_has_ended_is_an_overload_to_who_sends() -> None:
    entropy = Entropy(None, cast(WorkerPool, NoWorkers()), Settings(), 13_333.0)
    with pytest.raises(ProtocolError, match="has ended") as raised:
        await entropy.decode(LinkDecoder(cast(CodesLm, None)), CodedPacket(2, 1, 0, 0, b"x", True))
    assert raised.value.code == CloseCode.OVERLOADED
    assert entropy.packets == 0
