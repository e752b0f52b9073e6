"""What a room does with packets for those who cannot decode them."""

from __future__ import annotations

import numpy as np

from codec.packet import MAX_FRAMES
from tests.peers import join, running_server, tiny_model, until


async def test_the_longest_packet_is_decoded_whole() -> None:
    with running_server(tiny_model()) as server:
        speaker = await join(server, "long", want="none")
        listener = await join(server, "long", send="none", want="pcm", model=None, max_kbps=1.5)
        codes = np.random.default_rng(5).integers(0, 1024, (2, MAX_FRAMES))
        await speaker.send_codes(codes)
        heard = listener.heard[speaker.id]
        await until(lambda: heard.frames >= MAX_FRAMES)
        expected = np.clip(server.model.decoder().push(codes), -1, 1)
        np.testing.assert_allclose(heard.pcm() / 32767, expected, atol=1e-4)
        assert server.get("/stats")["rooms"]["long"]["frames_not_decoded"] == 0
        for peer in (speaker, listener):
            await peer.leave()
