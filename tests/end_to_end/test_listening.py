"""`earshot listen` in a real browser: one rater uses the keyboard alone, another does not
listen."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from matplotlib.image import imread
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, Response, expect, sync_playwright

from tests.end_to_end.earshot_process import COMMAND, PATIENCE_S, run_earshot

expect.set_options(timeout=30_000)

CHROMIUM = "/usr/bin/chromium"
SWITCHES = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
RATE, SECONDS = 16_000, 2
UNRATED = "\u2013"
TONES = {"reference": (500, 5000), "zebra": (500, 1000), "yellowbird": (500, 2000), "anchor": (500,)}
"""Of each sound, in Hz: what is heard is known by its spectrum, the anchor by what the low pass
took."""
SCORES = {
    "cliff": {"zebra": 80, "yellowbird": 40},
    "meadow": {"zebra": 70, "yellowbird": 50},
    "river": {"zebra": 60, "yellowbird": 60},
}
"""What Ada gives, beside 100 for the reference and 20 for the anchor."""
WATCH = """
window.starts = [];
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (when, offset) {
  window.starts.push([when, offset, this.buffer.duration]);
  start.call(this, when, offset);
};
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (target, ...rest) {
  if (target instanceof AudioDestinationNode) {
    window.tap = new AnalyserNode(this.context, { fftSize: 4096, smoothingTimeConstant: 0 });
    connect.call(this, window.tap);
  }
  return connect.call(this, target, ...rest);
};
window.heard = (tones) => {
  const decibels = new Float32Array(window.tap.frequencyBinCount);
  window.tap.getFloatFrequencyData(decibels);
  const bin = window.tap.context.sampleRate / window.tap.fftSize;
  return tones.filter((tone) => decibels[Math.round(tone / bin)] > -50);
};
"""


def sound(name: str, clip: int) -> NDArray[np.float64]:
    """Each clip has its own level, so that no two files are the same."""
    time = np.arange(SECONDS * RATE) / RATE
    tones = np.sin(2 * np.pi * np.outer(TONES[name], time))
    return np.asarray((0.05 + 0.02 * clip) * tones.sum(axis=0), np.float64)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, clip in enumerate(SCORES):
        (tmp_path / clip).mkdir()
        for name in ("reference", "zebra", "yellowbird"):
            soundfile.write(tmp_path / clip / f"{name}.wav", sound(name, number), RATE)
    return tmp_path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert Path(CHROMIUM).exists(), "this test takes Debian's package chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=False, args=SWITCHES)
        yield browser
        browser.close()


class Listening:
    """`earshot listen FOLDER`; `end` is Ctrl-C and gives all that it has printed."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [*COMMAND, "listen", str(folder), "--port", "0", *options]
        # unbuffered: `communicate` does not see what a buffer took beyond the first line
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0)
        assert self.process.stdout is not None
        self.first = self.process.stdout.readline().decode()
        assert "http://127.0.0.1:" in self.first, self.first + self.process.stdout.read().decode()
        self.url = next(word for word in self.first.split() if word.startswith("http://"))

    def end(self, how: signal.Signals = signal.SIGINT) -> str:
        self.process.send_signal(how)
        printed, _ = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0, printed.decode()
        return self.first + printed.decode()


@contextmanager
def listening(folder: Path, *options: str) -> Iterator[Listening]:
    running = Listening(folder, *options)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


