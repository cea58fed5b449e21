"""Models in and out: nnU-Net's import, export for machines without torch, int8.

This front door loads what is asked for.
"""

from typing import TYPE_CHECKING

from hilum.front_door import front_door

if TYPE_CHECKING:
    from hilum.exchange.export import export_model as export_model
    from hilum.exchange.nnunet.read import read_nnunet as read_nnunet
else:
    __getattr__, __dir__, __all__ = front_door(__name__)
