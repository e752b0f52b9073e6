"""Keys from a real terminal (a pseudo one), which is as before afterwards."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

SCRIPT = """
import asyncio, sys, termios
from earshot.client.ui.keyboard import keys

async def main():
    came = asyncio.Queue()
    with keys(came.put_nowait) as live:
        print("live" if live else "dead", flush=True)
        while live and (key := await came.get()) != "q":
            print("key", key, flush=True)
        if "boom" in sys.argv:
            raise RuntimeError

before = termios.tcgetattr(0) if sys.stdin.isatty() else None
try:
    asyncio.run(main())
except RuntimeError:
    pass
print("restored" if before is None or termios.tcgetattr(0) == before else "changed", flush=True)
"""
IN_TERMINAL = "import pty, sys; sys.exit(pty.spawn([sys.executable, '-c', *sys.argv[1:]]))"


async def typed(keys: str, *arguments: str) -> list[str]:
    """What the script prints in a pseudo terminal in which these keys are typed one by one."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", IN_TERMINAL, SCRIPT, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    lines = [(await process.stdout.readline()).decode().strip()]
    for key in keys:
        process.stdin.write(key.encode())
        await process.stdin.drain()
        lines.append((await process.stdout.readline()).decode().strip())
    process.stdin.close()
    await process.stdout.read()
    await process.wait()
    return lines


async def test_keys_come_without_enter_and_the_terminal_is_restored() -> None:
    assert await typed("m+q") == ["live", "key m", "key +", "restored"]


async def test_the_terminal_is_restored_after_an_error() -> None:
    assert await typed("q", "boom") == ["live", "restored"]


def test_without_a_terminal_there_are_no_keys() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.stdout.split() == ["dead", "restored"]