class Rater:
    """A browser of one rater, who recognises sounds by what they are made of: nothing else tells
    them apart."""

    def __init__(self, browser: Browser, url: str, **context: Any) -> None:
        self.url = url
        self.context = browser.new_context(**context)
        self.context.set_default_timeout(30_000)
        self.page: Page = self.context.new_page()
        self.page.add_init_script(WATCH)
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.responses: list[Response] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("response", lambda answer: self.responses.append(answer))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        self.seen: list[str] = []
        self.bodies: list[tuple[str, bytes]] = []
        self.page.goto(url)
        expect(self.page.get_by_role("heading", name="Listening test")).to_be_visible()

    def trial(self, number: int) -> tuple[str, list[str]]:
        """Waits for this trial; its clip, and what hides behind 1, 2, ..."""
        expect(self.page.get_by_role("heading", name=f"Trial {number} of 3")).to_be_visible()
        self.seen.append(self.page.content() + self.page.evaluate("JSON.stringify(localStorage)"))
        self.read()
        told = json.loads(next(body for url, body in reversed(self.bodies) if url.endswith("/api/trial")))["trial"]
        files = {url.rpartition("/")[2]: body for url, body in self.bodies if "/sounds/" in url}
        levels = {token: recognise(files[token]) for token in (told["reference"], *told["conditions"])}
        clip, name = levels[told["reference"]]
        assert name == "reference"
        assert {levels[token][0] for token in told["conditions"]} == {clip}
        return list(SCORES)[clip], [levels[token][1] for token in told["conditions"]]

    def read(self) -> None:
        """Takes what has come so far; the browser forgets it when the page is loaded anew."""
        for answer in self.responses:
            self.seen.append(str(answer.all_headers()))
            self.bodies.append((answer.url, answer.body()))
        self.responses.clear()

    def hears(self, name: str) -> None:
        """Waits until this is what comes out, and nothing else."""
        tones = sorted({tone for each in TONES.values() for tone in each})
        self.page.wait_for_function(
            "([tones, wanted]) => JSON.stringify(heard(tones)) === JSON.stringify(wanted)",
            arg=[tones, list(TONES[name])],
        )

    def shown(self) -> list[str]:
        return self.page.locator("#conditions output").all_inner_texts()

    def close(self) -> None:
        """Nothing went wrong in the page, it asked nobody else, and nothing ever told what is
        what."""
        assert self.errors == []
        assert [url for url in self.requests if not url.startswith((self.url, "data:"))] == []
        self.read()
        self.seen += [url + body.decode(errors="replace") for url, body in self.bodies]
        told = "".join(self.seen)
        assert len(told) > 10_000
        assert [name for name in ("zebra", "yellowbird", "anchor", *SCORES) if name in told] == []
        self.context.close()


