"""What computes on a device is imported without the packages that read options and write tables."""

import subprocess
import sys

MODULES = ("activations.topk_torch", "scoring.iou_counter_torch", "models.activation_recorder", "dissect.forward",
           "dissect.layer_state")  # fmt: skip
REFUSE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("polars", "pydantic", "pydantic_core", "platformdirs", "rich", "typer"):
            raise ImportError(f"{name} is not on this machine")
sys.meta_path.insert(0, Refuse())
"""


def test_forward_pass_thresholds_and_counting_are_imported_without_polars_and_pydantic() -> None:
    lines = "\n".join(f"import netdissect.{module}" for module in MODULES)
    done = subprocess.run([sys.executable, "-c", REFUSE + lines], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_dissection_is_imported_without_what_only_requested_statistics_and_some_networks_need() -> None:
    program = "import sys; from netdissect.dissect import dissect; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "netdissect.dissect.statistics.assemble" in loaded
    assert not {"scipy.sparse", "scipy.stats", "sklearn", "torchvision"} & set(loaded)
