"""Runs a module under DeepSpeed or FSDP2 in CPU processes: the whole path of `o3v train` without a GPU.

accelerate knows these engines on GPUs only, so this names the CPU processes GPUs. `killed.py --engine` starts it:

    accelerate launch --config_file o3v/training/launch_configs/zero3.yaml --num_processes 2 --mixed_precision no \
        benchmarks/engine_on_cpu.py -m o3v train JOB
"""

import os
import runpy
import sys

os.environ |= {"DS_ACCELERATOR": "cpu", "ACCELERATE_TORCH_DEVICE": "cpu"}

from accelerate.state import PartialState
from accelerate.utils import DistributedType

from o3v.training import trainer

common_arguments = trainer.common_arguments
trainer.common_arguments = lambda *given: common_arguments(*given) | {"use_cpu": False}
PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_GPU)

del sys.argv[:2]  # this file and -m
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