def recognise(file: bytes) -> tuple[int, str]:
    """Number of the clip and name of a sound, by its spectrum."""
    pcm, rate = soundfile.read(io.BytesIO(file))
    assert (len(pcm), rate) == (SECONDS * RATE, RATE)
    spectrum = np.abs(np.fft.rfft(pcm[RATE // 2 : RATE // 2 + RATE])) / (RATE / 2)  # a bin is 1 Hz
    tones = tuple(int(tone) for tone in np.flatnonzero(spectrum > 0.01))
    return round((spectrum[500] - 0.05) / 0.02), next(name for name, own in TONES.items() if own == tones)


def rate_by_keyboard(ada: Rater) -> None:
    """Joins, checks the volume and rates everything without a mouse; reloads in the middle."""
    page, keys = ada.page, ada.page.keyboard
    page.get_by_label("Your name").focus()
    keys.type("Ada")
    keys.press("Enter")
    expect(page.get_by_role("heading", name="How loud?")).to_be_visible()
    keys.press("ArrowRight")
    expect(page.locator("#level-value")).to_have_text("75 %")
    keys.press("Space")
    ada.hears("reference")
    keys.press("Enter")
    for number in (1, 2, 3):
        clip, names = ada.trial(number)
        wanted = SCORES[clip] | {"reference": 100, "anchor": 20}
        keys.press("r")
        ada.hears("reference")
        for place, name in enumerate(names, 1):
            keys.press("Enter")  # not yet
            keys.press(str(place))
            if number == 1:
                ada.hears(name)
            give(ada, wanted[name])
            if number == 2 and place == 2:
                before = ada.shown()
                page.reload()
                assert ada.trial(2) == (clip, names)
                assert ada.shown() == before == [str(wanted[each]) for each in names[:2]] + [UNRATED, UNRATED]
                expect(page.get_by_role("status").filter(has_text="Not heard")).to_have_text("Not heard yet: 3, 4.")
        if number == 1:
            switching_keeps_the_place(ada)
            loop_is_set_by_arrows(ada)
        assert ada.shown() == [str(wanted[name]) for name in names]
        keys.press("Enter")
    expect(page.get_by_role("heading", name="Thank you")).to_be_visible()


def give(rater: Rater, score: int) -> None:
    """From the middle, where every slider begins."""
    tens, ones = divmod(abs(score - 50), 10)
    up = score > 50
    if score == 50:
        rater.page.keyboard.press("ArrowUp")
        rater.page.keyboard.press("ArrowDown")
    if score == 100:
        rater.page.keyboard.press("End")
        return
    for _ in range(tens):
        rater.page.keyboard.press("PageUp" if up else "PageDown")
    for _ in range(ones):
        rater.page.keyboard.press("ArrowUp" if up else "ArrowDown")


def switching_keeps_the_place(ada: Rater) -> None:
    """All five sounds were started together, once, and only a pause starts them anew, where they
    were."""
    starts = ada.page.evaluate("starts.slice(-5)")
    assert starts == [starts[0]] * 5
    ada.page.evaluate("starts.length = 0")
    for key in "1r2341":
        ada.page.keyboard.press(key)
    assert ada.page.evaluate("starts") == []
    ada.page.keyboard.press("Space")
    expect(ada.page.locator("#pause")).to_have_text("Play")
    ada.page.keyboard.press("Space")
    starts = ada.page.evaluate("starts")
    assert starts == [starts[0]] * 5
    assert 0 < starts[0][1] < SECONDS


def loop_is_set_by_arrows(ada: Rater) -> None:
    ada.page.evaluate("starts.length = 0")
    ada.page.get_by_label("Loop from").focus()
    for _ in range(40):
        ada.page.keyboard.press("ArrowRight")
    expect(ada.page.locator("#loop-text")).to_have_text("loop 0.4 to 2.0 s")
    starts = ada.page.evaluate("starts.slice(-5)")
    assert starts == [starts[0]] * 5
    assert starts[0][2] == pytest.approx(1.6, abs=0.001)
    ada.page.get_by_role("button", name="Whole clip").press("Enter")
    expect(ada.page.locator("#loop-text")).to_have_text("loop 0.0 to 2.0 s")
    # the button is hidden now, and the browser takes the focus from it a moment later: until then
    # Enter is its own
    ada.page.wait_for_function("!(document.activeElement instanceof HTMLButtonElement)")


def rate_by_touch(ben: Rater) -> dict[str, dict[str, int]]:
    """Taps sliders without a care, on a telephone; clip -> name -> score that the page showed."""
    page, given = ben.page, {}
    page.get_by_label("Your name").fill("Ben")
    page.get_by_role("button", name="Begin").tap()
    page.get_by_role("button", name="The volume is right").tap()
    for number in (1, 2, 3):
        clip, names = ben.trial(number)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "wider than the telephone"
        for place, name in enumerate(names, 1):
            slider = page.get_by_label(f"Score of version {place}")
            expect(slider).to_be_disabled()
            page.get_by_role("button", name=f"Play version {place}").tap()
            expect(page.locator("#next")).to_have_attribute("aria-disabled", "true")
            box = slider.bounding_box()
            assert box is not None
            share = {"reference": 0.3, "anchor": 0.95, "zebra": 0.5, "yellowbird": 0.5}[name]
            slider.tap(position={"x": share * box["width"], "y": box["height"] / 2})
            # a touch that ends counts as rated; the mouse event that moves the slider from the
            # middle comes after it
            passing = UNRATED if share == 0.5 else f"{UNRATED}|50"
            expect(page.locator("#conditions output").nth(place - 1)).not_to_have_text(re.compile(f"^({passing})$"))
        given[clip] = {name: int(score) for name, score in zip(names, ben.shown(), strict=True)}
        page.locator("#next").tap()
    expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
    return given


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.timeout(400)
def test_two_raters_and_what_is_made_of_their_scores(folder: Path, browser: Browser) -> None:
    with listening(folder) as running:
        ada = Rater(browser, running.url)
        rate_by_keyboard(ada)
        saved = rows_of(folder / "scores.csv")
        assert len(saved) == 12
        ben = Rater(browser, running.url, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
        given = rate_by_touch(ben)
        ada.close()
        ben.close()
        printed = running.end()

    rows = rows_of(folder / "scores.csv")
    assert rows[:12] == saved
    found = {(row["rater"], row["trial"], row["system"]): int(row["score"]) for row in rows}
    adas = {clip: scores | {"reference": 100, "anchor": 20} for clip, scores in SCORES.items()}
    assert found == {
        (rater, clip, name): score
        for rater, clips in (("Ada", adas), ("Ben", given))
        for clip, scores in clips.items()
        for name, score in scores.items()
    }
    assert len(rows) == 24
    assert all(0 < float(row["seconds"]) < PATIENCE_S for row in rows)
    assert {clip["reference"] < 90 and clip["anchor"] > 80 and clip["zebra"] == 50 for clip in given.values()} == {True}

    # Three scores 10 apart: deviation 10, Student's t of two degrees of freedom 4.303, 4.303 * 10 /
    # sqrt(3) = 24.8.
    assert "1 rater kept, 1 thrown out, 3 clips" in printed
    assert "thrown out: Ben (reference under 90 in 3 of 3, anchor over 80 in 3 of 3)" in printed
    table = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if "│" in line]
    assert table == [
        ["hidden reference", "100.0", "± 0.0", "3"],
        ["zebra", "70.0", "± 24.8", "3"],
        ["yellowbird", "50.0", "± 24.8", "3"],
        ["anchor, 3.5 kHz", "20.0", "± 0.0", "3"],
    ]
    assert imread(folder / "scores.png").shape[1] > 1000
    (folder / "scores.png").unlink()
    again = run_earshot("listen", folder, "--results")
    assert again.returncode == 0
    assert again.stdout in printed
    assert (folder / "scores.png").exists()


@pytest.mark.timeout(400)
def test_a_test_of_some_clips_and_systems_that_is_stopped_goes_on(folder: Path) -> None:
    options = ("--systems", "yellowbird", "--trials", "2")
    with (
        listening(folder, *options) as running,
        httpx.Client(base_url=running.url, trust_env=False, timeout=PATIENCE_S) as http,
    ):
        key = http.post("api/raters", json={"name": "Ada"}).json()["key"]
        http.headers["Authorization"] = f"Bearer {key}"
        trial = http.get("api/trial").json()["trial"]
        assert len(trial["conditions"]) == 3
        scores = dict.fromkeys(trial["conditions"], 95)
        assert http.post("api/scores", json={"trial": trial["token"], "scores": scores}).json()["rated"] == 1
        other = run_earshot("listen", folder, *options)
        assert (other.returncode, "another `earshot listen`" in other.stderr) == (1, True)
        printed = running.end(signal.SIGTERM)
        assert "clips: 2; systems: yellowbird" in printed
        assert "thrown out: Ada (anchor over 80 in 1 of 1)" in printed
    with listening(folder, *options) as running:
        headers = {"Authorization": f"Bearer {key}"}
        again = httpx.get(f"{running.url}api/trial", headers=headers, trust_env=False, timeout=PATIENCE_S)
        assert again.json()["trial"]["number"] == 2
    different = run_earshot("listen", folder)
    assert different.returncode == 1
    assert "rated other systems" in different.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none"], "there is no folder none"),
        (["."], "no trials in ."),
        ([".", "--results"], "nobody has rated yet"),
    ],
)
def test_folders_that_are_no_test(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_earshot("listen", *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert json.dumps(sorted(path.name for path in tmp_path.iterdir())) == "[]"
