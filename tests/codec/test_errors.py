"""All errors are in one tree, and importing the codec does not load torch."""

from __future__ import annotations

import inspect
import subprocess
import sys

from earshot import codec
from earshot.codec import errors
from earshot.codec.errors import CallError, EarshotError
from earshot.protocol.close_codes import CloseCode, ProtocolError


def test_every_error_is_one_of_ours() -> None:
    classes = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]
    assert len(classes) > 5
    assert all(issubclass(one, EarshotError) for one in classes)
    assert codec.EarshotError is EarshotError


def test_remote_errors_carry_a_private_close_code() -> None:
    assert ProtocolError("x").code == CloseCode.MALFORMED
    assert CallError("x").code is None
    assert all(4000 <= code < 5000 for code in CloseCode)


def test_import_codec_does_not_import_torch() -> None:
    program = "import sys; from earshot import codec; assert callable(codec.load); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
