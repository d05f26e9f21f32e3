"""What a comparison needs on this machine: our binary, the peers' Python, and the machine's description."""
import contextlib
import fcntl
import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ["torch==2.13.0", "transformers==5.23.0", "peft==0.21.2", "lm-eval==0.4.13", "accelerate==1.15.0", "numpy==2.4.6"]
QUIET = 0.05  # the share of the machine that others may use during a measurement


def build_neutral():
    """The path of the program, built from the sources as they stand."""
    said = subprocess.run([ROOT / "scripts/neutral", "--print-program"], check=True, stdout=subprocess.PIPE, text=True)
    return Path(said.stdout.strip())


def cache_folder():
    """Where `neutral` keeps what can be made again."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("NEUTRAL_CACHE") or caches / "neutral")


def peer_python():
    """The Python of the peers' environment in the cache, which is installed first if it is not whole."""
    folder = cache_folder() / "peer"
    python, marker = folder / "bin/python", folder / "complete"
    wanted = "\n".join(REQUIREMENTS) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    # One at a time; the lock dies with the process.
    with open(folder.with_name(".peer.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Written last, so an installation that was cut short is gone over again: pip does only what
        # is missing.
        if not (marker.exists() and marker.read_text() == wanted):
            print(f"peers: installing {', '.join(REQUIREMENTS)} in {folder}, once (6 GB)", file=sys.stderr)
            # Without python3-venv, or cut short, the environment has a Python and no pip.
            if not python.exists() or subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode:
                subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
            subprocess.run([*pip, *REQUIREMENTS], check=True, stdout=sys.stderr)
            subprocess.run([python, "-c", "import accelerate, peft, torch, transformers"], check=True)
            partial = marker.with_suffix(".partial")
            partial.write_text(wanted)
            partial.replace(marker)
    return python


def enter_peers():
    """Goes on in the peers' Python: starts the running script again there, unless it is there already."""
    python = peer_python()
    if Path(sys.prefix).resolve() != python.parents[1].resolve():
        os.execv(python, [python, *sys.argv])


def machine():
    """What figures depend on beside the code: processor, threads, memory and the code's own version."""
    cpu = Path("/proc/cpuinfo").read_text()
    memory = Path("/proc/meminfo").read_text()
    flags = set(cpu.partition("\nflags")[2].partition("\n")[0].split())
    commit = ["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    return {
        "cpu": re.search(r"model name\s*: (.*)", cpu)[1],
        "cores": len(os.sched_getaffinity(0)),
        "bf16": [flag for flag in ("amx_bf16", "avx512_bf16", "avx_ne_convert") if flag in flags],
        "memory_gib": round(int(re.search(r"MemTotal:\s*(\d+)", memory)[1]) / 2**20, 1),
        "system": platform.platform(),
        "commit": subprocess.run(commit, capture_output=True, text=True).stdout.strip() or "unknown",
    }


def busy_seconds():
    """Processor time spent so far by everybody, without waiting and idleness."""
    user, nice, system, _, _, irq, soft, steal, *_ = Path("/proc/stat").read_text().split("\n")[0].split()[1:]
    return sum(map(int, (user, nice, system, irq, soft, steal))) / os.sysconf("SC_CLK_TCK")


def own_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measured(command, lock=None):
    """What a command prints last, as JSON, and the share of the machine that others used meanwhile.

    On few cores another's single thread makes a step several times slower, since every parallel loop
    waits for its last part. A disturbed measurement is made again, twice at most, and the least
    disturbed one counts: it is chosen by that share alone, never by its figure.
    """
    tries = []
    while len(tries) < 3 and not any(others <= QUIET for _, others in tries):
        with contextlib.ExitStack() as held:
            if lock:
                fcntl.flock(held.enter_context(open(lock, "a")), fcntl.LOCK_EX)
            start, busy, own = time.monotonic(), busy_seconds(), own_seconds()
            run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            available = (time.monotonic() - start) * os.cpu_count()
            others = (busy_seconds() - busy - (own_seconds() - own)) / available
        tries.append((json.loads(run.stdout.splitlines()[-1]), round(max(others, 0.0), 3)))
    return min(tries, key=lambda found: found[1])


def peer_versions(python):
    """Versions of the peers' packages."""
    names = [re.split("=", name)[0] for name in REQUIREMENTS]
    code = f"from importlib.metadata import version as v; print(*(n + ' ' + v(n) for n in {names}), sep=', ')"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def describe(machine):
    """The machine in a few lines."""
    bf16 = ", ".join(machine["bf16"]) or "none"
    text = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB; bf16 instructions: {bf16}; {machine['system']}"
    peers = f"; peers: {machine['peers']}" if "peers" in machine else ""
    return f"{text}\nneutral at commit {machine['commit']}{peers}"
