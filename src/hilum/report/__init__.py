"""Pictures and pages for people."""

from hilum.report.confusion import draw_confusion
from hilum.report.curves import draw_curves
from hilum.report.heat import draw_heat
from hilum.report.overlay import draw_overlay

__all__ = ["draw_confusion", "draw_curves", "draw_heat", "draw_overlay"]
