/** The page: joins what is drawn (ui/), the sound (audio/) and the call's Worker (call/). */
import { Sound, canChooseSpeaker, giveBack, listDevices, openMicrophone } from "./audio/sound.js";
import { SILENCE_DBFS } from "./core/level.js";
import { claims, isRoom, parseLink, roomUrl, shareLink } from "./core/link.js";
import { any, button, byId, input, make, say, show } from "./ui/dom.js";
import { showFigures } from "./ui/figures.js";
import { listenToKeys } from "./ui/keys.js";
import { LatencyPicture } from "./ui/latency_picture.js";
import { People } from "./ui/people.js";
import { keepSettings, readSettings } from "./ui/settings.js";
import { againWords, faultWords, microphoneWords, oldBrowserWords } from "./ui/words.js";

const BASE = new URL("./", document.baseURI).href, FILES = new URL("./", import.meta.url).href;
const RATES = [1.5, 3, 6, 12];

const chosen = readSettings(), link = parseLink(location.href), told = link.token ? claims(link.token) : null;
const people = new People((peer, volume) => {
    chosen.volumes[peer.name] = volume;
    keepSettings(chosen);
    worker?.postMessage({ does: "volume", peer: peer.id, volume });
}, (name) => chosen.volumes[name] ?? 1, (peer, action) => worker?.postMessage({ does: "moderate", action, peer: peer.id }));
const picture = new LatencyPicture();

/** @type {Worker | null} */ let worker = null;
/** @type {Sound | null} */ let sound = null;
/** @type {any} what the Worker last said of the room */ let room = null;
let muted = false, talking = false, speaks = true, asking = false, messages = 0;
/** @type {ReturnType<typeof setInterval> | undefined} */ let watching;

/** Shows one of the page's states. @param {"join" | "loading" | "call"} which */
function stage(which) {
    for (const name of ["join", "loading", "call"]) any(name).hidden = name !== which;
    any("bar").hidden = which !== "call";
    for (const name of ["where", "state"]) any(name).hidden = which !== "call";
    if (which !== "call") any("recording").hidden = true;
}

/** @param {import("./ui/words.js").Words | null} words */
function problem(words) {
    any("problem").hidden = !words;
    if (!words) return;
    show(any("problem-text"), words.text);
    show(any("problem-help"), words.help);
    button("problem-listen").hidden = !words.mayListen;
    button("problem-again").hidden = !words.mayTryAgain;
    any("problem-row").hidden = !words.mayListen && !words.mayTryAgain;
}

/** @param {string} text @param {"good" | "warn"} kind */
function state(text, kind) {
    show(any("state"), text);
    any("state").className = `pill ${kind}`;
}

// Joining and leaving

/** @param {boolean} withMicrophone */
async function join(withMicrophone) {
    const name = (told?.name || input("name").value.trim()), where = input("room").value.trim();
    if (!isRoom(where)) return void input("room").reportValidity();
    Object.assign(chosen, { name });
    keepSettings(chosen);
    problem(null);
    speaks = withMicrophone && told?.speak !== false;
    asking = speaks;
    stage("loading");
    show(any("loading-what"), asking ? "Asking for the microphone" : "Getting ready");
    show(any("loading-detail"), "");
    byId("progress", HTMLProgressElement).removeAttribute("value");
    const mine = loadCodec();
    try {
        const stream = speaks ? await openMicrophone(chosen) : null;
        if (worker !== mine) return giveBack(stream); // the codec failed meanwhile, and the page has said so
        asking = false;
        show(any("loading-what"), "Getting ready");
        const opened = await Sound.open(stream, FILES);
        if (chosen.speaker) await opened.choose(chosen.speaker).catch(() => {});
        if (worker !== mine) return void opened.close();
        sound = opened;
        sound.onlost = microphoneLost;
    } catch (error) {
        if (worker !== mine) return;
        const failure = error instanceof DOMException ? error.name : "unknown";
        await leave();
        return problem(microphoneWords(failure, location.host));
    }
    begin(mine, sound, where, name);
}

