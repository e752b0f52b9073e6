"""Who is in a room by way of another node: the people of this room whose connections are not
here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from earshot.codec.config import ModelConfig
from earshot.protocol.descriptions import Digest, PeerInfo, Send, WindowModel
from earshot.server.core.recent_speech import RecentSpeech


class Speaker(Protocol):
    """Whoever speaks in a room, wherever the connection is."""

    @property
    def id(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def send(self) -> Send: ...
    @property
    def model(self) -> WindowModel | None: ...
    @property
    def muted(self) -> bool: ...
    @property
    def recent(self) -> RecentSpeech: ...


@dataclass
class Guest:
    """Somebody in a room whose connection another node has."""

    id: int
    """As it is called here."""
    node: str
    id_there: int
    name: str
    info: PeerInfo
    """As its node says."""
    also: frozenset[Digest]
    """Digests of models beside the room's whose windows it takes."""
    recent: RecentSpeech = field(default_factory=RecentSpeech)

    @property
    def send(self) -> Send:
        return self.info.send

    @property
    def model(self) -> WindowModel | None:
        return self.info.model

    @property
    def muted(self) -> bool:
        return self.info.muted

    def info_here(self) -> PeerInfo:
        """Describes it to those who are connected here."""
        return self.info.model_copy(update={"id": self.id, "name": self.name})

    def takes(self, speaker: Speaker, config: ModelConfig) -> int:
        """Returns the codebooks that it takes of a speaker; 0 for none."""
        if self.info.want == "none":
            return 0
        if speaker.model is None:
            return config.n_q_at_most(self.info.max_kbps)
        if self.info.want != "codes" or speaker.model.digest not in self.also:
            return 0
        return speaker.model.n_q_at_most(self.info.max_kbps)
