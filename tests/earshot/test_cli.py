"""How the command line shows an error."""

from __future__ import annotations

import pytest

from earshot import cli
from earshot.codec.errors import EarshotError


@pytest.mark.parametrize("said", ["\x1b]0;owned\x07", "a\u202eb", "\udc80.wav", "\x9b2J"])
def test_an_error_cannot_command_the_terminal(
    said: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise EarshotError(f"[/x] [bold]{said}\nsecond line" + "x" * 10_000)

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    shown = capfd.readouterr().err
    assert shown.startswith("error: [/x] [bold]")
    assert not set(shown) & set("\x1b\x07\u202e\udc80\x9b")
    assert "\nsecond line" in shown
    assert len(shown) < 3000