/** Starts the call's Worker, which loads the codec while the browser asks for the microphone. */
function loadCodec() {
    const mine = new Worker(new URL("call/worker.js", FILES), { type: "module", name: "call" });
    worker = mine;
    mine.onmessage = ({ data }) => { if (worker === mine) hear(data); };
    mine.onerror = () => { if (worker === mine) hear({ kind: "fault", fault: "broken", message: "The part of this page that codes the sound did not start", code: null }); };
    mine.postMessage({ does: "load", base: BASE, token: link.token, serverCodec: new URLSearchParams(location.search).get("codec") === "server" });
    return mine;
}

/** @param {Worker} mine @param {Sound} opened @param {string} where @param {string} name */
function begin(mine, opened, where, name) {
    const { capture, playback } = opened.ports();
    muted = chosen.ptt;
    const start = { does: "start", url: roomUrl(BASE, where), token: link.token, name, kbps: chosen.kbps, muted: muted && speaks,
        latency: chosen.latency, quiet: chosen.quiet, playback, ...(speaks ? { capture } : {}) };
    mine.postMessage(start, speaks ? [playback, capture] : [playback]);
    show(any("room-name"), where);
    document.title = `${where} · Earshot`;
    const address = new URL(location.href);
    if (!link.token && address.searchParams.get("room") === null && address.hash !== `#${where}`) history.replaceState(null, "", `#${where}`);
    watching = setInterval(watch, 500);
    watch();
}

/** Ends the call and shows the form again. */
async function leave() {
    clearInterval(watching);
    worker?.terminate();
    worker = room = null;
    const last = sound;
    sound = null;
    await last?.close().catch(() => {});
    people.clear();
    picture.clear();
    document.title = "Earshot";
    stage("join");
}

/** Tells the Worker what the devices add, and sees whether the browser plays. */
function watch() {
    if (!sound || !worker) return;
    worker.postMessage({ does: "latencies", ...sound.latencies() });
    if (sound.paused && room) {
        state("The browser has paused the sound: click here to go on", "warn");
        sound.resume();
    } else if (any("state").textContent?.startsWith("The browser has paused")) state("connected", "good");
}

/** Opens a microphone for the call, and gives it back if that has ended meanwhile. @param {import("./audio/sound.js").Choice} choice */
async function useMicrophone(choice) {
    const mine = sound, stream = await openMicrophone(choice);
    if (mine && sound === mine) mine.use(stream);
    else giveBack(stream);
}

async function microphoneLost() {
    try {
        await useMicrophone({ ...chosen, microphone: "" });
        say("The microphone is gone; another one is used now.");
        problem(null);
    } catch {
        problem({ text: "The microphone is gone.", help: "Plug it in again or choose another. Until then you only listen.", mayListen: false, mayTryAgain: false });
    }
    await fillDevices();
}

// What the Worker says

/** @param {any} event */
function hear(event) {
    switch (event.kind) {
        case "progress":
            if (!asking) show(any("loading-what"), "Getting ready");
            show(any("loading-detail"), `The codec: ${(event.done / 1e6).toFixed(1)} of ${(event.total / 1e6).toFixed(1)} MB, once; the browser keeps it.`);
            byId("progress", HTMLProgressElement).value = event.done / event.total;
            break;
        case "loaded":
            performance.mark("codec-loaded", { detail: event });
            break;
        case "state": return stateChanged(event);
        case "room": return roomChanged(event);
        case "figures":
            messages++;
            showFigures(event);
            people.figures(event.speakers, event.level_dbfs, speaks && muted && !talking, ownNote(event));
            picture.add(event.speakers.some((/** @type {any} */ one) => one.level_dbfs > -90) ? event.latency : null);
            break;
        case "fault":
            leave();
            problem(faultWords(event.fault, event.message, event.code));
            say(event.message);
            break;
        case "left":
            leave();
            break;
        default:
    }
}

