"""OpenVINO as hilum imports it: it tells nobody.

`import openvino` by itself reports each use to a web analytics service, and writes a number for the
user to ~/intel, unless that was declined. No image goes there, but what runs in a hospital calls
nobody without being asked. Without the package that reports, which is kept from being imported
here, OpenVINO and NNCF use empty stand-ins of their own.
"""

from __future__ import annotations

import sys

if "openvino_telemetry" not in sys.modules:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # None: not to be imported

import openvino as ov
import openvino.opset13 as opset
from openvino import CompiledModel, Core, Model

__all__ = ["CompiledModel", "Core", "Model", "opset", "ov"]
