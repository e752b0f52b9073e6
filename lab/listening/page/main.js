// From the first page to the last: joining, volume, trials, thanks.

import * as api from "./api.js";
import { Player } from "./player.js";
import { TrialPage } from "./trial.js";
import { Wave } from "./wave.js";

const find = (id) => document.getElementById(id);
const PAGES = ["start", "volume", "trial", "thanks"];
const player = new Player();
const page = new TrialPage(player, new Wave(player), async (token, scores) => {
  await attempt(async () => {
    try {
      await api.rate(token, scores);
    } catch (error) {
      if (error.fault !== "not_this_trial") throw error; // rated already, in another window
    }
    await goOn();
  });
});
let retry = null;

function show(id) {
  for (const each of PAGES) find(each).hidden = each !== id;
  find(id).querySelector("h1").focus();
  window.scrollTo(0, 0);
}

function busy(text) {
  find("busy").textContent = text;
  find("busy").hidden = !text;
}

// Runs a step; what goes wrong is shown, with a button to try it again.
async function attempt(step) {
  find("problem").hidden = true;
  try {
    await step();
  } catch (error) {
    if (error.fault === "unknown_rater") {
      api.leave();
      show("start");
    }
    find("problem-text").textContent = error.message;
    retry = error instanceof api.Refused && (error.fault === "unreachable" || error.fault === "not_saved") ? step : goOn;
    find("retry").hidden = !find("start").hidden;
    find("problem").hidden = false;
    find("problem").scrollIntoView({ block: "nearest" });
  } finally {
    busy("");
  }
}

async function load(sounds) {
  let count = 0;
  const fetched = sounds.map(async ([name, token]) => {
    const bytes = await api.sound(token);
    busy(`Loading sounds: ${++count} of ${sounds.length}`);
    return [name, bytes];
  });
  await player.load(new Map(await Promise.all(fetched)));
}

// Shows whatever this rater has to do next.
async function goOn() {
  if (!api.known()) return show("start");
  const { name, total, trial } = await api.trial();
  if (!trial) {
    player.pause();
    find("thanks-text").textContent = `All ${total} trials are rated and saved, ${name}. You can close this page.`;
    return show("thanks");
  }
  const { ready, volume } = api.memory.read();
  level(volume ?? 70);
  await load([["reference", trial.reference], ...trial.conditions.map((token, index) => [`${index}`, token])]);
  page.show(trial, total);
  return show(ready ? "trial" : "volume");
}

function level(percent) {
  find("level").value = percent;
  find("level-value").textContent = `${percent} %`;
  player.volume = percent;
  api.memory.write({ volume: Number(percent) });
}

async function hear() {
  if (player.playing) player.pause();
  else await player.play("reference");
  find("volume-play").textContent = player.playing ? "Pause" : "Play";
}

function volumeDone() {
  player.pause();
  player.current = null;
  find("volume-play").textContent = "Play";
  api.memory.write({ ready: true });
  show("trial");
}

find("join").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => {
    await api.join(find("name").value);
    await goOn();
  });
});
find("level").addEventListener("input", () => level(find("level").value));
find("volume-play").addEventListener("click", hear);
find("volume-done").addEventListener("click", volumeDone);
find("again").addEventListener("click", () => {
  api.leave();
  find("name").value = "";
  show("start");
});
find("retry").addEventListener("click", () => attempt(retry ?? goOn));
document.addEventListener("keydown", (event) => {
  const button = event.target instanceof HTMLButtonElement;
  if (find("volume").hidden || button || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  const turn = { ArrowUp: 5, ArrowRight: 5, ArrowDown: -5, ArrowLeft: -5 }[event.key];
  if (turn) level(Math.min(100, Math.max(0, Number(find("level").value) + turn)));
  else if (event.key === " ") hear();
  else if (event.key === "Enter") volumeDone();
  else return;
  event.preventDefault();
});

attempt(goOn);
