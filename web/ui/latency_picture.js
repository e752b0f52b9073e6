/** A moving picture of the time from mouth to ear, stage by stage, and the same in figures. */
import { STAGES } from "../core/latency.js";
import { any, byId, make, show } from "./dom.js";

const COLUMNS = 300;
/** Columns between two pictures: five a second are enough to see it move. */
const DRAW_EVERY = 2;
/** Colours that stay apart for colour-blind eyes, on light and dark ground (after Okabe and Ito). */
const COLOURS = ["#5a7fb8", "#e0a100", "#008f6b", "#8d6bb0", "#d1603d", "#4aa8d8", "#c65b9b", "#8a8f98"];
const WORDS = { framing: "framing", uplink: "to server", encode: "coding", server: "in server", network: "from server",
    jitter: "jitter buffer", decode: "decoding", output: "to the ear" };
const STEPS_MS = [40, 80, 120, 200, 400, 800, 1200, 2000];

export class LatencyPicture {
    /** @type {(number[] | null)[]} */ #columns = [];
    #added = 0;
    #canvas = byId("picture", HTMLCanvasElement);
    #rows;

    constructor() {
        this.#rows = STAGES.map((stage, index) => {
            const item = make("li"), colour = make("i"), value = make("b");
            colour.style.background = COLOURS[index];
            item.append(colour, WORDS[/** @type {keyof typeof WORDS} */ (stage)], value);
            any("stages").append(item);
            return value;
        });
        any("stages").hidden = true;
        new ResizeObserver(() => this.#draw()).observe(this.#canvas);
    }

    /** Adds the newest figures, null where nobody speaks. @param {{stages: number[], total: number, p95: number} | null} latency */
    add(latency) {
        this.#columns.push(latency && latency.stages.map((stage) => Math.max(stage, 0)));
        if (this.#columns.length > COLUMNS) this.#columns.shift();
        if (latency) {
            any("stages").hidden = false;
            any("no-latency").hidden = true;
            show(any("total"), `${latency.total.toFixed(0)} ms`);
            latency.stages.forEach((stage, index) => show(this.#rows[index], `${stage.toFixed(1)}`));
            this.#canvas.setAttribute("aria-label", `The sound is ${latency.total.toFixed(0)} milliseconds old when it is heard`);
        }
        if (!document.hidden && this.#added++ % DRAW_EVERY === 0) this.#draw();
    }

    clear() {
        this.#columns = [];
        any("stages").hidden = true;
        any("no-latency").hidden = false;
        show(any("total"), "");
        this.#draw();
    }

    #draw() {
        const canvas = this.#canvas, ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
        if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
        if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
        const pen = canvas.getContext("2d");
        if (!pen) return;
        pen.setTransform(ratio, 0, 0, ratio, 0, 0);
        pen.clearRect(0, 0, width, height);
        const totals = this.#columns.map((column) => column?.reduce((a, b) => a + b, 0) ?? 0).sort((a, b) => a - b);
        const high = totals.length ? totals[Math.floor(totals.length * 0.98)] : 0;
        const top = STEPS_MS.find((step) => step >= high * 1.15) ?? STEPS_MS[STEPS_MS.length - 1], style = getComputedStyle(canvas);
        const y = (/** @type {number} */ ms) => height - (Math.min(ms, top) / top) * (height - 8), each = width / COLUMNS;
        this.#columns.forEach((column, index) => {
            if (!column) return;
            const x = width - (this.#columns.length - index) * each;
            let sum = 0;
            column.forEach((stage, at) => {
                pen.fillStyle = COLOURS[at];
                const bottom = y(sum), upper = y(sum += stage);
                pen.fillRect(x, upper, each + 0.4, bottom - upper);
            });
        });
        pen.font = `12px ${style.fontFamily}`;
        pen.textBaseline = "bottom";
        for (const ms of [top / 4, top / 2, (3 * top) / 4]) {
            pen.strokeStyle = pen.fillStyle = style.color;
            pen.globalAlpha = 0.25;
            pen.beginPath();
            pen.moveTo(0, y(ms));
            pen.lineTo(width, y(ms));
            pen.stroke();
            pen.globalAlpha = 0.85;
            pen.fillText(`${ms} ms`, 6, y(ms) - 1);
        }
        pen.globalAlpha = 1;
    }
}