/** @param {any} event */
function ownNote({ up }) {
    if (!speaks) return "you only listen";
    if (room?.silencedBy) return `${room.silencedBy} muted you`;
    if (muted && !talking) return chosen.ptt ? "hold space to talk" : "muted";
    if (!up.codecKbps) return chosen.quiet ? "silent" : "";
    return `${up.codecKbps.toFixed(1).replace(/\.0$/, "")} kbps${up.slow ? " · the line is slow" : ""}`;
}

/** @param {any} event */
function stateChanged({ state: now, detail, rates, codec }) {
    if (now === "connected") {
        problem(null);
        state("connected", "good");
    } else if (now === "reconnecting") {
        state("trying again", "warn");
        problem(againWords(detail));
        people.figures([], SILENCE_DBFS, false, "");
        room = null;
    } else if (detail) problem(againWords(detail));
    if (rates) {
        performance.mark("codec-ready");
        drawRates(rates);
        show(any("codec-where"), codec === "page" ? "This page codes and decodes by itself." : "The server codes for this browser, which takes more of the line.");
        any("rates").hidden = codec !== "page";
    }
}

/** @param {any} event */
function roomChanged(event) {
    const first = !room && !event.resumed;
    room = event;
    if (first) people.clear(); // ids may be those of others now
    if (any("call").hidden) {
        stage("call");
        performance.mark("joined");
        fillDevices();
        button("mute").focus({ preventScroll: true });
    }
    const news = people.set(told?.name || chosen.name, event.peers, event.may?.includes("moderate") ?? false);
    any("recording").hidden = !event.recording;
    any("recorder").hidden = !event.may?.includes("record");
    show(button("record"), event.recording ? "Stop recording" : "Record this room");
    show(any("record-said"), event.recordingReason);
    any("locker").hidden = !event.may?.includes("moderate");
    input("lock").checked = event.locked;
    if (event.endsWithin_s !== null) state("the server restarts soon", "warn");
    if (event.silencedBy) muted = true;
    drawMute();
    say([first ? `You are in the room ${event.room}.` : "", news].filter(Boolean).join(" "));
}

// What the person does

function drawMute() {
    const silent = muted && !talking, which = button("mute");
    which.hidden = !speaks;
    any("ptt").closest("label")?.toggleAttribute("hidden", !speaks);
    which.disabled = Boolean(room?.silencedBy);
    which.setAttribute("aria-pressed", String(silent));
    show(any("mute-text"), chosen.ptt ? (talking ? "Talking" : "Hold to talk") : silent ? "Unmute" : "Mute");
}

/** @param {boolean} silent */
function setMuted(silent) {
    worker?.postMessage({ does: "mute", muted: silent });
    drawMute();
}

/** @param {number[]} bandwidths of the model */
function drawRates(bandwidths) {
    const rates = RATES.filter((rate) => bandwidths.includes(rate)), group = any("rates");
    if (!rates.includes(chosen.kbps)) chosen.kbps = rates.at(-1) ?? bandwidths[0];
    group.replaceChildren(make("legend", "", "Rate, kbps"), ...(rates.length ? rates : bandwidths).map((rate) => {
        const label = make("label", "", String(rate)), radio = make("input");
        Object.assign(radio, { type: "radio", name: "rate", value: String(rate), checked: rate === chosen.kbps });
        radio.onchange = () => {
            chosen.kbps = rate;
            keepSettings(chosen);
            worker?.postMessage({ does: "rate", kbps: rate });
        };
        label.append(radio);
        return label;
    }));
}

async function fillDevices() {
    for (const [id, kind] of /** @type {const} */ ([["microphone", "audioinput"], ["speaker", "audiooutput"]])) {
        const select = byId(id, HTMLSelectElement), devices = await listDevices(kind);
        select.replaceChildren(new Option("The system's own", ""), ...devices.map(({ label, deviceId }) => new Option(label, deviceId)));
        select.value = devices.some(({ deviceId }) => deviceId === chosen[id]) ? chosen[id] : "";
    }
    any("speaker-label").hidden = !canChooseSpeaker();
    byId("microphone", HTMLSelectElement).disabled = !speaks;
}

