"""`make gpu` checks this machine's GPU: it runs tests/gpu part by part, each in a process of its own and within its time.

It prints a table (check, expected, found, verdict), and writes it as gpu.json and gpu.md under --to. What failed and what could
not be tried are part of the table. Exit code: 0 if nothing failed, 1 if something did, 2 without a GPU.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# the seconds of each part, of twelve minutes in all; what a part leaves over or overruns is the next one's
PARTS = {"numbers": 40, "speed": 180, "memory": 50, "paper": 360, "training": 70}
GRACE = 15  # seconds that a part may overrun, to end the test that it is in
PACKAGES = ("torch", "transformers", "peft", "deepspeed", "bitsandbytes", "flash-attn")


@dataclass(frozen=True)
class Line:
    """A line of the table. verdict: passed, FAILED, measured or not tried."""

    part: str
    check: str
    expected: str
    found: str
    verdict: str


def main() -> int:
    """Runs the parts and writes the table."""
    parser = argparse.ArgumentParser(prog="scripts/gpu.py", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    parser.add_argument("--times", type=float, default=1.0, help="multiplies the time of every part (default: %(default)s)")
    default = Path(os.environ.get("OUT") or ROOT / "outputs") / "gpu"
    parser.add_argument("--to", type=Path, default=default, help="folder to write (default: $OUT/gpu, or outputs/gpu)")
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        print("error: make gpu: no CUDA GPU can be used here; the ordinary tests run its checks on the CPU", file=sys.stderr)
        return 2
    about, lines, began, left = machine(), list[Line](), time.monotonic(), 0.0
    for part in options.parts:
        started, share = time.monotonic(), max(PARTS[part] * options.times + left, 0.0)
        lines += run(part, share, options.to)
        left = share - (time.monotonic() - started)
        about["seconds"] = round(time.monotonic() - began)
        write(options.to, about, lines)
    print(markdown(about, lines))
    print(f"written to {options.to}/gpu.json and gpu.md; the tests' own output is beside them")
    return 1 if any(line.verdict == "FAILED" for line in lines) else 0


def machine() -> dict[str, object]:
    """Describes the GPU and the packages that are checked."""
    import torch

    card = torch.cuda.get_device_properties(torch.cuda.current_device())
    found: dict[str, object] = {
        "gpu": card.name,
        "memory_gib": round(card.total_memory / 2**30, 1),
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
    }
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found | {"started": time.strftime("%Y-%m-%dT%H:%M:%S")}


def run(part: str, seconds: float, folder: Path) -> list[Line]:
    """Runs the tests of a part for at most so many seconds, and returns its lines."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as aside:
        told, log = Path(aside) / "found.jsonl", folder / f"{part}.log"
        env = os.environ | {"STP_GPU_FOUND": str(told), "STP_GPU_UNTIL": str(time.time() + seconds)}
        env |= {"HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
        command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", f"tests/gpu/test_{part}.py"]
        with log.open("w", encoding="utf-8") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                code = process.wait(seconds + GRACE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                code = None
        records = [json.loads(line) for line in told.read_text(encoding="utf-8").splitlines()] if told.exists() else []
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    return told_of(part, records, code, last[0] if last else "")


def told_of(part: str, records: list[dict], code: int | None, last: str) -> list[Line]:
    """Turns what the tests wrote into lines.

    Tests that found nothing to tell are counted by the part of their name before the bracket; of those that failed or were not
    tried, each reason is a line. code: the exit code of the tests, None if their time was up. last: their last words.
    """
    lines = [
        Line(part, record["what"], record["expected"], record["found"], record["verdict"])
        for record in records
        if "what" in record
    ]
    telling = {record["test"] for record in records if "what" in record}
    planned = [name for record in records for name in record.get("planned", ())]
    ended = {record["ended"]: record for record in records if "ended" in record}
    counted, reasons = Counter[str](), dict[tuple[str, str, str], list[str]]()
    for name in planned:
        kind, _, of = name.partition("[")
        end = ended.get(name, {"outcome": "skipped", "why": "the part ended before" if code is not None else "no time left"})
        if end["outcome"] == "passed":
            counted[kind] += name not in telling
        elif end["outcome"] == "skipped" or name not in telling:
            verdict = "not tried" if end["outcome"] == "skipped" else "FAILED"
            reasons.setdefault((kind, end["why"], verdict), []).append(of.removesuffix("]"))
    lines += [Line(part, words(kind), "passes", f"{count} passed", "passed") for kind, count in counted.items() if count]
    for (kind, why, verdict), names in reasons.items():
        named = f" ({names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''})" if names[0] else ""
        lines.append(Line(part, f"{words(kind)}{named}", "passes", why, verdict))
    if code is None:
        lines.append(Line(part, "the part as a whole", "ends in time", f"hung, and was ended; last: {last}", "FAILED"))
    elif code not in (0, 1):
        lines.append(Line(part, "the part as a whole", "ends by itself", f"exit code {code}: {last}", "FAILED"))
    return lines


def words(name: str) -> str:
    """Returns a test's name as words."""
    return name.removeprefix("test_").replace("_", " ")


def write(folder: Path, about: dict[str, object], lines: list[Line]) -> None:
    """Writes gpu.json and gpu.md."""
    record = {"machine": about, "lines": [asdict(line) for line in lines]}
    (folder / "gpu.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (folder / "gpu.md").write_text(markdown(about, lines) + "\n", encoding="utf-8")


def markdown(about: dict[str, object], lines: list[Line]) -> str:
    """Returns the table as Markdown, with what failed first and what was not tried last."""
    order = ["FAILED", "passed", "measured", "not tried"]
    shown = [f"{name.replace('_', ' ')} {value}" for name, value in about.items() if value is not None]
    missing = [name for name, value in about.items() if value is None]
    count = Counter(line.verdict for line in lines)
    head = [
        "; ".join(shown) + (f"; not installed: {', '.join(missing)}" if missing else ""),
        "",
        ", ".join(f"{count[verdict]} {verdict}" for verdict in order),
        "",
        "| part | check | expected | found | verdict |",
        "|---|---|---|---|---|",
    ]
    ordered = sorted((replace(line, found=line.found[:160]) for line in lines), key=lambda line: order.index(line.verdict))
    return "\n".join(
        head + ["| " + " | ".join(cell.replace("|", "/") for cell in asdict(line).values()) + " |" for line in ordered]
    )


if __name__ == "__main__":
    raise SystemExit(main())
