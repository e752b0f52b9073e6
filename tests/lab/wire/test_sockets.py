"""What the kernel tells of sockets, as text and of a real one."""

from __future__ import annotations

import os
import socket

import pytest

from earshot.codec.errors import EarshotError
from earshot.lab.wire.__main__ import table
from earshot.lab.wire.run import CASES, NOISE_DBFS, Row, said
from earshot.lab.wire.sockets import IP_TCP_BYTES, Counted, count, parse, why_not

LINE = (
    'ESTAB 0 0 127.0.0.1:5 127.0.0.1:80 users:(("python",pid={pid},fd=7)) cubic rto:204 bytes_sent:24887 '
    "bytes_retrans:60 bytes_acked:24820 bytes_received:19771 segs_out:413 segs_in:391 data_segs_out:349\n"
)


def test_what_ss_prints_is_read() -> None:
    text = LINE.format(pid=12).replace("24887", "1") + LINE.format(pid=123)
    assert parse(text, 123) == Counted(24887 + 413 * 52, 19771 + 391 * 52)
    assert parse(text, 3) is None


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_a_real_socket_is_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client, server.accept()[0] as far:
            before = count(os.getpid(), port)
            client.sendall(bytes(1000))
            assert len(far.recv(1000, socket.MSG_WAITALL)) == 1000
            far.sendall(bytes(100))
            assert len(client.recv(100, socket.MSG_WAITALL)) == 100
            after = count(os.getpid(), port)
    assert after.up - before.up >= 1000 + IP_TCP_BYTES
    assert after.down - before.down >= 100 + IP_TCP_BYTES
    assert after.up - before.up < 1000 + 4 * IP_TCP_BYTES
    with pytest.raises(EarshotError, match="no socket"):
        count(os.getpid(), port)


def test_a_table() -> None:
    rows = [Row(case, 60.0, 0.5, 10.04, 23.0) for case in CASES]
    lines = table(rows).splitlines()
    assert lines[2] == "| both read aloud | 6 | balanced | 50% | 10.0 | 23.0 | 24 |"
    assert [row.is_too_much for row in rows] == [False, True, True, True]


def test_what_is_said() -> None:
    quiet, loud = said(False, "ada", 1.0), said(True, "ada", 30.0)
    assert quiet.size == 24_000
    assert quiet.std() == pytest.approx(10 ** (NOISE_DBFS / 20), rel=0.05)
    assert loud.size == 720_000
    assert loud.std() > 0.01
