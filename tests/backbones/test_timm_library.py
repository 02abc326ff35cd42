"""timm is there without the compiler, and the compiler is there for whoever asks."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: What a command imports, and what of the compiler must work after it as it does in a process of its own.
SCRIPT = """
import sys
import greffon.backbones
from greffon.backbones.timm_library import is_model
from greffon.backbones.catalogue import entry
assert is_model("vgg16")
assert len(greffon.backbones.blueprint(entry("resnet18")).stages) > 4   # BatchNorm on the meta device
assert not [name for name in sys.modules if name.startswith("torch._dynamo")]
import torch
import torchvision
boxes = torch.tensor([[0.0, 0.0, 0.0, 3.0, 3.0]])
image = torch.arange(16.0).reshape(1, 1, 4, 4)
print(torchvision.ops.roi_align(image, boxes, 2).flatten().tolist())
from torchvision.ops import roi_align
module = sys.modules["torchvision.ops.roi_align"]
print(module.is_compile_supported("cpu"))
from torch._dynamo.utils import is_compile_supported
assert is_compile_supported is not module.is_compile_supported
assert is_compile_supported("cpu") == module.is_compile_supported("cpu")
norm = torch.nn.BatchNorm2d(2, device="meta").eval()
print(tuple(norm(torch.ones(1, 2, 3, 3, device="meta")).shape), "torch._dynamo" in sys.modules)
print(torch.compile(lambda x: x + 1, backend="eager")(torch.ones(2)).tolist())
"""


@pytest.mark.slow
def test_the_compiler_comes_when_it_is_asked_for() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    plain = "import torch, torchvision\n" + "\n".join(SCRIPT.splitlines()[10:13])
    alone = subprocess.run([sys.executable, "-c", plain], capture_output=True, text=True, timeout=120, check=True)
    boxes, supported, shape, compiled = done.stdout.splitlines()
    assert boxes == alone.stdout.strip()
    assert supported in ("True", "False")
    assert shape == "(1, 2, 3, 3) True"
    assert compiled == "[2.0, 2.0]"


@pytest.mark.slow
def test_what_else_is_asked_while_timm_is_imported_is_the_real_one() -> None:
    script = (
        "import sys; from greffon.backbones import timm_library as t\n"
        "for n in [n for n in sys.modules if n.startswith('torch._dynamo')]: raise SystemExit(n)\n"
        "with t._compiler_later():\n"
        "    import torch._dynamo as early\n"
        "    assert type(early).__name__ == '_StandIn'\n"
        "    config = early.config\n"
        "import torch._dynamo\n"
        "assert torch._dynamo.config is config and type(torch._dynamo).__name__ == 'module'\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
