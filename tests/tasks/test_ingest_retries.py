"""When the task asks a provider again, and that all threads share one client."""

import threading
from types import SimpleNamespace

import pytest
from prefect.states import Failed

from lakehouse.errors import Contention, StoreUnavailable
from sources.errors import Permanent, Transient
from tasks import session
from tasks.ingest import ingest_subject


@pytest.mark.parametrize(
    ("error", "run_count", "is_asked_again"),
    [
        (Transient("down"), 1, True),
        (Transient("busy", retry_after_s=10), 1, True),
        (Transient("busy", retry_after_s=11), 1, False),
        (Transient("busy", retry_after_s=60), 2, True),
        (Transient("busy", retry_after_s=61), 2, False),
        (Transient("busy", retry_after_s=3600), 1, False),
        (Permanent("gone"), 1, False),
        (StoreUnavailable("no answer"), 1, True),
        (Contention("others committed first"), 2, True),
    ],
)
def test_what_may_pass_is_tried_again_and_a_provider_no_sooner_than_it_asks(error, run_count, is_asked_again):
    may_pass = ingest_subject.retry_condition_fn
    run = SimpleNamespace(run_count=run_count)
    assert may_pass(ingest_subject, run, Failed(data=error)) is is_asked_again


def test_threads_that_ask_at_the_same_time_share_one_of_each():
    made, seen, together = [], [], threading.Barrier(4)

    @session.once
    def client():
        made.append(object())
        overtaken.wait(timeout=0.05)
        return made[-1]

    def ask():
        together.wait()
        seen.append(client())

    overtaken = threading.Event()
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert seen == made * 4
