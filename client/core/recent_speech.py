"""What was said in the last second, for a server that this client comes back to."""

from __future__ import annotations

from collections import deque

from earshot.protocol.packet import MessageType, Packet, PcmUp, decode_up, encode_codes_up
from earshot.protocol.sequence import SEQUENCE_MODULUS, wrap_difference

KEPT_US = 1_000_000
KEPT_PCM_US = 400_000
"""The same of PCM, which is 20 times as much and waits for an encoder, which keeps 32 frames."""
MOST_KEPT = 128
"""Messages at most; more than one a frame makes in a second."""
COARSE = 2
"""Codebooks of what is sent again."""
KINDS = bytes([MessageType.CODES_UP]), bytes([MessageType.PCM_UP])


class RecentSpeech:
    """Keeps messages of codes and PCM, as the sender made them."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=MOST_KEPT)

    def add(self, message: bytes, now_us: int) -> None:
        """Takes a message that is sent now, or would be if there were a connection."""
        if message[:1] in KINDS:
            self._kept.append((now_us, message))

    def since(self, sequence: int | None, now_us: int) -> list[bytes]:
        """Returns the messages of the last second, or of the last 0.4 s of PCM, that the server has
        not got, which expects this sequence (None: any). Of codes it is the coarse codebooks
        only. A window of music is not sent again."""
        missed = []
        for at_us, message in self._kept:
            packet = decode_up(message)
            if sequence is not None and wrap_difference(packet.sequence, sequence, SEQUENCE_MODULUS) < 0:
                continue
            if isinstance(packet, PcmUp) and now_us - at_us <= KEPT_PCM_US:
                missed.append(message)
            elif isinstance(packet, Packet) and packet.scale is None and now_us - at_us <= KEPT_US:
                missed.append(encode_codes_up(packet.cut(COARSE)))
        return missed

    def clear(self) -> None:
        """Forgets all, because the next connection begins anew."""
        self._kept.clear()
