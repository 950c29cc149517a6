"""Our own devices through the suite."""

from __future__ import annotations

import pytest
from device_suite import DeviceSuite

from edgeport.devices.inventory import SshAddress
from edgeport.devices.local import LocalDevice
from edgeport.devices.remote import RemoteDevice
from edgeport.devices.ssh import SshTransport


class TestLocal(DeviceSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def device(cls, tmp_path_factory):
        return LocalDevice(tmp_path_factory.mktemp("device"))

    def jobs_left(self, device):
        return list((device._workdir / "jobs").iterdir())


class TestSsh(DeviceSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def device(cls, ssh_board, tmp_path_factory):
        transport = SshTransport(SshAddress(host="board"))
        with RemoteDevice("board", transport, tmp_path_factory.mktemp("device")) as device:
            device.home = ssh_board.home
            yield device

    def jobs_left(self, device):
        return list(device.home.glob(".cache/edgeport-device/sessions/*/jobs/*"))