async function changeMicrophone() {
    keepSettings(chosen);
    if (!sound || !speaks) return;
    try {
        await useMicrophone(chosen);
        problem(null);
    } catch (error) {
        problem(microphoneWords(error instanceof DOMException ? error.name : "unknown", location.host));
    }
}

function listen() {
    byId("join", HTMLFormElement).onsubmit = (event) => {
        event.preventDefault();
        join(true);
    };
    button("listen").onclick = () => join(false);
    button("problem-listen").onclick = () => join(false);
    button("problem-again").onclick = () => join(speaks);
    button("leave").onclick = () => {
        const mine = worker;
        mine?.postMessage({ does: "leave" });
        problem(null);
        setTimeout(() => { if (mine && worker === mine) leave(); }, 300);
    };
    button("record").onclick = () => worker?.postMessage({ does: "record", on: !room?.recording });
    input("lock").onchange = () => worker?.postMessage({ does: "moderate", action: input("lock").checked ? "lock" : "unlock", peer: null });
    any("state").onclick = () => sound?.resume();
    button("copy").onclick = async () => {
        const address = link.token ? location.href : shareLink(BASE, any("room-name").textContent ?? "");
        await navigator.clipboard?.writeText(address).then(() => say("The link is copied."), () => prompt("The link to this room:", address));
    };
    for (const name of /** @type {const} */ (["echo", "noise", "gain"])) {
        input(name).checked = chosen[name];
        input(name).onchange = () => {
            chosen[name] = input(name).checked;
            changeMicrophone();
        };
    }
    input("quiet").checked = chosen.quiet;
    input("quiet").onchange = () => {
        chosen.quiet = input("quiet").checked;
        keepSettings(chosen);
        worker?.postMessage({ does: "quiet", quiet: chosen.quiet });
    };
    const latency = byId("latency", HTMLSelectElement);
    latency.value = chosen.latency;
    latency.onchange = () => {
        chosen.latency = /** @type {import("./call/connection.js").Latency} */ (latency.value);
        keepSettings(chosen);
        worker?.postMessage({ does: "latency", latency: chosen.latency });
    };
    input("ptt").checked = chosen.ptt;
    input("ptt").onchange = () => {
        chosen.ptt = input("ptt").checked;
        keepSettings(chosen);
        setMuted(muted = chosen.ptt);
    };
    byId("microphone", HTMLSelectElement).onchange = ({ target }) => {
        chosen.microphone = /** @type {HTMLSelectElement} */ (target).value;
        changeMicrophone();
    };
    byId("speaker", HTMLSelectElement).onchange = ({ target }) => {
        chosen.speaker = /** @type {HTMLSelectElement} */ (target).value;
        keepSettings(chosen);
        sound?.choose(chosen.speaker).catch(() => say("The loudspeaker cannot be opened."));
    };
    navigator.mediaDevices?.addEventListener?.("devicechange", () => { if (worker) fillDevices(); });
    listenToKeys(button("mute"), {
        active: () => !any("call").hidden && speaks && !room?.silencedBy,
        pushToTalk: () => chosen.ptt,
        toggle: () => {
            setMuted(muted = !muted);
            say(muted ? "You are muted." : "You are heard.");
        },
        hold: (now) => {
            talking = now;
            setMuted(muted && !talking);
        },
    });
}

function begins() {
    const missing = Object.entries({ AudioWorklet: "AudioWorkletNode", Workers: "Worker" }).filter(([, name]) => !(name in window)).map(([name]) => name);
    input("room").value = link.room;
    input("name").value = told?.name || chosen.name;
    input("name").readOnly = Boolean(told?.name);
    if (told) {
        show(any("invited"), told.speak ? "You were invited by a link." : "You were invited to listen by a link.");
        any("invited").hidden = false;
        button("enter").hidden = !told.speak;
    }
    drawRates(RATES);
    listen();
    stage("join");
    if (!isSecureContext || missing.length) {
        any("join").hidden = true;
        return problem(isSecureContext ? oldBrowserWords(missing) : microphoneWords("insecure", location.host));
    }
    (link.room ? input("name").value ? button("enter") : input("name") : input("room")).focus();
}

begins();
