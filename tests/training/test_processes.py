"""How a global batch is split over processes, and what is done by one of them or by all."""

import random

import numpy as np
import pytest
import torch

from o3v.training import processes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, 3, 1), "a batch of 4 cannot be split into forward passes of 3 .*; choose one of 1, 2, 4$"),
        ((8, 8, 3), "a global batch of 8 rows cannot be split over 3 processes; num_processes can be 1, 2, 4, 8, or"),
        (
            (8, 4, 4, 2),
            "a global batch of 2 questions, each with all its completions, cannot be split over 4",
        ),
    ],
)
def test_a_batch_that_does_not_divide_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        processes.accumulation_steps(*arguments)


@pytest.mark.parametrize("num_processes", [1, 2, 3, 4, 6, 8, 12, 24])
@pytest.mark.parametrize("per_device", [1, 3, 8, 24])
def test_the_batch_does_not_depend_on_the_number_of_processes(num_processes, per_device):
    rows, steps = processes.accumulation_steps(24, per_device, num_processes)
    assert rows * steps * num_processes == 24 and rows <= per_device


def test_one_process_does_everything():
    assert (processes.rank(), processes.world_size()) == (0, 1)
    assert processes.share([1, 2, 3]) == [1, 2, 3] and processes.joined([1, 2]) == [[1, 2]]
    assert processes.from_first(lambda: "made") == "made"
    processes.wait_for_all()


def test_random_numbers_go_on_as_if_nothing_had_been_drawn():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    def seed(number):
        random.seed(number)
        np.random.seed(number)
        torch.manual_seed(number)

    seed(3)
    expected = draw()
    seed(3)
    with processes.kept_random_state():
        seed(0)
        draw()
    assert draw() == expected
