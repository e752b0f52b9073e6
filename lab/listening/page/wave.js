// The waveform of the reference, where the sound is in it, and the two handles of the loop.

const SHORTEST_S = 0.5;
const STEPS = 1000; // of the handles, as in index.html
const EDGE = 7; // half a handle, in pixels: the ends of the clip lie under the middle of the handles

export class Wave {
  #canvas = document.querySelector("#wave-picture");
  #from = document.querySelector("#loop-from");
  #to = document.querySelector("#loop-to");
  #text = document.querySelector("#loop-text");
  #all = document.querySelector("#loop-all");
  #peaks = [];
  #samples = new Float32Array(0);
  #player;

  constructor(player) {
    this.#player = player;
    this.#from.addEventListener("input", () => this.#moved(this.#from));
    this.#to.addEventListener("input", () => this.#moved(this.#to));
    this.#all.addEventListener("click", () => {
      this.#from.value = 0;
      this.#to.value = STEPS;
      this.#moved(this.#to);
    });
    new ResizeObserver(() => this.#measure()).observe(this.#canvas);
    const draw = () => {
      if (this.#canvas.offsetParent) this.#draw();
      requestAnimationFrame(draw);
    };
    requestAnimationFrame(draw);
  }

  show(samples) {
    this.#samples = samples;
    this.#from.value = 0;
    this.#to.value = STEPS;
    this.#describe();
    this.#measure();
  }

  #moved(handle) {
    const shortest = Math.min(STEPS, Math.ceil((SHORTEST_S / this.#player.duration) * STEPS));
    if (handle === this.#from) handle.value = Math.min(handle.value, this.#to.value - shortest);
    else handle.value = Math.max(handle.value, Number(this.#from.value) + shortest);
    this.#player.loop(...this.#range());
    this.#describe();
  }

  #range() {
    const { duration } = this.#player;
    return [(this.#from.value / STEPS) * duration, (this.#to.value / STEPS) * duration];
  }

  #describe() {
    const [from, to] = this.#range();
    this.#text.textContent = `loop ${from.toFixed(1)} to ${to.toFixed(1)} s`;
    this.#from.setAttribute("aria-valuetext", `${from.toFixed(1)} seconds`);
    this.#to.setAttribute("aria-valuetext", `${to.toFixed(1)} seconds`);
    this.#all.hidden = this.#from.value === "0" && this.#to.value === String(STEPS);
  }

  #measure() {
    const { clientWidth, clientHeight } = this.#canvas;
    const scale = window.devicePixelRatio || 1;
    this.#canvas.width = clientWidth * scale;
    this.#canvas.height = clientHeight * scale;
    const columns = Math.max(1, clientWidth - 2 * EDGE);
    this.#peaks = Array.from({ length: columns }, (_, column) => {
      const begin = Math.floor((column * this.#samples.length) / columns);
      const end = Math.floor(((column + 1) * this.#samples.length) / columns);
      let peak = 0;
      for (let i = begin; i < end; i++) peak = Math.max(peak, Math.abs(this.#samples[i]));
      return peak;
    });
  }

  #draw() {
    const context = this.#canvas.getContext("2d");
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const scale = this.#canvas.width / width;
    const style = getComputedStyle(this.#canvas);
    const [wave, accent] = ["--wave", "--accent"].map((name) => style.getPropertyValue(name));
    const loudest = Math.max(...this.#peaks, 0.01);
    const x = (seconds) => EDGE + (seconds / this.#player.duration) * (width - 2 * EDGE);
    const [from, to] = this.#range().map(x);
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    this.#peaks.forEach((peak, column) => {
      const half = Math.max(0.5, (peak / loudest) * (height / 2 - 6));
      const left = EDGE + column;
      context.globalAlpha = left >= from && left <= to ? 1 : 0.3;
      context.fillStyle = wave;
      context.fillRect(left, height / 2 - half, 1, 2 * half);
    });
    context.globalAlpha = 1;
    if (this.#player.duration) {
      context.fillStyle = accent;
      context.fillRect(x(this.#player.position) - 1, 0, 2, height);
    }
  }
}
