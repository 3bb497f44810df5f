"""Jobs under kill -9, SIGSTOP and SIGTERM of everything: `python -m tests.acceptance.chaos --help`."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sys
import tempfile
import time
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.acceptance.chaos import undisturbed
from tests.acceptance.chaos.calls import Caller
from tests.acceptance.chaos.campaign import Campaign, Order
from tests.acceptance.chaos.review import Report, Review
from tests.acceptance.chaos.runs import draw_specs, write_images
from tests.acceptance.chaos.stack import Stack

JOBS_A_SPEC = 5
FEWEST_SPECS = 6


def main() -> int:
    """Carries out a campaign. Returns 0 if every promise was kept."""
    options = _parser().parse_args()
    # As at Ctrl-C, all that was started is stopped in the right order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    report = _wage(options, folder)
    print(_markdown(report))
    if options.report:
        options.report.write_text(json.dumps(report, indent=2) + "\n")
    if not report["broken"]:
        if not options.folder:
            shutil.rmtree(folder)
        return 0
    _say(f"{len(report['broken'])} promises were broken; records, events and logs are in {folder}:")
    for sentence in report["broken"]:
        _say(f"- {sentence}")
    return 1


def _wage(options: Namespace, folder: Path) -> Report:
    specs = draw_specs(
        min(options.jobs, max(FEWEST_SPECS, -(-options.jobs // JOBS_A_SPEC))), options.longest, options.seed
    )
    write_images(folder / "data")
    _say(f"{len(specs)} runs undisturbed, in processes of their own")
    began = time.monotonic()
    expected = undisturbed.outcomes(specs, folder / "data")
    undisturbed_s = time.monotonic() - began
    _say(f"{undisturbed_s:.0f} s; now {options.jobs} jobs under {options.faults} faults, with all data in {folder}")
    orders = [Order(n, f"chaos-{options.seed}-{n}", specs[n % len(specs)]) for n in range(options.jobs)]
    chance = random.Random(options.seed)
    with Stack(folder, options.workers, options.lease, options.checkpoint_interval, chance) as stack:
        caller = Caller(stack.urls, random.Random(options.seed))
        campaign = Campaign(stack, caller, orders, options.faults, chance)
        began = time.monotonic()
        campaign.run(60 * options.minutes)
        campaign_s = time.monotonic() - began
        _say(f"{campaign_s:.0f} s; now every job is compared with its undisturbed run")
        review = Review(campaign, stack, caller, expected, folder)
        chosen = {name: value for name, value in vars(options).items() if name not in ("report", "folder")}
        times = {"undisturbed runs, s": round(undisturbed_s), "jobs and faults, s": round(campaign_s)}
        return {"options": chosen, "times": times, **review.report(), "broken": review.broken()}


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m tests.acceptance.chaos",
        description="Submits jobs while processes are killed, stopped and restarted, and compares every job with an "
        "undisturbed run. Ends with 1 if a promise was broken.",
        formatter_class=ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--jobs", type=int, default=200, help="how many jobs")
    parser.add_argument("--faults", type=int, default=100, help="how many faults")
    parser.add_argument("--workers", type=int, default=3, help="how many workers, of one thread each")
    parser.add_argument("--seed", type=int, default=0, help="of specs, faults, victims and times")
    parser.add_argument("--minutes", type=float, default=60, help="after which jobs that have not ended are a failure")
    parser.add_argument("--longest", type=float, default=20.0, help="seconds that a run takes at most, alone on a core")
    parser.add_argument("--lease", type=float, default=3.0, help="seconds of a lease")
    parser.add_argument("--checkpoint-interval", type=float, default=1.0, help="seconds between checkpoints")
    parser.add_argument("--report", type=Path, help="file for the figures as JSON")
    parser.add_argument(
        "--folder", type=Path, help="for data and logs, which are kept there; else only after a failure"
    )
    return parser


def _markdown(report: Report) -> str:
    rows = [f"| {' · '.join(path)} | {value} |" for path, value in _leaves(report) if path[0] != "broken"]
    verdict = f"{len(report['broken'])} promises broken" if report["broken"] else "every promise kept"
    return "\n".join(["| figure | value |", "|---|---|", *rows, f"| verdict | {verdict} |"])


def _leaves(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """The figures with where they stand; a summary is one figure."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and "p50" in value:
            text = f"p50 {value['p50']}, max {value['max']} (n={value['count']})" if value["count"] else "none"
            yield (*path, name), text
        elif isinstance(value, Mapping):
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
