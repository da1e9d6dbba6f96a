"""The other platforms, each in an environment of its own.

They cannot share one: ARQ wants redis-py below 6, SAQ below 8, taskiq-redis 8 or newer. Apart, each runs its newest.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

REQUIREMENTS: Final = {
    "saq": ("saq[redis,hiredis]==0.26.4", "typing-extensions", "uvloop==0.23.0"),
    "taskiq": ("taskiq==0.13.0", "taskiq-redis==1.2.4", "hiredis>=3.2", "uvloop==0.23.0"),
}
_FOLDER: Final = Path(os.environ.get("BENCH_PEERS") or Path(__file__).resolve().parent.parent / ".arqade" / "bench")


def peer_python(name: str) -> Path | None:
    """The interpreter of a peer's environment, None when it was not installed."""
    environment = _FOLDER / name
    return environment / "bin" / "python" if (environment / "sound").is_file() else None


def install(say: Callable[[str], None]) -> None:
    """Make the environments that are missing. Raises subprocess.CalledProcessError."""
    for name, requirements in REQUIREMENTS.items():
        if peer_python(name) is not None:
            continue
        say(f"Installing {', '.join(requirements)}")
        environment = _FOLDER / name
        pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "install", "-qq"]
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(environment)], check=True)
        subprocess.run([*pip, "--disable-pip-version-check", "--no-input", *requirements], check=True)
        (environment / "sound").touch()
