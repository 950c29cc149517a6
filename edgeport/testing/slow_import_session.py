"""A session whose runtime takes long to import, when the session is opened."""

import sys
import time
from importlib.abc import Loader, MetaPathFinder
from importlib.util import spec_from_loader


class _SlowRuntime(MetaPathFinder, Loader):
    def find_spec(self, name, path, target=None):
        return spec_from_loader(name, self) if name == "slow_runtime" else None

    def exec_module(self, module):
        time.sleep(0.2)
        module.factor = 2.0


sys.meta_path.append(_SlowRuntime())


def open_session(path, settings):
    import slow_runtime  # type: ignore[import-not-found]

    return Session(slow_runtime.factor)


class Session:
    def __init__(self, factor):
        self._factor = factor

    def bind(self, feeds):
        return Call(feeds, self._factor)

    def close(self):
        pass


class Call:
    def __init__(self, feeds, factor):
        self._feeds = feeds
        self._factor = factor

    def run(self):
        pass

    def outputs(self):
        return {name + "_out": self._factor * array for name, array in self._feeds.items()}
