"""A run that kills itself, without a chance to clean up, when a stage begins: `killed_run.py FOLDER STAGE`."""

import os
import signal
import sys
from pathlib import Path

from edgeport import store
from edgeport.contracts import Limits
from edgeport.pipeline import run_recipe


def main(folder, stage, recipe):
    store.code_version = lambda: "1"  # as in the test, though somebody may edit the code while it runs

    def kill(event):
        if event.stage == stage and (event.done or not event.total):
            os.kill(os.getpid(), signal.SIGKILL)

    run_recipe(
        recipe,
        output=folder / "out",
        store=folder / "store",
        on_progress=kill,
        limits=Limits(time_s=60.0, memory_bytes=4 << 30),
    )


if __name__ == "__main__":
    from edgeport.contracts import load_json
    from edgeport.contracts.recipe import Recipe

    folder = Path(sys.argv[1])
    main(folder, sys.argv[2], load_json(Recipe, (folder / "recipe.json").read_bytes()))
