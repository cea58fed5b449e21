"""Engines that run a network: the interface in `engine`, and a file for each library.

This front door loads what is asked for, torch late.
"""

from typing import TYPE_CHECKING

from hilum.front_door import front_door

if TYPE_CHECKING:
    from hilum.engines.choose import ENGINES as ENGINES
    from hilum.engines.engine import Engine as Engine
    from hilum.engines.memory import HostMemory as HostMemory
    from hilum.engines.memory import host_memory as host_memory
    from hilum.engines.torch_engine import TorchEngine as TorchEngine
    from hilum.engines.torch_engine import computes_in_bfloat16 as computes_in_bfloat16
    from hilum.engines.torch_engine import describe_device as describe_device
    from hilum.engines.torch_engine import resolve_device as resolve_device
    from hilum.engines.torch_engine import resolve_precision as resolve_precision
else:
    __getattr__, __dir__, __all__ = front_door(__name__)
