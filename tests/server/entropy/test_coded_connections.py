"""Which connections are entropy-coded, and what their sender is told once nobody can decode."""

from __future__ import annotations

from typing import Any, cast

import pytest

from earshot.codec.errors import EngineFull
from earshot.codec.lm.entropy import CodesLm, LiveLm
from earshot.protocol.close_codes import CloseCode, ProtocolError
from earshot.protocol.entropy_link import LinkDecoder
from earshot.protocol.messages import Hello
from earshot.protocol.packet import CodedPacket
from earshot.server.core.packet_coding import PLAIN, no_entropy
from earshot.server.entropy.coded_connections import BUSY, CodedConnections, entropy_by

LIVE = LiveLm(cast(CodesLm, None), "digest-of-the-model")
HELLO = Hello(protocol=1, entropy=["another", LIVE.digest])


class NoWorkers:
    coding_cpu_us = 2_000_000

    def __init__(self) -> None:
        self.load = 0.0

    def busy(self) -> float:
        return self.load

    async def do(self, work: object, limit_us: float = 0.0) -> Any:
        raise EngineFull("a codec worker has ended")


def coded(most: int = 4, share: float = 0.5) -> tuple[CodedConnections, NoWorkers]:
    workers = NoWorkers()
    entropy = entropy_by(LIVE)(workers, most, share, 13_333.0)
    assert isinstance(entropy, CodedConnections)
    return entropy, workers


async def test_a_worker_that_has_ended_is_an_overload_to_the_sender() -> None:
    entropy, _ = coded()
    with pytest.raises(ProtocolError, match="has ended") as raised:
        await entropy.decode(LinkDecoder(LIVE.lm), CodedPacket(2, 1, 0, 0, b"x", True))
    assert raised.value.code == CloseCode.OVERLOADED
    assert entropy.packets == 0


def test_a_client_needs_the_model_a_place_and_workers_with_time() -> None:
    entropy, workers = coded(most=3, share=0.5)
    assert entropy.open(Hello(protocol=1, entropy=["another"]), "a") is PLAIN
    first, second = entropy.open(HELLO, "a"), entropy.open(HELLO, "a")
    assert first.digest == second.digest == LIVE.digest
    assert entropy.open(HELLO, "a") is PLAIN, "two of three are its share"
    workers.load = BUSY + 0.01
    assert entropy.open(HELLO, "b") is PLAIN, "the workers are busy"
    workers.load = BUSY
    third = entropy.open(HELLO, "b")
    assert third.digest == LIVE.digest
    assert entropy.open(HELLO, "c") is PLAIN, "all places are taken"
    assert entropy.stats()["links"] == 3
    for _ in range(2):
        third.close()
    assert entropy.stats()["links"] == 2
    assert entropy.open(HELLO, "c").digest == LIVE.digest


def test_a_server_without_a_model_says_so_in_the_same_figures() -> None:
    entropy, workers = coded()
    without = no_entropy(workers, 4, 0.5, 13_333.0)
    assert without.open(HELLO, "a") is PLAIN
    assert without.stats().keys() == entropy.stats().keys()
    assert (without.stats()["model"], entropy.stats()["model"]) == (None, LIVE.digest)
    assert (without.stats()["cpu_s"], entropy.stats()["cpu_s"]) == (0.0, 2.0)


async def test_plain_packets_pass_as_they_are() -> None:
    assert PLAIN.digest is None
    media: list[Any] = [object()]
    assert await PLAIN.code(media, lambda: 0) == media
    with pytest.raises(RuntimeError):
        await PLAIN.decode(CodedPacket(2, 1, 0, 0, b"x", True), None)
