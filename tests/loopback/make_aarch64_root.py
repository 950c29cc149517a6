"""Makes a folder in which a 64-bit ARM Python with NumPy and ONNX Runtime runs under QEMU's user mode.

    python tests/loopback/make_aarch64_root.py FOLDER

Takes Debian's packages for arm64 with `apt-get download` (into a state of its own: this system's packages stay as they
are) and wheels with `pip download`; some 100 MB. Needs `qemu-aarch64` (Debian: qemu-user), `apt-get` and `dpkg-deb`.
Tests use it where EDGEPORT_AARCH64_ROOT names the folder.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

SUITE, PYTHON = "trixie", "3.13"
PACKAGES = (
    *("libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libffi8", "libexpat1", "libssl3t64", "libbz2-1.0", "liblzma5"),
    *(f"python{PYTHON}-minimal", f"libpython{PYTHON}-minimal", f"libpython{PYTHON}-stdlib"),
)
WHEELS = ("numpy", "onnxruntime")
KEYS = "/usr/share/keyrings/debian-archive-keyring.pgp"
_OLD_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"


def main(folder: Path) -> None:
    root, work = folder / "root", folder / "work"
    for made in (root, work / "debs", work / "state/lists/partial", work / "cache/archives/partial", work / "parts"):
        made.mkdir(parents=True, exist_ok=True)
    (work / "state/status").touch()
    keys = KEYS if Path(KEYS).exists() else _OLD_KEYS
    (work / "sources.list").write_text(f"deb [signed-by={keys}] http://deb.debian.org/debian {SUITE} main\n")
    (work / "apt.conf").write_text(
        f'Dir::State "{work}/state"; Dir::State::status "{work}/state/status"; Dir::Cache "{work}/cache";\n'
        f'Dir::Etc::sourcelist "{work}/sources.list"; Dir::Etc::sourceparts "{work}/parts";\n'
        'APT::Architecture "arm64"; APT::Architectures "arm64"; APT::Sandbox::User "root";\n'
    )
    environment = {**os.environ, "APT_CONFIG": str(work / "apt.conf")}
    subprocess.run(["apt-get", "update", "-q"], env=environment, check=True)
    subprocess.run(["apt-get", "download", "-q", *PACKAGES], env=environment, cwd=work / "debs", check=True)
    for package in sorted((work / "debs").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, root], check=True)
    if not (root / "lib").exists():
        (root / "lib").symlink_to("usr/lib")
    tags = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
    platforms = [word for tag in tags for word in ("--platform", tag)]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", *platforms]
    version = PYTHON.replace(".", "")
    subprocess.run([*command, "--python-version", version, "-d", work / "wheels", *WHEELS], check=True)
    packages = root / "usr/lib/python3/dist-packages"
    packages.mkdir(parents=True, exist_ok=True)
    for wheel in sorted((work / "wheels").glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(packages)
    # A script in its place: a program that the emulated Python starts, such as itself, is started by the real kernel.
    program = root / "bin-here" / "python3"
    program.parent.mkdir(exist_ok=True)
    program.write_text(
        "#!/bin/sh\n"
        f'exec qemu-aarch64 -L "{root}" -E "PYTHONHOME={root}/usr" -0 "$0" "{root}/usr/bin/python{PYTHON}" "$@"\n'
    )
    program.chmod(0o755)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
