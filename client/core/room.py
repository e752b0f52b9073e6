"""What the server has told this client of the room that it is in."""

from __future__ import annotations

from earshot.protocol.messages import Draining, Moderated, PeerInfo, Recording, Stats, Welcome


class RoomView:
    """The room as this client knows it. It begins anew with every welcome."""

    def __init__(self) -> None:
        self.welcome: Welcome | None = None
        """The last welcome of the server."""
        self.peers: dict[int, PeerInfo] = {}
        """The others in the room."""
        self.recording = False
        """Whether the server records what is said."""
        self.recording_told: Recording | None = None
        """What the server last said about recording."""
        self.silenced_by: str | None = None
        """Who muted this client, so that it cannot unmute itself."""
        self.locked = False
        """Whether a moderator has locked the room."""
        self.server_stats: Stats | None = None
        self.draining: Draining | None = None
        """What the server said of its end, if that is near."""

    @property
    def notice(self) -> str:
        """What happens to the room that concerns this client, as a sentence."""
        if self.draining is not None:
            return f"this server ends within {self.draining.within_s} s"
        return self.moderation

    @property
    def moderation(self) -> str:
        """What a moderator did that concerns this client, as a sentence."""
        if self.silenced_by is not None:
            return f"{self.silenced_by} muted you, and you cannot unmute"
        return "this room is locked: nobody else comes in" if self.locked else ""

    def begin(self, welcome: Welcome) -> None:
        """Forgets what was told on an earlier connection. The peers of `welcome` are met one by
        one."""
        self.welcome, self.peers = welcome, {}
        self.recording, self.recording_told = welcome.recording, None
        self.silenced_by, self.locked, self.draining = None, welcome.locked, None

    def hear(self, told: Recording | Moderated | Draining | Stats) -> None:
        """Takes note of what the server told of the room."""
        match told:
            case Recording():
                self.recording, self.recording_told = told.on, told
            case Moderated():
                self._moderated(told)
            case Draining():
                self.draining = told
            case Stats():
                self.server_stats = told

    def _moderated(self, done: Moderated) -> None:
        """Takes note of what a moderator did to the room or to this client."""
        if done.action in ("lock", "unlock"):
            self.locked = done.action == "lock"
        elif self.welcome is not None and done.peer == self.welcome.peer:
            by = self.peers.get(done.by or 0)
            self.silenced_by = (by.name if by and by.name else "a moderator") if done.action == "mute" else None
