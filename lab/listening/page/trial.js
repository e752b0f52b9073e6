// One page of the test: the reference, the versions to rate, and the keys that work them.

import { memory } from "./api.js";

const REFERENCE = "reference";
const GRADES = ["Bad", "Poor", "Fair", "Good", "Excellent"];
const MIDDLE = 50; // where an untouched slider rests
const STEPS = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10, Home: -100, End: 100 };
const find = (id) => document.getElementById(id);

export class TrialPage {
  #player;
  #wave;
  #done;
  #trial = null;
  #items = [];
  #sending = false;

  // `done(token, scores)` is called with a whole trial and gives a promise.
  constructor(player, wave, done) {
    this.#player = player;
    this.#wave = wave;
    this.#done = done;
    find("reference").addEventListener("click", () => this.#press(REFERENCE));
    find("pause").addEventListener("click", () => this.#pause());
    find("next").addEventListener("click", () => this.#next());
    document.addEventListener("keydown", (event) => this.#key(event));
  }

  // The player has loaded "reference" and "0", "1", ... by now.
  show(trial, total) {
    this.#trial = trial;
    const kept = memory.read().trial;
    const state = kept?.token === trial.token ? kept : { played: [], scores: {} };
    find("trial-title").textContent = `Trial ${trial.number} of ${total}`;
    find("progress").max = total;
    find("progress").value = trial.number - 1;
    find("last-key").textContent = trial.conditions.length === 10 ? "0" : trial.conditions.length;
    find("next").textContent = trial.number === total ? "Finish" : "Next";
    this.#items = trial.conditions.map((token, index) => this.#item(token, index, state));
    find("conditions").replaceChildren(...this.#items.map((item) => item.row));
    this.#wave.show(this.#player.samples(REFERENCE));
    this.#update();
  }

  #item(token, index, state) {
    const name = `${index + 1}`;
    const row = document.createElement("li");
    const button = document.createElement("button");
    const slider = document.createElement("input");
    const output = document.createElement("output");
    button.type = "button";
    button.textContent = name;
    button.setAttribute("aria-label", `Play version ${name}`);
    Object.assign(slider, { type: "range", min: 0, max: 100, step: 1, value: state.scores[token] ?? MIDDLE });
    slider.setAttribute("aria-label", `Score of version ${name}`);
    const item = { token, row, button, slider, output, played: state.played.includes(token), rated: token in state.scores };
    button.addEventListener("click", () => {
      this.#press(`${index}`);
      slider.focus();
    });
    slider.addEventListener("input", () => this.#rated(item));
    slider.addEventListener("pointerup", () => this.#rated(item)); // a click where the slider is already
    row.append(button, slider, output);
    return item;
  }

  #rated(item) {
    if (!item.played) return;
    item.rated = true;
    this.#keep();
    this.#update();
  }

  // A button plays its version, and pauses the one that plays.
  #press(name) {
    if (this.#player.playing && this.#player.current === name) this.#pause();
    else this.#play(name);
  }

  #play(name) {
    this.#player.play(name).then(() => this.#update());
    if (name !== REFERENCE) this.#items[name].played = true;
    this.#keep();
    this.#update();
    if (name !== REFERENCE) this.#items[name].slider.focus();
  }

  #pause() {
    if (this.#player.playing) this.#player.pause();
    else this.#player.play(this.#player.current ?? REFERENCE).then(() => this.#update());
    this.#update();
  }

  #keep() {
    const played = this.#items.filter((item) => item.played).map((item) => item.token);
    memory.write({ trial: { token: this.#trial.token, played, scores: this.#scores() } });
  }

  #scores() {
    const rated = this.#items.filter((item) => item.rated);
    return Object.fromEntries(rated.map((item) => [item.token, Number(item.slider.value)]));
  }

  #missing() {
    const names = (wanted) => this.#items.flatMap((item, index) => (wanted(item) ? [index + 1] : [])).join(", ");
    const unheard = names((item) => !item.played);
    const unrated = names((item) => item.played && !item.rated);
    return [unheard && `Not heard yet: ${unheard}.`, unrated && `Not rated yet: ${unrated}.`].filter(Boolean).join(" ");
  }

  #update() {
    const { current, playing } = this.#player;
    const heard = playing ? current : null;
    find("reference").setAttribute("aria-pressed", heard === REFERENCE);
    find("pause").textContent = playing ? "Pause" : "Play";
    this.#items.forEach((item, index) => {
      const value = Number(item.slider.value);
      item.button.setAttribute("aria-pressed", heard === `${index}`);
      item.slider.disabled = !item.played;
      item.row.classList.toggle("current", heard === `${index}`);
      item.row.classList.toggle("rated", item.rated);
      item.output.textContent = item.rated ? value : "–";
      const grade = GRADES[Math.min(GRADES.length - 1, Math.floor(value / 20))];
      item.slider.setAttribute("aria-valuetext", item.rated ? `${value}, ${grade}` : "not rated");
    });
    const missing = this.#missing();
    if (find("missing").textContent !== missing) find("missing").textContent = missing;
    find("next").setAttribute("aria-disabled", Boolean(missing) || this.#sending);
  }

  async #next() {
    if (this.#sending || !this.#trial || this.#missing()) return;
    this.#sending = true;
    this.#player.pause();
    this.#update();
    try {
      await this.#done(this.#trial.token, this.#scores());
    } finally {
      this.#sending = false;
      this.#update();
    }
  }

  #key(event) {
    if (find("trial").hidden || event.ctrlKey || event.altKey || event.metaKey) return;
    const { key, target } = event;
    const button = target instanceof HTMLButtonElement;
    const loop = target.id === "loop-from" || target.id === "loop-to";
    if (/^[0-9]$/.test(key)) {
      const index = (Number(key) + 9) % 10;
      if (index < this.#items.length && !event.repeat) this.#play(`${index}`);
    } else if (key === "r" || key === "R") {
      if (!event.repeat) this.#play(REFERENCE);
    } else if (key === " " && !button) {
      if (!event.repeat) this.#pause();
    } else if (key === "Enter" && !button) {
      if (!event.repeat) this.#next();
    } else if (key in STEPS && !loop) {
      const item = this.#items.find(({ slider }) => slider === target) ?? this.#items[this.#player.current];
      if (!item) return;
      item.slider.value = Number(item.slider.value) + STEPS[key];
      this.#rated(item);
    } else {
      return;
    }
    event.preventDefault();
  }
}
