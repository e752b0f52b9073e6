"""What a server has counted since it began, over all peers that are and were in its rooms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from earshot.server.core.room import Peer


def counts_of(peer: Peer) -> Counter[str]:
    """Returns what one peer sent and got: frames by what became of them, and bytes by direction and
    kind (`in_pcm`, `out_control`)."""
    sends = "windows" if peer.model is not None else peer.send
    return Counter(
        {
            "frames_received": peer.uplink.frames_received,
            "frames_discarded": peer.uplink.frames_discarded,
            "frames_sent": peer.queue.frames_sent,
            "frames_dropped": peer.queue.frames_dropped,
            "codebooks_cut": peer.queue.codebooks_cut,
            f"in_{sends}": peer.media_received,
            "in_control": peer.control_received,
            f"out_{peer.want}": peer.media_sent,
            "out_control": peer.control_sent,
        }
    )


class Totals:
    """Counts that never fall, though peers leave."""

    def __init__(self) -> None:
        self._gone: Counter[str] = Counter()

    def left(self, peer: Peer) -> None:
        """Keeps what a peer has counted that leaves now."""
        self._gone.update(counts_of(peer))

    def of_all(self, peers: Iterable[Peer]) -> Counter[str]:
        """Returns the counts of those who left and of those who are there, together."""
        total = self._gone.copy()
        for peer in peers:
            total.update(counts_of(peer))
        return total
