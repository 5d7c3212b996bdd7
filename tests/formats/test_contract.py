"""Every format of tensors against the one contract."""

from __future__ import annotations

from modelstore.formats.gguf import Gguf
from modelstore.formats.safetensors import Safetensors
from modelstore.formats.torch_zip import TorchZip
from tests import strategies
from tests.contracts.format import FormatContract


class TestSafetensors(FormatContract):
    """safetensors."""

    format = Safetensors()
    files = strategies.safetensors_files


class TestTorchZip(FormatContract):
    """The zip files of torch.save."""

    format = TorchZip()
    files = strategies.torch_files


class TestGguf(FormatContract):
    """GGUF."""

    format = Gguf()
    files = strategies.gguf_files
