// What a page keeps of what it said: gets {said: [[at_us, hex]], asked: [[sequence, now_us]]}, prints the messages of each answer.
import { readFileSync } from "node:fs";
import { RecentSpeech } from "../../web/core/recent_speech.js";

const { said, asked } = JSON.parse(readFileSync(0, "utf8")), recent = new RecentSpeech();
for (const [at_us, hex] of said) recent.add(new Uint8Array(Buffer.from(hex, "hex")), at_us);
console.log(JSON.stringify(asked.map(([sequence, now_us]) => recent.since(sequence, now_us).map((message) => Buffer.from(message).toString("hex")))));
