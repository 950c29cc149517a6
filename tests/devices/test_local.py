"""What is this machine's alone; the contract of all devices is `edgeport.testing.DeviceSuite`."""

from __future__ import annotations


def test_a_file_is_used_where_it_lies(device, tmp_path):
    file = tmp_path / "a.bin"
    file.write_bytes(b"abc")
    assert device.push(file) == str(file)
    device.pull(str(file), tmp_path)  # onto itself
    assert file.read_bytes() == b"abc"
