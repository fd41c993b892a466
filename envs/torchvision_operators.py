"""Two operators that torchvision's Python part expects, for a CPU build of torch beside PyPI's build for CUDA.

Without them `import torchvision` fails there, and with it vLLM. Run as a script, by `make vllm VLLM=cpu`, this module
copies itself into the environment of its interpreter, where a .pth file imports it at each start. The operators are
declared only, and calling them fails: vLLM resizes images with torchvision, but detects no boxes.
"""

import shutil
import sys
import sysconfig
from importlib.abc import MetaPathFinder
from pathlib import Path


class DeclareOperators(MetaPathFinder):
    """Declares the operators right before torchvision is imported; finds no module itself."""

    def find_spec(self, fullname, path, target=None):
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            import torch

            library = torch.library.Library("torchvision", "DEF")
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            sys.modules[__name__].library = library  # the operators go when it goes
        return None


if __name__ == "__main__":
    site = Path(sysconfig.get_paths()["purelib"])
    shutil.copy(__file__, site)
    (site / "torchvision_operators.pth").write_text("import torchvision_operators\n", encoding="utf-8")
else:
    sys.meta_path.insert(0, DeclareOperators())
