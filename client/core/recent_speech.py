"""What was said in the last second, for a server that this client comes back to."""

from __future__ import annotations

from collections import deque

from earshot.protocol.packet import MessageType, Packet, decode_up, encode_codes_up
from earshot.protocol.sequence import SEQUENCE_MODULUS, wrap_difference

KEPT_US = 1_000_000
MOST_KEPT = 128
"""Messages at most; more than one a frame makes in a second."""
COARSE = 2
"""Codebooks of what is sent again."""
CODES_UP = bytes([MessageType.CODES_UP])


class RecentSpeech:
    """Keeps messages of codes for a second, as the sender made them."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=MOST_KEPT)

    def add(self, message: bytes, now_us: int) -> None:
        """Takes a message that is sent now, or would be if there were a connection."""
        if message[:1] == CODES_UP:
            self._kept.append((now_us, message))

    def since(self, sequence: int | None, now_us: int) -> list[bytes]:
        """Returns the messages of the last second that the server has not got, which expects this
        sequence (None: any), with the coarse codebooks only."""
        missed = []
        for at_us, message in self._kept:
            packet = decode_up(message)
            if now_us - at_us > KEPT_US or not isinstance(packet, Packet) or packet.scale is not None:
                continue
            if sequence is None or wrap_difference(packet.sequence, sequence, SEQUENCE_MODULUS) >= 0:
                missed.append(encode_codes_up(packet.cut(COARSE)))
        return missed

    def clear(self) -> None:
        """Forgets all, because the next connection begins anew."""
        self._kept.clear()
