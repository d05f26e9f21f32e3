"""Runs lm-evaluation-harness's command with so many bootstraps: eval_harness.py BOOTSTRAPS [--throughout] ARGS…

The harness has no flag for them, and they take most of its time. `--throughout` makes `dtype=float64` mean all of the
model: transformers casts to float32 for norms and rotations whatever the dtype is, so that a model in float64 has
float32's rounding still.
"""
import functools
import sys

import lm_eval
import lm_eval.__main__
import torch
from lm_eval.models.huggingface import HFLM
from torch.overrides import TorchFunctionMode


class Wide(TorchFunctionMode):
    """Where float32 is asked for, float64 is given."""

    def __torch_function__(self, function, types, arguments=(), options=None):
        def wide(value):
            return torch.float64 if value is torch.float32 else value

        function = torch.Tensor.double if function is torch.Tensor.float else function
        return function(*map(wide, arguments), **{name: wide(value) for name, value in (options or {}).items()})


def widen():
    create, call = HFLM._create_model, HFLM._model_call

    def create_wide(self, *arguments, **options):
        create(self, *arguments, **options)
        with Wide():  # the angles of rotations are made when a model is
            for module in list(self._model.modules()):
                for name, child in list(module.named_children()):
                    if type(child).__name__.endswith("RotaryEmbedding"):
                        setattr(module, name, type(child)(child.config))

    def call_wide(self, *arguments, **options):
        with Wide():
            return call(self, *arguments, **options)

    HFLM._create_model, HFLM._model_call = create_wide, call_wide


def main():
    bootstraps = int(sys.argv.pop(1))
    if sys.argv[1] == "--throughout":
        sys.argv.pop(1)
        widen()
    lm_eval.simple_evaluate = functools.partial(lm_eval.simple_evaluate, bootstrap_iters=bootstraps)
    lm_eval.__main__.cli_evaluate()


if __name__ == "__main__":
    main()
