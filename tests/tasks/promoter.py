"""A process that promotes one table by the settings of its environment, and says what it did as JSON."""

import json
import sys

from lakehouse.errors import MnemoError
from tasks import session, work

if __name__ == "__main__":
    try:
        done = work.promote(sys.argv[1], session.new_run("test"))
        sys.stdout.write(json.dumps({"batches": [one.batch_id for one in done]}))
    except MnemoError as error:
        sys.stdout.write(json.dumps({"error": str(error)}))
