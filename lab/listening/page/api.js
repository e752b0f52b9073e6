// The server's few answers. What it does not like arrives as a Refused, with its own words for the rater.

const STORE = "earshot-listening";

export class Refused extends Error {
  constructor(fault, message) {
    super(message);
    this.fault = fault;
  }
}

// What a reload must not lose: the rater's key, the volume, and the half-done trial.
export const memory = {
  read() {
    try {
      return JSON.parse(localStorage.getItem(STORE)) ?? {};
    } catch {
      return {};
    }
  },
  write(change) {
    try {
      localStorage.setItem(STORE, JSON.stringify({ ...this.read(), ...change }));
    } catch {
      // Without storage the test still works; only a reload begins anew.
    }
  },
  forget() {
    try {
      localStorage.removeItem(STORE);
    } catch {
      // nothing was kept
    }
  },
};

let key = memory.read().key;

async function ask(path, body) {
  const options = { headers: {}, cache: "no-store" };
  if (key) options.headers.Authorization = `Bearer ${key}`;
  if (body) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Refused("unreachable", "The server does not answer. Your ratings of this page are still here.");
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  throw new Refused(said.fault ?? "unknown", said.error ?? `The server answered ${answer.status}.`);
}

export const known = () => Boolean(key);

export async function join(name) {
  const joined = await (await ask("api/raters", { name })).json();
  key = joined.key;
  memory.write({ key });
}

export function leave() {
  key = undefined;
  memory.forget();
}

export const trial = async () => (await ask("api/trial")).json();
export const sound = async (token) => (await ask(`api/sounds/${token}`)).arrayBuffer();
export const rate = async (token, scores) => (await ask("api/scores", { trial: token, scores })).json();
