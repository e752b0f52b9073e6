// A page's line whose newest ping waits for its answer: gets [[how long a look comes after the one before, in ms]], prints the amounts
// after each look.
import { readFileSync } from "node:fs";
import { Line } from "../../web/call/line.js";
import { ServerClock } from "../../web/core/clock.js";

console.log(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map((pauses_ms) => {
    const line = new Line({ frames: 3, kbps: 6 }, [1.5, 3, 6, 12], 75), clock = new ServerClock();
    clock.ping(0);
    clock.pong({ ping_us: 0, received_us: 0, sent_us: 0 }, 1000);
    let now_us = 10_000_000;
    line.begin(now_us - 5_000_000);
    line.observe(0, clock, 0, now_us);
    clock.ping(now_us);
    return pauses_ms.map((pause_ms) => {
        now_us += pause_ms * 1000;
        line.observe(0, clock, 0, now_us);
        return [line.amount.frames, line.amount.kbps, line.slow];
    });
})));
