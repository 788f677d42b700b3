"""Install the telephony software that the interop tests call: `make peers`, as root on Debian.

From the machine's own release: SIPp, SIPVicious, baresip, Kamailio, rtpengine, tshark, sox, the
Opus tools, PulseAudio and PortAudio, and the compiler that `pesq` needs. No service of theirs is
started.
Asterisk is in few Debian releases, so it comes from another one, unpacked beside the system. All
that is not a Debian package of this machine lies in VOIP_PEER_CACHE (default
/var/cache/voip-peers):

    asterisk/                 a small Debian with Asterisk in it, which tests run without chroot
    asterisk-SUITE.tar.zst    the same, packed: enough to keep between machines
    pjsua2/                   a virtualenv with PJSIP's Python module
    prometheus/               prometheus and promtool, out of their Debian package
    peers.json                which versions these are, for tests and documentation

A second run finds everything there and takes about a second.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CACHE = Path(os.environ.get("VOIP_PEER_CACHE", "/var/cache/voip-peers"))
PACKAGES = (
    "sip-tester",
    "sipvicious",
    "baresip-core",
    "kamailio",
    "kamailio-tls-modules",
    "kamailio-websocket-modules",
    "kamailio-extra-modules",
    "rtpengine-daemon",
    "openssl",
    "tshark",
    "sox",
    "opus-tools",
    "gstreamer1.0-tools",
    "gstreamer1.0-plugins-base",
    "gstreamer1.0-plugins-good",
    "pulseaudio",
    "pulseaudio-utils",
    "libasound2-plugins",
    "libportaudio2",
    "debootstrap",
    "zstd",
    "gcc",
    "libc6-dev",
    "python3-dev",
    "python3-venv",
)
# Debian's next release has a current Asterisk; bullseye was the last to have one before.
SUITES = {"forky": 20, "bullseye": 16}
ASTERISK_PACKAGES = ("asterisk", "asterisk-core-sounds-en-wav")
PJSUA2 = "pjsua2-pybind11==0.1a3"
PJSUA2_PYTHONS = ("3.11", "3.12")
QUIET_APT = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1", "LC_ALL": "C.UTF-8"}


class PeerError(Exception):
    """Something could not be installed; the message says what and why."""


def main() -> int:
    """Install what is missing, record the versions, print them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rebuild", action="store_true", help="make the Asterisk system anew")
    arguments = parser.parse_args()
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print("Peers are installed by root on Debian: sudo make peers", file=sys.stderr)
        print("(`make test` runs without them and says what it skips)", file=sys.stderr)
        return 1
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            install_packages()
            suite = install_asterisk(rebuild=arguments.rebuild)
            install_pjsua2()
            install_prometheus()
        except PeerError as error:
            print(f"make peers: {error}", file=sys.stderr)
            return 1
        record(suite)
    return 0


# -- Debian packages --------------------------------------------------------------------------


def install_packages() -> None:
    """Install those packages of this machine's release that are not there yet."""
    absent = [package for package in PACKAGES if not package_version(package)]
    if not absent:
        return
    say(f"Installing {', '.join(absent)}")
    # tshark's question is whether everybody may capture; it must not be asked, and the answer is no
    run(
        ["debconf-set-selections"],
        stdin="wireshark-common wireshark-common/install-setuid boolean false\n",
    )
    install = ["apt-get", "install", "-q", "-y", "--no-install-recommends"]
    install += ["-o", "DPkg::Lock::Timeout=600", *absent]
    with services_resting():
        if not attempt(install):
            run(["apt-get", "update", "-q"])
            run(install)


