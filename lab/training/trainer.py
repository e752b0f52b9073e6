"""One training step: a pure function of the settings and the step it stands at, so that a break
changes nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from earshot.codec.model.network import Encodec
from earshot.codec.model.seanet import SEANet
from earshot.codec.model.windows import volume
from earshot.lab.training.balancer import Balancer
from earshot.lab.training.codebooks import CodebookLearner
from earshot.lab.training.data import TrainingData
from earshot.lab.training.discriminator import Discriminator, STFTDiscriminator
from earshot.lab.training.fast.build import bf16_pays, kernels
from earshot.lab.training.fast.judge import FastScale, judge_fits
from earshot.lab.training.fast.layers import FastSEANet, fits
from earshot.lab.training.initial import add_weight_norm, copy_weights, fold_weight_norm, initialise
from earshot.lab.training.losses import (
    BandLevelLoss,
    CompressedLoss,
    MelLoss,
    PowerMelLoss,
    discriminator_hinge,
    feature_matching,
    generator_hinge,
    l1,
    relative_l1,
)
from earshot.lab.training.ranks import Ranks
from earshot.lab.training.settings import TrainSettings

LATENTS_PER_ENTRY = 25
"""From so many the codebooks start: a batch has fewer latents than a codebook has entries."""
QUIETEST = 1e-3
"""Level up to which the discriminator hears examples at one volume: silence is not amplified to
noise."""


class Trainer:
    """Codec, discriminator and everything that moves while they learn. `init` is a model to start
    from instead of random weights; its codebooks are kept."""

    def __init__(
        self,
        settings: TrainSettings,
        data: TrainingData,
        init: Encodec | None = None,
        device: torch.device | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.settings, self.data = settings, data
        self.device, self.ranks = device or torch.device("cpu"), ranks or Ranks()
        torch.manual_seed(settings.seed)
        self.network = Encodec(replace(settings.model, postfilter=None))
        if init is None:
            initialise(self.network)
        else:
            copy_weights(self.network, init)
        add_weight_norm(self.network)
        self.network.to(self.device)
        self.learner = CodebookLearner(self.network.quantizer, ranks=self.ranks).to(self.device)
        if settings.decoder_only:
            self.network.encoder.requires_grad_(False)
            self.learner.eval()
        self.learned = [p for p in self.network.parameters() if p.requires_grad]
        self.quantizes = init is not None
        self.half = settings.precision == "bf16" and bf16_pays(self.device)
        """Whether convolutions and LSTM are in bfloat16."""
        self._fast = self._kernels()
        self.mel = MelLoss(settings.model.sample_rate, windows=settings.losses.mel_windows).to(self.device)
        self.spectra = self._spectra()
        self.balancer = Balancer(settings.losses.balancer_decay, mean_over_ranks=self.ranks.mean)
        shape = settings.discriminator
        self.discriminator = Discriminator(settings.model.channels, shape.filters, shape.windows).to(self.device)
        adam = settings.optimiser
        common: dict[str, Any] = {"betas": adam.betas, "weight_decay": adam.weight_decay, "fused": True}
        self._scales = self._fast_scales()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=adam.learning_rate, **common)
        self.critic = torch.optim.AdamW(self.discriminator.parameters(), lr=adam.discriminator_rate, **common)
        self.average = [tensor.detach().clone() for tensor in self._averaged()]
        self.step = 0
        self.seconds = 0.0

    def _kernels(self) -> dict[SEANet, FastSEANet]:
        """The networks that run on kernels of their own."""
        s, nets = self.settings, (self.network.encoder, self.network.decoder)
        plain = s.model.channels == 1 and s.model.padding == "zeros" and self.half
        if not (s.kernels and plain and self.device.type == "cpu" and all(map(fits, nets))):
            return {}
        made = kernels()
        return {net: FastSEANet(net, made) for net in nets} if made else {}

    def _fast_scales(self) -> list[FastScale]:
        """The discriminator's, where the codec's networks have kernels of their own and it fits
        too."""
        made = kernels() if self._fast else None
        if made is None or not judge_fits(self.discriminator):
            return []
        return [FastScale(cast(STFTDiscriminator, scale), made) for scale in self.discriminator.scales]

    def _spectra(self) -> nn.ModuleDict:
        """The losses of spectra beside the mel loss that weigh something."""
        rate, losses = self.settings.model.sample_rate, self.settings.losses
        found = nn.ModuleDict()
        if losses.power_mel:
            found["power_mel"] = PowerMelLoss(rate, windows=losses.power_mel_windows)
        if losses.compressed:
            found["compressed"] = CompressedLoss(rate, losses.compressed_windows, losses.phase, losses.phase_below)
        if losses.levels:
            found["levels"] = BandLevelLoss(rate)
        return found.to(self.device)

    # -- schedule -------------------------------------------------------------

    def decayed(self) -> float:
        """What the learning rates are multiplied by: a linear rise, one, a half cosine to zero at
        the end."""
        s = self.settings.schedule
        rise = min(1.0, (self.step + 1) / s.rise) if s.rise else 1.0
        left = max(0, s.steps - self.step) / min(s.decay, s.steps) if s.decay else 1.0
        return rise * (0.5 * (1 - math.cos(math.pi * left)) if left < 1 else 1.0)

    def loss_weights(self) -> dict[str, float]:
        """Without the quantizer almost the waveform alone; then a turn, geometric, to the weights
        of the recipe."""
        s, weights = self.settings.schedule, self.settings.losses
        begun = self.step - s.unquantized
        turned = min(1.0, max(0.0, begun / s.turn)) if s.turn else float(begun >= 0)
        shares = {"waveform": weights.waveform, "mel": weights.mel}
        shares |= {name: getattr(weights, name) for name in self.spectra}
        if turned < 1 and weights.waveform:
            first = 0.1 * weights.waveform
            shares |= {k: first * (share / first) ** turned for k, share in shares.items() if k != "waveform" and share}
        if self.adversarial:
            risen = (self.step - s.adversarial_from) / s.adversarial_rise if s.adversarial_rise else 1.0
            risen = min(1.0, risen)
            shares |= {"adversarial": risen * weights.adversarial, "features": risen * weights.features}
        return shares

    @property
    def adversarial(self) -> bool:
        weights = self.settings.losses
        return bool(weights.adversarial or weights.features) and self.step >= self.settings.schedule.adversarial_from

    # -- one step ------------------------------------------------------------

    def advance(self, batch: Tensor) -> dict[str, float]:
        """Learns from `batch` [B, C, T] and returns its losses."""
        s = self.settings
        torch.manual_seed(s.seed * 1_000_003 + self.step)
        if not self.quantizes and self.step >= s.schedule.unquantized:
            self._start_codebooks()
        spoken = self._prepared(batch)
        with torch.set_grad_enabled(not s.decoder_only):
            latents = self._run(self.network.encoder, spoken)
        n_q, update = self._bandwidth(), float(torch.rand(())) < s.discriminator.update_probability
        commitment = latents.new_zeros(())
        codes: Tensor | None = None
        if self.quantizes:
            latents, commitment, codes = self.learner(latents, n_q)
        heard = self._run(self.network.decoder, latents)
        waveform = relative_l1 if s.losses.relative_waveform else l1
        losses = {"waveform": waveform(heard, spoken), "mel": self.mel(heard, spoken)}
        losses |= {name: loss(heard, spoken) for name, loss in self.spectra.items()}
        critic: Tensor | None = None
        if self.adversarial:
            critic = self._judge(spoken, heard, losses, learn=update)
        gradient = self.balancer.gradient(losses, self.loss_weights(), heard)
        if critic is not None:
            self._teach_critic(critic)
        norm = self._teach_codec(heard, gradient, s.losses.commitment * commitment)
        self.step += 1
        used = [len(c.unique()) for c in codes[[0, -1]]] if codes is not None else [0, 0]
        values = {name: float(loss.detach()) for name, loss in losses.items()}
        if critic is not None:
            values["critic"] = float(critic.detach())
        return values | {
            "commitment": float(commitment.detach()),
            "norm": norm,
            "used_first": used[0],
            "used_last": used[1],
        }

    def _judge(self, spoken: Tensor, heard: Tensor, losses: dict[str, Tensor], learn: bool) -> Tensor | None:
        """Adds the discriminator's losses for the codec; returns its own if it is to learn. One
        pass serves both."""
        if self.settings.discriminator.at_one_volume:
            level = volume(spoken).clamp(min=QUIETEST)
            spoken, heard = spoken / level, heard / level
        chosen = self._chosen_scales()
        if self._scales:
            each = [self._scales[i](spoken, heard, learn) for i in chosen]
            adversarial, features, critic = (torch.stack(values).mean() for values in zip(*each, strict=True))
            losses |= {"adversarial": adversarial, "features": features}
            return critic if learn else None
        with self._precision(), torch.set_grad_enabled(learn):
            real_logits, real = self.discriminator(spoken, chosen)
        with self._precision():
            fake_logits, fake = self.discriminator(heard, chosen)
        losses["adversarial"] = generator_hinge(fake_logits)
        losses["features"] = feature_matching(real, fake)
        return discriminator_hinge(real_logits, fake_logits) if learn else None

    def _chosen_scales(self) -> list[int]:
        """The scales of the discriminator that judge in this step."""
        shape = self.settings.discriminator
        if not shape.at_a_time:
            return list(range(len(shape.windows)))
        return torch.randperm(len(shape.windows))[: shape.at_a_time].tolist()

    def _teach_critic(self, loss: Tensor) -> None:
        parameters = list(self.discriminator.parameters())
        self.critic.zero_grad()
        torch.autograd.backward(loss, inputs=parameters)
        parameters = [p for p in parameters if p.grad is not None]
        self.ranks.mean_gradients(parameters)
        if torch.isfinite(nn.utils.clip_grad_norm_(parameters, math.inf)):  # one bad step would spoil it for good
            self._move(self.critic, self.settings.optimiser.discriminator_rate)

    def _teach_codec(self, heard: Tensor, gradient: Tensor, commitment: Tensor) -> float:
        self.optimizer.zero_grad()
        tensors: list[Tensor] = [heard]
        gradients: list[Tensor | None] = [gradient]
        if commitment.requires_grad:
            tensors.append(commitment)
            gradients.append(None)
        torch.autograd.backward(tensors, gradients, inputs=self.learned)
        self.ranks.mean_gradients(self.learned)
        most = self.settings.optimiser.clip_gradient or math.inf
        norm = nn.utils.clip_grad_norm_(self.learned, most)
        if torch.isfinite(norm):
            self._move(self.optimizer, self.settings.optimiser.learning_rate)
        self._follow()
        return float(norm)

    def _move(self, optimizer: torch.optim.Optimizer, rate: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = rate * self.decayed()
        optimizer.step()

    def _averaged(self) -> Iterator[Tensor]:
        """What of the network moves: parameters and codebooks."""
        yield from self.network.parameters()
        yield self.network.quantizer.codebooks

    @torch.no_grad()
    def _follow(self) -> None:
        decay = self.settings.optimiser.average
        if not decay:
            return
        decay = min(decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.average, list(self._averaged()), 1 - decay)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)

    def _run(self, net: SEANet, x: Tensor) -> Tensor:
        if net in self._fast:
            return self._fast[net](x)
        with self._precision():
            y, _ = net.step(x, None, self.settings.model.padding, last=True)
        return y.float()

    def _prepared(self, batch: Tensor) -> Tensor:
        spoken = batch.to(self.device, non_blocking=True)
        return spoken / volume(spoken) if self.settings.model.normalize else spoken

    def _bandwidth(self) -> int:
        """A random one of the model's bandwidths, as a number of codebooks (paper, section 3.2)."""
        choices, odds = self.settings.model.bandwidths, self.settings.bandwidth_odds
        drawn = torch.randint(len(choices), ()) if odds is None else torch.multinomial(torch.tensor(odds), 1)
        return self.settings.model.n_q(choices[int(drawn)])

    @torch.no_grad()
    def _start_codebooks(self) -> None:
        wanted, collected, extra = LATENTS_PER_ENTRY * self.settings.model.codebook_size, 0, 1
        parts = []
        while collected < wanted:
            batch = self.data.batch(self.settings.batch, self.settings.seed, self.settings.schedule.steps + extra)
            latents = self._run(self.network.encoder, self._prepared(torch.from_numpy(batch)))
            parts.append(latents.transpose(1, 2).reshape(-1, latents.shape[1]))
            collected, extra = collected + parts[-1].shape[0], extra + 1
        self.learner.start(torch.cat(parts))
        self.quantizes = True

    # -- state ---------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that moves, for a checkpoint."""
        return {
            "network": self.network.state_dict(),
            "learner": self.learner.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "critic": self.critic.state_dict(),
            "balancer": self.balancer.state(),
            "average": self.average,
            "quantizes": self.quantizes,
            "step": self.step,
            "seconds": self.seconds,
            "config": self.settings.model.to_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from `state`. Raises KeyError, RuntimeError or ValueError if something is missing
        or misshapen."""
        self.network.load_state_dict(state["network"])
        self.learner.load_state_dict(state["learner"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._keep_recipe(self.optimizer)
        self.load_critic(state)
        for mean, saved in zip(self.average, state["average"], strict=True):
            mean.copy_(saved)
        if self.settings.decoder_only:
            self._stand_still()
        self.quantizes = bool(state["quantizes"])
        self.step, self.seconds = int(state["step"]), float(state["seconds"])

    def load_critic(self, state: dict[str, Any]) -> None:
        """Takes the discriminator from `state`, and how its losses are weighed. Raises as `load`
        does."""
        self.discriminator.load_state_dict(state["discriminator"])
        self.critic.load_state_dict(state["critic"])
        self._keep_recipe(self.critic)
        self.balancer.load(state["balancer"])

    def _keep_recipe(self, optimizer: torch.optim.Optimizer) -> None:
        """An optimiser's state holds these too, but the recipe counts."""
        adam = self.settings.optimiser
        for group in optimizer.param_groups:
            group.update(betas=adam.betas, weight_decay=adam.weight_decay)

    @torch.no_grad()
    def _stand_still(self) -> None:
        """Brings encoder and codebooks to their running means, which is what listeners have."""
        learned = {id(parameter) for parameter in self.learned}
        for tensor, mean in zip(self._averaged(), self.average, strict=True):
            if id(tensor) not in learned and self.settings.optimiser.average:
                tensor.copy_(mean)

    @torch.no_grad()
    def exported(self) -> Encodec:
        """The codec as it is now, of averaged weights if the recipe averages; weight norm folded,
        on the CPU."""
        plain = Encodec(self.settings.model)  # with its postfilter, which is not trained through
        add_weight_norm(plain)
        plain.load_state_dict({key: tensor.cpu() for key, tensor in self.network.state_dict().items()})
        if self.settings.optimiser.average:
            for tensor, mean in zip([*plain.parameters(), plain.quantizer.codebooks], self.average, strict=True):
                tensor.copy_(mean)
        fold_weight_norm(plain)
        return plain.eval()
