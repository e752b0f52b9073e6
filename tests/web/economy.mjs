// The page's economy beside that of the terminal: gets {kbps, cases: [[[frames so far, now_us]]]}, prints for each case and look the
// frames that a message from the server should hold, and those of a message of one's own at each pace.
import { readFileSync } from "node:fs";
import { PACES } from "../../web/call/connection.js";
import { Line } from "../../web/call/line.js";
import { ServerClock } from "../../web/core/clock.js";
import { Economy } from "../../web/core/economy.js";

const { kbps, cases } = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(cases.map((looks) => {
    const economy = new Economy(75), clock = new ServerClock();
    const lines = Object.values(PACES).map(({ frames, thrifty }) => {
        const line = new Line({ frames, kbps }, [1.5, 3, 6, 12], 75);
        line.thrifty = thrifty;
        return line;
    });
    return looks.map(([frames, now_us]) => {
        economy.note(frames, now_us);
        for (const line of lines) line.observe(0, clock, frames, now_us);
        return [economy.choose(3, kbps), ...lines.map((line) => line.amount.frames)];
    });
})));