@contextmanager
def services_resting() -> Iterator[None]:
    """Keep Debian from starting the services it installs: tests start what they need themselves."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():  # somebody else's, who is asked in our place
        yield
        return
    write_policy(policy)
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)


def write_policy(policy: Path) -> None:
    """Forbid every start of a service (invoke-rc.d asks this program)."""
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)


def package_version(package: str) -> str:
    """Say the installed version of a package, empty when it is not installed."""
    done = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", package],
        capture_output=True,
        text=True,
        check=False,
    )
    status, _, version = done.stdout.partition(" ")
    return version if status == "installed" else ""


# -- Asterisk ---------------------------------------------------------------------------------


def install_asterisk(*, rebuild: bool) -> str:
    """Have Asterisk in `CACHE/asterisk`; the suite it came from.

    What is there stays. Otherwise, in this order: an archive made earlier, the newest suite, the
    oldest. With `rebuild` the suites go before the archive.
    """
    root = CACHE / "asterisk"
    suite_file = root / "etc/voip-peers-suite"
    if suite_file.exists() and not rebuild:
        return suite_file.read_text().strip()
    newest, oldest = SUITES
    ways = [(unpack_asterisk, newest), (build_asterisk, newest)]
    if rebuild:
        ways.reverse()
    ways += [(unpack_asterisk, oldest), (build_asterisk, oldest)]
    failures = []
    for way, suite in ways:
        new = CACHE / "asterisk.new"
        remove(new)
        try:
            way(suite, new)
            version = asterisk_version(new)
            major = int(version.split(".")[0])
            if major < SUITES[suite]:
                raise PeerError(f"Asterisk {version} is older than {SUITES[suite]}")
        except (PeerError, subprocess.CalledProcessError) as error:
            failures.append(f"{way.__name__} {suite}: {error}")
            continue
        (new / "etc/voip-peers-suite").write_text(suite + "\n")
        if way is build_asterisk:
            pack_asterisk(suite, new)
        remove(root)
        new.rename(root)
        return suite
    raise PeerError("no Asterisk:\n  " + "\n  ".join(failures))


def unpack_asterisk(suite: str, root: Path) -> None:
    """From the archive of an earlier run."""
    archive = CACHE / f"asterisk-{suite}.tar.zst"
    if not archive.exists():
        raise PeerError(f"no {archive}")
    say(f"Unpacking {archive}")
    root.mkdir()
    run(["tar", "--zstd", "-xf", str(archive), "-C", str(root)])


def build_asterisk(suite: str, root: Path) -> None:
    """Debian `suite` with Asterisk, by debootstrap, from the archive that apt uses here."""
    say(f"Making a Debian {suite} with Asterisk in it (about a minute)")
    mirror, security = archives()
    script = Path(f"/usr/share/debootstrap/scripts/{suite}")
    if not script.exists():  # debootstrap is older than the suite: all are made like sid
        script = script.with_name("sid")
    arguments = ["--variant=minbase", "--include=ca-certificates", suite, str(root), mirror]
    try:
        run(["debootstrap", *arguments, str(script)])
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        for setting in Path("/etc/apt/apt.conf.d").iterdir():  # how the network is reached
            if setting.is_file() and "acquire::" in setting.read_text(errors="replace").lower():
                shutil.copy(setting, root / "etc/apt/apt.conf.d" / setting.name)
        write_policy(root / "usr/sbin/policy-rc.d")
        sources = f"deb {mirror} {suite} main\n"
        if security and suite == "bullseye":
            sources += f"deb {security} {suite}-security main\n"
        (root / "etc/apt/sources.list").write_text(sources)
        inside = ["chroot", str(root), "apt-get", "-q", "-y"]
        run([*inside, "update"])
        run([*inside, "install", "--no-install-recommends", *ASTERISK_PACKAGES])
    finally:
        for mounted in ("proc", "sys"):
            attempt(["umount", "--lazy", str(root / mounted)])
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    for rest in ("etc/apt", "var/cache/apt", "var/lib/apt", "usr/share/doc", "usr/share/man"):
        remove(root / rest)


def archives() -> tuple[str, str]:
    """Where apt gets this machine's release from, and its security updates (or '')."""
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found: dict[str, str] = {}
    for line in listing.splitlines():
        address, _, label = line.partition(" ")
        found.setdefault(label, address.rstrip("/"))
    if "Debian" not in found:
        raise PeerError("apt knows no Debian archive (run apt-get update)")
    return found["Debian"], found.get("Debian-Security", "")


