"""Pictures and pages for people."""

from hilum.report.confusion import plot_confusion as plot_confusion
from hilum.report.curves import plot_curves as plot_curves
from hilum.report.heat import PredictedClasses as PredictedClasses
from hilum.report.heat import plot_maps as plot_maps
from hilum.report.html.write import write_report as write_report
from hilum.report.overlay import plot_overlay as plot_overlay
