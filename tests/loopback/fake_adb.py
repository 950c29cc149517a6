"""An `adb` that plays what a file beside it says: serial to state.

States: "device" (a shell of this machine, with the file's `home`), "unauthorized", "offline", "endless" (it greets for
ever), "noise" (lines that are no answers), "reboot" (it goes away in a job), "full" (a disk of 1 MB), "native" (it has
no Python, but what lies in the file's `native`), "native-full", "native-reboot", "native-cut" (the cable is pulled in a
run of the program).
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

SAYS = {
    "unauthorized": "error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set",
    "offline": "error: device offline",
}


def main(arguments):
    played = json.loads(Path(__file__).with_name("devices.json").read_text())
    with Path(__file__).with_name("calls.jsonl").open("a") as calls:
        calls.write(json.dumps(arguments) + "\n")
    if arguments == ["devices"]:
        sys.stdout.write("List of devices attached\n")
        for serial, state in played["devices"].items():
            sys.stdout.write(f"{serial}\t{state}\n")
        return 0
    if arguments[0] != "-s":
        return _fail("error: more than one device/emulator")
    state = played["devices"].get(arguments[1])
    if state is None:
        return _fail(f"error: device '{arguments[1]}' not found")
    if state in SAYS:
        return _fail(SAYS[state])
    if arguments[2] == "push":
        return _push(state, *arguments[3:])
    assert arguments[2:4] == ["shell", "-T"]
    while state == "endless":
        os.write(1, b"y\n" * 4096)
    return _noise() if state == "noise" else _shell(state, arguments[4], played)


def _push(state, source, target):
    if state == "native-full":
        return _fail("adb: error: failed to copy: remote write failed: No space left on device")
    shutil.copyfile(source, target)
    return 0


def _noise():
    os.write(1, b'\x1eedgeport {"have": true}\n\x1eedgeport {"hello": 1, "pid": 0}\n')
    os.write(1, b'{"value": {"cpu": "\\u001b[31m<script>"}}\n[' + b"1," * 100 + b"\n" + b"[" * 100_000 + b"\n")
    time.sleep(1)
    return 0


def _fail(text):
    sys.stderr.write(f"{text}\n")
    return 1


def _shell(state, line, played):
    home = Path(played["home"], sys.argv[2].replace(":", "_"))
    home.mkdir(parents=True, exist_ok=True)
    environment = {"HOME": "/", "TMPDIR": str(home), "PATH": played["path"]}
    command = ["/bin/sh", "-c", line]
    if state.startswith("native"):
        environment["PATH"] = played["native"]
    if state == "native-reboot" and "onnxruntime_perf_test -e" in line:
        os.kill(os.getpid(), 9)
    if state == "full":
        mount = 'mount -t tmpfs -o size=1m tmpfs "$TMPDIR" && exec /bin/sh -c "$0"'
        command = ["unshare", "-rm", "/bin/sh", "-c", mount, line]
        environment["PATH"] += ":/usr/sbin:/sbin"
    started = {"env": environment, "cwd": home, "start_new_session": True}  # it is another machine
    if state == "native-cut":
        return _cut(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **started), home)
    child = subprocess.Popen(command, **started)
    if state == "reboot":
        while child.poll() is None and not list(home.glob("edgeport-device/sessions/*/jobs/*/job.json")):
            time.sleep(0.02)
        child.kill()
        child.wait()
        return 255
    return child.wait()


def _cut(child, home):
    """Ends as a cable that is pulled while the program runs: the shell there loses its pipes and nothing else."""
    while child.poll() is None and not list(home.glob("edgeport-native/jobs/*/said")):
        time.sleep(0.02)
    if child.poll() is None:
        os.kill(os.getpid(), 9)
    sys.stdout.buffer.write(child.stdout.read())
    return child.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
