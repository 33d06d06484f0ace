"""Kill -9 at random moments, or a crowd of writers; then compare the lake with its image.

`python tests/crash/rounds.py kills --rounds 200 --seed 7` · `python tests/crash/rounds.py crowd --writers 8`

Exit code 0 where the lake is exact. Two promoters and an ingester work at the same time; each round one of them is
killed in the middle of its work and another takes its place.
"""

import argparse
import json
import random
import secrets
import sys
import tempfile
import time
from pathlib import Path

from deliveries import feeds
from image import differences, leftovers, sizes
from workers import Nursery, kill

from lakehouse.embedded_s3 import ensure_running, release
from lakehouse.settings import Settings
from lakehouse.store import Store, open_store

LONGEST_LIFE_S = 1.2
KILLED = -9


def main() -> int:
    asked = _arguments()
    nursery = Nursery.fork()
    with tempfile.TemporaryDirectory(prefix="mnemo-crash-") as folder:
        home = Path(folder)
        try:
            return _run(asked, nursery, _store(asked, home))
        finally:
            nursery.close()
            release(home, wait=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["kills", "crowd"])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--commits", type=int, default=50)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    return parser.parse_args()


def _store(asked: argparse.Namespace, home: Path) -> Store:
    server = ensure_running(home, bucket="lake")
    return open_store(
        Settings(
            lake=f"s3://lake/{asked.what}",
            s3_endpoint=server.endpoint,
            s3_access_key=server.access_key,
            s3_secret_key=server.secret_key,
        )
    )


def _run(asked: argparse.Namespace, nursery: Nursery, store: Store) -> int:
    print(f"seed {asked.seed}", flush=True)
    started = time.monotonic()
    died = _kills(asked, nursery, store) if asked.what == "kills" else _crowd(asked, nursery, store)
    died += _finish(asked, nursery, store)
    worked_s = time.monotonic() - started
    wrong = differences(store, asked.seed)
    if (
        asked.what == "crowd"
        and (commits := store.open(feeds(0)[0].bronze).version) != asked.writers * asked.commits
    ):
        wrong.append(f"{commits} commits in bronze, {asked.writers * asked.commits} expected")
    held = sizes(store)
    wrong += [f"{name} is empty" for name in ("silver.trades", "gold.candles") if not held[name]]
    orphans, unknown = leftovers(store)
    wrong += differences(store, asked.seed)  # what the vacuum took was nobody's
    report = {
        "seed": asked.seed,
        "seconds": round(worked_s, 1),
        "rows": held,
        "orphans_vacuumed": orphans,
        "files_left_over": unknown,
        "died_by_themselves": died,
        "wrong": wrong,
    }
    print(json.dumps(report), flush=True)
    return 1 if wrong or unknown or died else 0


def _kills(asked: argparse.Namespace, nursery: Nursery, store: Store) -> int:
    """Rounds of kill and replace; how many workers ended in another way than by our hand."""
    chance = random.Random(asked.seed)
    both = {"names": ["crash_trades", "crash_candles"], "subjects": ["a", "b"]}
    ingester = ("ingest", {**both, "minutes": 3, "commits": 10**6, "pause_s": 0.2})
    promoter = ("promote", {"until_done": False})
    roles = [ingester, promoter, promoter]
    pids = [_start(nursery, store, asked, role) for role in roles]
    died = 0
    for number in range(1, asked.rounds + 1):
        time.sleep(chance.uniform(0, LONGEST_LIFE_S))
        victim = chance.randrange(len(roles))
        kill(pids[victim])
        died += nursery.wait(pids[victim]) != KILLED
        pids[victim] = _start(nursery, store, asked, roles[victim])
        if number % 20 == 0:
            print(f"round {number}", flush=True)
    for pid in pids:
        kill(pid)
        died += nursery.wait(pid) != KILLED
    return died


def _crowd(asked: argparse.Namespace, nursery: Nursery, store: Store) -> int:
    """Writers that append to one bronze table at once while two promote."""
    trades = {"names": ["crash_trades"], "minutes": 2, "commits": asked.commits, "pause_s": 0.0}
    writers = [("ingest", {**trades, "subjects": [f"writer-{number}"]}) for number in range(asked.writers)]
    promoter = ("promote", {"until_done": False})
    writing = [_start(nursery, store, asked, writer) for writer in writers]
    promoting = [_start(nursery, store, asked, promoter) for _ in range(2)]
    died = sum(nursery.wait(pid) != 0 for pid in writing)
    for pid in promoting:
        kill(pid)
        died += nursery.wait(pid) != KILLED
    return died


def _finish(asked: argparse.Namespace, nursery: Nursery, store: Store) -> int:
    pids = [_start(nursery, store, asked, ("promote", {"until_done": True})) for _ in range(2)]
    return sum(nursery.wait(pid) != 0 for pid in pids)


def _start(nursery: Nursery, store: Store, asked: argparse.Namespace, role: tuple[str, dict]) -> int:
    name, how = role
    return nursery.start(name, store, seed=asked.seed, **how)


if __name__ == "__main__":
    sys.exit(main())
