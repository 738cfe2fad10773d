"""In the training process: whole tensors once, or a statistic of every tensor now and then."""

import sys
from types import ModuleType


class _Callable(ModuleType):
    def __call__(self, *args, **kwargs):
        from lampwork.watch.session import watch

        return watch(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable  # temporary: the name is also the public function's
