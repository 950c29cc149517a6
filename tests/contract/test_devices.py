"""Our own devices through the suite."""

from __future__ import annotations

import pytest

from edgeport.devices.adb import AdbTransport
from edgeport.devices.asyncssh_client import AsyncSshTransport
from edgeport.devices.inventory import AdbAddress, SshAddress
from edgeport.devices.local import LocalDevice
from edgeport.devices.remote import RemoteDevice
from edgeport.devices.ssh import SshTransport
from edgeport.testing import DeviceSuite


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


@pytest.mark.slow
class TestAsyncSsh(DeviceSuite):
    """The same agent and link again; the client's own ways are in ../devices/test_asyncssh.py."""

    @pytest.fixture(scope="class")
    @classmethod
    def device(cls, ssh_board, tmp_path_factory):
        address = SshAddress(host="board", client="asyncssh")
        transport = AsyncSshTransport(address, [ssh_board.folder / "config"])
        with RemoteDevice("board", transport, tmp_path_factory.mktemp("device")) as device:
            device.home = ssh_board.home
            yield device

    def jobs_left(self, device):
        return list(device.home.glob(".cache/edgeport-device/sessions/*/jobs/*"))


@pytest.mark.slow
class TestAdb(DeviceSuite):
    """The same agent and link as over SSH, so not with every run; the faults of `adb` are in ../devices/test_adb.py."""

    @pytest.fixture(scope="class")
    @classmethod
    def device(cls, fake_adb, tmp_path_factory):
        transport = AdbTransport(AdbAddress(serial="phone"))
        with RemoteDevice("phone", transport, tmp_path_factory.mktemp("device")) as device:
            device.home = fake_adb.home
            yield device

    def jobs_left(self, device):
        return list(device.home.glob("*/edgeport-device/sessions/*/jobs/*"))
