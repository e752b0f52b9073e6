"""Fetches the official weights once into the user's cache. Downloads resume, have a limit, and are
verified before use."""

from __future__ import annotations

import hashlib
import logging
import os
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from earshot.codec.errors import DownloadError, UsageError
from earshot.codec.homes import home
from earshot.codec.proxies import proxy_for, shown_as
from earshot.codec.terminal import Terminal, description_column, saying_more

log = logging.getLogger(__name__)

BASE_URL = "https://dl.fbaipublicfiles.com/encodec/v0/"
"""Address that the `encodec` package gets its weights from."""
URL_VARIABLE = "EARSHOT_WEIGHTS_URL"
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
MOST_BYTES = 1 << 28
"""Size limit of a file whose size is not known."""


@dataclass(frozen=True)
class Release:
    """A file to fetch, known by its whole hash or by the start of it that its name contains."""

    file: str
    size: int | None
    sha256: str


CODECS = {
    "encodec_24khz": Release(
        "encodec_24khz-d7cc33bc.th", 93_171_529, "d7cc33bcf1aad7f2dad9836f36431530744abeace3ca033005e3290ed4fa47bf"
    ),
    "encodec_48khz": Release("encodec_48khz-7e698e3e.th", None, "7e698e3e"),
}
LANGUAGE_MODELS = {
    "encodec_24khz": Release("encodec_lm_24khz-1608e3c0.th", None, "1608e3c0"),
    "encodec_48khz": Release("encodec_lm_48khz-7add9fc3.th", None, "7add9fc3"),
}
"""Language models by the name of their codec."""


