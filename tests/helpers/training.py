"""Interrupts for the tests of training."""

from transformers import TrainerCallback


class StopAfter(TrainerCallback):
    """Interrupts the run with an exception, right after a step."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt
