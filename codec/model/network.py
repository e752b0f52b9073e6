"""EnCodec as one torch module: encoder, quantizer, decoder, and their offline use."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import torch
from torch import Tensor, nn

from earshot.codec.config import ModelConfig
from earshot.codec.model.quantizer import ResidualVectorQuantizer
from earshot.codec.model.seanet import build_decoder, build_encoder


class Encodec(nn.Module):
    """The readable definition of the codec; every engine is checked against it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = build_encoder(config)
        self.quantizer = ResidualVectorQuantizer(config)
        self.decoder = build_decoder(config)

    @torch.inference_mode()
    def encode(self, pcm: Tensor, n_q: int) -> Tensor:
        """Encodes a whole signal, or one window of it, [B, channels, T] to codes [B, n_q, ceil(T /
        hop)]."""
        latents, _ = self.encoder.step(pcm, None, self.config.padding, last=True)
        return self.quantizer.encode(latents, n_q)

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Decodes codes [B, n_q, F] to a whole signal, or one window of it, [B, channels, F *
        hop]."""
        pcm, _ = self.decoder.step(self.quantizer.decode(codes), None, self.config.padding, last=True)
        return pcm

    def digest(self) -> str:
        """Identifies the codes of these weights: two peers with the same digest make and understand
        the same codes. The digest covers shape, encoder and codebooks, but not the decoder: one
        that was trained further still reads the same codes."""
        hasher = hashlib.sha256(json.dumps(self.config.coding(), sort_keys=True).encode())
        for key, tensor in sorted(self.state_dict().items()):
            if key.startswith("decoder."):
                continue
            hasher.update(key.encode())
            hasher.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        return hasher.hexdigest()[:16]


def without_postfilter(network: Encodec) -> Encodec:
    """Returns a network with the same weights and no postfilter: what is trained, and compared with
    networks of other makers."""
    if network.config.postfilter is None:
        return network
    plain = Encodec(replace(network.config, postfilter=None))
    plain.load_state_dict(network.state_dict())
    return plain.eval()