def asterisk_version(root: Path) -> str:
    """Asked of the program itself, so that what was unpacked is known to run."""
    done = subprocess.run(
        ["chroot", str(root), "/usr/sbin/asterisk", "-V"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"Asterisk (\d+(?:\.\d+)*)", done.stdout)
    if found is None:
        raise PeerError(f"asterisk -V said {done.stdout!r}")
    return found[1]


def pack_asterisk(suite: str, root: Path) -> None:
    """Keep it for the next machine; the archive is complete or not there."""
    archive = CACHE / f"asterisk-{suite}.tar.zst"
    say(f"Packing {archive}")
    partial = archive.with_suffix(".partial")
    pack = ["tar", "--zstd", "--one-file-system", "-cf", str(partial), "-C", str(root), "."]
    run(pack)
    partial.rename(archive)


# -- PJSIP ------------------------------------------------------------------------------------


def install_pjsua2() -> None:
    """PJSIP's Python module in a virtualenv of its own: it runs as a process of its own."""
    venv = CACHE / "pjsua2"
    if pjsua2_version():
        return
    say("Installing PJSIP's Python module")
    remove(venv)
    run([pjsua2_interpreter(), "-m", "venv", str(venv)])
    run([str(venv / "bin/python"), "-m", "pip", "install", "--quiet", PJSUA2])
    if not pjsua2_version():
        raise PeerError(f"{PJSUA2} was installed and cannot be imported")


def pjsua2_interpreter() -> str:
    """Find a Python for which there is a wheel, the system's first: everybody may run that one."""
    candidates = ["/usr/bin/python3", *(f"python{v}" for v in PJSUA2_PYTHONS), sys.executable]
    for candidate in candidates:
        found = shutil.which(candidate)
        if found is None:
            continue
        asked = [found, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        version = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        if version in PJSUA2_PYTHONS:
            return found
    raise PeerError(f"PJSIP's Python module needs Python {' or '.join(PJSUA2_PYTHONS)}")


def pjsua2_version() -> str:
    """PJSIP's version, empty when its module cannot be imported."""
    python = CACHE / "pjsua2/bin/python"
    if not python.exists():
        return ""
    program = "import pjsua2; print(pjsua2.Endpoint().version.full)"
    done = subprocess.run([str(python), "-c", program], capture_output=True, text=True, check=False)
    return done.stdout.strip()


# -- Prometheus -------------------------------------------------------------------------------


def install_prometheus() -> None:
    """Take Prometheus and promtool out of their package: no service, user or fonts come with it."""
    root = CACHE / "prometheus"
    if prometheus_version():
        return
    say("Unpacking Prometheus")
    new = CACHE / "prometheus.new"
    remove(new)
    new.mkdir()
    new.chmod(0o777)  # apt downloads as a user of its own
    try:
        download = ["apt-get", "download", "-q", "prometheus"]
        if not attempt(download, cwd=new):
            run(["apt-get", "update", "-q"])
            run(download, cwd=new)
        (package,) = new.glob("*.deb")
        run(["dpkg-deb", "--extract", str(package), str(new / "all")])
        remove(root)
        root.mkdir()
        for program in ("prometheus", "promtool"):
            (new / "all/usr/bin" / program).rename(root / program)
    finally:
        remove(new)
    if not prometheus_version():
        raise PeerError("Prometheus was unpacked and does not run")


def prometheus_version() -> str:
    """Prometheus' version, empty when it does not run."""
    try:
        asked = [str(CACHE / "prometheus/promtool"), "--version"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    found = re.search(r"version (\d+(?:\.\d+)*)", done.stdout + done.stderr)
    return found[1] if found and os.access(CACHE / "prometheus/prometheus", os.X_OK) else ""


# -- the record -------------------------------------------------------------------------------


def record(suite: str) -> None:
    """Write `peers.json` and print it as a table."""
    versions = {
        "asterisk": asterisk_version(CACHE / "asterisk"),
        "baresip": upstream(package_version("baresip-core")),
        "kamailio": upstream(package_version("kamailio")),
        "rtpengine": upstream(package_version("rtpengine-daemon")),
        "sipp": upstream(package_version("sip-tester")),
        "sipvicious": upstream(package_version("sipvicious")),
        "pjsip": pjsua2_version(),
        "tshark": upstream(package_version("tshark")),
        "sox": upstream(package_version("sox")),
        "opus-tools": upstream(package_version("opus-tools")),
        "gstreamer": upstream(package_version("gstreamer1.0-tools")),
        "pulseaudio": upstream(package_version("pulseaudio")),
        "prometheus": prometheus_version(),
    }
    (CACHE / "peers.json").write_text(
        json.dumps({"asterisk_suite": suite, "versions": versions}, indent=2) + "\n"
    )
    for name, version in versions.items():
        print(f"{name:10} {version}")


def upstream(version: str) -> str:
    """`1:3.6.1-1+b2` is 3.6.1."""
    return re.sub(r"^\d+:|[-+].*$", "", version)


# -- running things ---------------------------------------------------------------------------


def say(what: str) -> None:
    """Print a line of progress, at once."""
    print(f"[{time.strftime('%H:%M:%S')}] {what} ...", flush=True)


def run(command: Sequence[str], stdin: str = "", cwd: Path | None = None) -> None:
    """Run quietly; raises PeerError with the end of the output when it fails."""
    done = subprocess.run(
        command,
        input=stdin,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **QUIET_APT},
        check=False,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-15:])
        raise PeerError(f"{' '.join(command[:4])} ... failed ({done.returncode}):\n{tail}")


def attempt(command: Sequence[str], cwd: Path | None = None) -> bool:
    """Whether it worked."""
    try:
        run(command, cwd=cwd)
    except PeerError:
        return False
    return True


def remove(path: Path) -> None:
    """Delete a tree, which may not be there, and never what is mounted in it."""
    if any(os.path.ismount(path / name) for name in ("proc", "sys", "dev")):
        raise PeerError(f"something is mounted in {path}")
    if path.exists():
        shutil.rmtree(path)


if __name__ == "__main__":
    sys.exit(main())
