"""What people look at."""

from hilum.report.confusion import draw_confusion
from hilum.report.curves import draw_curves
from hilum.report.overlay import draw_overlay

__all__ = ["draw_confusion", "draw_curves", "draw_overlay"]
