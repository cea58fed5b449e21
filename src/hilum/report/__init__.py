"""What people look at."""

from hilum.report.overlay import draw_overlay

__all__ = ["draw_overlay"]
