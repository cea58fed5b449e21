"""Pictures and pages for people."""

from hilum.report.confusion import draw_confusion as draw_confusion
from hilum.report.curves import draw_curves as draw_curves
from hilum.report.heat import draw_heat as draw_heat
from hilum.report.overlay import draw_overlay as draw_overlay
