"""Frames between host and device, over pipes."""

from __future__ import annotations

import os
import time

import pytest

from edgeport.devices.agent import rpc as module
from edgeport.devices.agent.rpc import Channel, LinkLostError


@pytest.fixture
def ends():
    """What the host writes to, a channel that reads it, and what the channel writes to."""
    source, host = os.pipe()
    heard, sink = os.pipe()
    yield host, Channel(source, sink, silence_s=0.3), heard
    for descriptor in (source, host, heard, sink):
        try:
            os.close(descriptor)
        except OSError:
            continue


def test_lines_and_bytes_are_told_apart(ends):
    host, channel, heard = ends
    os.write(host, b'{"alive": 1}\n{"ask": "put", "bytes": 5}\n\n{"a\n{"alive": 1}\n{"ask": "facts"}\n')
    assert channel.receive() == {"ask": "put", "bytes": 5}
    pieces = []
    channel.receive_bytes(5, pieces.append)
    assert b"".join(pieces) == b'\n{"a\n'
    assert channel.receive() == {"ask": "facts"}
    channel.send({"value": {"name": "é\ud800"}}, b"\n\0")
    assert os.read(heard, 1000) == b'{"value": {"name": "\\u00e9\\ud800"}, "bytes": 2}\n\n\0'


def test_a_closed_link_is_lost(ends):
    host, channel, _ = ends
    os.write(host, b'{"ask": "fa')
    os.close(host)
    with pytest.raises(LinkLostError):
        channel.receive()


def test_a_silent_host_is_gone(ends):
    _, channel, _ = ends
    time.sleep(0.35)
    with pytest.raises(LinkLostError, match="nothing was heard"):
        channel.tick()


def test_signs_of_life_do_not_pile_up_while_a_job_runs(ends):
    host, channel, _ = ends
    for _ in range(50):
        os.write(host, b'{"alive": 1}\n' * 10)
        channel.tick()
    assert len(channel._buffer) < 20
    os.write(host, b'{"ask": "facts"}\n')
    assert channel.receive() == {"ask": "facts"}


def test_a_line_without_end_is_refused(ends, monkeypatch):
    host, channel, _ = ends
    monkeypatch.setattr(module, "LONGEST_LINE", 1000)
    os.write(host, b"x" * 2000)
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        channel.receive()


def test_what_is_no_object_is_refused(ends):
    host, channel, _ = ends
    os.write(host, b"[1]\n")
    with pytest.raises(ValueError, match="no JSON object"):
        channel.receive()