@dataclass(frozen=True)
class Origin:
    """Who gives a file away."""

    said: str
    """What is said before it is fetched, with `{size}`."""
    advice: str | None = None
    """What to do if it cannot be had, where that is not to look for a mirror."""
    headers: Mapping[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    """What its certificate is checked by, if not as browsers do."""

    def or_else(self, mirrors: str) -> str:
        """Returns what to do; `mirrors` is that for files which mirrors have."""
        return self.advice or mirrors


OFFICIAL = Origin(
    "Fetching the official EnCodec weights{size}. They are not part of Earshot, and their licence is not stated "
    "clearly by their makers."
)


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait for a server, and how often to try."""

    attempts: int = 4
    connect_s: float = 10.0
    silence_s: float = 20.0
    """Longest wait for the next byte."""
    pause_s: float = 1.0
    """Pause before the second attempt; it doubles before each later one."""


class _Retry(Exception):  # noqa: N818 -- a signal between two functions of this module
    """An attempt failed, but another one may succeed."""


def cache_folder() -> Path:
    """Returns the folder for fetched weights (XDG Base Directory Specification)."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else home() / ".cache") / "earshot"


def cached(release: Release, base_url: str | None = None) -> Path:
    """Returns the path of a file of the official weights, and fetches it if the cache does not hold
    it. `base_url` (else the environment variable EARSHOT_WEIGHTS_URL, else the public address) is
    the folder of the file. Raises DownloadError."""
    path = cache_folder() / release.file
    if path.is_file():
        if _sha256(path).startswith(release.sha256):
            return path
        log.warning("%s is damaged and is fetched again", path)
    return fetch(release, path, base_url or os.environ.get(URL_VARIABLE) or BASE_URL)


@saying_more()
def fetch(
    release: Release,
    path: Path,
    base_url: str,
    policy: RetryPolicy = RetryPolicy(),
    sleep: Callable[[float], None] = time.sleep,
    console: Terminal | None = None,
    origin: Origin = OFFICIAL,
) -> Path:
    """Fetches `release` to `path` and returns it. It resumes what an earlier call did not finish.
    Raises DownloadError, which says what to do; `path` then holds no wrong file."""
    url = base_url.rstrip("/") + "/" + release.file
    console = console or Terminal(stderr=True)
    size = f" ({release.size / 1e6:.0f} MB)" if release.size else ""
    console.print(origin.said.format(size=size))
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(policy.attempts):
            if attempt:
                sleep(policy.pause_s * 2 ** (attempt - 1))
            try:
                _attempt(url, release, partial, policy, console, origin)
            except _Retry as error:
                log.warning("fetching %s: %s", url, error)
                reason = str(error)
            else:
                os.replace(partial, path)
                return path
    except OSError as error:
        raise DownloadError(
            f"{path} cannot be written: {error.strerror or error}. Make room or set XDG_CACHE_HOME to another folder"
        ) from error
    raise DownloadError(
        f"{url} could not be fetched in {policy.attempts} attempts: {reason}. Try again (it goes on where it "
        "stopped)" + origin.or_else(f", set {URL_VARIABLE} to a mirror, or put the file at {path} yourself")
    )


def _attempt(url: str, release: Release, partial: Path, policy: RetryPolicy, console: Terminal, origin: Origin) -> None:
    """Fetches what `partial` does not hold yet, and verifies the whole file."""
    held = partial.stat().st_size if partial.exists() else 0
    if held > (release.size or MOST_BYTES):
        held = 0
    complete = held == release.size or (release.size is None and held and _sha256(partial).startswith(release.sha256))
    if not complete:
        _transfer(url, release, partial, held, policy, console, origin)
    actual = _sha256(partial)
    if not actual.startswith(release.sha256):
        partial.unlink()
        if held:  # the kept part may belong to another file: one more attempt from the start may succeed
            raise _Retry(f"what was kept of an earlier attempt does not fit (sha256 {actual})")
        raise DownloadError(
            f"{url} is not the file it should be: its sha256 is {actual}, not {release.sha256}. It was deleted"
            + origin.or_else(f". Set {URL_VARIABLE} to another mirror")
        )


def _transfer(
    url: str, release: Release, partial: Path, held: int, policy: RetryPolicy, console: Terminal, origin: Origin
) -> None:
    # A Range counts unencoded bytes, and unlike compressed ones they cannot grow beyond the limit.
    asked = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={held}-"} if held else {})
    timeout = httpx.Timeout(policy.silence_s, connect=policy.connect_s)
    proxy = _proxy(url)
    columns = (description_column(), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    try:
        with (
            httpx.Client(
                transport=httpx.HTTPTransport(verify=origin.tls or True, proxy=proxy), follow_redirects=True
            ) as client,
            client.stream("GET", url, headers={**origin.headers, **asked}, timeout=timeout) as response,
        ):
            if response.status_code == 416 or (response.status_code == 206 and not _begins_at(response, held)):
                partial.unlink(missing_ok=True)
                raise _Retry("the server cannot go on where an earlier attempt stopped; starting over")
            held = held if _accepted(url, response, partial, origin) == 206 else 0  # 200: this server ignores ranges
            with (
                partial.open("r+b" if held else "wb") as file,
                Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress,
            ):
                if held:
                    file.seek(held)
                    file.truncate()
                task = progress.add_task(release.file, total=release.size, completed=held)
                for block in response.iter_raw():
                    held += len(block)
                    if held > (most := release.size or MOST_BYTES):
                        raise DownloadError(f"{url} is longer than {most} bytes: not the file it should be")
                    file.write(block)
                    progress.update(task, completed=held)
    except httpx.TimeoutException as error:
        through = f" through the proxy {shown_as(proxy)}" if proxy else ""
        raise _Retry(f"the server does not answer{through}, or went silent") from error
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise DownloadError(
            f"{url} cannot be fetched: {error}" + origin.or_else(f". Is {URL_VARIABLE} right?")
        ) from error
    except httpx.HTTPError as error:
        through = f" through the proxy {shown_as(proxy)}" if proxy else ""
        raise _Retry(f"no connection{through}, or it broke off ({error})") from error
    if release.size and held < release.size:
        raise _Retry(f"it broke off after {held} of {release.size} bytes")


def _proxy(url: str) -> str | None:
    try:
        return proxy_for(url, "socksio")
    except UsageError as error:
        raise DownloadError(f"{url} cannot be fetched: {error}") from error


def _begins_at(response: httpx.Response, position: int) -> bool:
    return bool(response.headers.get("Content-Range", "").startswith(f"bytes {position}-"))


def _accepted(url: str, response: httpx.Response, partial: Path, origin: Origin) -> int:
    """Returns the status of a response that brings bytes. Raises for all other responses."""
    status = response.status_code
    if status in (200, 206):
        return status
    if status in _TRY_AGAIN:
        raise _Retry(f"the server answered {status} {response.reason_phrase}")
    advice = origin.or_else(
        f". Set {URL_VARIABLE} to the address of a folder that holds the file, or put it at "
        f"{partial.with_suffix('')} yourself"
    )
    raise DownloadError(f"{url}: the server answered {status} {response.reason_phrase}{advice}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
