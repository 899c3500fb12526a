"""Which precision `auto` chooses on which processor."""

from pathlib import Path

import pytest

from textclf.training.machine import hardware

AVX2 = "vendor_id : GenuineIntel\nflags : fpu avx avx2 fma\n"
INTEL_VECTORS = "vendor_id : GenuineIntel\nflags : fpu avx2 avx512f avx512_bf16\n"
INTEL_MATRICES = "vendor_id : GenuineIntel\nflags : fpu avx2 avx512f avx512_bf16 amx_bf16 amx_tile\n"
AMD_VECTORS = "vendor_id : AuthenticAMD\nflags : fpu avx2 avx512f avx512_bf16\n"


@pytest.mark.parametrize(
    ("processor", "precision"),
    [
        (AVX2, "float32"),
        (INTEL_VECTORS, "float32"),
        (INTEL_MATRICES, "bfloat16"),
        (AMD_VECTORS, "bfloat16"),
    ],
)
def test_auto_is_the_precision_that_the_processor_multiplies_faster(
    processor: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(processor)
    monkeypatch.setattr(hardware, "_PROCESSOR", tmp_path / "cpuinfo")
    assert hardware.chosen_precision("auto") == precision
    assert hardware.chosen_precision("bfloat16") == "bfloat16"


def test_auto_is_float32_where_the_processor_does_not_say_what_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "_PROCESSOR", tmp_path / "missing")
    assert hardware.chosen_precision("auto") == "float32"
