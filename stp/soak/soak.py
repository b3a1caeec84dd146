"""`python -m stp.soak` kills and stops runs at random and lets them continue. Each must end as a run that was left alone.

An episode is one run (`stp.train` with the given overrides). The first is left alone. Every later one must have the same
weights, metrics and samples, bit for bit (on the CPU). Memory, open files and leftover processes are reported for each.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

PROC = Path("/proc")
STRIKES = (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT)


@dataclass
class Episode:
    """What was observed of one run, over all its processes."""

    folder: Path
    strikes: dict[str, int] = field(default_factory=lambda: {"SIGKILL": 0, "SIGTERM": 0, "SIGINT": 0})
    memory_mb: list[float] = field(default_factory=list)  # the training process, ten times a second
    files: list[int] = field(default_factory=list)
    slowest_stop: float = 0.0
    left: list[int] = field(default_factory=list)

    def growth(self) -> float:
        """Returns by how many MB the mean memory of the last quarter of the updates exceeds that of the second quarter."""
        quarter = len(self.memory_mb) // 4
        late, early = self.memory_mb[-quarter:], self.memory_mb[quarter : 2 * quarter]
        return sum(late) / len(late) - sum(early) / len(early) if quarter else 0.0


def look(pid: int, episode: Episode) -> None:
    """Records memory and open files of a process, if its run has logged an update and it still lives."""
    try:
        if not (episode.folder / "metrics.jsonl").stat().st_size:
            return
        pages = int((PROC / str(pid) / "statm").read_text(encoding="utf-8").split()[1])
        files = len(os.listdir(PROC / str(pid) / "fd"))
    except OSError:
        return
    if not pages:  # the process has ended
        return
    episode.memory_mb.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
    episode.files.append(files)


def members(session: int) -> list[int]:
    """Returns the living processes of a session."""
    found = []
    for status in PROC.glob("[0-9]*/stat"):
        try:
            state, _, _, own = status.read_text(encoding="utf-8").rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(own) == session and state != "Z":
            found.append(int(status.parent.name))
    return found


def updates(folder: Path) -> int:
    """Counts the lines of metrics.jsonl so far."""
    file = folder / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def run(episode: Episode, overrides: list[str], draws: random.Random | None = None, total: int = 0, each: float = 0.0) -> float:
    """Runs an episode: starts the run, strikes it one to four times, and starts it again each time.

    Returns the seconds that its last process worked. draws: None leaves the run alone. total: the updates of a run. each: the
    seconds that an update takes. A strike waits for a random one of the updates to come, and then up to `each` seconds more.
    It never comes before the process has written its config.yaml, which is when its work begins.
    """
    planned = draws.randint(1, 4) if draws is not None else 0
    log, config = episode.folder.with_suffix(".log"), episode.folder / "config.yaml"
    command = [sys.executable, "-m", "stp.train", *overrides, f"hydra.run.dir={episode.folder}", "trainer.resume=auto"]
    while True:
        strikes = draws is not None and planned > 0
        mark, delay, number = 0, 0.0, signal.SIGKILL
        if draws is not None and strikes:
            done = updates(episode.folder)
            mark, delay, number = draws.randint(done, max(done, total - 2)), draws.uniform(0, each), draws.choice(STRIKES)
        launched, begun, struck = time.time(), 0.0, 0.0
        with log.open("a", encoding="utf-8") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
        while process.poll() is None:
            time.sleep(0.1)
            look(process.pid, episode)
            if not begun and config.exists() and config.stat().st_mtime > launched:
                begun = time.monotonic()
            if strikes and not struck and begun and updates(episode.folder) >= mark:
                time.sleep(delay)
                if process.poll() is None:
                    struck = time.monotonic()
                    process.send_signal(number)
                    episode.strikes[number.name] += 1
        ended = time.monotonic()
        if struck:
            episode.slowest_stop = max(episode.slowest_stop, ended - struck)
        if process.returncode not in ((0, -number, 128 + number) if struck else (0,)):  # 0: it was about to end anyway
            raise SystemExit(f"error: exit code {process.returncode}; see {log}")
        time.sleep(0.5)  # a run's other processes may take a moment to end
        for pid in members(process.pid):
            episode.left.append(pid)
            os.kill(pid, signal.SIGKILL)
        if process.returncode == 0:
            return ended - begun
        planned -= 1


def fingerprint(folder: Path) -> dict[str, str]:
    """Hashes what a run's settings decide: its weights, and its lines without times and memory."""
    found = {}
    for file in sorted([*folder.glob("weights/*.safetensors"), *folder.glob("adapter/*.safetensors")]):
        found[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    for file in sorted(folder.glob("*.jsonl")):
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        kept = [{k: v for k, v in line.items() if not k.startswith(("time/", "memory/"))} for line in lines]
        found[file.name] = hashlib.sha256(json.dumps(kept).encode()).hexdigest()
    return found


def main(arguments: list[str] | None = None) -> None:
    """Soaks for the given minutes. Exits with code 1 and a line if a run did not end as the one that was left alone."""
    parser = argparse.ArgumentParser(prog="stp.soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="episodes are begun until so many have gone by")
    parser.add_argument("--seed", type=int, default=0, help="seed of the strikes")
    parser.add_argument("--to", type=Path, default=Path("outputs/soak"), help="folder for the runs; must not exist")
    parser.add_argument("overrides", nargs="*", help="of stp.train, say scale=tiny trainer.updates=20")
    options = parser.parse_args(arguments)
    if options.to.exists():
        parser.error(f"--to={options.to}: it exists; remove it or choose another folder")
    options.to.mkdir(parents=True)
    overrides = ["trainer.checkpoint_every=2", "logging=files", *options.overrides]

    began, draws = time.monotonic(), random.Random(options.seed)
    alone = Episode(options.to / "alone")
    seconds = run(alone, overrides)
    total = updates(alone.folder)
    if not total:
        raise SystemExit(f"error: the run left alone logged no update of its own; see {alone.folder.with_suffix('.log')}")
    wanted = fingerprint(alone.folder)
    memory = f"memory {alone.growth():+.1f} MB from the second to the last quarter of its updates"
    print(f"left alone: {describe(alone)}; {memory}", flush=True)
    episodes: list[Episode] = []
    while not episodes or time.monotonic() - began < 60 * options.minutes:
        episode = Episode(options.to / f"struck-{len(episodes)}")
        run(episode, overrides, draws, total, seconds / total)
        episodes.append(episode)
        found = fingerprint(episode.folder)
        differ = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        print(f"{episode.folder.name}: {describe(episode)}", flush=True)
        if differ:
            raise SystemExit(f"error: {episode.folder} differs from the run left alone in {', '.join(differ)}")
        if list(episode.folder.glob("checkpoints/writing-*")):
            raise SystemExit(f"error: {episode.folder} has a checkpoint half written")
    left = sum(len(e.left) for e in [alone, *episodes])
    strikes = sum(sum(e.strikes.values()) for e in episodes)
    print(
        f"{len(episodes)} runs struck {strikes} times in {(time.monotonic() - began) / 60:.1f} min: weights, metrics, samples "
        f"and evaluations are those of the run left alone; {left} processes left behind"
    )
    if left:
        raise SystemExit(1)


def describe(episode: Episode) -> str:
    """Describes an episode in one line."""
    struck = ", ".join(f"{count} {name}" for name, count in episode.strikes.items() if count) or "no strike"
    memory, files = episode.memory_mb or [0.0], episode.files or [0]
    return (
        f"{struck}; memory up to {max(memory):.0f} MB; up to {max(files)} open files, {files[-1]} at the end; "
        f"slowest stop {episode.slowest_stop:.1f} s; {len(episode.left)} processes left"
    )
