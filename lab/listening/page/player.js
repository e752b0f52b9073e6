// Plays several versions of one sound at once and lets one of them be heard, so that switching keeps the place to the
// sample: all sources start at the same moment of the audio clock and only their gains change.

const FADE_S = 0.006; // of a switch, and of both ends of the loop; shorter ones click
const AHEAD_S = 0.03; // sources are told to start so much later, all at once

export class Player {
  #context = new AudioContext();
  #volume = this.#context.createGain();
  #decoded = new Map();
  #voices = new Map();
  #began = null; // audio clock at which the loop would have begun from its start; null while nothing plays
  #held = 0; // place in the loop where it goes on, in seconds
  #from = 0;
  #to = 0;
  current = null;

  constructor() {
    this.#volume.connect(this.#context.destination);
  }

  set volume(percent) {
    this.#volume.gain.value = (percent / 100) ** 2; // loudness goes with the logarithm; a square is close enough
  }

  async load(sounds) {
    this.pause();
    this.current = null;
    const decoded = [...sounds].map(async ([name, bytes]) => [name, await this.#context.decodeAudioData(bytes)]);
    this.#decoded = new Map(await Promise.all(decoded));
    const [first] = this.#decoded.values();
    this.#from = this.#held = 0;
    this.#to = first.duration;
  }

  get duration() {
    return this.#decoded.values().next().value?.duration ?? 0;
  }

  samples(name) {
    return this.#decoded.get(name).getChannelData(0);
  }

  get playing() {
    return this.#began !== null;
  }

  // In seconds of the clip.
  get position() {
    return this.#from + this.#place();
  }

  #place() {
    if (!this.playing) return this.#held;
    const length = this.#to - this.#from;
    return Math.max(0, this.#context.currentTime - this.#began) % length;
  }

  async play(name) {
    this.current = name;
    if (this.#context.state !== "running") await this.#context.resume();
    if (this.playing) this.#fade();
    else if (this.current === name) this.#start();
  }

  pause() {
    if (!this.playing) return;
    this.#held = this.#place();
    this.#began = null;
    const now = this.#context.currentTime;
    for (const { source, gain } of this.#voices.values()) {
      ramp(gain.gain, 0, now);
      source.stop(now + FADE_S);
    }
    this.#voices.clear();
  }

  // Plays only this part from now on, in seconds.
  loop(from, to) {
    const place = this.position;
    const played = this.playing;
    this.pause();
    this.#from = from;
    this.#to = to;
    this.#held = place >= from && place < to ? place - from : 0;
    if (played) this.#start();
  }

  #start() {
    const when = this.#context.currentTime + AHEAD_S;
    for (const [name, buffer] of this.#decoded) {
      const source = new AudioBufferSourceNode(this.#context, { buffer: this.#part(buffer), loop: true });
      const gain = new GainNode(this.#context, { gain: name === this.current ? 1 : 0 });
      source.connect(gain).connect(this.#volume);
      source.start(when, this.#held);
      this.#voices.set(name, { source, gain });
    }
    this.#began = when - this.#held;
  }

  // The looped part of a sound, faded at both ends so that its jump back does not click.
  #part(buffer) {
    const rate = buffer.sampleRate;
    const start = Math.round(this.#from * rate);
    const length = Math.max(1, Math.min(Math.round(this.#to * rate), buffer.length) - start);
    const part = new AudioBuffer({ length, numberOfChannels: buffer.numberOfChannels, sampleRate: rate });
    const fade = Math.min(Math.round(FADE_S * rate), length >> 1);
    for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
      const samples = buffer.getChannelData(channel).slice(start, start + length);
      for (let i = 0; i < fade; i++) {
        samples[i] *= i / fade;
        samples[length - 1 - i] *= i / fade;
      }
      part.copyToChannel(samples, channel);
    }
    return part;
  }

  #fade() {
    const now = this.#context.currentTime;
    for (const [name, { gain }] of this.#voices) ramp(gain.gain, name === this.current ? 1 : 0, now);
  }
}

function ramp(parameter, target, now) {
  parameter.cancelScheduledValues(now);
  parameter.setValueAtTime(parameter.value, now);
  parameter.linearRampToValueAtTime(target, now + FADE_S);
}
