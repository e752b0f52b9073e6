"""What the sessions of frames (streaming.py) and of windows (window_streams.py) have in common: an
end, a state that can be saved and, for encoders, a rate."""

from __future__ import annotations

import logging

from torch import Tensor

from earshot.codec.errors import UsageError
from earshot.codec.model.network import Encodec
from earshot.codec.model.saved_state import pack_tensors, unpack_tensors
from earshot.codec.pcm import Pcm, sanitize

log = logging.getLogger(__name__)


class Session:
    """One direction of one stream, with all of its state."""

    kind: str
    """Which session this is; a saved state holds it."""

    def __init__(self, network: Encodec) -> None:
        self._network = network
        self._ended = False

    def save(self) -> bytes:
        """Returns the whole state, as the bytes of a safetensors file."""
        return pack_tensors(self._owner(), self._network.config, self._ended, self._state_tensors())

    def restore(self, data: bytes) -> None:
        """Continues from a state that `save` of a session of the same kind and model returned.
        Raises UsageError, and changes nothing, for anything else."""
        ended, tensors = unpack_tensors(self._owner(), self._network.config, data)
        if not self._take_tensors(tensors):
            raise UsageError("this saved session state is damaged: its tensors have other shapes")
        self._ended = ended

    def _owner(self) -> tuple[str, ...]:
        """Returns what must be the same in the session that restores a state."""
        return (self.kind,)

    def _state_tensors(self) -> dict[str, Tensor]:
        """Returns the state by name, without `_ended`."""
        raise NotImplementedError

    def _take_tensors(self, tensors: dict[str, Tensor]) -> bool:
        """Restores what `_state_tensors` returned. Returns False, and changes nothing, if the
        tensors do not fit."""
        raise NotImplementedError

    def _check_open(self) -> None:
        if self._ended:
            raise UsageError("this stream has been flushed; call reset() to begin another")


class Encoding:
    """What encoder sessions have in common: a rate, and samples that are checked."""

    _network: Encodec
    _n_q: int
    replaced_samples: int
    """Samples so far that were not finite or impossibly loud."""

    @property
    def kbps(self) -> float:
        """Codec rate of what will be coded next: one of the model's `bandwidths`. It may be set
        between two pushes."""
        return self._kbps

    @kbps.setter
    def kbps(self, kbps: float) -> None:
        self._n_q = self._network.config.n_q(kbps)
        self._kbps = kbps

    def _sanitized(self, pcm: Pcm) -> Pcm:
        clean, replaced = sanitize(pcm)
        if replaced:
            self.replaced_samples += replaced
            log.warning("replaced %d samples that were not finite or impossibly loud", replaced)
        return clean
