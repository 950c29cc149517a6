"""Eight hosts at once, each a network namespace with OpenSSH's own server.

They share this machine's processors, so what runs on them rests: how long a device is kept busy is what counts, not
what it computes.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from edgeport.contracts import Limits, TimeJob
from edgeport.devices.agent.arrays import save_arrays
from edgeport.devices.experiment import run_rounds
from edgeport.devices.inventory import SshAddress
from edgeport.devices.remote import RemoteDevice
from edgeport.devices.ssh import SshTransport
from edgeport.pipeline.engine.concurrency import on_each

pytestmark = pytest.mark.slow

COUNT = 8
SLOWEST_S, QUICKEST_S = 6.0, 4.0
REST_S = 0.05


@pytest.fixture(scope="module")
def boards(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent.parent / "loopback"))
        from namespaces import Boards, missing

        if why := missing():
            pytest.skip(why)
        made = Boards(tmp_path_factory.mktemp("boards"), COUNT)
        patch.setenv("PATH", str(made.bin), prepend=os.pathsep)
        yield made
        made.close()
    sys.modules.pop("namespaces", None)


@pytest.fixture
def devices(boards, tmp_path):
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(RemoteDevice(name, SshTransport(SshAddress(host=name)), tmp_path / name))
            for name in boards.names
        }


@pytest.fixture
def jobs_on(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "m.txt").write_text("a model")
    save_arrays(tmp_path / "feeds.npz", {"x": np.ones((2, 3), np.float32)})

    def jobs(device, duration_s):
        job = TimeJob(
            artifact=device.push(tmp_path / "model"),
            entry="m.txt",
            session="edgeport.testing.fake_session",
            settings={"rest_s": REST_S},
            feeds=device.push(tmp_path / "feeds.npz"),
            warmup_s=0.01,
            duration_s=duration_s,
            limits=Limits(time_s=60),
        )
        return {"one": job, "other": job}

    return jobs


def test_eight_take_hardly_longer_than_the_slowest_of_them_alone(devices, jobs_on):
    durations = dict(zip(devices, np.linspace(SLOWEST_S, QUICKEST_S, COUNT), strict=True))

    def measure(name):
        return run_rounds(devices[name], jobs_on(devices[name], float(durations[name])), rounds=2)

    for device in devices.values():
        device.facts()  # connected, and the agent is there
    slowest = next(iter(devices))
    began = time.monotonic()
    measure(slowest)
    alone_s = time.monotonic() - began

    began = time.monotonic()
    found = on_each({name: lambda _, name=name: measure(name) for name in devices})
    together_s = time.monotonic() - began

    assert all(len(rounds) == 2 and not any(one.errors for one in rounds) for rounds in found.values())
    assert together_s <= 1.3 * alone_s, (together_s, alone_s)


def test_two_runs_never_measure_on_one_device_at_the_same_time(boards, devices, jobs_on, tmp_path):
    traces, first = [], devices["board0"]
    with RemoteDevice("again", SshTransport(SshAddress(host="board0")), tmp_path / "again") as second:

        def measure(device):
            traces.append(device.run(jobs_on(device, 1.0)["one"]))

        threads = [threading.Thread(target=measure, args=(device,)) for device in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    before, after = sorted(traces, key=lambda trace: trace.started_at_ns)
    assert after.started_at_ns - before.started_at_ns >= sum(before.latency_ns)
